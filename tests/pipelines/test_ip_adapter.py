"""IP-Adapters: the picture is the one that diffusers paints with the same weights, bit for bit."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from pipelines.batching import Finished, StepBatcher
from pipelines.calls import engine_of
from pipelines.denoising import Rows
from pipelines.image_attention import Shown
from pipelines.models.ip_adapter_files import IPAdapterShelf
from pipelines.models.load import load_model
from pipelines.models.lora_files import LoraShelf
from pipelines.models.place import Placement
from pipelines.models.sd import StableDiffusion
from pipelines.palette import make_mix
from pipelines.prompt_to_image import paint, prompt_to_image
from pipelines.recipe import BadInput, Recipe, read_recipe
from pipelines.styles import METHODS, Method
from tests.pipelines.test_denoising import recipe_of
from tests.pipelines.test_lora import diffusers_names
from tests.pipelines.test_references import BLUE, OPEN, RED, followed
from tests.pipelines.test_style_blending import style
from tests.plainly import painted_plainly, plain_pipeline
from tests.tiny import random_updates, save_ip_adapter

KINDS = ("whole", "plus", "full")


@pytest.fixture
def adapter_folder(tiny: StableDiffusion, tiny_xl: StableDiffusion, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "ip_adapters"
    folder.mkdir()
    for model in (tiny, tiny_xl):
        model.ip_adapters.shelf = IPAdapterShelf((folder,), model.folder)
    yield folder
    for model in (tiny, tiny_xl):
        model.ip_adapters.shelf = IPAdapterShelf((), model.folder)


def through(adapter: str, content: bytes, strength: float) -> dict[str, object]:
    return {**followed(content, strength), "ip_adapter": adapter}


def following(
    model: StableDiffusion,
    *references: dict[str, object],
    styles: Any = (),
    method: str = "conditioning",
    **fields: Any,
) -> Recipe:
    through_adapters = model.ip_adapters.shelf.followed_through(references)
    mix = make_mix(styles, method, references=through_adapters, loras=fields.pop("loras", ()))
    return recipe_of(model, **{"mix": mix, **fields})


def painted(model: StableDiffusion, recipe: Recipe) -> Tensor:
    return paint(model, recipe, open_source=OPEN)


def by_diffusers(
    model: StableDiffusion, recipe: Recipe, folder: Path, shown: list[tuple[str, bytes, float]]
) -> Tensor:
    """Paint with diffusers' pipeline: an adapter for each picture, in the order in which ours adds them."""
    pipelines: dict[str, Any] = {"sd": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}
    pipeline = plain_pipeline(pipelines[model.folder.family], model.folder, recipe)
    ours = [one.image for one in recipe.mix.followed] if recipe.mix else []
    shown = sorted(shown, key=lambda one: ours.index(str(followed(one[1], 1)["image"])))
    pipeline.load_ip_adapter(
        str(folder),
        subfolder="",
        weight_name=[f"{name}.safetensors" for name, _, _ in shown],
        local_files_only=True,
    )
    pipeline.set_ip_adapter_scale([scale for _, _, scale in shown])
    images = [Image.open(io.BytesIO(content)).convert("RGB") for _, content, _ in shown]
    return painted_plainly(pipeline, recipe, ip_adapter_image=images)


