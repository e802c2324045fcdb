"""An SDXL model is painted with as any other is, and its runs are diffusers' own, bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image
from torch import Tensor

from pipelines.attention import Attention, word_heat
from pipelines.batching import Finished, StepBatcher
from pipelines.calls import fit_buckets
from pipelines.conditioning import Conditioning, mixed, spherical_mean, weighted_mean
from pipelines.denoising import Rows
from pipelines.models.find import find_model
from pipelines.models.load import load_model
from pipelines.models.place import Placement
from pipelines.models.sd import StableDiffusion
from pipelines.prompt_to_image import paint, prompt_to_image
from pipelines.recipe import Recipe
from pipelines.styles import METHODS, Method
from tests.conftest import CPU_FP32
from tests.pipelines.test_branching import branched, drive, painted
from tests.pipelines.test_decoding import ReadyDecoders
from tests.pipelines.test_denoising import recipe_of
from tests.pipelines.test_image_to_image import from_picture, picture, png
from tests.pipelines.test_inpainting import mask_of, repainted
from tests.pipelines.test_references import RED, followed
from tests.pipelines.test_references import mixed as following
from tests.pipelines.test_references import painted as painted_following
from tests.pipelines.test_style_blending import LEFT, rows_of_steps, style
from tests.pipelines.test_style_blending import mixed as mix_of
from tests.plainly import painted_plainly, plain_pipeline
from tests.tiny import build_tiny_sdxl
from tests.unit.test_command_line import QUICK, atelier


def plain_diffusers(
    model: StableDiffusion, recipe: Recipe, pipeline_class: Any = StableDiffusionXLPipeline, **given: object
) -> Any:
    return painted_plainly(plain_pipeline(pipeline_class, model.folder, recipe), recipe, **given)


@pytest.mark.parametrize("negative_prompt", ["dog", ""])
@pytest.mark.parametrize("guidance_scale", [1.0, 7.0])
@pytest.mark.parametrize("sampler", ["DDIM", "Euler", "Euler a", "DPM++ 2M", "Heun", "UniPC"])
def test_run_equals_diffusers_bit_for_bit(
    tiny_xl: StableDiffusion, sampler: str, guidance_scale: float, negative_prompt: str
) -> None:
    recipe = recipe_of(
        tiny_xl, sampler=sampler, guidance_scale=guidance_scale, negative_prompt=negative_prompt
    )
    assert torch.equal(paint(tiny_xl, recipe), plain_diffusers(tiny_xl, recipe))


def test_pixels_equal_diffusers_too(tiny_xl: StableDiffusion) -> None:
    recipe = recipe_of(tiny_xl, prompt="a cat! and all that the model does not read")
    pixels = tiny_xl.decode(paint(tiny_xl, recipe))
    expected = plain_diffusers(tiny_xl, recipe, output_type="pt")
    assert torch.equal((pixels / 2 + 0.5).clamp(0, 1), expected)


def test_an_empty_negative_prompt_is_what_the_model_says_it_is(
    tiny_xl: StableDiffusion, tmp_path: Path
) -> None:
    positive, negative = tiny_xl.encode_pair("cat", "")
    assert negative.equals(positive.zeros())
    index_file = Path(shutil.copytree(tiny_xl.folder.path, tmp_path / "other")) / "model_index.json"
    index = json.loads(index_file.read_text())
    index_file.write_text(json.dumps({**index, "force_zeros_for_empty_prompt": False}))
    other = load_model(find_model(str(index_file.parent)), CPU_FP32)
    recipe = recipe_of(other, negative_prompt="")
    latents = paint(other, recipe)
    assert torch.equal(latents, plain_diffusers(other, recipe))
    assert not torch.equal(latents, paint(tiny_xl, recipe))


def test_an_autoencoder_may_say_how_its_latents_spread(tiny_xl: StableDiffusion, tmp_path: Path) -> None:
    config_file = Path(shutil.copytree(tiny_xl.folder.path, tmp_path / "other")) / "vae" / "config.json"
    spread = {"latents_mean": [0.5, -1.0, 0.25, 2.0], "latents_std": [1.5, 0.5, 2.0, 1.0]}
    config_file.write_text(json.dumps(json.loads(config_file.read_text()) | spread))
    other = load_model(find_model(str(config_file.parents[1])), CPU_FP32)
    recipe = recipe_of(other)
    latents = paint(other, recipe)
    pixels = other.decode(latents)
    expected = plain_diffusers(other, recipe, output_type="pt")
    assert torch.equal((pixels / 2 + 0.5).clamp(0, 1), expected)
    compiled = ReadyDecoders(other, {1}).decode(latents)
    assert compiled is not None
    torch.testing.assert_close(compiled, pixels, rtol=1e-5, atol=1e-5)
    assert not torch.equal(pixels, tiny_xl.decode(paint(tiny_xl, recipe)))
    recipe, open_source = from_picture(other, png(picture()))
    latents = paint(other, recipe, open_source=open_source)
    expected = plain_diffusers(other, recipe, StableDiffusionXLImg2ImgPipeline, image=picture())
    assert torch.equal(latents, expected)


@pytest.mark.parametrize("sampler", ["DDIM", "Euler a", "DPM++ 2M", "Heun"])
def test_image_to_image_equals_diffusers_bit_for_bit(tiny_xl: StableDiffusion, sampler: str) -> None:
    recipe, open_source = from_picture(tiny_xl, png(picture()), sampler=sampler, num_inference_steps=7)
    latents = paint(tiny_xl, recipe, open_source=open_source)
    expected = plain_diffusers(tiny_xl, recipe, StableDiffusionXLImg2ImgPipeline, image=picture())
    assert torch.equal(latents, expected)


@pytest.mark.parametrize("sampler", ["DPM++ 2M", "DDIM"])
def test_blending_in_latents_equals_diffusers_bit_for_bit(tiny_xl: StableDiffusion, sampler: str) -> None:
    recipe, open_source = repainted(tiny_xl, png(picture()), png(mask_of()), strength=0.7, sampler=sampler)
    latents = paint(tiny_xl, recipe, open_source=open_source)
    given = {"image": picture(), "mask_image": mask_of()}
    assert torch.equal(latents, plain_diffusers(tiny_xl, recipe, StableDiffusionXLInpaintPipeline, **given))


def test_a_nine_channel_model_equals_diffusers_bit_for_bit(tmp_path: Path) -> None:
    model = load_model(find_model(str(build_tiny_sdxl(tmp_path / "model", in_channels=9))), CPU_FP32)
    recipe, open_source = repainted(model, png(picture()), png(mask_of()), strength=1.0)
    latents = paint(model, recipe, open_source=open_source)
    given = {"image": picture(), "mask_image": mask_of()}
    assert torch.equal(latents, plain_diffusers(model, recipe, StableDiffusionXLInpaintPipeline, **given))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("weights", [(1, 0), (0, 1)])
def test_a_style_of_no_weight_changes_nothing(
    tiny_xl: StableDiffusion, method: Method, weights: tuple[int, int]
) -> None:
    names = ("ink", "oil")
    styles = (style(name, weight) for name, weight in zip(names, weights, strict=True))
    recipe = mix_of(tiny_xl, method, *styles)
    alone = recipe_of(tiny_xl, prompt=f"cat, {names[weights.index(1)]}")
    assert torch.equal(paint(tiny_xl, recipe), paint(tiny_xl, alone))
    assert rows_of_steps(tiny_xl, recipe) == [2] * 6


@pytest.mark.parametrize("method", METHODS)
def test_pooled_embeddings_are_mixed_as_the_others(tiny_xl: StableDiffusion, method: Method) -> None:
    recipe = mix_of(tiny_xl, method, style("ink", 3), style("oil", 1))
    rows = next(prompt_to_image(tiny_xl, recipe))
    assert isinstance(rows, Rows)
    (ink, negative), (oil, _) = (tiny_xl.encode_pair(f"cat, {name}", "dog") for name in ("ink", "oil"))
    means = {"conditioning": weighted_mean, "slerp": spherical_mean}
    if method == "prediction":
        expected = [negative, ink, oil]
    else:
        expected = [negative, mixed([ink, oil], [0.75, 0.25], means[method])]
    for read, want in zip(rows.conditioning.split(), expected, strict=True):
        assert read.equals(want)
    assert paint(tiny_xl, recipe).isfinite().all()


def test_means_of_what_is_pooled() -> None:
    a, b = (Conditioning(torch.eye(4)[None, [row]], 2 * torch.eye(4)[[row]]) for row in (0, 1))
    between = mixed([a, b], [0.5, 0.5], spherical_mean)
    assert between.pooled is not None
    torch.testing.assert_close(between.pooled, torch.tensor([[2**0.5, 2**0.5, 0, 0]]))
    straight = mixed([a, b], [0.25, 0.75], weighted_mean)
    assert straight.pooled is not None
    torch.testing.assert_close(straight.pooled, torch.tensor([[0.5, 1.5, 0, 0]]))
    other = Conditioning(a.embeds, b.pooled)
    assert not a.equals(other), "of two that differ in what is pooled only"
    assert not mixed([a, other], [0.5, 0.5], weighted_mean).equals(a)
    # An empty negative prompt may be all zeros: it has no direction.
    towards = mixed([a.zeros(), a], [0.5, 0.5], spherical_mean)
    torch.testing.assert_close(towards.embeds, a.embeds / 2)


def test_regions_and_a_picture_that_is_followed(tiny_xl: StableDiffusion) -> None:
    styles = (style("ink", 1, region=LEFT), style("oil", 1))
    plain = painted_following(tiny_xl, following(tiny_xl, *styles, method="prediction"))
    assert not torch.equal(plain, paint(tiny_xl, recipe_of(tiny_xl, prompt="cat, oil")))
    red = following(tiny_xl, *styles, method="prediction", references=(followed(RED, 0.7),))
    after = painted_following(tiny_xl, red)
    assert after.isfinite().all()
    assert not torch.equal(after, plain)


def test_runs_of_a_batch_paint_what_they_paint_alone(tiny_xl: StableDiffusion) -> None:
    recipes = [
        recipe_of(tiny_xl, sampler="DPM++ 2M", num_inference_steps=5, seed=1),
        recipe_of(
            tiny_xl, sampler="Euler a", num_inference_steps=7, seed=2, prompt="a fish", negative_prompt=""
        ),
    ]

    def at_fixed_bucket(keys: list[int]) -> dict[object, Tensor]:
        batcher = StepBatcher(tiny_xl, merge=True, buckets=(8,))
        for key in keys:
            batcher.join(key, prompt_to_image(tiny_xl, recipes[key]))
        ends: dict[object, Tensor] = {}
        while len(batcher):
            ends |= {key: event.latents for key, event in batcher.tick() if isinstance(event, Finished)}
        return ends

    together = at_fixed_bucket([0, 1])
    for key in (0, 1):
        assert torch.equal(together[key], at_fixed_bucket([key])[key])
    assert fit_buckets(tiny_xl, deterministic=True) == (8,)


def test_the_network_is_told_the_size(tiny_xl: StableDiffusion) -> None:
    rows = next(prompt_to_image(tiny_xl, recipe_of(tiny_xl, width=96, height=72)))
    assert isinstance(rows, Rows)
    told = tiny_xl.unet_arguments(rows)["added_cond_kwargs"]
    assert told["time_ids"].tolist() == [[72, 96, 0, 0, 72, 96]] * 2
    assert rows.pooled_embeds is not None
    assert torch.equal(told["text_embeds"], rows.pooled_embeds)


def test_branches_timelines_and_words(tiny_xl: StableDiffusion, tmp_path: Path) -> None:
    parent = recipe_of(tiny_xl, prompt="a red cat", num_inference_steps=7)
    latents, timeline = painted(tiny_xl, parent, tmp_path)
    again, frames, calls = drive(tiny_xl, branched(parent, 4), timeline)
    assert torch.equal(again, latents)
    assert (len(frames), calls) == (7, 3)
    other, _, _ = drive(tiny_xl, branched(parent, 4, prompt="a dog"), timeline)
    assert not torch.equal(other, latents)
    looks = Attention(tiny_xl).look_again(timeline)
    red, cat = (word_heat(tiny_xl, timeline, looks, word)[0] for word in ("red", "cat"))
    assert red is not None
    assert cat is not None
    assert red.shape == (36, 32)
    assert not torch.equal(red, cat)


def test_half_precision_stays_out_of_an_autoencoder_that_overflows_in_it(tiny_xl: StableDiffusion) -> None:
    half = load_model(tiny_xl.folder, Placement(torch.device("cpu"), torch.float16, torch.float16))
    recipe = recipe_of(half)
    latents = paint(half, recipe)
    torch.testing.assert_close(latents, paint(tiny_xl, recipe), rtol=0.1, atol=0.3)
    assert torch.equal(half.decode(latents), tiny_xl.decode(latents))
    assert torch.equal(half.preview(latents), half.decode(latents))
    bf16 = load_model(tiny_xl.folder, Placement(torch.device("cpu"), torch.bfloat16, torch.float32))
    look = bf16.preview(latents)
    assert not torch.equal(look, bf16.decode(latents))
    torch.testing.assert_close(look, bf16.decode(latents), rtol=0, atol=0.1)


def test_a_png_is_painted_again_to_the_same_pixels(tiny_xl: StableDiffusion, tmp_path: Path) -> None:
    first, again = tmp_path / "a.png", tmp_path / "b.png"
    model = ("--model", tiny_xl.folder.path)
    styles = ("--style", "ukiyo-e=0.6", "--style", "impressionism=0.4", "--method", "slerp")
    done = atelier("blend", "a cat", *styles, *model, "--output", first, *QUICK)
    assert done.returncode == 0, done.stderr
    done = atelier("replay", first, *model, "--output", again)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.asarray(Image.open(first)), np.asarray(Image.open(again)))
