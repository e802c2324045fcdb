"""The denoising run is diffusers' own, bit for bit, and its frames are what the scheduler saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline

from pipelines.denoising import Frame, predicted_denoised
from pipelines.models.find import EMBEDDED, ModelFolder, find_model
from pipelines.models.load import load_model
from pipelines.models.sd import StableDiffusion
from pipelines.prompt_to_image import paint, prompt_to_image
from pipelines.recipe import SAMPLER_NAMES, Recipe, make_recipe
from pipelines.samplers import make_scheduler
from tests.conftest import CPU_FP32
from tests.plainly import painted_plainly, plain_pipeline
from tests.tiny import build_tiny_sd


def recipe_of(model: StableDiffusion, **changes: object) -> Recipe:
    fields: dict[str, object] = {
        "model": model.folder.name,
        "model_revision": model.folder.revision,
        "prompt": "a cat, ukiyo-e",
        "negative_prompt": "dog",
        "seed": 7,
        "width": 64,
        "height": 72,
        "sampler": "DPM++ 2M",
        "num_inference_steps": 6,
        "guidance_scale": 5.0,
    }
    return make_recipe(**{**fields, **changes})


def plain_diffusers(folder: ModelFolder, recipe: Recipe, **given: object) -> Any:
    return painted_plainly(plain_pipeline(StableDiffusionPipeline, folder, recipe), recipe, **given)


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_run_equals_diffusers_bit_for_bit(tiny: StableDiffusion, sampler: str) -> None:
    recipe = recipe_of(tiny, sampler=sampler)
    expected = plain_diffusers(tiny.folder, recipe)
    assert torch.equal(paint(tiny, recipe), expected)


@pytest.mark.parametrize("guidance_scale", [0.0, 1.0, 1.5])
def test_guidance_scales_mean_what_they_mean_in_diffusers(
    tiny: StableDiffusion, guidance_scale: float
) -> None:
    recipe = recipe_of(tiny, guidance_scale=guidance_scale)
    expected = plain_diffusers(tiny.folder, recipe)
    assert torch.equal(paint(tiny, recipe), expected)


@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
def test_every_prediction_type_equals_diffusers(tmp_path: Path, prediction_type: str) -> None:
    folder = build_tiny_sd(tmp_path / "tiny", prediction_type=prediction_type)
    model = load_model(find_model(str(folder)), CPU_FP32)
    recipe = recipe_of(model, sampler="Euler")
    expected = plain_diffusers(model.folder, recipe)
    assert torch.equal(paint(model, recipe), expected)


def test_embedded_model_equals_diffusers_to_the_pixel() -> None:
    folder = find_model(EMBEDDED)
    model = load_model(folder, CPU_FP32)
    recipe = recipe_of(model, prompt="seascape, moonlight, romanticism", width=224, height=160)
    expected = plain_diffusers(folder, recipe, output_type="pt")
    pixels = model.decode(paint(model, recipe))
    assert torch.equal((pixels / 2 + 0.5).clamp(0, 1), expected)


@pytest.mark.parametrize("sampler", ["DDIM", "Euler", "Euler a", "Heun", "DDPM", "LCM"])
def test_denoised_is_the_schedulers_own(tiny: StableDiffusion, sampler: str) -> None:
    recipe = recipe_of(tiny, sampler=sampler)
    frames: list[Frame] = []
    paint(tiny, recipe, frames.append)
    scheduler: Any = make_scheduler(sampler, tiny.folder.scheduler_config)
    scheduler.set_timesteps(recipe.num_inference_steps)
    options = {} if sampler == "Heun" else {"generator": torch.Generator().manual_seed(0)}
    run = prompt_to_image(tiny, recipe)
    answer = None
    outputs: list[torch.Tensor] = []
    try:
        while True:
            event = run.send(answer)
            answer = None
            if not isinstance(event, Frame):
                answer = tiny.predict(event)
                unconditional, conditional = answer.chunk(2)
                outputs.append(unconditional + recipe.guidance_scale * (conditional - unconditional))
    except StopIteration:
        pass
    for frame, output, timestep in zip(frames, outputs, scheduler.timesteps, strict=True):
        scheduler.scale_model_input(frame.latents, timestep)
        theirs = scheduler.step(output, timestep, frame.latents, **options, return_dict=False)[1]
        torch.testing.assert_close(frame.denoised, theirs, rtol=1e-4, atol=1e-4)


def test_frames_follow_the_schedule(tiny: StableDiffusion) -> None:
    frames: list[Frame] = []
    latents = paint(tiny, recipe_of(tiny, sampler="Heun"), frames.append)
    assert [frame.step for frame in frames] == list(range(11)), "Heun calls the model twice a step"
    assert all(frame.steps == 11 for frame in frames)
    sigmas = [frame.sigma for frame in frames]
    assert sigmas == sorted(sigmas, reverse=True)
    assert frames[0].noisy.std().item() == pytest.approx(1, abs=0.05)
    assert all(frame.guidance_norm.item() > 0 for frame in frames)
    assert frames[0].latents.shape == latents.shape == (1, 4, 36, 32)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_denoised_inverts_the_forward_process(prediction_type: str) -> None:
    generator = torch.Generator().manual_seed(1)
    x_0, noise = torch.randn((2, 1, 4, 8, 8), generator=generator, dtype=torch.float64)
    for sigma in (0.01, 1.0, 60.0):
        alpha_t = (1 + sigma**2) ** -0.5
        sigma_t = sigma * alpha_t
        noisy = alpha_t * x_0 + sigma_t * noise
        output = {"epsilon": noise, "v_prediction": alpha_t * noise - sigma_t * x_0, "sample": x_0}
        torch.testing.assert_close(
            predicted_denoised(output[prediction_type], noisy, sigma, prediction_type), x_0
        )


def test_same_recipe_same_picture(tiny: StableDiffusion) -> None:
    recipe = recipe_of(tiny, sampler="Euler a")
    assert torch.equal(paint(tiny, recipe), paint(tiny, recipe))
    other = recipe_of(tiny, sampler="Euler a", seed=8)
    assert not torch.equal(paint(tiny, recipe), paint(tiny, other))


def test_prompt_longer_than_the_model_reads_is_told(tiny: StableDiffusion) -> None:
    assert tiny.unread("a cat") == ""
    assert tiny.unread("a" * 14 + " Tail") == "Tail"
