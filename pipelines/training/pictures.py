"""The training pictures on the device: no loader, no worker, an index and a gather."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pipelines.training.pack import RENDERED, Format, Row, load_pixels, load_rows


class PictureBank:
    """All pictures of the prepared pack, as uint8 on one device, drawn by their rows' weights."""

    def __init__(
        self,
        prepared: Path,
        device: torch.device,
        seed: int,
        *,
        own: Sequence[Path] = (),
        own_share: float = 0.35,
        rendered_share: float | None = None,
    ) -> None:
        """Load what `prepare_pack` laid out; `seed` differs from process to process.

        `own` are folders of such as `train rank` leaves: `own_share` of what is drawn is theirs;
        none of them is among the pack's, `training` and `validation`, which are indices of rows.
        `rendered_share` is how much of the pack's is 3D renders, if not as much as the pack itself has it.
        """
        self.rows: dict[Format, list[Row]] = load_rows(prepared)
        self.device = device
        if rendered_share is not None:
            self.rows = _share_renders(self.rows, rendered_share)
        self.training, self.validation = (
            {
                shape: [index for index, row in enumerate(rows) if row.validation == held_out]
                for shape, rows in self.rows.items()
            }
            for held_out in (False, True)
        )
        arrays = {shape: [load_pixels(prepared, shape)] for shape in self.rows}
        for folder in own:
            for shape, rows in load_rows(folder).items():
                share = own_share / (1 - own_share) / len(own)
                arrays.setdefault(shape, []).append(load_pixels(folder, shape))
                self.rows.setdefault(shape, []).extend(
                    replace(row, weight=row.weight * share) for row in rows
                )
        self.pixels = {
            shape: torch.from_numpy(np.concatenate(parts)).to(device) for shape, parts in arrays.items()
        }
        self.weights = {
            shape: torch.tensor([row.weight for row in rows], device=device)
            for shape, rows in self.rows.items()
        }
        self._totals = {shape: float(weight.sum()) for shape, weight in self.weights.items()}
        self.generator = torch.Generator(device).manual_seed(seed)

    def choose_format(self, step: int) -> Format:
        """The format of one step, the same in every process, each as often as its pictures weigh."""
        shapes = [shape for shape, total in self._totals.items() if total > 0]
        return random.Random(step).choices(shapes, [self._totals[shape] for shape in shapes])[0]

    def draw_rows(self, shape: Format, count: int) -> torch.Tensor:
        """Draw row indices (count,) of one format by weight, with replacement."""
        return torch.multinomial(self.weights[shape], count, replacement=True, generator=self.generator)

    def draw_crops(self, shape: Format, count: int, side: int) -> torch.Tensor:
        """Draw square crops as pixels (count, 3, side, side) in [-1, 1], half of them mirrored."""
        return self.crop(shape, self.draw_rows(shape, count), side)

    def crop(self, shape: Format, rows: torch.Tensor, side: int) -> torch.Tensor:
        """Crop each row (count,) at random, half mirrored: pixels (count, 3, side, side) in [-1, 1]."""
        count = len(rows)
        top = self.draw_integers(shape.height - side + 1, count)
        left = self.draw_integers(shape.width - side + 1, count)
        span = torch.arange(side, device=self.device)
        y = (top[:, None] + span)[:, :, None]
        x = (left[:, None] + span)[:, None, :]
        mirrored = self.draw_integers(2, count).bool()[:, None, None]
        x = torch.where(mirrored, x.flip(2), x)
        crops = self.pixels[shape][rows[:, None, None], y, x]
        return to_pixels(crops)

    def draw_integers(self, end: int, count: int) -> torch.Tensor:
        """Draw whole numbers (count,) from 0 to `end`, exclusive."""
        return torch.randint(end, (count,), device=self.device, generator=self.generator)


def _share_renders(rows: dict[Format, list[Row]], share: float) -> dict[Format, list[Row]]:
    """The same rows, drawn so that of them all `share` are 3D renders; as they were if there are none."""
    every = [row for ones in rows.values() for row in ones]
    whole = sum(row.weight for row in every)
    rendered = sum(row.weight for row in every if row.style == RENDERED)
    if not 0 < rendered < whole:
        return rows
    more, less = share * whole / rendered, (1 - share) * whole / (whole - rendered)
    return {
        shape: [replace(row, weight=row.weight * (more if row.style == RENDERED else less)) for row in ones]
        for shape, ones in rows.items()
    }


def to_pixels(images: torch.Tensor) -> torch.Tensor:
    """Turn uint8 images (N, height, width, 3) into pixels (N, 3, height, width) in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float().div(127.5).sub(1.0)


def to_images(pixels: torch.Tensor) -> torch.Tensor:
    """Turn pixels (N, 3, height, width) in [-1, 1] into uint8 images (N, height, width, 3) on the CPU."""
    images = pixels.float().clamp(-1, 1).add(1).mul(127.5).round()
    return images.to(torch.uint8).permute(0, 2, 3, 1).cpu()
