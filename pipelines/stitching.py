"""A hole in a picture: read at the size that is painted, and the fill fitted back into the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from pipelines.picture_files import (
    BOMB_PIXELS,
    Picture,
    Pixels,
    fit_picture,
    in_profile,
    laid_over,
    read_mask,
    read_picture,
)
from pipelines.recipe import Recipe
from pipelines.regions import Box, Region, extended_size, hole_of, region_of
from pipelines.sources import OpenSource, Source

_RELAXATIONS = 8
_RING_BLUR_PX = 2


@dataclass(frozen=True, slots=True)
class Hole:
    """A recipe's source at the size that is painted: an RGB image, and the mask (1, 1, h, w) or None."""

    image: Image.Image
    mask: Tensor | None


def read_hole(recipe: Recipe, source: Source, open_source: OpenSource) -> Hole:
    """Read a recipe's source at the recipe's size: the whole picture, or the region around its mask.

    Raises:
        BadInput: the picture or its mask is gone, damaged or of another size.
    """
    size = (recipe.width, recipe.height)
    if not source.in_part:
        return Hole(fit_picture(_read(source.image, open_source).rgb(), *size), None)
    picture, alpha, region = _read_part(source, recipe, open_source)
    box = region.inside(picture.size)
    left, top, right, bottom = margin = _margin(region, box)
    image = _over_the_edge(picture.crop(box).rgb(), margin)
    grown = functional.pad(alpha, (left, right, top, bottom))
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS)
        grown = functional.interpolate(grown, size[::-1], mode="bilinear", antialias=True).clamp(0, 1)
    return Hole(image, grown)


@dataclass(frozen=True, slots=True)
class Stitched:
    """A finished picture, and the part of it that was painted as an RGB image of the recipe's size.

    `mask` is of that size too, L: how much of each pixel was painted; None where all of it was.
    """

    whole: Picture
    part: Image.Image
    mask: Image.Image | None = None


def stitch(recipe: Recipe, painted: Image.Image, open_source: OpenSource) -> Stitched:
    """Put a painted part back into the picture it was painted over; what was painted whole is the picture.

    Outside the feathered mask every pixel is the source's own. Inside, the fill is carried into the source's
    colour profile, and what it differs by around the mask is spread over it and taken away, so that its
    border has the colour and light of what it meets (the membrane of Perez et al. 2003, Poisson editing).

    Args:
        recipe: with its source and mask.
        painted: RGB, of the recipe's size.
        open_source: finds their files.

    Raises:
        BadInput: one of them is gone or damaged.
    """
    source = recipe.source
    if source is None or not source.in_part:
        return Stitched(Picture(np.asarray(painted)), painted)
    picture, soft, region = _read_part(source, recipe, open_source)
    left, top, right, bottom = box = region.inside(picture.size)
    fill = in_profile(
        painted.resize((region.width, region.height), Image.Resampling.LANCZOS), picture.icc_profile
    ).crop((left - region.left, top - region.top, right - region.left, bottom - region.top))
    kept = picture.pixels[top:bottom, left:right]
    values, under = (_planes(np.asarray(fill), 255), _planes(kept[..., :3], picture.full))
    alpha = torch.ones_like(values[:, :1])
    if source.paste_back:
        alpha = soft
        outside = (alpha == 0).float()
        values = values + spread(_smoothed(under - values, outside), outside)
    mixed = (under + alpha * (values - under)).clamp(0, 1)
    result = picture.pixels.copy()
    result[top:bottom, left:right, :3] = _pixels(mixed, kept, picture.full)
    if kept.shape[2] == 4:
        cover = _planes(kept[..., 3:], picture.full)
        result[top:bottom, left:right, 3:] = _pixels(cover + alpha * (1 - cover), kept, picture.full)
    untouched = alpha[0, 0].numpy() == 0
    result[top:bottom, left:right][untouched] = kept[untouched]
    whole = Picture(result, picture.icc_profile)
    if source.over is not None and source.over_mask is not None:
        mask = read_mask(open_source(source.over_mask), whole.size, max_pixels=BOMB_PIXELS)
        whole = laid_over(whole, _read(source.over, open_source), mask)
    margin = _margin(region, box)
    part = _over_the_edge(whole.crop(box).rgb(), margin).resize(painted.size, Image.Resampling.LANCZOS)
    over = functional.pad(soft, (margin[0], margin[2], margin[1], margin[3]))[0, 0]
    shown = Image.fromarray((over * 255).round().byte().numpy()).resize(painted.size)
    return Stitched(whole, part, shown)


