"""Which part of a picture is painted: the hole with what lies around it. No torch at import."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from pipelines.picture_files import MAX_PIXELS, picture_size, read_mask
from pipelines.recipe import MAX_SIDE_PX, MIN_SIDE_PX
from pipelines.refusal import BadInput
from pipelines.sources import Margins, Source

Box = tuple[int, int, int, int]
_MIN_CONTEXT_PX = 16


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of a picture in pixels; it may stand over the picture's edges."""

    left: int
    top: int
    width: int
    height: int

    @property
    def box(self) -> Box:
        """Left, top, right and bottom, as Pillow counts them."""
        return self.left, self.top, self.left + self.width, self.top + self.height

    def inside(self, size: tuple[int, int]) -> Box:
        """Return the part of it that lies on a picture of this size."""
        left, top, right, bottom = self.box
        return max(0, left), max(0, top), min(size[0], right), min(size[1], bottom)


def hole_box(mask: Image.Image, feather_px: int) -> Box:
    """Find what a mask (L, white is repainted) and its feather cover; the whole picture where it is black."""
    box = mask.getbbox()
    if box is None:
        return (0, 0, *mask.size)
    left, top, right, bottom = box
    grown = Region(
        left - feather_px, top - feather_px, right - left + 2 * feather_px, bottom - top + 2 * feather_px
    )
    return grown.inside(mask.size)


def extended_size(size: tuple[int, int], extend: Margins) -> tuple[int, int]:
    """Return the width and height of a picture that has grown."""
    left, top, right, bottom = extend
    return size[0] + left + right, size[1] + top + bottom


def hole_of(source: Source, mask: Image.Image | None, size: tuple[int, int]) -> Box:
    """Find what a source paints of a picture of this size: the mask with its feather, and what it grows by.

    Returns:
        The box that holds all of it, on the grown picture.
    """
    left, top, _, _ = source.extend
    width, height = extended_size(size, source.extend)
    boxes: list[Box] = []
    if mask is not None and (not any(source.extend) or mask.getbbox() is not None):
        box = hole_box(mask, source.feather_px)
        boxes.append((box[0] + left, box[1] + top, box[2] + left, box[3] + top))
    strips = (
        (0, 0, left, height),
        (0, 0, width, top),
        (left + size[0], 0, width, height),
        (0, top + size[1], width, height),
    )
    boxes += [strip for strip, grows in zip(strips, source.extend, strict=True) if grows]
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def working_size(hole: Box, size: tuple[int, int], *, context: float, area: int) -> tuple[int, int]:
    """Choose the size a hole is painted at: the shape it has with its context, of about `area` pixels."""
    left, top, right, bottom = _with_context(hole, context).inside(size)
    # A small hole sees more around it, for nothing: as much of the picture as the model can take in.
    least = area**0.5
    width = min(size[0], max(right - left, least))
    height = min(size[1], max(bottom - top, least))
    scale = (area / (width * height)) ** 0.5
    return _side(width * scale), _side(height * scale)


def region_of(hole: Box, size: tuple[int, int], *, context: float, width: int, height: int) -> Region:
    """Find the part of a picture that is painted at width by height pixels.

    It has the shape of width to height, holds the hole with its context, is never magnified more than a
    picture that is smaller than the model's size needs, and lies on the picture as far as it can.
    """
    wanted = _with_context(hole, context)
    left, top, right, bottom = wanted.inside(size)
    least = min(1.0, max(size[0] / width, size[1] / height))
    scale = max(least, (right - left) / width, (bottom - top) / height)
    sides = round(width * scale), round(height * scale)
    return Region(
        _place(left, right, sides[0], size[0]), _place(top, bottom, sides[1], size[1]), sides[0], sides[1]
    )


def _with_context(hole: Box, context: float) -> Region:
    left, top, right, bottom = hole
    across = max(_MIN_CONTEXT_PX, round(context * (right - left)))
    down = max(_MIN_CONTEXT_PX, round(context * (bottom - top)))
    return Region(left - across, top - down, right - left + 2 * across, bottom - top + 2 * down)


def _place(start: int, stop: int, length: int, whole: int) -> int:
    """Centre a stretch of this length on another, moved onto the picture, or centred on it when longer."""
    if length >= whole:
        return (whole - length) // 2
    return min(max((start + stop - length) // 2, 0), whole - length)


def _side(side: float) -> int:
    return min(max(round(side / 8) * 8, MIN_SIDE_PX), MAX_SIDE_PX)


def painted_size(
    source: Source, image: bytes, mask: bytes | None, *, area: int, max_pixels: int = MAX_PIXELS
) -> tuple[int, int]:
    """Choose the width and height of a recipe that repaints a part, by the files of the picture and its mask.

    Raises:
        BadInput: one of them cannot be opened, they differ in size, or the picture would grow too large.
    """
    size = picture_size(image, max_pixels=max_pixels)
    whole = extended_size(size, source.extend)
    if whole[0] * whole[1] > max_pixels:
        raise BadInput(
            f"The picture would grow to {whole[0]}x{whole[1]} pixels: {max_pixels / 1e6:g} million is the "
            "most. Let it grow by less.",
            "extend",
        )
    opened = None if mask is None else read_mask(mask, size, max_pixels=max_pixels)
    return working_size(hole_of(source, opened, size), whole, context=source.context, area=area)
