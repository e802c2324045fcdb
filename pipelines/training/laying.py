"""Things cut out of emoji and laid on paintings: no painting of the pack shows a bicycle."""

from __future__ import annotations

import io
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps

from pipelines.training.captions import common_words, telling_words
from pipelines.training.evaluation.painterly import canvas, smooth, stroke
from pipelines.training.pack import (
    FORMATS,
    Entry,
    Format,
    Row,
    is_validation,
    picture_weights,
    read_shards,
    save_rows,
)
from pipelines.training.pictures import PictureBank, to_images, to_pixels

_PLACES = frozenset(("landscape", "cityscape", "still life"))
_DONE = "laid.txt"
_EACH = 6
_SHARE = 0.25
"""Of what is drawn so much is things on paintings."""

Ground = tuple[Format, int]
"""A painting of a bank: its format and its row."""


@dataclass(frozen=True)
class Laying:
    """How a thing is laid on a ground.

    `side` is the thing's longer side as a share of the format's shorter one, `blur_px` the most that a ground
    is blurred by. Painted in, its strokes are of `stroke_px` and take up the mean of `edge_px` of the ground
    at its edge; it is drawn to the ground's colours by as much as `toned` says, and has its fine detail
    `canvas` times.
    """

    side: tuple[float, float] = (0.55, 0.85)
    blur_px: float = 4.0
    stroke_px: tuple[int, ...] = (1, 2, 2, 3)
    edge_px: int = 17
    toned: tuple[float, float] = (0.3, 0.8)
    canvas: tuple[float, float] = (0.6, 1.2)


_LAYING = Laying(side=(0.45, 0.9))
LAID = f"{_EACH} of each, {_SHARE} of all, {_LAYING}"
"""How the things lie that a dual encoder learns from: those laid in another way are laid anew."""


def is_thing(entry: Entry) -> bool:
    """Whether it can be cut out, and is not held out."""
    return entry.facts.source == "emoji-3d" and not is_validation(entry.key)


def cut_out(entry: Entry) -> Image.Image:
    """An emoji, RGBA, without what is clear around it."""
    with Image.open(io.BytesIO(entry.image)) as image:
        whole = image.convert("RGBA")
    return whole.crop(whole.getchannel("A").getbbox())


def lay_on(ground: Image.Image, cutout: Image.Image, laying: Laying, rng: random.Random) -> Image.Image:
    """Lay a thing, mirrored or not, on a copy of a ground, blurred, so that little else is to be seen."""
    laid = ground.filter(ImageFilter.GaussianBlur(rng.uniform(0, laying.blur_px)))
    thing = _place(ground.size, cutout, laying, rng)
    laid.paste(thing, (0, 0), thing)
    return laid


def paint_in(ground: Image.Image, cutout: Image.Image, laying: Laying, rng: random.Random) -> Image.Image:
    """Lay a thing on a ground as if it had been painted there: its strokes, near its colours, on its canvas.

    Beside the thing the ground stays as it is.
    """
    layer = torch.from_numpy(np.array(_place(ground.size, cutout, laying, rng)))[None]
    thing, cover = to_pixels(layer[..., :3]), layer[..., 3:].permute(0, 3, 1, 2).float() / 255
    around = to_pixels(torch.from_numpy(np.array(ground))[None])
    thing = torch.lerp(thing, _toned(thing, cover, around), rng.uniform(*laying.toned))
    # Strokes at its edge take up what lies beside them, but none of its detail.
    laid = cover * thing + (1 - cover) * smooth(around, laying.edge_px)
    radius = rng.choice(laying.stroke_px)
    soft = stroke(smooth(cover, 3).expand(-1, 3, -1, -1), radius)
    painted = stroke(laid, radius) + rng.uniform(*laying.canvas) * canvas(around, most=0.3)
    return Image.fromarray(to_images(soft * painted + (1 - soft) * around)[0].numpy())


