"""The LoRAs of a studio: which can be used, and a sentence for each that cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipelines.models.find import ModelFolder
from pipelines.models.lora_files import LoraShelf
from pipelines.palette import make_mix
from pipelines.recipe import BadInput, make_recipe, read_recipe
from tests.tiny import random_updates
from tests.unit.test_recipe import GOOD

INK = {"name": "ink", "sha256": "a" * 64, "weight": "0.5"}
OIL = {"name": "oil", "sha256": "b" * 64, "weight": -1}


def tensors_of(model: ModelFolder) -> dict[str, torch.Tensor]:
    updates = random_updates(model.path, rank=2, seed=0)
    down, up = updates["conv_in"]
    return {"unet.conv_in.lora_A.weight": down, "unet.conv_in.lora_B.weight": up}


@pytest.fixture
def shelf(tiny_model_folder: ModelFolder, tmp_path: Path) -> LoraShelf:
    return LoraShelf((tmp_path / "mine", tmp_path / "ours"), tiny_model_folder)


def test_files_are_found_as_they_come_and_go(shelf: LoraShelf) -> None:
    assert shelf.files() == []
    mine, ours = shelf.folders
    for folder in (mine, ours):
        folder.mkdir()
    tensors = tensors_of(shelf.model)
    save_file(tensors, ours / "ink.safetensors")
    (ours / "notes.txt").write_text("not one")
    (ours / "ink.pt").write_bytes(b"what it was converted from")
    (file,) = shelf.files()
    assert (file.name, file.refusal, file.note) == ("ink", "", "")
    save_file({name: 2 * tensor for name, tensor in tensors.items()}, mine / "ink.safetensors")
    (other,) = shelf.files()
    assert other.path == mine / "ink.safetensors"
    assert other.sha256 != file.sha256
    text = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight"
    save_file(tensors | {text: torch.zeros(2, 32)}, mine / "ink.safetensors")
    (again,) = shelf.usable()
    assert again.sha256 != other.sha256
    assert again.note.startswith("Only its picture part is used")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ("pickle", "ink.pt is a pickle, which can run any program when it is opened"),
        ("cut", "ink.safetensors is damaged: it was cut short."),
        ("text", "ink.safetensors is damaged, or no safetensors file."),
        ("half", "ink.safetensors is damaged: half of its update of conv_in is missing."),
        ("layer", "made for another kind of model: this one has no layer for its lora_unet_nowhere."),
        ("size", "made for another kind of model: its update of conv_in has another size."),
        ("kind", "ink.safetensors is a DoRA, and Atelier adds plain LoRAs only."),
        ("model", "ink.safetensors holds no LoRA: nothing is known of its unet.conv_in.weight."),
        ("words", "ink.safetensors changes only how the prompt is read"),
        ("empty", "ink.safetensors holds no LoRA."),
    ],
)
def test_what_cannot_be_used_says_why(shelf: LoraShelf, damage: str, sentence: str) -> None:
    folder = shelf.folders[0]
    folder.mkdir()
    file = folder / ("ink.pt" if damage == "pickle" else "ink.safetensors")
    tensors = tensors_of(shelf.model)
    down, up = tensors.values()
    match damage:
        case "half":
            del tensors["unet.conv_in.lora_B.weight"]
        case "layer":
            tensors = {f"lora_unet_nowhere.lora_{side}.weight": down.clone() for side in ("down", "up")}
        case "size":
            tensors["unet.conv_in.lora_B.weight"] = up[:-1].contiguous()
        case "kind":
            tensors["unet.conv_in.dora_scale"] = up.clone()
        case "model":
            tensors = {"unet.conv_in.weight": down}
        case "words":
            tensors = {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": down}
        case "empty":
            tensors = {}
        case _:
            pass
    save_file(tensors, file)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-10])
    if damage == "text":
        file.write_text("not really one")
    (told,) = shelf.files()
    assert sentence in told.refusal
    assert shelf.usable() == []
    with pytest.raises(BadInput) as refused:
        shelf.chosen([{"name": "ink", "weight": 1}])
    assert str(refused.value) == told.refusal


def test_a_recipe_with_loras_survives_json_and_needs_no_style() -> None:
    recipe = make_recipe(**GOOD, mix=make_mix([], "conditioning", loras=[OIL, INK]))
    assert read_recipe(recipe.model_dump_json()) == recipe
    assert [(lora.name, lora.weight) for lora in recipe.loras] == [("ink", 0.5), ("oil", -1.0)]
    without = make_recipe(**GOOD, mix=make_mix([{"name": "baroque", "weight": 1}], "slerp"))
    assert "loras" not in without.model_dump_json()
    assert recipe.files == (), "they are no pictures that an artist brought"


@pytest.mark.parametrize(
    ("loras", "sentence"),
    [
        ([INK | {"weight": 2.5}], "The weight of the LoRA ink must be a number from -2 to 2, not 2.5."),
        ([INK | {"weight": "much"}], "The weight of the LoRA ink must be a number, not much."),
        ([INK, INK], "The same LoRA is used twice: give it one weight."),
        (
            [INK | {"sha256": letter * 64} for letter in "abcde"],
            "At most 4 LoRAs can be used at once, not 5.",
        ),
        ([INK | {"sha256": "?"}], "The mix cannot be read"),
    ],
)
def test_loras_that_cannot_be_used_together_get_a_sentence(
    loras: list[dict[str, object]], sentence: str
) -> None:
    with pytest.raises(BadInput) as refused:
        make_mix([], "conditioning", loras=loras)
    assert sentence in str(refused.value)
