"""Pictures varied as painters vary what they see: in other colours, in strokes, on another's canvas.

What a network has learnt of emoji and of photographs it should know in paint as well. Each picture of a batch
takes its colours and its canvas from another one, as in Reinhard et al. (2001) by means and deviations, and
its strokes from a filter (Kuwahara et al., 1976) that paints each place with the evenest patch beside it.
"""

from __future__ import annotations

import torch
from torch.nn import functional

_RADII = (2, 5)
_CANVAS_PX = 5
_LEAST_DEVIATION = 0.1


def paint_like(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Vary pixels (B, 3, H, W) in [-1, 1], each by some of strokes, colours and canvas."""

    def draw(low: float, high: float) -> torch.Tensor:
        share = torch.rand(len(pixels), 1, 1, 1, device=pixels.device, generator=generator)
        return low + (high - low) * share

    radius = int(torch.randint(*_RADII, (), device=pixels.device, generator=generator))
    other = pixels[torch.randperm(len(pixels), device=pixels.device, generator=generator)]
    painted = torch.where(draw(0, 1) < 0.4, stroke(pixels, radius), pixels)
    coloured = torch.lerp(painted, recolour(painted, other), draw(0.3, 1))
    painted = torch.where(draw(0, 1) < 0.4, coloured, painted)
    on_canvas = painted + draw(0.3, 1) * canvas(other, most=0.2)
    return torch.where(draw(0, 1) < 0.3, on_canvas, painted).clamp(-1, 1)


def stroke(pixels: torch.Tensor, radius: int) -> torch.Tensor:
    """Each place of pixels (B, 3, H, W) as the mean of the evenest of four squares that meet there."""
    height, width = pixels.shape[2:]
    padded = functional.pad(pixels, (radius,) * 4, "replicate")
    means = functional.avg_pool2d(padded, radius + 1, 1)
    squares = functional.avg_pool2d(padded.square(), radius + 1, 1)
    uneven = (squares - means.square()).sum(1, keepdim=True)
    corners = [(top, left) for top in (0, radius) for left in (0, radius)]

    def at_corners(values: torch.Tensor) -> torch.Tensor:
        return torch.stack([values[..., top : top + height, left : left + width] for top, left in corners])

    evenest = at_corners(uneven).argmin(0, keepdim=True).expand(-1, -1, 3, -1, -1)
    return at_corners(means).gather(0, evenest)[0]


def recolour(pixels: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Pixels (B, 3, H, W) with the mean and the deviation of each of another's channels."""
    deviation, mean = torch.std_mean(pixels, (2, 3), keepdim=True)
    other_deviation, other_mean = torch.std_mean(other, (2, 3), keepdim=True)
    # A plain picture's deviation would make another one plain.
    scale = other_deviation.clamp_min(_LEAST_DEVIATION) / deviation.clamp_min(1e-2)
    return (pixels - mean) * scale + other_mean


def canvas(pixels: torch.Tensor, *, most: float) -> torch.Tensor:
    """The finest detail of pixels (B, 3, H, W), no more than `most` anywhere."""
    return (pixels - smooth(pixels, _CANVAS_PX)).clamp(-most, most)


def smooth(values: torch.Tensor, side: int) -> torch.Tensor:
    """The mean of values (B, C, H, W) over the square of `side` places, an odd number, around each."""
    return functional.avg_pool2d(values, side, 1, side // 2, count_include_pad=False)
