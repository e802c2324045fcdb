"""A picture dissolves as q(x_t | x_0) says, and a run can take over from any point of the way."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from PIL import Image

from pipelines.denoising import Frame
from pipelines.forward_process import diffuse, dissolve, stops_of
from pipelines.models.find import EMBEDDED, find_model
from pipelines.models.sd import StableDiffusion
from pipelines.prompt_to_image import paint
from pipelines.samplers import make_scheduler
from pipelines.sources import make_source, open_among, source_key
from tests.pipelines.test_denoising import recipe_of

SAMPLES = 1000


@pytest.mark.parametrize("step", [0, 5, 10, 15, 19])
def test_statistics_match_the_closed_form(step: int) -> None:
    """Over 1,000 draws, along the embedded model's own schedule: mean and variance within 1 %."""
    scheduler: Any = make_scheduler("DPM++ 2M", find_model(EMBEDDED).scheduler_config)
    scheduler.set_timesteps(20, device=torch.device("cpu"))
    stop = stops_of(scheduler)[step]
    alpha_bar = scheduler.alphas_cumprod[int(stop.timestep)].item()
    generator = torch.Generator().manual_seed(step)
    x_0 = torch.randn(8, 24, 24, generator=generator)
    noise = torch.randn(SAMPLES, 8, 24, 24, generator=generator)
    x_t = diffuse(x_0, noise, stop.sigma)
    mean, variance = x_t.mean(0), x_t.var(0)
    share = (mean * x_0).sum() / x_0.square().sum()
    assert share.item() == pytest.approx(alpha_bar**0.5, rel=0.01, abs=1e-3)
    assert variance.mean().item() == pytest.approx(1 - alpha_bar, rel=0.01)
    # No place strays further from the closed form than chance lets it: five standard errors of its mean.
    error = (mean - alpha_bar**0.5 * x_0).abs().max().item()
    assert error < 5 * ((1 - alpha_bar) / SAMPLES) ** 0.5


def test_it_is_what_diffusers_adds(tiny: StableDiffusion) -> None:
    scheduler: Any = make_scheduler("DDIM", tiny.folder.scheduler_config)
    scheduler.set_timesteps(7, device=torch.device("cpu"))
    x_0, noise = torch.randn(2, 1, 4, 8, 8)
    for stop, timestep in zip(stops_of(scheduler), scheduler.timesteps, strict=True):
        theirs = scheduler.add_noise(x_0, noise, timestep[None])
        torch.testing.assert_close(diffuse(x_0, noise, stop.sigma), theirs)


@pytest.mark.parametrize("sampler", ["DPM++ 2M", "Euler"])
def test_a_run_takes_over_where_the_dissolving_picture_is(tiny: StableDiffusion, sampler: str) -> None:
    image = Image.linear_gradient("L").convert("RGB").resize((64, 72))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    gone = dissolve(tiny, image, sampler=sampler, num_inference_steps=6, seed=7)
    assert gone.latents.shape == (6, 4, 36, 32)
    assert gone.pixels.shape == (6, 3, 72, 64)
    sigmas = [stop.sigma for stop in gone.stops]
    assert sigmas == sorted(sigmas, reverse=True)
    source = make_source(image=source_key(stream.getvalue()), strength=0.5)
    frames: list[Frame] = []
    recipe = recipe_of(tiny, sampler=sampler, source=source)
    paint(tiny, recipe, frames.append, open_source=open_among([stream.getvalue()]))
    assert len(frames) == 3
    assert frames[0].sigma == sigmas[3]
    torch.testing.assert_close(frames[0].noisy, gone.latents[3:4])
