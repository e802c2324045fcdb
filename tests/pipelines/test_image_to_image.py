"""Image to image is diffusers' own, bit for bit, and strength is a step of the schedule."""

from __future__ import annotations

import io

import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image

from pipelines.denoising import Frame
from pipelines.models.sd import StableDiffusion
from pipelines.prompt_to_image import paint
from pipelines.recipe import SAMPLER_NAMES, BadInput, Recipe, read_recipe
from pipelines.samplers import SAMPLERS
from pipelines.sources import OpenSource, make_source, open_among, source_key
from tests.pipelines.test_branching import branched
from tests.pipelines.test_denoising import recipe_of
from tests.plainly import painted_plainly, plain_pipeline

MIDWAY = [name for name in SAMPLER_NAMES if SAMPLERS[name].begins_midway]


def picture(width: int = 64, height: int = 72, seed: int = 3) -> Image.Image:
    values = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=torch.manual_seed(seed))
    return Image.fromarray(values.numpy())


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def from_picture(model: StableDiffusion, content: bytes, **changes: object) -> tuple[Recipe, OpenSource]:
    source = make_source(image=source_key(content), strength=changes.pop("strength", 0.6))
    return recipe_of(model, source=source, **changes), open_among([content])


def plain_diffusers(model: StableDiffusion, recipe: Recipe, image: Image.Image) -> torch.Tensor:
    pipeline = plain_pipeline(StableDiffusionImg2ImgPipeline, model.folder, recipe)
    return painted_plainly(pipeline, recipe, image=image)


@pytest.mark.parametrize("sampler", MIDWAY)
def test_run_equals_diffusers_bit_for_bit(tiny: StableDiffusion, sampler: str) -> None:
    recipe, open_source = from_picture(tiny, png(picture()), sampler=sampler, num_inference_steps=7)
    latents = paint(tiny, recipe, open_source=open_source)
    assert torch.equal(latents, plain_diffusers(tiny, recipe, picture()))


@pytest.mark.parametrize("strength", [0.29, 1.0])
def test_every_strength_begins_where_diffusers_does(tiny: StableDiffusion, strength: float) -> None:
    recipe, open_source = from_picture(tiny, png(picture()), strength=strength)
    frames: list[Frame] = []
    latents = paint(tiny, recipe, frames.append, open_source=open_source)
    assert torch.equal(latents, plain_diffusers(tiny, recipe, picture()))
    steps = int(recipe.num_inference_steps * strength)
    assert [frame.step for frame in frames] == list(range(steps))
    assert {frame.steps for frame in frames} == {steps}


def test_a_little_strength_is_at_least_one_step(tiny: StableDiffusion) -> None:
    recipe, open_source = from_picture(tiny, png(picture()), strength=0.001)
    frames: list[Frame] = []
    paint(tiny, recipe, frames.append, open_source=open_source)
    assert len(frames) == 1


def test_a_picture_of_another_size_is_fitted(tiny: StableDiffusion) -> None:
    recipe, open_source = from_picture(tiny, png(picture(200, 90)))
    assert paint(tiny, recipe, open_source=open_source).shape == (1, 4, 36, 32)


def test_a_branch_of_it_begins_from_the_same_picture(tiny: StableDiffusion) -> None:
    parent, open_source = from_picture(tiny, png(picture()))
    child = branched(parent, 1)
    original = paint(tiny, parent, open_source=open_source)
    assert torch.equal(paint(tiny, child, open_source=open_source), original)
    other = paint(tiny, branched(parent, 1, prompt="a dog"), open_source=open_source)
    assert not torch.equal(other, original)
    with pytest.raises(BadInput, match="begins from what the picture it leaves began from"):
        branched(parent, 1, source=None)


def test_what_cannot_be_painted_is_refused_in_a_sentence(tiny: StableDiffusion) -> None:
    recipe, _ = from_picture(tiny, png(picture()))
    with pytest.raises(BadInput, match=r"Give that very file as --image"):
        paint(tiny, recipe)
    with pytest.raises(BadInput, match="PNDM cannot begin in the middle of its schedule") as refused:
        from_picture(tiny, png(picture()), sampler="PNDM")
    assert refused.value.field == "sampler"
    whole, open_source = from_picture(tiny, png(picture()), sampler="PNDM", strength=1)
    assert paint(tiny, whole, open_source=open_source).isfinite().all()


def test_a_source_survives_json_and_an_old_recipe_keeps_its_key(tiny: StableDiffusion) -> None:
    recipe, _ = from_picture(tiny, png(picture()))
    assert read_recipe(recipe.model_dump_json()) == recipe
    assert "source" not in recipe_of(tiny).model_dump_json()
