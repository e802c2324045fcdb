"""How near a picture is to another: PSNR and SSIM."""

from __future__ import annotations

import torch
from torch.nn import functional


def psnr(pixels: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio of each picture, (N,) decibels; pixels (N, 3, H, W) in [-1, 1]."""
    error = (pixels.clamp(-1, 1) - reference).square().flatten(1).mean(1)
    return 10 * torch.log10(4.0 / error.clamp_min(1e-10))


def ssim(pixels: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Structural similarity of each picture, (N,); 11-pixel Gaussian window (Wang et al., 2004)."""
    channels = pixels.shape[1]
    offsets = torch.arange(11, device=pixels.device, dtype=pixels.dtype) - 5
    gauss = torch.exp(-offsets.square() / (2 * 1.5**2))
    gauss = gauss / gauss.sum()
    across, down = (gauss.view(shape).expand(channels, 1, *shape) for shape in ((1, 11), (11, 1)))

    def blur(image: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(functional.conv2d(image, across, groups=channels), down, groups=channels)

    a, b = pixels.clamp(-1, 1) * 0.5 + 0.5, reference * 0.5 + 0.5
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    likeness = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    likeness = likeness / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return likeness.flatten(1).mean(1)
