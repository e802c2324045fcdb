"""A data pack of forty small pictures, for tests of training."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

TITLES = ("ship in a storm", "bosphorus by moonlight", "portrait of an old man", "view of the harbour")


def toy_fields(index: int) -> dict[str, object]:
    """What the pack tells of a picture: one in four is an emoji, one a fruit, two are paintings."""
    if index % 4 == 0:
        return {"source": "emoji-3d", "style": "3d render", "title": "cat face", "keywords": ["animal", ":("],
                "genre": "icon", "width": 64, "height": 64}  # fmt: skip
    if index % 4 == 1:
        return {"source": "pomology", "style": "botanical watercolour", "title": "pear", "width": 44,
                "height": 56, "genre": "botanical illustration", "palette": ["white"]}  # fmt: skip
    return {"source": "painting", "style": "romanticism", "artist": f"Painter {index % 3}",
            "title": TITLES[index % len(TITLES)], "genre": "landscape", "palette": ["navy", "grey"],
            "brightness": "dark", "width": 222 if index % 2 else 160, "height": 160}  # fmt: skip


def write_pack(folder: Path) -> Path:
    """Write the pictures in two shards; returns `folder`."""
    for shard in range(2):
        with tarfile.open(folder / f"art-{shard:03d}.tar", "w") as tar:
            for index in range(shard * 20, shard * 20 + 20):
                fields = toy_fields(index)
                size = int(str(fields["width"])), int(str(fields["height"]))
                image = _image(index, size, "RGBA" if fields["source"] == "emoji-3d" else "RGB")
                for suffix, content in (("json", json.dumps(fields).encode()), ("webp", image)):
                    member = tarfile.TarInfo(f"{index:06d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return folder


def _image(index: int, size: tuple[int, int], mode: str) -> bytes:
    pixels = np.random.default_rng(index).integers(0, 255, (6, 6, len(mode)), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(stream, "webp")
    return stream.getvalue()