@pytest.mark.parametrize("sampler", ["Euler", "DPM++ 2M", "LCM"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_equals_diffusers_bit_for_bit(
    tiny: StableDiffusion, adapter_folder: Path, kind: str, sampler: str
) -> None:
    save_ip_adapter(adapter_folder, tiny.folder.path, kind=kind)
    recipe = following(tiny, through("looks", RED, 0.7), sampler=sampler)
    expected = by_diffusers(tiny, recipe, adapter_folder, [("looks", RED, 0.7)])
    latents = painted(tiny, recipe)
    assert torch.equal(latents, expected)
    assert (latents - paint(tiny, recipe_of(tiny, sampler=sampler))).abs().max() > 0.01


@pytest.mark.parametrize("guidance_scale", [0.0, 1.0, 1.5])
def test_guidance_scales_mean_what_they_mean_in_diffusers(
    tiny: StableDiffusion, adapter_folder: Path, guidance_scale: float
) -> None:
    save_ip_adapter(adapter_folder, tiny.folder.path)
    recipe = following(tiny, through("looks", RED, 0.7), guidance_scale=guidance_scale)
    expected = by_diffusers(tiny, recipe, adapter_folder, [("looks", RED, 0.7)])
    assert torch.equal(painted(tiny, recipe), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_several_pictures_through_several_adapters_in_any_order(
    tiny: StableDiffusion, adapter_folder: Path, kind: str
) -> None:
    save_ip_adapter(adapter_folder, tiny.folder.path, kind=kind)
    save_ip_adapter(adapter_folder, tiny.folder.path, name="other", seed=9)
    shown = [("looks", RED, 0.7), ("other", BLUE, 0.4)]
    recipes = [following(tiny, *(through(*one) for one in order)) for order in itertools.permutations(shown)]
    expected = by_diffusers(tiny, recipes[0], adapter_folder, shown)
    for recipe in recipes:
        assert torch.equal(painted(tiny, recipe), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_an_sdxl_model_follows_pictures_too(
    tiny_xl: StableDiffusion, adapter_folder: Path, kind: str
) -> None:
    save_ip_adapter(adapter_folder, tiny_xl.folder.path, kind=kind)
    recipe = following(tiny_xl, through("looks", RED, 0.6))
    expected = by_diffusers(tiny_xl, recipe, adapter_folder, [("looks", RED, 0.6)])
    assert torch.equal(painted(tiny_xl, recipe), expected)


@pytest.mark.parametrize("method", METHODS)
def test_a_strength_of_zero_costs_and_changes_nothing(
    tiny: StableDiffusion, adapter_folder: Path, method: Method
) -> None:
    file = save_ip_adapter(adapter_folder, tiny.folder.path)
    styles = [style("ink", 1), style("oil", 0.5)]
    none = following(tiny, through("looks", RED, 0), styles=styles, method=method)
    plain = following(tiny, styles=styles, method=method)
    file.unlink()
    asked = next(prompt_to_image(tiny, none, open_source=OPEN))
    assert isinstance(asked, Rows)
    assert asked.shared == (), "it shares its calls with runs that follow nothing, and its file is not needed"
    assert torch.equal(painted(tiny, none), painted(tiny, plain))


@pytest.mark.parametrize("method", METHODS)
def test_what_is_mixed_sees_the_picture_in_every_style(
    tiny: StableDiffusion, adapter_folder: Path, method: Method
) -> None:
    """One style alone is the prompt with its words; of two, each is asked with the picture beside it."""
    save_ip_adapter(adapter_folder, tiny.folder.path)
    one = style("ink", 1)
    alone = following(tiny, through("looks", RED, 0.7), styles=[one], method=method, prompt="cat")
    words = following(tiny, through("looks", RED, 0.7), prompt=f"cat, {one['prompt']}")
    assert torch.equal(painted(tiny, alone), painted(tiny, words))
    two = following(tiny, through("looks", RED, 0.7), styles=[one, style("oil", 1)], method=method)
    asked = next(prompt_to_image(tiny, two, open_source=OPEN))
    assert isinstance(asked, Rows)
    (shown,) = asked.shared
    assert isinstance(shown, Shown)
    assert len(asked.latents) == shown.rows == (3 if method == "prediction" else 2)
    without = tiny.predict(Rows(asked.latents, asked.timestep, asked.prompt_embeds))
    moved = (tiny.predict(asked) - without).abs().amax((1, 2, 3))
    assert moved.min() > 1e-3


def test_shared_attention_an_adapter_and_a_lora_go_together(
    tiny: StableDiffusion, adapter_folder: Path
) -> None:
    save_ip_adapter(adapter_folder, tiny.folder.path)
    save_file(
        diffusers_names(random_updates(tiny.folder.path, rank=2, seed=3)),
        adapter_folder.parent / "ink.safetensors",
    )
    shelf = tiny.adapters.shelf = LoraShelf((adapter_folder.parent,), tiny.folder)
    parts: dict[str, Any] = {
        "shared": followed(BLUE, 0.5),
        "shown": through("looks", RED, 0.7),
        "lora": shelf.chosen([{"name": "ink", "weight": 1}]),
    }

    def with_parts(*names: str) -> Recipe:
        references = [parts[name] for name in ("shared", "shown") if name in names]
        return following(
            tiny, *references, loras=parts["lora"] if "lora" in names else (), styles=[style("ink", 1)]
        )

    whole = painted(tiny, with_parts(*parts))
    assert torch.equal(painted(tiny, with_parts(*parts)), whole)
    for left_out in parts:
        rest = painted(tiny, with_parts(*(name for name in parts if name != left_out)))
        assert (rest - whole).abs().max() > 0.01, f"{left_out} has its part in it"
    tiny.adapters.shelf = LoraShelf((), tiny.folder)


def test_runs_share_a_call_whatever_they_follow_and_how_far(
    tiny: StableDiffusion, adapter_folder: Path
) -> None:
    save_ip_adapter(adapter_folder, tiny.folder.path)
    save_ip_adapter(adapter_folder, tiny.folder.path, name="other", kind="plus", seed=9)
    recipes = [
        following(tiny, through("looks", RED, 0.7)),
        following(tiny, through("looks", RED, 0.2), through("other", BLUE, 0.9)),
        following(tiny, followed(BLUE, 0.8), through("other", RED, 0.5), styles=[style("ink", 1)]),
        following(tiny, followed(RED, 0.4), styles=[style("oil", 1)]),
    ]
    batcher = StepBatcher(tiny, merge=True, buckets=(16,))
    for key, recipe in enumerate(recipes):
        batcher.join(key, prompt_to_image(tiny, recipe, open_source=OPEN))
    ends: dict[object, Tensor] = {}
    while len(batcher):
        ends |= {key: event.latents for key, event in batcher.tick() if isinstance(event, Finished)}
    for key, recipe in enumerate(recipes):
        torch.testing.assert_close(ends[key], painted(tiny, recipe), rtol=1e-4, atol=1e-4)
    assert engine_of(tiny, recipes[0], "compiled 2") == "eager"


def test_a_branch_may_begin_to_follow_a_picture(tiny: StableDiffusion, adapter_folder: Path) -> None:
    save_ip_adapter(adapter_folder, tiny.folder.path)
    parent = recipe_of(tiny)
    mix = following(tiny, through("looks", RED, 0.9)).mix
    branch = recipe_of(tiny, mix=mix, branch={"parent": parent, "step": 3})
    frames: dict[str, list[Tensor]] = {"parent": [], "branch": []}
    ends = [
        paint(tiny, recipe, lambda frame, name=name: frames[name].append(frame.latents), open_source=OPEN)
        for name, recipe in (("parent", parent), ("branch", branch))
    ]
    same = [torch.equal(one, other) for one, other in zip(*frames.values(), strict=True)]
    assert same == [True] * 4 + [False] * 2
    assert (ends[0] - ends[1]).abs().max() > 0.01


def test_in_half_precision_it_is_the_same_but_rounded(tiny: StableDiffusion, adapter_folder: Path) -> None:
    save_ip_adapter(adapter_folder, tiny.folder.path, kind="plus")
    half = load_model(tiny.folder, Placement(torch.device("cpu"), torch.bfloat16, torch.float32))
    half.ip_adapters.shelf = tiny.ip_adapters.shelf
    asked, rounded = (
        next(prompt_to_image(model, following(tiny, through("looks", RED, 0.7)), open_source=OPEN))
        for model in (tiny, half)
    )
    assert isinstance(asked, Rows)
    assert isinstance(rounded, Rows)
    torch.testing.assert_close(half.predict(rounded), tiny.predict(asked), rtol=0, atol=0.1)


def test_a_picture_or_an_adapter_that_is_gone_gets_a_sentence(
    tiny: StableDiffusion, adapter_folder: Path
) -> None:
    file = save_ip_adapter(adapter_folder, tiny.folder.path)
    recipe = following(tiny, through("looks", RED, 1))
    assert read_recipe(recipe.model_dump_json()) == recipe
    with pytest.raises(BadInput, match="not here"):
        paint(tiny, recipe)
    moved = file.rename(adapter_folder / "other name.safetensors")
    painted(tiny, recipe)  # it is known by what is in it
    save_ip_adapter(adapter_folder, tiny.folder.path, seed=8)
    moved.unlink()
    with pytest.raises(BadInput, match="the file of that name here is another"):
        painted(tiny, recipe)
    file.unlink()
    with pytest.raises(BadInput, match=r"needs the IP-Adapter looks \([0-9a-f]{8}\), which is not here"):
        painted(tiny, recipe)
    with pytest.raises(BadInput, match=r"There is no IP-Adapter called looks .* Here are: none\."):
        following(tiny, through("looks", RED, 1))
