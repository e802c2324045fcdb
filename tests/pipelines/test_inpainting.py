"""Inpainting: diffusers' own where it can be compared, the outside exact, the border matched."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageDraw
from PIL.PngImagePlugin import PngInfo

from pipelines.denoising import Frame
from pipelines.latents import to_images
from pipelines.models.find import find_model
from pipelines.models.load import load_model
from pipelines.models.sd import StableDiffusion
from pipelines.palette import make_mix
from pipelines.picture_files import Picture, encode_png, read_picture
from pipelines.prompt_to_image import paint
from pipelines.recipe import BadInput, Recipe, read_recipe
from pipelines.regions import hole_box, painted_size, region_of, working_size
from pipelines.sources import HOLES, Margins, OpenSource, make_source, open_among, source_key
from pipelines.stitching import feathered, spread, stitch
from tests.conftest import CPU_FP32
from tests.pipelines.test_branching import branched
from tests.pipelines.test_denoising import recipe_of
from tests.pipelines.test_image_to_image import from_picture, picture, png
from tests.plainly import painted_plainly, plain_pipeline
from tests.tiny import build_tiny_sd

HOLE = (16, 24, 48, 60)  # on the grid of the latents


def mask_of(size: tuple[int, int] = (64, 72), box: tuple[int, int, int, int] | None = HOLE) -> Image.Image:
    mask = Image.new("L", size)
    if box is not None:
        ImageDraw.Draw(mask).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=255)
    return mask


def repainted(
    model: StableDiffusion, image: bytes, mask: bytes, *, strength: float = 1.0, **changes: object
) -> tuple[Recipe, OpenSource]:
    choices = {name: changes.pop(name) for name in ("feather_px", "hole", "paste_back") if name in changes}
    source = make_source(image=source_key(image), mask=source_key(mask), strength=strength, **choices)
    return recipe_of(model, source=source, **changes), open_among([image, mask])


def finished(model: StableDiffusion, recipe: Recipe, open_source: OpenSource) -> Picture:
    latents = paint(model, recipe, open_source=open_source)
    return stitch(recipe, to_images(model.decode(latents))[0], open_source).whole


def plain_diffusers(model: StableDiffusion, recipe: Recipe, image: Image.Image, mask: Image.Image) -> Any:
    pipeline = plain_pipeline(StableDiffusionInpaintPipeline, model.folder, recipe)
    return painted_plainly(pipeline, recipe, image=image, mask_image=mask)


@pytest.fixture(scope="module")
def tiny_inpainter(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusion:
    folder = build_tiny_sd(tmp_path_factory.mktemp("models") / "tiny-inpainting", in_channels=9)
    return load_model(find_model(str(folder)), CPU_FP32)


@pytest.mark.parametrize("sampler", ["DPM++ 2M", "Euler a", "DDIM", "Heun", "PNDM"])
def test_a_nine_channel_model_equals_diffusers_bit_for_bit(
    tiny_inpainter: StableDiffusion, sampler: str
) -> None:
    mask = mask_of(box=(13, 21, 50, 59))  # not on the grid: the hard mask is diffusers' own
    recipe, open_source = repainted(tiny_inpainter, png(picture()), png(mask), sampler=sampler)
    latents = paint(tiny_inpainter, recipe, open_source=open_source)
    assert torch.equal(latents, plain_diffusers(tiny_inpainter, recipe, picture(), mask))


def test_a_nine_channel_model_equals_diffusers_at_half_strength(tiny_inpainter: StableDiffusion) -> None:
    recipe, open_source = repainted(tiny_inpainter, png(picture()), png(mask_of()), strength=0.5)
    latents = paint(tiny_inpainter, recipe, open_source=open_source)
    assert torch.equal(latents, plain_diffusers(tiny_inpainter, recipe, picture(), mask_of()))


def test_a_nine_channel_model_paints_from_nothing_too(tiny_inpainter: StableDiffusion) -> None:
    assert paint(tiny_inpainter, recipe_of(tiny_inpainter)).isfinite().all()


# Ancestral samplers differ in their noise: diffusers draws once more, for a picture with a hole that it then
# does not show to a network of four channels.
@pytest.mark.parametrize("sampler", ["DPM++ 2M", "UniPC", "DDIM", "Heun"])
def test_blending_in_latents_equals_diffusers_bit_for_bit(tiny: StableDiffusion, sampler: str) -> None:
    recipe, open_source = repainted(tiny, png(picture()), png(mask_of()), strength=0.7, sampler=sampler)
    latents = paint(tiny, recipe, open_source=open_source)
    assert torch.equal(latents, plain_diffusers(tiny, recipe, picture(), mask_of()))


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_all_white_is_image_to_image(tiny: StableDiffusion, strength: float) -> None:
    white = png(Image.new("L", (64, 72), 255))
    over, open_source = repainted(tiny, png(picture()), white, strength=strength)
    whole, open_whole = from_picture(tiny, png(picture()), strength=strength)
    latents = paint(tiny, whole, open_source=open_whole)
    assert torch.equal(paint(tiny, over, open_source=open_source), latents)
    pixels = np.asarray(to_images(tiny.decode(latents))[0])
    assert np.array_equal(finished(tiny, over, open_source).pixels, pixels)


def test_all_black_is_the_source(tiny: StableDiffusion) -> None:
    recipe, open_source = repainted(tiny, png(picture()), png(mask_of(box=None)))
    assert np.array_equal(finished(tiny, recipe, open_source).pixels, np.asarray(picture()))


def test_a_grey_mask_is_let_go_when_so_much_of_the_run_is_left(tiny: StableDiffusion) -> None:
    ramp = Image.fromarray(np.repeat(np.linspace(0, 255, 64, dtype=np.uint8)[None], 72, axis=0))
    recipe, open_source = repainted(tiny, png(picture()), png(ramp), sampler="DDIM", num_inference_steps=8)
    frames: list[Frame] = []
    paint(tiny, recipe, frames.append, open_source=open_source)
    plain, _ = repainted(tiny, png(picture()), png(mask_of(box=None)), sampler="DDIM", num_inference_steps=8)
    held: list[Frame] = []
    paint(tiny, plain, held.append, open_source=open_among([png(picture()), png(mask_of(box=None))]))
    free = [int((a.latents != b.latents).any(1).sum()) for a, b in zip(frames, held, strict=True)]
    assert free[1:] == sorted(free[1:]), "more and more of it is painted"
    assert free[1] < free[-1] / 3


@pytest.mark.parametrize("hole", HOLES)
def test_every_beginning_of_the_hole_paints_another_picture(tiny: StableDiffusion, hole: str) -> None:
    recipe, open_source = repainted(tiny, png(picture()), png(mask_of()), strength=0.8, hole=hole)
    frames: list[Frame] = []
    latents = paint(tiny, recipe, frames.append, open_source=open_source)
    original, _ = repainted(tiny, png(picture()), png(mask_of()), strength=0.8)
    first: list[Frame] = []
    paint(tiny, original, first.append, open_source=open_source)
    outside = torch.ones((36, 32), dtype=torch.bool)
    outside[12:30, 8:24] = False
    assert torch.equal(frames[0].latents[..., outside], first[0].latents[..., outside])
    assert torch.equal(frames[0].latents, first[0].latents) == (hole == "original")
    assert latents.isfinite().all()


def test_a_branch_of_a_fill_keeps_the_outside_too(tiny: StableDiffusion) -> None:
    parent, open_source = repainted(tiny, png(picture()), png(mask_of()), strength=0.8)
    latents = paint(tiny, parent, open_source=open_source)
    assert torch.equal(paint(tiny, branched(parent, 2), open_source=open_source), latents)
    for changes in ({"prompt": "a dog"}, {"sampler": "Euler"}):
        other = paint(tiny, branched(parent, 2, **changes), open_source=open_source)
        assert torch.equal(other[..., :12, :], latents[..., :12, :])
        assert not torch.equal(other, latents)


FORMATS = {
    "PNG": {},
    "JPEG": {"quality": 90},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "AVIF": {},
    "HEIF": {},
}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    width=st.integers(9, 300),
    height=st.integers(9, 300),
    kind=st.sampled_from(sorted(FORMATS)),
    mode=st.sampled_from(["RGB", "RGBA", "L", "P", "CMYK"]),
    feather_px=st.integers(0, 20),
    seed=st.integers(0, 2**32 - 1),
    soft=st.booleans(),
)
def test_outside_the_feathered_mask_every_bit_is_the_sources_own(
    tiny: StableDiffusion,
    width: int,
    height: int,
    kind: str,
    mode: str,
    feather_px: int,
    seed: int,
    soft: bool,
) -> None:
    """Any size, mask and format; what the model would paint is anything at all."""
    random = np.random.default_rng(seed)
    kinds = {"P": ("PNG", "TIFF"), "RGBA": ("PNG", "WEBP", "TIFF", "AVIF", "HEIF"), "CMYK": ("JPEG", "TIFF")}
    kind = kind if kind in kinds.get(mode, (kind,)) else kinds[mode][0]
    image = Image.fromarray(random.integers(0, 256, (height, width, 4), dtype=np.uint8)).convert(mode)
    file = io.BytesIO()
    image.save(file, kind, **FORMATS[kind])
    left, right = sorted(random.integers(0, width + 1, 2))
    top, bottom = sorted(random.integers(0, height + 1, 2))
    mask = np.zeros((height, width), np.uint8)
    mask[top:bottom, left:right] = random.integers(1, 256, (bottom - top, right - left)) if soft else 255
    recipe, open_source = repainted(
        tiny, file.getvalue(), png(Image.fromarray(mask)), feather_px=feather_px, width=64, height=64
    )
    painted = Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    result = stitch(recipe, painted, open_source).whole
    before = read_picture(file.getvalue())
    near = np.zeros((height, width), bool)
    if mask.any():
        near[
            max(0, top - feather_px) : bottom + feather_px, max(0, left - feather_px) : right + feather_px
        ] = True
    assert result.pixels.shape == before.pixels.shape
    assert np.array_equal(result.pixels[~near], before.pixels[~near])
    with Image.open(io.BytesIO(file.getvalue())) as opened:
        plain = np.asarray(opened.convert("RGBA" if before.pixels.shape[2] == 4 else "RGB"))
    assert np.array_equal(result.pixels[~near], plain[~near]), "as any other program reads the file"


def test_depth_alpha_and_profile_are_kept(tiny: StableDiffusion) -> None:
    random = np.random.default_rng(0)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    deep = Picture(random.integers(0, 65536, (72, 64, 4), dtype=np.uint16), profile)
    content = encode_png(deep, PngInfo())
    again = read_picture(content)
    assert again.pixels.dtype == np.uint16
    assert np.array_equal(again.pixels, deep.pixels)
    recipe, open_source = repainted(tiny, content, png(mask_of()))
    result = finished(tiny, recipe, open_source)
    assert (result.pixels.dtype, result.icc_profile) == (np.uint16, profile)
    outside = np.asarray(mask_of()) == 0
    assert np.array_equal(result.pixels[outside], deep.pixels[outside])
    assert (result.pixels[~outside][:, 3] == 65535).all(), "what is painted is there to be seen"


def test_the_border_takes_the_colour_and_light_of_what_it_meets(tiny: StableDiffusion) -> None:
    """A fill that is too dark all over comes back as if it were not."""
    gradient = np.linspace(60, 200, 64)[None, :, None].repeat(72, 0).repeat(3, 2).astype(np.uint8)
    recipe, open_source = repainted(tiny, png(Image.fromarray(gradient)), png(mask_of()))
    dark = Image.fromarray((gradient - 40).astype(np.uint8))
    result = stitch(recipe, dark, open_source).whole.pixels.astype(int)
    assert np.abs(result - gradient).max() <= 3
    plain, _ = repainted(tiny, png(Image.fromarray(gradient)), png(mask_of()), paste_back=False)
    assert np.array_equal(stitch(plain, dark, open_source).whole.pixels, np.asarray(dark))


def test_a_detail_of_a_large_picture_is_painted_at_full_detail() -> None:
    size, box = (4000, 3000), (3000, 2000, 3040, 2030)
    hole = hole_box(mask_of(size, box), 8)
    width, height = working_size(hole, size, context=0.5, area=192 * 192)
    assert abs(width * height - 192 * 192) < 3000
    region = region_of(hole, size, context=0.5, width=width, height=height)
    assert (region.width, region.height) == (width, height), "pixel for pixel"
    assert region.left < box[0] < box[2] < region.left + region.width
    edge = hole_box(mask_of(size, (0, 0, 30, 40)), 0)
    corner = region_of(edge, size, context=0.5, width=192, height=192)
    assert corner.box == (0, 0, 192, 192), "it lies on the picture"


@given(
    size=st.tuples(st.integers(1, 500), st.integers(1, 500)),
    corner=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    extent=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    feather_px=st.integers(0, 30),
)
def test_a_region_holds_its_hole(
    size: tuple[int, int], corner: tuple[float, float], extent: tuple[float, float], feather_px: int
) -> None:
    left, top = (round(at * (side - 1)) for at, side in zip(corner, size, strict=True))
    right, bottom = (
        min(side, start + 1 + round(part * side))
        for start, part, side in zip((left, top), extent, size, strict=True)
    )
    hole = hole_box(mask_of(size, (left, top, right, bottom)), feather_px)
    width, height = working_size(hole, size, context=0.5, area=192 * 192)
    region = region_of(hole, size, context=0.5, width=width, height=height)
    inside = region.inside(size)
    assert inside[0] <= hole[0]
    assert inside[1] <= hole[1]
    assert inside[2] >= hole[2]
    assert inside[3] >= hole[3]


def test_feather_ends_where_it_says() -> None:
    mask = torch.zeros(1, 1, 60, 60)
    mask[..., 25:35, 25:35] = 1
    alpha = feathered(mask, 9)
    assert (alpha[mask == 1] == 1).all()
    assert alpha[0, 0, 30, 34 + 9] > 0
    assert alpha[0, 0, 30, 34 + 10] == 0
    assert (alpha[0, 0, 30, 35:45].diff() <= 0).all(), "it only fades"


def test_spread_continues_smoothly() -> None:
    known = torch.ones(1, 1, 40, 50)
    known[..., 10:30, 15:35] = 0
    plane = torch.linspace(0, 1, 50).expand(1, 1, 40, 50)
    assert (spread(plane * known, known) - plane).abs().max() < 0.06
    assert spread(plane, torch.zeros_like(known)).abs().max() == 0


def test_a_fill_says_what_it_needs(tiny: StableDiffusion) -> None:
    recipe, _ = repainted(tiny, png(picture()), png(mask_of()), feather_px="8", hole="noise")
    assert recipe.source is not None
    said = json.loads(recipe.model_dump_json())["source"]
    assert set(said) == {"image", "strength", "mask", "feather_px", "hole"}
    assert len(recipe.source.files) == 2


def grown(
    model: StableDiffusion, image: bytes, mask: bytes | None, **choices: object
) -> tuple[Recipe, OpenSource]:
    """Paint what a picture grows by, and what a mask covers, at the size that suits the tiny model."""
    hole = None if mask is None else source_key(mask)
    source = make_source(image=source_key(image), mask=hole, **{"strength": 1.0, **choices})
    width, height = painted_size(source, image, mask, area=64 * 72)
    files = [image] if mask is None else [image, mask]
    return recipe_of(model, source=source, width=width, height=height), open_among(files)


_SIDE = st.integers(0, 90)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.tuples(st.integers(9, 200), st.integers(9, 200)),
    extend=st.tuples(_SIDE, _SIDE, _SIDE, _SIDE).filter(any),
    feather_px=st.integers(0, 20),
    deep=st.booleans(),
    masked=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_picture_that_grows_keeps_every_bit_of_itself(
    tiny: StableDiffusion,
    size: tuple[int, int],
    extend: Margins,
    feather_px: int,
    deep: bool,
    masked: bool,
    seed: int,
) -> None:
    """Any size, sides, depth and mask; what the model would paint is anything at all."""
    random = np.random.default_rng(seed)
    full, kind = (65536, np.uint16) if deep else (256, np.uint8)
    before = Picture(random.integers(0, full, (size[1], size[0], 4), dtype=kind))
    image = encode_png(before, PngInfo())
    mask = png(mask_of(size, (2, 3, 7, 8))) if masked else None
    recipe, open_source = grown(tiny, image, mask, extend=extend, feather_px=feather_px)
    painted = Image.fromarray(random.integers(0, 256, (recipe.height, recipe.width, 3), dtype=np.uint8))
    result = stitch(recipe, painted, open_source).whole
    left, top, right, bottom = extend
    assert result.size == (size[0] + left + right, size[1] + top + bottom)
    kept = result.pixels[top : top + size[1], left : left + size[0]]
    touched = np.zeros(kept.shape[:2], bool)
    if masked:
        touched[max(0, 3 - feather_px) : 8 + feather_px, max(0, 2 - feather_px) : 7 + feather_px] = True
    assert np.array_equal(kept[~touched], before.pixels[~touched])


def test_a_picture_grows_into_what_it_meets(tiny: StableDiffusion) -> None:
    """What grows is painted, goes over from the picture without a step, and its recipe says all there is."""
    gradient = np.linspace(60, 200, 64)[None, :, None].repeat(72, 0).repeat(3, 2).astype(np.uint8)
    image = png(Image.fromarray(gradient))
    recipe, open_source = grown(tiny, image, None, extend=("0", 0, 40.0, 24), feather_px=6)
    assert recipe.source is not None
    assert recipe.source.extend == (0, 0, 40, 24)
    assert read_recipe(recipe.model_dump_json()) == recipe
    result = finished(tiny, recipe, open_source).pixels.astype(int)
    assert result.shape == (96, 104, 3)
    assert np.abs(result[:72, 64] - result[:72, 63]).mean() < 12, "no step at the edge"
    mirrored = np.asarray(Image.fromarray(gradient).transpose(Image.Transpose.FLIP_LEFT_RIGHT))[:, :40]
    assert np.abs(result[:72, 80:104] - mirrored[:, 16:]).mean() > 4, "painted, not only mirrored"


@pytest.mark.parametrize(
    ("extend", "sentence"),
    [
        ((0, -1, 0, 0), "whole number of pixels from 0 to 4096 on each of its four sides, not by -1"),
        ((0, 0, "wide", 0), "not by wide"),
        ((0, 0, 4097, 0), "not by 4097"),
    ],
)
def test_a_picture_cannot_grow_by_anything(extend: tuple[object, ...], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        make_source(image="0" * 64, strength=1.0, extend=extend)


def test_a_picture_does_not_grow_past_the_largest() -> None:
    image = png(picture())
    source = make_source(image=source_key(image), strength=1.0, extend=(4000, 4000, 4000, 4000))
    with pytest.raises(BadInput, match=r"would grow to 8064x8072 pixels: 64 million is the most"):
        painted_size(source, image, None, area=64 * 64)


def test_styles_paint_inside_the_mask_only(tiny: StableDiffusion) -> None:
    results: dict[str, np.ndarray[Any, Any]] = {}
    for name in ("", "ukiyo-e", "baroque"):
        styles = [{"name": style, "weight": 1} for style in (name, "symbolism")]
        mix = make_mix(styles, "prediction") if name else None
        recipe, open_source = repainted(tiny, png(picture()), png(mask_of()), mix=mix)
        results[name] = finished(tiny, recipe, open_source).pixels
    inside = np.asarray(mask_of()) > 0
    for one, other in (("", "ukiyo-e"), ("ukiyo-e", "baroque")):
        assert np.array_equal(results[one][~inside], results[other][~inside])
        assert not np.array_equal(results[one][inside], results[other][inside])
