"""How much fine detail pictures have, held to what real pictures of their style have.

A U-Net that is tuned to please networks learns to lay a mesh over smooth places, which they take for a
painted surface and a person sees as a fault. It shows as power in bands of fine detail.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch.nn import functional

from pipelines.training.evaluation.judge import labels_of
from pipelines.training.pictures import PictureBank, to_pixels

_SIDES_PX = (1, 3, 5, 9)
"""A band is what averaging over one of these squares leaves, and averaging over the next takes away."""

_PATCH_PX = 16
_LEAST_POWER = 1e-7
_LOOKED_AT = 120
"""Pictures of each style and format: the standard error of a mean is then a tenth of a deviation."""


def detail(pixels: torch.Tensor) -> torch.Tensor:
    """The power of three bands, finest first, as logarithms: (B, 3, H, W) to (B, 3).

    Each is a mean over patches, so that smooth ones count as much as rough ones.
    """
    smooth = [_averaged(pixels, side) for side in _SIDES_PX]
    powers = [
        functional.avg_pool2d((fine - coarse).square().mean(1), _PATCH_PX)
        for fine, coarse in pairwise(smooth)
    ]
    return torch.stack([(power + _LEAST_POWER).log().mean((1, 2)) for power in powers], dim=1)


def _averaged(pixels: torch.Tensor, side: int) -> torch.Tensor:
    padded = functional.pad(pixels, [side // 2] * 4, mode="reflect")
    return functional.avg_pool2d(padded, side, 1)


class Grain:
    """The detail of real pictures by style: means and deviations (styles, 3)."""

    def __init__(self, bank: PictureBank, styles: Sequence[str]) -> None:
        """Look at some of the pack's pictures that are not held out; every style is to have two at least."""
        rng = random.Random(0)
        found: list[list[torch.Tensor]] = [[] for _ in styles]
        for shape, rows in bank.training.items():
            labels = labels_of(styles, [bank.rows[shape][n].style for n in rows]).tolist()
            for style, looked in enumerate(found):
                of = [n for n, label in zip(rows, labels, strict=True) if label == style]
                some = rng.sample(of, min(_LOOKED_AT, len(of)))
                if some:
                    looked.append(detail(to_pixels(bank.pixels[shape][some])))
        whole = [torch.cat(looked) for looked in found]
        self._mean = torch.stack([one.mean(0) for one in whole])
        self._deviation = torch.stack([one.std(0) for one in whole]).clamp_min(0.1)

    def excess(self, pixels: torch.Tensor, styles: torch.Tensor) -> torch.Tensor:
        """How much more detail pictures (B, 3, H, W) of styles (B,) have than real ones, a scalar.

        In deviations of the real ones, squared, a sum over the bands; it is the mean picture's, so that one
        may be rough where another is smooth. What is smoother than life counts nothing.
        """
        beyond = (detail(pixels) - self._mean[styles]) / self._deviation[styles]
        return beyond.mean(0).clamp_min(0).square().sum()
