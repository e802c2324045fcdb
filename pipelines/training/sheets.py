"""Sample sheets: rows of pictures in one PNG, to be looked at."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image


def save_sheet(path: Path, rows: list[torch.Tensor]) -> None:
    """Write rows of images, each (N, height, width, 3) uint8, one under another."""
    width = max(row.shape[0] * row.shape[2] for row in rows)
    sheet = Image.new("RGB", (width, sum(row.shape[1] for row in rows)))
    top = 0
    for row in rows:
        for index, image in enumerate(row):
            sheet.paste(Image.fromarray(image.numpy()), (index * row.shape[2], top))
        top += row.shape[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
