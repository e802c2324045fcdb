"""Pictures as artists bring them: opened from a file's bytes, and fitted to the size that is painted."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from pipelines.recipe import MAX_SIDE_PX, MIN_SIDE_PX, BadInput

MAX_PIXELS = 64_000_000
MAX_BYTES = 100_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF")
_IN_WORDS = "PNG, JPEG, WebP, AVIF or TIFF"


def read_picture(content: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open a picture upright, as RGB.

    Args:
        content: the bytes of its file.
        max_pixels: width times height from which on it is refused, before it is unpacked.

    Raises:
        BadInput: not a picture, damaged, or too large.
    """
    with _opened(content, max_pixels) as image:
        try:
            image.load()
            upright = ImageOps.exif_transpose(image)
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            reason = " ".join(str(error).split())
            raise BadInput(
                f"This picture is damaged and cannot be opened whole ({reason}). Save or send it once more.",
                "image",
            ) from None
        return upright.convert("RGB")


def read_file(path: Path) -> bytes:
    """Read the bytes of a picture's file.

    Raises:
        BadInput: there is none, or it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"There is no file {path}. Give a picture: {_IN_WORDS}.", "image") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.", "image") from None


def picture_size(content: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Read the width and height of a picture, upright, in pixels, without unpacking it.

    Raises:
        BadInput: not a picture, or too large.
    """
    with _opened(content, max_pixels) as image:
        turned = image.getexif().get(_ORIENTATION) in _ON_ITS_SIDE
        return (image.height, image.width) if turned else image.size


def _opened(content: bytes, max_pixels: int) -> Image.Image:
    if not content:
        raise BadInput("This file is empty. Give a picture: " + _IN_WORDS + ".", "image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # asked in our own words below
            image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise BadInput(
            f"This file is not a picture that Atelier can open. Give {_IN_WORDS}.", "image"
        ) from None
    except Image.DecompressionBombError:
        raise BadInput(
            f"This picture is far too large; {_megapixels(max_pixels)} is the most.", "image"
        ) from None
    except (OSError, SyntaxError, ValueError) as error:
        raise BadInput(f"This picture is damaged and cannot be opened ({error}).", "image") from None
    if image.width * image.height > max_pixels:
        raise BadInput(
            f"This picture has {image.width}x{image.height} pixels; {_megapixels(max_pixels)} is the most. "
            "Make it smaller and give it again.",
            "image",
        )
    return image


def fit_picture(image: Image.Image, width: int, height: int) -> Image.Image:
    """Scale a picture to cover width by height pixels and cut what stands over, evenly from both sides."""
    if image.size == (width, height):
        return image
    return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)


def fitted_size(size: tuple[int, int], *, area: int) -> tuple[int, int]:
    """Choose the width and height of a recipe in a picture's own shape, of about `area` pixels."""
    scale = (area / (size[0] * size[1])) ** 0.5
    return _side(size[0] * scale), _side(size[1] * scale)


def _side(side: float) -> int:
    return min(max(round(side / 8) * 8, MIN_SIDE_PX), MAX_SIDE_PX)


def _megapixels(pixels: int) -> str:
    return f"{pixels / 1e6:g} million pixels"


_ORIENTATION = 0x0112
_ON_ITS_SIDE = (5, 6, 7, 8)
