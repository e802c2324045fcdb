"""LoRAs: the picture is the one of the very same weights, merged by hand and painted by diffusers."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import save_file
from torch import Tensor

from pipelines.attention import Attention, word_heat
from pipelines.batching import Finished, StepBatcher
from pipelines.calls import engine_of
from pipelines.denoising import Rows
from pipelines.models.lora_files import LoraShelf
from pipelines.models.lora_names import read_lora_names
from pipelines.models.sd import StableDiffusion
from pipelines.models.shelf import unet_layers
from pipelines.palette import make_mix
from pipelines.prompt_to_image import paint, prompt_to_image
from pipelines.recipe import BadInput, Recipe
from pipelines.timeline import TimelineWriter, read_timeline
from tests.pipelines.test_denoising import recipe_of
from tests.pipelines.test_references import OPEN, RED, followed
from tests.pipelines.test_style_blending import style
from tests.plainly import painted_plainly, plain_pipeline
from tests.tiny import random_updates

Updates = Mapping[str, tuple[Tensor, Tensor]]
RANK = 3


def diffusers_names(updates: Updates) -> dict[str, Tensor]:
    return {
        f"unet.{layer}.lora_{letter}.weight": matrix
        for layer, matrices in updates.items()
        for letter, matrix in zip("AB", matrices, strict=True)
    }


def older_diffusers_names(updates: Updates) -> dict[str, Tensor]:
    """Of attention layers only, as attention processors had them."""
    named: dict[str, Tensor] = {}
    for layer, matrices in updates.items():
        block, attention, last = layer.partition(".attn1.")
        if attention:
            for side, matrix in zip(("down", "up"), matrices, strict=True):
                place = last.removesuffix(".0")
                named[f"{block}.attn1.processor.{place}_lora.{side}.weight"] = matrix
    return named


def kohya_names(updates: Updates) -> dict[str, Tensor]:
    """The sides of a kernel of one place are left out, as where it was trained as a linear layer."""
    named: dict[str, Tensor] = {}
    for layer, matrices in updates.items():
        root = f"lora_unet_{layer.replace('.', '_')}"
        is_place = matrices[0].shape[2:] == (1, 1)
        down, up = (matrix.flatten(1) if is_place else matrix for matrix in matrices)
        named |= {f"{root}.lora_down.weight": down, f"{root}.lora_up.weight": up}
        named[f"{root}.alpha"] = torch.tensor(2.0 * RANK)
    return named


@pytest.fixture
def lora_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "loras"
    folder.mkdir()
    return folder


@pytest.fixture
def with_loras(
    tiny: StableDiffusion, tiny_xl: StableDiffusion, lora_folder: Path
) -> Iterator[StableDiffusion]:
    for model in (tiny, tiny_xl):
        model.adapters.shelf = LoraShelf((lora_folder,), model.folder)
    yield tiny
    for model in (tiny, tiny_xl):
        model.adapters.shelf = LoraShelf((), model.folder)


def recipe_with(model: StableDiffusion, *styles: Mapping[str, object], **fields: Any) -> Recipe:
    loras = {"loras": fields.pop("loras", {})}
    more = {name: fields.pop(name) for name in ("references", "method") if name in fields}
    chosen = [{"name": name, "weight": weight} for name, weight in loras["loras"].items()]
    method = more.pop("method", "conditioning")
    mix = make_mix(styles, method, loras=model.adapters.shelf.chosen(chosen), **more)
    return recipe_of(model, **{"mix": mix, **fields})


def merged_by_hand(
    model: StableDiffusion, recipe: Recipe, parts: Sequence[tuple[Updates, float]], pipeline_class: Any
) -> Tensor:
    """Paint with diffusers' pipeline whose weights are W + scale · up @ down."""
    pipeline = plain_pipeline(pipeline_class, model.folder, recipe)
    weights = pipeline.unet.state_dict()
    for updates, scale in parts:
        for layer, (down, up) in updates.items():
            weight = weights[f"{layer}.weight"]
            product = torch.einsum("or,ri->oi", up.flatten(1), down.flatten(1))
            weight.copy_(weight + scale * product.reshape(weight.shape))
    return painted_plainly(pipeline, recipe)


