"""SDXL folders are read before they are loaded, whole, and refused in a sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from diffusers import UNet2DConditionModel

from pipelines.models.find import find_model, read_model_folder
from pipelines.models.load import load_model
from pipelines.models.openvino_cpu import openvino_is_for
from pipelines.models.sd import StableDiffusion
from pipelines.models.sdxl import StableDiffusionXL
from pipelines.random_models import sdxl_networks
from pipelines.recipe import BadInput
from tests.tiny import build_tiny_sdxl
from tests.unit.test_command_line import atelier


@pytest.fixture
def copy(tiny_xl: StableDiffusion, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_xl.folder.path, tmp_path / "copy"))


def index_with(folder: Path, **changes: object) -> None:
    file = folder / "model_index.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def sized(folder: Path, *, levels: int) -> list[tuple[int, int]]:
    """Read the formats of a U-Net of SDXL's size and an autoencoder of so many levels."""
    for part, changes in (("unet", {"sample_size": 128}), ("vae", {"block_out_channels": [32] * levels})):
        file = folder / part / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return [(format_.width, format_.height) for format_ in read_model_folder(folder).formats]


def test_a_folder_is_found_and_loaded_by_its_family(copy: Path, tiny_folder: Path) -> None:
    folder = find_model(str(copy))
    assert (folder.family, folder.width, folder.height) == ("sdxl", 64, 64)
    assert isinstance(load_model(folder), StableDiffusionXL)
    plain = find_model(str(tiny_folder))
    assert plain.family == "sd"
    assert not isinstance(load_model(plain), StableDiffusionXL)
    done = atelier("doctor", "--model", copy)
    assert f"copy at revision {folder.revision[:8]}, 64x64 pixels" in " ".join(done.stdout.split())


def test_the_formats_are_those_it_was_trained_at(copy: Path) -> None:
    assert sized(copy, levels=4) == [(1024, 1024), (1216, 832), (832, 1216)]


@pytest.mark.parametrize(
    "file",
    [
        "unet/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "text_encoder_2/model.safetensors",
        "tokenizer_2/tokenizer_config.json",
    ],
)
def test_revision_follows_every_part(copy: Path, file: str) -> None:
    before = read_model_folder(copy).revision
    content = bytearray((copy / file).read_bytes())
    content[-1] ^= 1
    (copy / file).write_bytes(content)
    assert read_model_folder(copy).revision != before


def test_weights_in_shards_are_read_whole(copy: Path) -> None:
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    unet: Any = UNet2DConditionModel.from_pretrained(copy / "unet")
    unet.save_pretrained(copy / "unet", max_shard_size="500KB")
    weights.unlink(missing_ok=True)
    shards = sorted((copy / "unet").glob("*-of-*.safetensors"))
    assert len(shards) > 1
    folder = read_model_folder(copy)
    assert folder.variant == ""
    assert load_model(folder).latent_channels == 4
    content = bytearray(shards[-1].read_bytes())
    content[-1] ^= 1
    shards[-1].write_bytes(content)
    assert read_model_folder(copy).revision != folder.revision
    shards[-1].unlink()
    with pytest.raises(BadInput, match="copy cannot be loaded"):
        load_model(read_model_folder(copy))


def test_half_precision_variants_are_loaded(copy: Path) -> None:
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        (weights,) = (copy / part).glob("*.safetensors")
        weights.rename(weights.with_suffix(".fp16.safetensors"))
    folder = find_model(str(copy))
    assert folder.variant == "fp16"
    assert isinstance(load_model(folder), StableDiffusionXL)


def test_missing_parts_and_pickles_are_named(copy: Path) -> None:
    weights = copy / "text_encoder_2" / "model.safetensors"
    pickle = weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(BadInput, match=r"pickle .text_encoder_2/pytorch_model.bin.*can run any program"):
        find_model(str(copy))
    pickle.unlink()
    with pytest.raises(BadInput, match="no weights in text_encoder_2"):
        find_model(str(copy))
    shutil.rmtree(copy / "text_encoder_2")
    with pytest.raises(BadInput, match="no weights in text_encoder_2"):
        find_model(str(copy))


def test_a_missing_tokenizer_is_named(copy: Path) -> None:
    shutil.rmtree(copy / "tokenizer_2")
    with pytest.raises(BadInput, match="copy has no tokenizer_2"):
        find_model(str(copy))


def test_a_refiner_is_refused(copy: Path) -> None:
    index_with(copy, _class_name="StableDiffusionXLImg2ImgPipeline")
    assert find_model(str(copy)).family == "sdxl"
    index_with(copy, text_encoder=[None, None], requires_aesthetics_score=True)
    with pytest.raises(BadInput, match="an SDXL refiner, which finishes pictures that another model began"):
        find_model(str(copy))


def test_it_is_not_converted_for_openvino(
    tiny_xl: StableDiffusion, tiny: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", str)  # whatever is looked for is found
    assert openvino_is_for(tiny)
    assert not openvino_is_for(tiny_xl)


def test_random_weights_are_always_the_same(tiny_xl: StableDiffusion, tmp_path: Path) -> None:
    again = read_model_folder(build_tiny_sdxl(tmp_path / "again"))
    assert again.revision == tiny_xl.folder.revision


def test_the_base_has_the_size_of_the_real_one() -> None:
    counts = {
        name: sum(weight.numel() for weight in part.parameters()) for name, part in sdxl_networks().items()
    }
    assert counts == {
        "unet": 2_567_463_684,
        "vae": 83_653_863,
        "text_encoder": 123_060_480,
        "text_encoder_2": 694_659_840,
    }


def test_a_list_of_words_is_refused(copy: Path) -> None:
    (copy / "words.tsv").write_text("colt\thorse\n")
    (copy / "atelier.json").write_text('{"words": "words.tsv"}')
    with pytest.raises(BadInput, match="it can have no list of words"):
        find_model(str(copy))
