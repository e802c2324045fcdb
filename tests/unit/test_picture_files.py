"""Pictures of every kind are opened upright and whole, and what cannot be gets a sentence."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from pipelines.picture_files import Picture, encode_png, picture_size, read_mask, read_picture
from pipelines.recipe import BadInput

RANDOM = np.random.default_rng(0)
COLOURS = Image.fromarray(RANDOM.integers(0, 256, (30, 40, 3), dtype=np.uint8))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_header(width: int, height: int) -> bytes:
    data = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + data + struct.pack(">I", zlib.crc32(data))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 4) + b"IDATxxxx" + b"\0" * 4


@pytest.mark.parametrize(
    ("kind", "modes"),
    [
        ("PNG", ["RGB", "L", "P", "RGBA", "LA"]),
        ("JPEG", ["RGB", "L", "CMYK"]),
        ("TIFF", ["RGB", "L", "P", "RGBA", "CMYK"]),
        ("WEBP", ["RGB", "RGBA"]),
        ("AVIF", ["RGB", "RGBA"]),
        ("HEIF", ["RGB", "RGBA", "L"]),
    ],
)
def test_every_kind_is_read_as_pillow_reads_it(kind: str, modes: list[str]) -> None:
    for mode in modes:
        content = saved(COLOURS.convert(mode), kind)
        with Image.open(io.BytesIO(content)) as image:
            expected = np.asarray(image.convert("RGBA" if "A" in image.mode else "RGB"))
        assert np.array_equal(read_picture(content).pixels, expected), mode


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_turned_picture_is_upright(turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    content = saved(COLOURS, "PNG", exif=exif)
    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    picture = read_picture(content)
    assert np.array_equal(picture.pixels, expected)
    assert picture_size(content) == picture.size
    deep = Picture(RANDOM.integers(0, 65536, (30, 40, 3), dtype=np.uint16))
    chunks = PngInfo()
    chunks.add(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    sixteen = read_picture(encode_png(deep, chunks))
    assert sixteen.pixels.dtype == np.uint16
    eight = Image.fromarray((deep.pixels >> 8).astype(np.uint8))
    eight.getexif()[0x0112] = turn
    turned = np.asarray(ImageOps.exif_transpose(eight))
    assert np.array_equal((sixteen.pixels >> 8).astype(np.uint8), turned)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "This file is empty. Give a picture"),
        (b"These are words, in a file called .png", "not a picture that Atelier can open"),
        (saved(COLOURS, "PNG")[:500], "damaged and cannot be opened whole"),
        (saved(COLOURS, "JPEG")[:400], "damaged and cannot be opened whole"),
        (png_header(20_000, 20_000), "far too large: 64 million pixels is the most"),
        (png_header(2**31 - 1, 2**31 - 1), "far too large|64 million pixels is the most"),
        (png_header(0, 10), "not a picture|damaged"),
    ],
)
def test_what_cannot_be_opened_gets_a_sentence(content: bytes, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        read_picture(content)


def test_a_mask_is_read_from_any_picture() -> None:
    white = Image.new("L", (40, 30), 255)
    assert read_mask(saved(white, "PNG"), (40, 30)).getextrema() == (255, 255)
    clear = Image.new("RGBA", (40, 30), (255, 255, 255, 0))
    assert read_mask(saved(clear, "PNG"), (40, 30)).getbbox() is None
    deep = Image.fromarray(np.full((30, 40), 65535, np.uint16))
    assert read_mask(saved(deep, "PNG"), (40, 30)).getextrema() == (255, 255)
    for empty in (png_header(0, 10), b"", png_header(0, 0)):
        with pytest.raises(BadInput, match=r"not a picture|damaged|empty"):
            read_mask(empty, (40, 30))
    with pytest.raises(BadInput, match=r"The mask has 40x30 pixels and the picture 40x31"):
        read_mask(saved(white, "PNG"), (40, 31))


@pytest.mark.parametrize("channels", [3, 4])
def test_a_large_picture_is_written_as_it_is(channels: int) -> None:
    pixels = RANDOM.integers(0, 256, (1001, 1003, channels), dtype=np.uint8)
    chunks = PngInfo()
    chunks.add_text("parameters", "a boat")
    content = encode_png(Picture(pixels), chunks)
    with Image.open(io.BytesIO(content)) as image:
        assert np.array_equal(np.asarray(image), pixels)
        assert image.info == {"parameters": "a boat"}
