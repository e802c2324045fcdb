"""Latents to begin from, and pixels to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipelines.samplers import Scheduler

if TYPE_CHECKING:
    from pipelines.models.sd import StableDiffusion


def initial_latents(
    scheduler: Scheduler, generator: torch.Generator, *, channels: int, height: int, width: int
) -> Tensor:
    """Draw x_T for one picture on the CPU, so that a seed means the same on every device.

    Args:
        scheduler: with its timesteps set; it says how strong the first noise is.
        generator: a CPU generator, seeded with the recipe's seed.
        channels: latent channels.
        height: in latent pixels.
        width: in latent pixels.

    Returns:
        (1, channels, height, width), float32.
    """
    noise = torch.randn((1, channels, height, width), generator=generator)
    return noise * scheduler.init_noise_sigma


def noised_source(
    model: StableDiffusion,
    image: Image.Image,
    scheduler: Scheduler,
    generator: torch.Generator,
    *,
    first: int,
) -> Tensor:
    """Encode a picture and noise it to position `first` of a schedule (Meng et al. 2022, SDEdit).

    Args:
        model: encodes it.
        image: RGB, of the size that is painted.
        scheduler: with its timesteps set; it is left at `first`.
        generator: the run's own, on the CPU; the encoder draws from it first, then the noise is drawn, as in
            diffusers.
        first: the schedule position to begin at.

    Returns:
        x_t (1, C, h, w) at the scheduler's own scale, float32, on the model's device.
    """
    if set_begin_index := getattr(scheduler, "set_begin_index", None):
        set_begin_index(first)
    latents = model.encode(to_pixels(image), generator)
    noise = torch.randn(latents.shape, generator=generator).to(model.device)
    return scheduler.add_noise(latents, noise, scheduler.timesteps[first : first + 1])


def to_pixels(image: Image.Image) -> Tensor:
    """Turn an RGB image into pixels (1, 3, h, w) in [-1, 1], as diffusers does.

    They lie in memory channels last, as diffusers leaves them: convolutions round differently otherwise.
    """
    array = np.asarray(image, dtype=np.float32) / 255.0
    return 2.0 * torch.from_numpy(array[None].transpose(0, 3, 1, 2)) - 1.0


def to_images(pixels: Tensor) -> list[Image.Image]:
    """Turn pixels (n, 3, h, w) in [-1, 1] into RGB images, rounding as diffusers does."""
    scaled = (pixels.detach().float() / 2 + 0.5).clamp(0, 1)
    array = (scaled.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return [Image.fromarray(picture) for picture in array]
