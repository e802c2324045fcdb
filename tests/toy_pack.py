"""A data pack of forty small pictures, a classifier of them and three words of WordNet, to test training."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from transformers import BertConfig, BertModel, BertTokenizer

from pipelines.training.seeing import SIDE_PX

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


class Colours(nn.Module):
    """A classifier whose answers are a picture's mean colours in nine places."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (B, 3, H, W) to answers (B, 27)."""
        return functional.adaptive_avg_pool2d(pixels, 3).flatten(1)


def write_classifier(path: Path) -> Path:
    """Write `Colours` as torch.export saves it; returns `path`."""
    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(
        Colours().eval(), (torch.zeros(2, 3, SIDE_PX, SIDE_PX),), dynamic_shapes=(batch,)
    )
    torch.export.save(program, path)
    return path


WORDS = {"harbour": "06", "man": "18", "portrait": "10"}
"""Words and their lexicographers' files: harbours and men can be seen, a portrait is no thing."""


def write_wordnet(folder: Path, words: Mapping[str, str] = WORDS) -> Path:
    """Write WordNet's files with some nouns and the lexicographer's file of each; returns `folder`."""
    numbered = list(enumerate(words.items(), 1))
    data = [f"{number:08} {file} n 01 {name} 0 000 | told" for number, (name, file) in numbered]
    index = [f"{name} n 1 0 1 0 {number:08}" for number, (name, _) in numbered]
    for part, lines, entries in (("noun", data, index), ("verb", [], []), ("adj", [], [])):
        (folder / f"data.{part}").write_text("\n".join(lines))
        (folder / f"index.{part}").write_text("\n".join(entries))
    return folder


def write_sentence_encoder(folder: Path) -> Path:
    """Write a BERT of random weights that reads letter by letter; returns `folder`."""
    torch.manual_seed(0)
    letters = [*"abcdefghijklmnopqrstuvwxyz"]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + letter for letter in letters)]
    BertTokenizer(vocab={piece: index for index, piece in enumerate(pieces)}).save_pretrained(str(folder))
    small = BertConfig(
        vocab_size=len(pieces),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    BertModel(small).save_pretrained(str(folder))
    return folder


def _image(index: int, size: tuple[int, int], mode: str) -> bytes:
    pixels = np.random.default_rng(index).integers(0, 255, (6, 6, len(mode)), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(stream, "webp")
    return stream.getvalue()
