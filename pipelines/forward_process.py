"""The forward process: a picture dissolves into noise, along the very schedule the model walks back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from pipelines.denoising import schedule_sigmas
from pipelines.latents import to_pixels
from pipelines.models.sd import StableDiffusion
from pipelines.samplers import Scheduler, make_scheduler


@dataclass(frozen=True, slots=True)
class Stop:
    """One noise level on the way: `sigma` is noise over signal, `timestep` the model's own count of it."""

    timestep: float
    sigma: float


@dataclass(frozen=True, slots=True)
class Dissolving:
    """A picture at every noise level of a schedule, the noisiest first.

    `pixels` (n, 3, H, W) and `latents` (n, C, h, w) are x_t as `diffuse` makes it. A run with the same seed
    that begins from the picture at position k of the schedule begins with these very `latents[k]`.
    """

    stops: list[Stop]
    pixels: Tensor
    latents: Tensor


def diffuse(x_0: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """Draw x_t from q(x_t | x_0) (Ho et al. 2020, equation 4).

    x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise, where alpha_bar = 1 / (1 + sigma²).
    """
    alpha_bar = 1.0 / (1.0 + sigma**2)
    return alpha_bar**0.5 * x_0 + (1.0 - alpha_bar) ** 0.5 * noise


def stops_of(scheduler: Scheduler) -> list[Stop]:
    """List the noise levels of a scheduler whose timesteps are set, as its run meets them."""
    timesteps: list[float] = scheduler.timesteps.tolist()
    return [Stop(*stop) for stop in zip(timesteps, schedule_sigmas(scheduler), strict=True)]


@torch.inference_mode()
def dissolve(
    model: StableDiffusion, image: Image.Image, *, sampler: str, num_inference_steps: int, seed: int
) -> Dissolving:
    """Dissolve a picture, in its pixels and in its latents.

    Args:
        model: encodes it.
        image: RGB, of the size that is painted.
        sampler: whose schedule is followed.
        num_inference_steps: of that schedule.
        seed: of the noise, which is the same all the way.
    """
    scheduler = make_scheduler(sampler, model.folder.scheduler_config)
    scheduler.set_timesteps(num_inference_steps, device=torch.device("cpu"))
    stops = stops_of(scheduler)
    # The picture's latents, then their noise: as a run from this picture draws them.
    generator = torch.Generator("cpu").manual_seed(seed)
    pixels = to_pixels(image)
    latents = model.encode(pixels, generator)
    noise = torch.randn(latents.shape, generator=generator).to(model.device)
    grain = torch.randn(pixels.shape, generator=generator)
    return Dissolving(
        stops,
        torch.cat([diffuse(pixels, grain, stop.sigma) for stop in stops]),
        torch.cat([diffuse(latents, noise, stop.sigma) for stop in stops]),
    )