@pytest.mark.parametrize("sampler", ["Euler", "LCM"])
@pytest.mark.parametrize(
    ("write", "scale"), [(diffusers_names, 1.0), (older_diffusers_names, 1.0), (kohya_names, 2.0)]
)
def test_a_lora_equals_the_same_weights_merged_in_diffusers(
    with_loras: StableDiffusion,
    lora_folder: Path,
    write: Callable[[Updates], dict[str, Tensor]],
    scale: float,
    sampler: str,
) -> None:
    model = with_loras
    updates = random_updates(model.folder.path, rank=RANK, seed=4)
    if write is older_diffusers_names:
        updates = {layer: update for layer, update in updates.items() if ".attn1." in layer}
    save_file(write(updates), lora_folder / "ink.safetensors")
    recipe = recipe_with(model, loras={"ink": -0.7}, sampler=sampler)
    latents = paint(model, recipe)
    expected = merged_by_hand(model, recipe, [(updates, -0.7 * scale)], StableDiffusionPipeline)
    torch.testing.assert_close(latents, expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    assert (latents - paint(model, recipe_of(model, sampler=sampler))).abs().max() > 0.01


def test_two_loras_on_an_sdxl_model_in_kohyas_names_of_its_first_release(
    with_loras: StableDiffusion, tiny_xl: StableDiffusion, lora_folder: Path
) -> None:
    del with_loras
    folder = tiny_xl.folder
    one, other = (random_updates(folder.path, rank=RANK, seed=seed) for seed in (5, 6))
    flat = kohya_names(one)
    names = read_lora_names({name: tuple(tensor.shape) for name, tensor in flat.items()}, unet_layers(folder))
    assert set(names.layers) == set(one)
    save_file(flat, lora_folder / "one.safetensors")
    # PEFT's own scale: alpha over the rank, and for some layers an alpha of their own.
    told = {"unet.r": RANK, "unet.lora_alpha": 6, "unet.alpha_pattern": {"conv_in": 1.5}}
    save_file(
        diffusers_names(other),
        lora_folder / "other.safetensors",
        {"lora_adapter_metadata": json.dumps(told)},
    )
    recipe = recipe_with(tiny_xl, loras={"one": 0.5, "other": 0.25})
    rest = {layer: update for layer, update in other.items() if layer != "conv_in"}
    parts = [(one, 1.0), (rest, 0.5), ({"conv_in": other["conv_in"]}, 0.125)]
    expected = merged_by_hand(tiny_xl, recipe, parts, StableDiffusionXLPipeline)
    latents = paint(tiny_xl, recipe)
    torch.testing.assert_close(latents, expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    swapped = recipe_with(tiny_xl, loras={"other": 0.25, "one": 0.5})
    assert torch.equal(paint(tiny_xl, swapped), latents), "LoRAs have an order of their own"


@pytest.mark.parametrize(
    ("released", "layer"),
    [
        ("input_blocks_1_0_in_layers_2", "down_blocks.0.resnets.0.conv1"),
        ("input_blocks_3_0_op", "down_blocks.0.downsamplers.0.conv"),
        ("input_blocks_4_1_proj_in", "down_blocks.1.attentions.0.proj_in"),
        ("input_blocks_8_1_proj_in", "down_blocks.2.attentions.1.proj_in"),
        ("middle_block_1_proj_out", "mid_block.attentions.0.proj_out"),
        ("middle_block_2_out_layers_3", "mid_block.resnets.1.conv2"),
        ("output_blocks_2_2_conv", "up_blocks.0.upsamplers.0.conv"),
        ("output_blocks_5_1_proj_out", "up_blocks.1.attentions.2.proj_out"),
        ("output_blocks_8_0_skip_connection", "up_blocks.2.resnets.2.conv_shortcut"),
        ("time_embed_2", "time_embedding.linear_2"),
        ("label_emb_0_0", "add_embedding.linear_1"),
    ],
)
def test_the_names_of_sdxls_first_release(released: str, layer: str) -> None:
    """Of its own size: two resnets to a level on the way down, and attention in two of the three levels."""
    layers = [layer, *(f"down_blocks.{level}.resnets.1.conv2" for level in range(3))]
    layers += [f"up_blocks.{level}.attentions.0.proj_in" for level in range(2)]
    names = {f"lora_unet_{released}.lora_{side}.weight": (8, 8) for side in ("down", "up")}
    assert list(read_lora_names(names, dict.fromkeys(layers, (8, 8))).layers) == [layer]


def test_a_lora_of_weight_zero_costs_and_changes_nothing(
    with_loras: StableDiffusion, lora_folder: Path
) -> None:
    model = with_loras
    save_file(
        diffusers_names(random_updates(model.folder.path, rank=1, seed=1)), lora_folder / "ink.safetensors"
    )
    none = recipe_with(model, style("ink", 1), loras={"ink": 0})
    plain = recipe_of(model, mix=make_mix([style("ink", 1)], "conditioning"))
    asked = next(prompt_to_image(model, none))
    assert isinstance(asked, Rows)
    assert asked.adapter == "", "it shares its calls with runs that have none"
    assert torch.equal(paint(model, none), paint(model, plain))
    # Nor is its file needed.
    (lora_folder / "ink.safetensors").unlink()
    assert torch.equal(paint(model, none), paint(model, plain))


def test_runs_keep_their_own_weights_while_others_come_and_go(
    with_loras: StableDiffusion, lora_folder: Path
) -> None:
    model = with_loras
    save_file(
        diffusers_names(random_updates(model.folder.path, rank=1, seed=2)), lora_folder / "ink.safetensors"
    )
    own = model.unet_on_same_weights().conv_in.weight
    recipes = [
        recipe_with(model, style("ink", 1), loras={"ink": weight / 4}, references=(followed(RED, 0.5),))
        for weight in range(1, 6)
    ]
    batcher = StepBatcher(model, merge=True)
    names: list[str] = []
    for key, recipe in enumerate(recipes):
        batcher.join(key, prompt_to_image(model, recipe, open_source=OPEN))
        batcher.tick()
        names.append(f"+{recipe.loras[0].sha256}*{recipe.loras[0].weight!r}")
        assert model.adapters[names[0]].name == names[0], "the first is still being painted"
    ends: dict[object, Tensor] = {}
    while len(batcher):
        ends |= {key: event.latents for key, event in batcher.tick() if isinstance(event, Finished)}
    assert not torch.equal(ends[0], ends[4])
    for key, recipe in enumerate(recipes):
        torch.testing.assert_close(ends[key], paint(model, recipe, open_source=OPEN), rtol=1e-4, atol=1e-4)
    gc.collect()
    there = [name for name in names if _is_there(model, name)]
    assert there == names[-2:], "of those that nobody paints with, the last two are kept"
    assert model.unet_on_same_weights().conv_in.weight is own


def _is_there(model: StableDiffusion, name: str) -> bool:
    try:
        return model.adapters[name].name == name
    except KeyError:
        return False


def test_a_kept_run_with_a_lora_is_looked_at_again_with_it(
    with_loras: StableDiffusion, lora_folder: Path, tmp_path: Path
) -> None:
    model = with_loras
    updates = random_updates(model.folder.path, rank=RANK, seed=7, size=0.3)
    save_file(diffusers_names(updates), lora_folder / "ink.safetensors")
    maps: list[Tensor] = []
    for weight in (0, 1):
        recipe = recipe_with(model, loras={"ink": weight}, prompt="a cat")
        writer = TimelineWriter(tmp_path / str(weight), recipe)
        paint(model, recipe, writer.add)
        writer.close()
        timeline = read_timeline(tmp_path / str(weight))
        looks = Attention(model).look_again(timeline)
        (heat, *_) = word_heat(model, timeline, looks, "cat")
        assert heat is not None
        maps.append(heat)
    assert (maps[0] - maps[1]).abs().max() > 1e-4, "the first step saw the same noise, with other weights"


def test_pictures_with_loras_are_painted_by_torch(with_loras: StableDiffusion, lora_folder: Path) -> None:
    model = with_loras
    save_file(
        diffusers_names(random_updates(model.folder.path, rank=1, seed=1)), lora_folder / "ink.safetensors"
    )
    assert engine_of(model, recipe_with(model, loras={"ink": 1}), "compiled 2") == "eager"


def test_a_file_that_is_missing_or_another_gets_a_sentence(
    with_loras: StableDiffusion, lora_folder: Path
) -> None:
    model, file = with_loras, lora_folder / "ink.safetensors"
    save_file(diffusers_names(random_updates(model.folder.path, rank=1, seed=1)), file)
    recipe = recipe_with(model, loras={"ink": 1})
    moved = file.rename(lora_folder / "other name.safetensors")
    paint(model, recipe)  # it is known by what is in it
    save_file(diffusers_names(random_updates(model.folder.path, rank=1, seed=2)), file)
    moved.unlink()
    with pytest.raises(BadInput, match="the file of that name here is another"):
        paint(model, recipe)
    file.unlink()
    with pytest.raises(
        BadInput, match=r"needs the LoRA ink \([0-9a-f]{8}\), which is not here: put its file"
    ):
        paint(model, recipe)
    with pytest.raises(BadInput, match=r"There is no LoRA called ink .* Here are: none\."):
        model.adapters.shelf.chosen([{"name": "ink", "weight": 1}])
