"""A kept timeline as the scrubber shows it: one sheet of tiles a layer, and the numbers of every step."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from PIL import Image

from studio.files import write_file

if TYPE_CHECKING:
    from pipelines.models.sd import StableDiffusion

Layer = Literal["latents", "denoised"]
LAYERS: tuple[Layer, ...] = get_args(Layer)

# An empty file in a timeline's folder: what was in it made room for newer timelines.
DROPPED = "dropped"
# The finished picture as the scrubber shows it: of a picture that was repainted in part, that part.
LAST_STOP = "picture.webp"
# Beside it, what of it was painted where that was not all: white on black, of the recipe's size.
MASK = "mask.webp"

# Browsers refuse to draw much larger pictures; WebP itself ends at 16383.
MAX_SHEET_SIDE_PX = 8192
_WEBP_QUALITY = 80
_WEBP_METHOD = 3  # half the time of the default for a few percent in size


@dataclass(frozen=True, slots=True)
class Sheet:
    """How tiles lie on a sheet: row by row, from the left; sides in pixels."""

    count: int
    columns: int
    tile_width: int
    tile_height: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the whole sheet."""
        return self.columns * self.tile_width, math.ceil(self.count / self.columns) * self.tile_height

    def place(self, tile: int) -> tuple[int, int]:
        """Left and top of a tile."""
        row, column = divmod(tile, self.columns)
        return column * self.tile_width, row * self.tile_height


def sheet_for(count: int, *, width: int, height: int) -> Sheet:
    """Lay out `count` pictures so that they are shrunk least and no side passes `MAX_SHEET_SIDE_PX`."""

    def scale(columns: int) -> float:
        rows = math.ceil(count / columns)
        return min(1.0, MAX_SHEET_SIDE_PX / (columns * width), MAX_SHEET_SIDE_PX / (rows * height))

    def longest_side(columns: int) -> int:
        return max(columns * width, math.ceil(count / columns) * height)

    columns = max(range(1, count + 1), key=lambda n: (scale(n), -longest_side(n)))
    shrunk = scale(columns)
    return Sheet(count, columns, max(1, int(width * shrunk)), max(1, int(height * shrunk)))


def webp_bytes(image: Image.Image) -> bytes:
    """Encode an image as WebP, for looking at."""
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=_WEBP_QUALITY, method=_WEBP_METHOD)
    return stream.getvalue()


def is_complete(folder: Path) -> bool:
    """Tell whether a timeline's numbers and sheets are all there, and it was not dropped."""
    names = ["timeline.json", *(f"{layer}.webp" for layer in LAYERS)]
    return not (folder / DROPPED).exists() and all((folder / name).exists() for name in names)


def write_sheets(folder: Path, model: StableDiffusion, previews: Mapping[int, bytes]) -> Iterator[None]:
    """Write both sheets of a finished timeline, pausing after each batch of decoded pictures.

    Args:
        folder: with its frames and `timeline.json`.
        model: decodes them.
        previews: predicted pictures that were decoded already, as WebP, by step.

    Yields:
        Nothing, wherever something more urgent may come between.

    Raises:
        BadInput: a frame is missing or damaged.
        OSError: the disk is full and the like.
    """
    from pipelines.decoding import decode_looks, decoded_at_once
    from pipelines.timeline import read_timeline

    timeline = read_timeline(folder)
    recipe, steps = timeline.recipe, range(len(timeline.steps))
    sheet = sheet_for(len(steps), width=recipe.width, height=recipe.height)
    for layer in LAYERS:
        image = Image.new("RGB", sheet.size)
        known = previews if layer == "denoised" else {}
        for step in steps:
            if step in known:
                with Image.open(io.BytesIO(known[step])) as preview:
                    _put(image, sheet, step, preview.convert("RGB"))
        unknown = [step for step in steps if step not in known]
        size = decoded_at_once(model.device.type, width=recipe.width, height=recipe.height)
        for start in range(0, len(unknown), size):
            batch = unknown[start : start + size]
            frames = [timeline.frame(step) for step in batch]
            latents = [frame.denoised if layer == "denoised" else frame.noisy for frame in frames]
            for step, picture in zip(batch, decode_looks(model, latents), strict=True):
                _put(image, sheet, step, picture)
            yield
        write_file(folder / f"{layer}.webp", webp_bytes(image))
        yield


def _put(sheet_image: Image.Image, sheet: Sheet, step: int, picture: Image.Image) -> None:
    size = (sheet.tile_width, sheet.tile_height)
    shrunk = picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)
    sheet_image.paste(shrunk, sheet.place(step))