def feathered(mask: Tensor, feather_px: int) -> Tensor:
    """Let a mask (1, 1, h, w) fade out over `feather_px` pixels beyond its border, and no further."""
    if feather_px == 0:
        return mask
    grown = (feather_px + 1) // 2
    faded = mask
    for kernel in ((1, 2 * grown + 1), (2 * grown + 1, 1)):
        faded = functional.max_pool2d(faded, kernel, 1, (kernel[0] // 2, kernel[1] // 2))
    for kernel in ((1, 2 * (feather_px - grown) + 1), (2 * (feather_px - grown) + 1, 1)):
        padding = (kernel[0] // 2, kernel[1] // 2)
        faded = functional.avg_pool2d(faded, kernel, 1, padding, count_include_pad=False)
    return torch.maximum(mask, faded)


def spread(values: Tensor, known: Tensor) -> Tensor:
    """Continue values (1, C, h, w) smoothly from where they are known (1, 1, h, w) to everywhere.

    Nearly the harmonic continuation: from the coarsest level of a pyramid to the finest, with a few
    relaxations each. Zero where nothing is known.
    """
    height, width = values.shape[2:]
    if height <= 2 and width <= 2:
        return values.where(known > 0, (values * known).sum((2, 3), True) / known.sum().clamp(min=1e-6))
    weight = functional.avg_pool2d(known, 2, ceil_mode=True, count_include_pad=False)
    coarse = functional.avg_pool2d(values * known, 2, ceil_mode=True, count_include_pad=False)
    coarse = spread(coarse / weight.clamp(min=1e-6), (weight > 0).float())
    whole = values.where(
        known > 0, functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    )
    for _ in range(_RELAXATIONS):
        whole = values.where(known > 0, functional.avg_pool2d(whole, 3, 1, 1, count_include_pad=False))
    return whole


def _read(key: str, open_source: OpenSource) -> Picture:
    # How large it may be was asked when it was brought.
    return read_picture(open_source(key), max_pixels=BOMB_PIXELS)


def _read_part(source: Source, recipe: Recipe, open_source: OpenSource) -> tuple[Picture, Tensor, Region]:
    """Read a picture, grown by what it extends, and the region that is painted.

    Returns:
        The picture, how much of each pixel of the region that lies on it is painted (1, 1, h, w), and the
        region.
    """
    picture = _read(source.image, open_source)
    size = picture.size
    mask = read_mask(open_source(source.mask), size, max_pixels=BOMB_PIXELS) if source.mask else None
    whole = extended_size(size, source.extend)
    hole = hole_of(source, mask, size)
    region = region_of(hole, whole, context=source.context, width=recipe.width, height=recipe.height)
    left, top, right, bottom = box = region.inside(whole)
    x, y = source.extend[:2]
    alpha = _beyond((x, y, x + size[0], y + size[1]), box, source.feather_px)
    if mask is not None:
        covered = mask.crop(
            (left - x, top - y, right - x, bottom - y)
        )  # nothing of it lies beyond the picture
        alpha = torch.maximum(
            alpha, feathered(_planes(np.asarray(covered)[..., None], 255), source.feather_px)
        )
    return picture.extended(source.extend), alpha, region


def _beyond(edges: Box, box: Box, feather_px: int) -> Tensor:
    """What of a box lies beyond a picture's edges, (1, 1, h, w): 0 on it, 1 from `feather_px` pixels off."""
    across, down = (
        torch.maximum(low - at, at - high + 1).clamp(min=0)
        for low, high, at in (
            (edges[0], edges[2], torch.arange(box[0], box[2])),
            (edges[1], edges[3], torch.arange(box[1], box[3])),
        )
    )
    off = torch.maximum(across[None, :], down[:, None])
    return (off / (feather_px + 1)).clamp(max=1)[None, None]


def _margin(region: Region, box: Box) -> Box:
    """How far a region stands over its box: left, top, right and bottom, in pixels."""
    left, top, right, bottom = region.box
    return box[0] - left, box[1] - top, right - box[2], bottom - box[3]


def _over_the_edge(image: Image.Image, margin: Box) -> Image.Image:
    """Continue an image over its edges by what is nearest."""
    if not any(margin):
        return image
    array = np.asarray(image)
    padding = ((margin[1], margin[3]), (margin[0], margin[2]), (0, 0))
    return Image.fromarray(np.pad(array, padding, mode="edge"))


def _smoothed(values: Tensor, known: Tensor) -> Tensor:
    """Blur values where they are known, among themselves: the border takes over light, not grain."""
    size = 2 * _RING_BLUR_PX + 1
    around = functional.avg_pool2d(values * known, size, 1, _RING_BLUR_PX)
    return around / functional.avg_pool2d(known, size, 1, _RING_BLUR_PX).clamp(min=1e-6) * known


def _planes(array: Pixels, full: int) -> Tensor:
    """Turn (h, w, C) into (1, C, h, w) from 0 to 1."""
    return torch.from_numpy(array.astype(np.float32) / full).permute(2, 0, 1)[None].contiguous()


def _pixels(planes: Tensor, like: Pixels, full: int) -> Pixels:
    """Turn (1, C, h, w) from 0 to 1 into (h, w, C) of another's depth."""
    return (planes[0].permute(1, 2, 0) * full).round().numpy().astype(like.dtype)
