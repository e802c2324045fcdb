"""Pictures as artists bring them: opened from a file's bytes without losing any, and written as PNG.

No torch at import.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pillow_heif
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, UnidentifiedImageError

from pipelines.recipe import MAX_SIDE_PX, MIN_SIDE_PX, BadInput

pillow_heif.register_heif_opener()

MAX_PIXELS = 64_000_000
MAX_BYTES = 100_000_000
# Twice what Pillow warns of: no setting lets in what it takes for a decompression bomb.
BOMB_PIXELS = 178_956_970
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "HEIF", "BMP", "GIF")
IN_WORDS = "PNG, JPEG, WebP, AVIF, TIFF or HEIC"

_ORIENTATION = 0x0112
_TIFF_BITS = 258
_WITH_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
_LARGE_PX = 1_000_000
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
Pixels = np.ndarray[Any, np.dtype[np.uint8 | np.uint16]]
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Picture:
    """An upright picture with all that its file says about it.

    `pixels` is (height, width, 3 or 4), RGB or RGBA with alpha apart, 8 or 16 bits each; `icc_profile` the
    bytes of its colour profile, or None for sRGB.
    """

    pixels: Pixels
    icc_profile: bytes | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def full(self) -> int:
        """The value of a channel at its brightest."""
        return 255 if self.pixels.dtype == np.uint8 else 65535

    def crop(self, box: tuple[int, int, int, int]) -> Picture:
        """Return a part of it: left, top, right, bottom, on the picture."""
        left, top, right, bottom = box
        return Picture(self.pixels[top:bottom, left:right], self.icc_profile)

    def extended(self, margins: tuple[int, int, int, int]) -> Picture:
        """Let it grow to the left, top, right and bottom by so many pixels, mirrored at its edges."""
        if not any(margins):
            return self
        left, top, right, bottom = margins
        grown = np.pad(self.pixels, ((top, bottom), (left, right), (0, 0)), mode="symmetric")
        return Picture(grown, self.icc_profile)

    def rgb(self) -> Image.Image:
        """Show it as models see it: 8-bit sRGB, on white where it is clear."""
        eight = self.pixels if self.pixels.dtype == np.uint8 else _to_eight(self.pixels)
        image = _between_profiles(Image.fromarray(eight[..., :3]), self.icc_profile, None)
        if eight.shape[2] == 3:
            return image
        ground = Image.new("RGB", image.size, "white")
        ground.paste(image, mask=Image.fromarray(eight[..., 3]))
        return ground


def in_profile(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    """Turn an sRGB image into the colours of a profile."""
    return _between_profiles(image, None, icc_profile)


def read_file(path: Path) -> bytes:
    """Read the bytes of a picture's file.

    Raises:
        BadInput: there is none, or it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"There is no file {path}. Give a picture: {IN_WORDS}.", "image") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.", "image") from None


