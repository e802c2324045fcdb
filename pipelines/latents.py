"""Pixels: from an image and to it."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


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
