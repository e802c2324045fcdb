"""Model folders are read before they are loaded, and refused in a sentence."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from pipelines.models.find import EMBEDDED, find_model, list_models, read_model_folder
from pipelines.models.load import load_model
from pipelines.models.revisions import revision_of
from pipelines.palette import palette
from pipelines.recipe import BadInput, make_recipe


@pytest.fixture
def copy(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def test_embedded_model_is_found_by_name() -> None:
    folder = find_model(EMBEDDED)
    assert [(f.name, f.width, f.height) for f in folder.formats] == [
        ("Square", 192, 192),
        ("Landscape", 224, 160),
        ("Portrait", 160, 224),
    ]
    assert {"DDIM", "Euler", "Euler a", "DPM++ 2M", "DPM++ 2M Karras", "Heun", "UniPC"} <= set(
        folder.samplers
    )
    assert folder.path in list_models()


def test_embedded_model_has_a_classifier_of_its_styles() -> None:
    folder = find_model(EMBEDDED)
    assert folder.classifier is not None
    assert {swatch.name for swatch in palette()} - {"no style"} == set(folder.classifier.styles)


def test_embedded_model_is_small() -> None:
    folder = find_model(EMBEDDED).path
    sizes = {file: file.stat().st_size for file in folder.rglob("*") if file.is_file()}
    parts = {folder / part for part in ("unet", "vae", "text_encoder")}
    weights = [size for file, size in sizes.items() if file.parent in parts and file.suffix == ".safetensors"]
    assert len(weights) == 3
    assert sum(weights) <= 100_000_000
    assert max(sizes.values()) <= 95_000_000
    assert sum(sizes.values()) <= 150_000_000, "with whatever stands beside it"


def test_a_model_is_found_by_path_and_on_other_shelves(tiny_folder: Path) -> None:
    assert find_model(str(tiny_folder)).path == tiny_folder
    assert find_model("tiny", [tiny_folder.parent]).path == tiny_folder


def test_revision_follows_the_weights(copy: Path, tiny_folder: Path) -> None:
    before = read_model_folder(copy).revision
    assert before == read_model_folder(tiny_folder).revision
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    assert read_model_folder(copy).revision != before


def test_the_revision_of_large_weights_is_remembered_until_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    large, small = tmp_path / "large.safetensors", tmp_path / "small.safetensors"
    small.write_bytes(b"ab")
    with large.open("wb") as file:
        file.truncate(300 * 2**20)
    read = revision_of([large, small])
    assert not (tmp_path / "cache").exists(), "what was written just now may still change"
    time.sleep(2.1)
    assert revision_of([large, small]) == read
    (kept,) = (tmp_path / "cache" / "atelier" / "revisions").iterdir()
    kept.write_text("7" * 64)
    assert revision_of([large, small]) == "7" * 64, "nothing was read"
    kept.write_text("half of it")
    assert revision_of([large, small]) == read
    kept.write_text("7" * 64)
    small.write_bytes(b"ac")
    assert revision_of([large, small]) not in (read, "7" * 64)
    assert revision_of([small]) == hashlib.sha256(b"ac").hexdigest()


def test_revision_covers_the_companion(copy: Path, tiny_folder: Path) -> None:
    lora = copy / "lcm" / "pytorch_lora_weights.safetensors"
    changed = bytearray(lora.read_bytes())
    changed[-1] ^= 1
    lora.write_bytes(changed)
    assert read_model_folder(copy).revision != read_model_folder(tiny_folder).revision
    (copy / "atelier.json").unlink()
    alone = hashlib.sha256()
    for part, stem in (("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model")):
        alone.update((copy / part / f"{stem}.safetensors").read_bytes())
    alone.update((copy / "text_encoder" / "model.safetensors").read_bytes())
    assert read_model_folder(copy).revision == alone.hexdigest(), "without a companion it is as it always was"


def test_a_companion_brings_its_sampler(copy: Path) -> None:
    folder = read_model_folder(copy)
    assert "LCM" in folder.samplers
    assert folder.defaults_for("LCM").model_dump() == {
        "sampler": "LCM",
        "num_inference_steps": 4,
        "guidance_scale": 1.0,
    }
    assert folder.defaults_for(None) == folder.defaults
    (copy / "atelier.json").unlink()
    alone = read_model_folder(copy)
    assert "LCM" not in alone.samplers
    with pytest.raises(BadInput, match=r"few-step weights of its own, and copy has none .*with: DPM\+\+ 2M,"):
        alone.check_sampler("LCM")


def test_a_companion_that_is_not_there_is_named(copy: Path) -> None:
    (copy / "lcm" / "pytorch_lora_weights.safetensors").unlink()
    with pytest.raises(BadInput, match="lacks the few-step weights"):
        read_model_folder(copy)


@pytest.mark.parametrize("damage", ["shape", "layer", "partner"])
def test_a_companion_of_another_network_is_refused(copy: Path, damage: str) -> None:
    file = copy / "lcm" / "pytorch_lora_weights.safetensors"
    lora = load_file(file)
    up = lora.pop("unet.conv_in.lora_B.weight")
    if damage == "shape":
        lora["unet.conv_in.lora_B.weight"] = up[:1].clone()
    elif damage == "layer":
        lora["unet.elsewhere.lora_B.weight"] = up
    save_file(lora, file)
    with pytest.raises(BadInput, match=r"cannot be loaded.*(conv_in|elsewhere)"):
        load_model(find_model(str(copy)))


def test_a_missing_model_is_told_with_those_that_exist() -> None:
    with pytest.raises(BadInput, match=r"There is no model called nowhere .*atelier-v1"):
        find_model("nowhere")


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"not a Stable Diffusion folder: it has no model_index.json"):
        find_model(str(tmp_path))


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "model.ckpt"])
def test_pickled_weights_are_refused(copy: Path, name: str) -> None:
    (copy / "unet" / "diffusion_pytorch_model.safetensors").rename(copy / "unet" / name)
    with pytest.raises(BadInput, match=rf"pickle .unet/{name}.*can run any program"):
        find_model(str(copy))


def test_a_single_checkpoint_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"")
    with pytest.raises(BadInput, match="a pickle, which can run any program"):
        find_model(str(tmp_path / "model.ckpt"))


def test_missing_weights_are_named(copy: Path) -> None:
    (copy / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(BadInput, match="no weights in vae"):
        find_model(str(copy))


def test_another_family_is_named(copy: Path) -> None:
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps({**index, "_class_name": "FluxPipeline"}))
    with pytest.raises(BadInput, match="is a FluxPipeline"):
        find_model(str(copy))


def test_damaged_weights_are_told_when_they_are_loaded(copy: Path) -> None:
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BadInput, match="cannot be loaded"):
        load_model(find_model(str(copy)))


def test_half_precision_variants_are_loaded(copy: Path) -> None:
    for part, stem in (("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model")):
        (copy / part / f"{stem}.safetensors").rename(copy / part / f"{stem}.fp16.safetensors")
    (copy / "text_encoder" / "model.safetensors").rename(copy / "text_encoder" / "model.fp16.safetensors")
    folder = find_model(str(copy))
    assert folder.variant == "fp16"
    assert load_model(folder).latent_channels == 4


def test_samplers_that_cannot_follow_the_schedule_are_not_offered(copy: Path) -> None:
    config = copy / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "rescale_betas_zero_snr": True}))
    folder = find_model(str(copy))
    assert "Heun" not in folder.samplers
    assert "DDIM" in folder.samplers
    with pytest.raises(BadInput, match=r"Heun cannot follow .* These samplers can: DPM") as refused:
        folder.check_sampler("Heun")
    assert refused.value.field == "sampler"
    folder.check_sampler("Euler")


def test_a_models_own_defaults_are_read(copy: Path) -> None:
    assert find_model(str(copy)).defaults.guidance_scale == 7.0
    (copy / "atelier.json").write_text('{"guidance_scale": 4.5}')
    folder = find_model(str(copy))
    assert folder.defaults.guidance_scale == 4.5
    (copy / "atelier.json").write_text('{"guidance": 4.5}')
    with pytest.raises(BadInput, match="is damaged"):
        find_model(str(copy))


def test_embedded_defaults_make_a_recipe() -> None:
    folder = find_model(EMBEDDED)
    make_recipe(
        model=folder.name,
        model_revision=folder.revision,
        seed=-1,
        width=folder.width,
        height=folder.height,
        **folder.defaults.model_dump(),
    )
