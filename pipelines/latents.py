"""Latents to begin from, and pixels to look at."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from pipelines.samplers import Scheduler


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


def to_images(pixels: Tensor) -> list[Image.Image]:
    """Turn pixels (n, 3, h, w) in [-1, 1] into RGB images, rounding as diffusers does."""
    scaled = (pixels.detach().float() / 2 + 0.5).clamp(0, 1)
    array = (scaled.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return [Image.fromarray(picture) for picture in array]