def read_picture(content: bytes, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Open a picture upright, with its depth, alpha and colour profile.

    Args:
        content: the bytes of its file.
        max_pixels: width times height above which it is refused, before it is unpacked.

    Raises:
        BadInput: not a picture, damaged, or too large.
    """
    image = _opened(content, max_pixels)
    return _whole(lambda: _sixteen_bit(content, image) or _eight_bit(image))


def read_mask(content: bytes, size: tuple[int, int] | None, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open a mask upright, as L: white is repainted, and what is clear is not. `size` None is any size.

    Raises:
        BadInput: not a picture, damaged, or not of the size of the picture it belongs to.
    """
    upright = _opened(content, max_pixels)
    _whole(lambda: _turn_upright(upright))
    if size is not None and upright.size != size:
        raise BadInput(
            f"The mask has {upright.width}x{upright.height} pixels and the picture {size[0]}x{size[1]}: give "
            "a mask of the picture's own size.",
            "mask",
        )
    if upright.mode.startswith("I"):
        return Image.fromarray((np.asarray(upright).clip(0, 65535) // 257).astype(np.uint8))
    clear = upright.mode in _WITH_ALPHA or "transparency" in upright.info
    if not clear:
        return _in_mode(upright, "L")
    ground = Image.new("L", upright.size)
    ground.paste(upright.convert("L"), mask=upright.convert("RGBA").getchannel("A"))
    return ground


def picture_size(content: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Read the width and height of a picture, upright, in pixels, without unpacking it.

    Raises:
        BadInput: not a picture, or too large.
    """
    image = _opened(content, max_pixels)
    return image.size if _turn(image) < 5 else (image.height, image.width)


def laid_over(under: Picture, over: Picture, mask: Image.Image) -> Picture:
    """Lay one picture over another of its kind where a mask (L) is white; where it is black every bit stays.

    Raises:
        BadInput: they differ in size, depth or channels.
    """
    if under.pixels.shape != over.pixels.shape or under.pixels.dtype != over.pixels.dtype:
        raise BadInput("Only two fills of one picture can be brushed together.", "image")
    share = np.asarray(mask, np.float32)[..., None] / 255
    mixed = under.pixels + share * (over.pixels.astype(np.float32) - under.pixels)
    return Picture(mixed.round().astype(under.pixels.dtype), under.icc_profile)


def fit_picture(image: Image.Image, width: int, height: int) -> Image.Image:
    """Scale a picture to cover width by height pixels and cut what stands over, evenly from both sides."""
    if image.size == (width, height):
        return image
    return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)


def fitted_size(size: tuple[int, int], *, area: int) -> tuple[int, int]:
    """Choose the width and height of a recipe in a picture's own shape, of about `area` pixels."""
    scale = (area / (size[0] * size[1])) ** 0.5
    return _side(size[0] * scale), _side(size[1] * scale)


def encode_png(picture: Picture, chunks: PngImagePlugin.PngInfo) -> bytes:
    """Write a picture as PNG with its depth, alpha, colour profile and these text chunks, losing nothing."""
    stream = io.BytesIO()
    large = picture.size[0] * picture.size[1] > _LARGE_PX
    deep = picture.pixels.dtype == np.uint16
    if not (deep or large):
        image = Image.fromarray(picture.pixels)
        image.save(stream, "PNG", pnginfo=chunks, icc_profile=picture.icc_profile)
        return stream.getvalue()
    # Pillow writes no 16 bits a channel, and tries filters on a large picture for longer than this takes.
    height, width, channels = picture.pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16 if deep else 8, 2 if channels == 3 else 6, 0, 0, 0)
    # Each row is preceded by its filter: 2 is the difference to the row above.
    rows = picture.pixels.astype(">u2" if deep else "u1", copy=False).reshape(height, -1).view(np.uint8)
    lines = np.empty((height, 1 + rows.shape[1]), np.uint8)
    lines[:, 0], lines[0, 1:] = 2, rows[0]
    np.subtract(rows[1:], rows[:-1], out=lines[1:, 1:])
    stream.write(b"\x89PNG\r\n\x1a\n")
    _write_chunk(stream, b"IHDR", header)
    if picture.icc_profile is not None:
        _write_chunk(stream, b"iCCP", b"ICC Profile\0\0" + zlib.compress(picture.icc_profile))
    for kind, data, *_ in chunks.chunks:
        _write_chunk(stream, kind, data)
    _write_chunk(stream, b"IDAT", zlib.compress(lines.data, 1 if large else 6))
    _write_chunk(stream, b"IEND", b"")
    return stream.getvalue()


def _write_chunk(stream: io.BytesIO, kind: bytes, data: bytes) -> None:
    stream.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))


def _opened(content: bytes, max_pixels: int) -> Image.Image:
    if not content:
        raise BadInput(f"This file is empty. Give a picture: {IN_WORDS}.", "image")
    too_large = f"{max_pixels / 1e6:g} million pixels is the most. Make it smaller and give it again."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a bomb is answered below, in our own words
            image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise BadInput(
            f"This file is not a picture that Atelier can open. Give {IN_WORDS}.", "image"
        ) from None
    except Image.DecompressionBombError:
        raise BadInput(f"This picture is far too large: {too_large}", "image") from None
    except _DAMAGED as error:
        raise _damaged(error) from None
    if image.width * image.height > max_pixels:
        raise BadInput(f"This picture has {image.width}x{image.height} pixels: {too_large}", "image")
    return image


def _whole(read: Callable[[], Found]) -> Found:
    """Unpack a picture; what is cut short or damaged shows itself only now."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()
    except _DAMAGED as error:
        raise _damaged(error) from None


def _damaged(error: Exception) -> BadInput:
    reason = " ".join(str(error).split()).rstrip(".")
    return BadInput(
        f"This picture is damaged and cannot be opened whole ({reason}). Save or send it once more.", "image"
    )


def _turn_upright(image: Image.Image) -> None:
    """Unpack an image and turn it as EXIF says, in its place: a copy of a large one takes as long again."""
    image.load()
    ImageOps.exif_transpose(image, in_place=True)


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


def _eight_bit(upright: Image.Image) -> Picture:
    _turn_upright(upright)
    profile: bytes | None = upright.info.get("icc_profile")
    clear = upright.mode in _WITH_ALPHA or "transparency" in upright.info
    if upright.mode.startswith("I;16"):
        grey = np.asarray(upright).astype(np.uint16)
        return Picture(np.repeat(grey[..., None], 3, axis=2))
    if upright.mode in ("I", "F"):
        raise BadInput(
            "This picture has 32 bits a channel, which Atelier cannot keep. Save it with 16 or 8.", "image"
        )
    if upright.mode in ("CMYK", "LAB", "YCbCr", "HSV"):
        # A printer's profile ends here: the painted picture is sRGB.
        return Picture(np.asarray(_between_profiles(upright, profile, None).convert("RGB")))
    if upright.mode not in ("RGB", "RGBA", "P", "PA", "RGBX", "RGBa"):
        profile = None  # a profile of greys does not describe RGB
    return Picture(np.asarray(_in_mode(upright, "RGBA" if clear else "RGB")), profile)


def _sixteen_bit(content: bytes, image: Image.Image) -> Picture | None:
    """Read a PNG or TIFF of 16 bits a channel in RGB, which Pillow would cut to 8; None for all others."""
    if image.format == "PNG":
        deep = content[24] == 16 and content[25] in (2, 6)
    else:
        tags = getattr(image, "tag_v2", {})
        deep = image.format == "TIFF" and set(tags.get(_TIFF_BITS, ())) == {16} and image.mode != "I;16"
    if not deep or image.mode not in ("RGB", "RGBA"):
        return None
    import av

    with av.open(io.BytesIO(content), mode="r") as file:
        frame = next(file.decode(video=0), None)
    if frame is None or not frame.format.name.startswith(("rgb48", "rgba64")):
        return None
    pixels = np.asarray(frame.to_ndarray(), np.uint16)
    profile: bytes | None = image.info.get("icc_profile")
    return Picture(np.ascontiguousarray(_turned(pixels, _turn(image))), profile)


def _turn(image: Image.Image) -> int:
    """Tell how a picture is to be turned, as EXIF numbers it; 1 is upright."""
    turn = _whole(lambda: image.getexif().get(_ORIENTATION, 1))
    return turn if isinstance(turn, int) and 1 <= turn <= 8 else 1


def _turned(pixels: Pixels, turn: int) -> Pixels:
    if turn >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels[::-1] if turn in (3, 4, 7, 8) else pixels


def _to_eight(pixels: Pixels) -> Pixels:
    return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _between_profiles(image: Image.Image, source: bytes | None, target: bytes | None) -> Image.Image:
    """Carry an image from one colour profile to another; None is sRGB. Left as it is where that fails."""
    if source == target or image.mode not in ("RGB", "CMYK", "LAB"):
        return image
    try:
        profiles = [
            ImageCms.ImageCmsProfile(io.BytesIO(icc)) if icc is not None else ImageCms.createProfile("sRGB")
            for icc in (source, target)
        ]
        return ImageCms.profileToProfile(image, profiles[0], profiles[1], outputMode="RGB") or image
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image


def _side(side: float) -> int:
    return min(max(round(side / 8) * 8, MIN_SIDE_PX), MAX_SIDE_PX)
