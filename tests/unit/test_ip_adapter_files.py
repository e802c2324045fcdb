"""The IP-Adapters of a studio: which can be used, and a sentence for each that cannot."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.models.find import ModelFolder, find_model
from pipelines.models.ip_adapter_files import IPAdapterShelf
from pipelines.palette import make_mix
from pipelines.recipe import BadInput, make_recipe, read_recipe
from tests.tiny import build_tiny_sdxl, save_ip_adapter
from tests.unit.test_recipe import GOOD

LOOKS = {"name": "looks", "sha256": "a" * 64}
FOLLOWED = {"image": "c" * 64, "strength": 0.5}


@pytest.fixture
def shelf(tiny_model_folder: ModelFolder, tmp_path: Path) -> IPAdapterShelf:
    for name in ("mine", "ours"):
        (tmp_path / name).mkdir()
    return IPAdapterShelf((tmp_path / "mine", tmp_path / "ours"), tiny_model_folder, "this folder")


def test_files_are_found_as_they_come_and_go(shelf: IPAdapterShelf) -> None:
    assert shelf.files() == []
    mine, ours = shelf.folders
    file = save_ip_adapter(ours, shelf.model.path)
    (ours / "looks.bin").write_bytes(b"as it is released, too")
    (ours / "image_encoder" / "pytorch_model.bin").write_bytes(b"the same")
    (found,) = shelf.files()
    assert (found.name, found.path, found.refusal) == ("looks", file, "")
    assert found.encoder == ours / "image_encoder"
    assert found.note.startswith("Takes over what it shows as a whole")
    # The encoder decides the picture too, so it is a part of what the adapter is known by.
    weights = ours / "image_encoder" / "model.safetensors"
    save_file({name: 2 * tensor for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    (other,) = shelf.files()
    assert other.sha256 != found.sha256
    shutil.rmtree(ours / "image_encoder")
    (lonely,) = shelf.files()
    assert lonely.refusal == (
        "looks.safetensors has no image encoder: put the folder image_encoder of its release, with "
        "config.json and model.safetensors, beside it into this folder."
    )
    save_ip_adapter(mine, shelf.model.path, kind="plus")
    (first,) = shelf.usable()
    assert first.path == mine / "looks.safetensors"
    assert first.note.startswith("Takes over what it shows, place by place")


def test_folders_are_found_as_they_are_released(shelf: IPAdapterShelf) -> None:
    """Two folders, each with its own image encoder, of which one adapter needs that of the other folder."""
    released = shelf.folders[0]
    for folder in ("models", "sdxl_models"):
        (released / folder).mkdir()
    save_ip_adapter(released / "models", shelf.model.path, name="one")
    save_ip_adapter(released / "sdxl_models", shelf.model.path, name="another", kind="plus")
    config = released / "sdxl_models" / "image_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_size": 99}))
    another, one = shelf.files()
    assert (one.name, one.refusal, another.name, another.refusal) == ("one", "", "another", "")
    assert one.encoder == another.encoder == released / "models" / "image_encoder"


def test_each_file_that_cannot_be_used_has_a_sentence(shelf: IPAdapterShelf, tmp_path: Path) -> None:
    folder = shelf.folders[0]
    good = load_file(save_ip_adapter(folder, shelf.model.path))
    layers = {name: tensor for name, tensor in good.items() if name.startswith("ip_adapter.")}
    (folder / "pickled.bin").write_bytes(b"pickled")
    (folder / "text.safetensors").write_text("no tensors at all")
    save_file({"unet.conv_in.lora_A.weight": torch.zeros(1, 1)}, folder / "lora.safetensors")
    save_file(good | {"image_proj.proj.weight": torch.zeros(4 * 32, 7)}, folder / "narrow.safetensors")
    faceid = {
        f"image_proj.{name}": torch.zeros(8, 8) for name in ("proj.0.weight", "proj.2.weight", "norm.weight")
    }
    save_file(layers | faceid, folder / "face.safetensors")
    fewer = {name: tensor for name, tensor in good.items() if not name.startswith("ip_adapter.1.")}
    save_file(fewer, folder / "fewer.safetensors")
    xl = find_model(str(build_tiny_sdxl(tmp_path / "tiny-xl")))
    save_ip_adapter(folder, xl.path, name="xl")
    told = {file.name: file.refusal for file in shelf.files()}
    beginnings = {
        "face": "face.safetensors is a FaceID adapter or of a later kind: Atelier reads those that",
        "fewer": "fewer.safetensors is made for 3 layers of cross-attention that are not those of tiny,",
        "looks": "",
        "lora": "lora.safetensors is no IP-Adapter: it has no image_proj and ip_adapter weights.",
        "narrow": "narrow.safetensors reads a picture as 7 numbers, and image_encoder gives 20: put the",
        "pickled": "pickled.bin is a pickle, which can run any program when it is opened: Atelier",
        "text": "text.safetensors is damaged, or no safetensors file.",
        "xl": "xl.safetensors is made for networks that read words as 48 numbers, and tiny reads 32: get",
    }
    assert list(told) == list(beginnings)
    for name, beginning in beginnings.items():
        assert told[name].startswith(beginning)
        assert bool(told[name]) == bool(beginning)
    (folder / "image_encoder" / "model.safetensors").rename(folder / "image_encoder" / "pytorch_model.bin")
    with pytest.raises(
        BadInput, match=r"looks\.safetensors has its image encoder in image_encoder, but not as"
    ):
        shelf.followed_through([{**FOLLOWED, "ip_adapter": "looks"}])


def test_an_adapter_of_another_family_is_named_by_it(tiny_model_folder: ModelFolder, tmp_path: Path) -> None:
    save_file(
        {"image_proj.proj.weight": torch.zeros(4, 4), "ip_adapter.1.to_k_ip.weight": torch.zeros(4, 2048)},
        tmp_path / "xl.safetensors",
    )
    (file,) = IPAdapterShelf((tmp_path,), tiny_model_folder).files()
    assert "read words as 2048 numbers (SDXL), and tiny reads 32" in file.refusal


def test_a_recipe_holds_an_adapter_by_its_content_and_older_recipes_stay_as_they_are() -> None:
    through = make_mix([], "slerp", references=[{**FOLLOWED, "ip_adapter": LOOKS}])
    recipe = make_recipe(**GOOD, mix=through)
    assert read_recipe(recipe.model_dump_json()) == recipe
    assert [one.sha256 for one in recipe.ip_adapters] == ["a" * 64]
    none = make_recipe(**GOOD, mix=make_mix([], "slerp", references=[{**FOLLOWED, "ip_adapter": None}]))
    assert "ip_adapter" not in none.model_dump_json()
    assert (none.ip_adapters, none.key) == (
        (),
        make_recipe(**GOOD, mix=make_mix([], "slerp", references=[FOLLOWED])).key,
    )
