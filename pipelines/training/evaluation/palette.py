"""The colour words of a picture, measured from its pixels as the data pack's own labels were."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from pipelines.training.captions import Facts
from pipelines.training.pack import is_validation, read_shards

WORDS: dict[str, tuple[int, int, int]] = {
    "white": (256, 270, 230),
    "black": (1, -12, 12),
    "grey": (120, 122, 130),
    "red": (191, 30, -1),
    "orange": (237, 109, 32),
    "yellow": (212, 196, 74),
    "green": (78, 137, 63),
    "teal": (56, 145, 150),
    "blue": (56, 83, 166),
    "navy": (39, 34, 76),
    "purple": (136, 54, 174),
    "pink": (235, 148, 175),
    "brown": (109, 76, 53),
    "cream": (227, 215, 170),
    "gold": (208, 184, 73),
    "olive": (111, 118, 65),
}
"""Each colour word's point in RGB; a pixel is named by the nearest, so a point may lie outside the cube.

Fitted by gradient descent to the labels of a quarter of the pack's pictures, since the pack does not say how
it measured them. An evaluation reports how well the rule agrees with the labels of held-out pictures.
"""

LEAST_SHARE = 0.14
"""A colour is named when it covers this share of the picture or more, as the pack's description says."""

_ENOUGH = LEAST_SHARE + 0.06
"""Of the picture, more of a colour counts for nothing as a loss: somewhat more than the rule asks for."""

_SOFTNESS = 1500.0
"""Over this squared distance in RGB a pixel goes from one name to the next, where the rule is made soft."""

MOST_WORDS = 3
_SIDE_PX = 64


def palette_words(image: torch.Tensor) -> tuple[str, ...]:
    """Up to three colour words of a picture (height, width, 3) uint8, the one that covers most first."""
    small = Image.fromarray(image.numpy()).resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BOX)
    pixels = np.asarray(small, dtype=np.float32).reshape(-1, 1, 3)
    points = np.array(list(WORDS.values()), dtype=np.float32)
    named = np.square(pixels - points).sum(-1).argmin(1)
    shares = np.bincount(named, minlength=len(WORDS)) / len(named)
    order = np.argsort(-shares, kind="stable")[:MOST_WORDS]
    words = tuple(WORDS)
    return tuple(words[index] for index in order if shares[index] >= LEAST_SHARE)


def missing_colours(pixels: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
    """How far colours that are asked for (B, 16) fall short in pixels (B, 3, H, W) in [-1, 1], a scalar loss.

    As logarithms, since a share that is nearly nothing has nearly no slope.
    """
    short = (math.log(_ENOUGH) - log_palette_shares(pixels)).clamp_min(0)
    return (short * asked).sum() / asked.sum().clamp_min(1)


def log_palette_shares(pixels: torch.Tensor) -> torch.Tensor:
    """The logarithm of each colour word's share in pixels (B, 3, H, W), (B, 16): the rule made soft."""
    small = functional.interpolate(pixels.float().clamp(-1, 1), (_SIDE_PX, _SIDE_PX), mode="area")
    points = torch.tensor(list(WORDS.values()), device=pixels.device, dtype=torch.float32)
    coloured = (small + 1).mul(127.5).flatten(2).transpose(1, 2)
    distances = (coloured[:, :, None] - points).square().sum(-1)
    return (-distances / _SOFTNESS).log_softmax(2).logsumexp(1) - math.log(distances.shape[1])


def palette_likeness(measured: tuple[str, ...], told: tuple[str, ...]) -> float:
    """How well two palettes agree: words in both over words in either (Jaccard), 1 for two empty ones."""
    together = set(measured) | set(told)
    return len(set(measured) & set(told)) / len(together) if together else 1.0


def labels_agree(data: Path, limit: int | None = None) -> float:
    """The mean likeness of this rule's words to the pack's own labels, over its held-out pictures.

    Emoji are left out, since the pack has no palette for them.
    """
    likeness: list[float] = []
    for entry in read_shards(data, limit):
        facts = Facts.from_json(entry.fields)
        if is_validation(entry.key) and facts.source != "emoji-3d":
            image = np.asarray(Image.open(io.BytesIO(entry.image)).convert("RGB"))
            likeness.append(palette_likeness(palette_words(torch.from_numpy(image.copy())), facts.palette))
    return sum(likeness) / len(likeness) if likeness else float("nan")