def _place(size: tuple[int, int], cutout: Image.Image, laying: Laying, rng: random.Random) -> Image.Image:
    """A thing, mirrored or not, where it is to lie on what is of this size, RGBA and clear beside it."""
    scale = rng.uniform(*laying.side) * min(size) / max(cutout.size)
    own = max(1, round(cutout.width * scale)), max(1, round(cutout.height * scale))
    thing = cutout.resize(own, Image.Resampling.LANCZOS)
    if rng.random() < 0.5:
        thing = thing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    # Rather below the middle, where things stand.
    left, top = (size[0] - own[0]) * rng.random(), (size[1] - own[1]) * rng.uniform(0.4, 0.9)
    layer = Image.new("RGBA", size)
    layer.paste(thing, (round(left), round(top)))
    return layer


def _toned(thing: torch.Tensor, cover: torch.Tensor, around: torch.Tensor) -> torch.Tensor:
    """A thing (1, 3, H, W) halfway to the mean and the deviation of a ground's colours, by channel."""
    area = cover.sum().clamp_min(1)
    mean = (cover * thing).sum((2, 3), keepdim=True) / area
    deviation = ((cover * (thing - mean).square()).sum((2, 3), keepdim=True) / area).sqrt()
    around_deviation, around_mean = torch.std_mean(around, (2, 3), keepdim=True)
    scale = torch.lerp(torch.ones_like(deviation), around_deviation / deviation.clamp_min(0.05), 0.5)
    return (thing - mean) * scale + torch.lerp(mean, around_mean, 0.5)


def find_grounds(bank: PictureBank) -> dict[str, list[Ground]]:
    """Of each style the paintings of places that a thing could stand in, none that is held out."""
    grounds: dict[str, list[Ground]] = defaultdict(list)
    for shape, rows in bank.training.items():
        for index in rows:
            row = bank.rows[shape][index]
            if row.genre in _PLACES:
                grounds[row.style].append((shape, index))
    return dict(grounds)


def take_ground(bank: PictureBank, ground: Ground, shape: Format) -> Image.Image:
    """A painting as a picture of a format."""
    at, index = ground
    whole = Image.fromarray(bank.pixels[at][index].cpu().numpy())
    return ImageOps.fit(whole, (shape.width, shape.height))


def bank_with_things(
    bank: PictureBank, data: Path, output: Path, *, seed: int, limit: int | None
) -> PictureBank:
    """What `bank` holds, laid out in `output/pack`, and things of it on its paintings, in `output/laid`.

    They are laid unless an earlier call has; where there are none, or nothing to lay them on, it has the pack
    alone. Raises FileNotFoundError where `data` holds no shard.
    """
    laid = output / "laid"
    done = laid / _DONE
    if not done.exists() or done.read_text() != LAID:
        lay_things_out(read_shards(data, limit), bank, laid)
    return PictureBank(output / "pack", bank.device, seed, own=[laid], own_share=_SHARE)


def lay_things_out(entries: Sequence[Entry], bank: PictureBank, folder: Path) -> None:
    """Lay every thing on some paintings and write these as rows, as a prepared pack is.

    Every style is taken as often. A row says what the emoji's do, in the style of its ground.
    """
    grounds = find_grounds(bank)
    things = [entry for entry in entries if is_thing(entry)] if grounds else []
    common = common_words(entry.facts.title for entry in entries if not is_validation(entry.key))
    weights = picture_weights(things)
    styles = sorted(grounds)
    rows: dict[Format, list[Row]] = defaultdict(list)
    pictures: dict[Format, list[Image.Image]] = defaultdict(list)
    for entry in things:
        rng, facts, thing = random.Random(entry.key), entry.facts, cut_out(entry)
        for index in range(_EACH):
            shape, style = FORMATS[index % len(FORMATS)], rng.choice(styles)
            ground = take_ground(bank, rng.choice(grounds[style]), shape)
            pictures[shape].append(lay_on(ground, thing, _LAYING, rng))
            rows[shape].append(
                Row(
                    key=entry.key,
                    source="laid",
                    style=style,
                    genre="",
                    artist="",
                    validation=False,
                    weight=weights[entry.key] / _EACH,
                    captions=[f"{facts.title}, {style}", f"a {style} painting of {facts.title}"],
                    words=telling_words(facts, common),
                )
            )
    folder.mkdir(parents=True, exist_ok=True)
    for shape, ones in pictures.items():
        np.save(folder / f"pixels-{shape.name}.npy", np.stack([np.asarray(one) for one in ones]))
        save_rows(folder, shape, rows[shape])
    (folder / _DONE).write_text(LAID)
