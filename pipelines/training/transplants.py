"""Things that the pack has as 3D renders alone, in the styles of its paintings, to be trained on further.

No painting of the pack shows a bicycle, and a U-Net that met bicycles as emoji alone paints no impressionist
one. But it paints in a style over whatever shapes it is given: an emoji is laid on a blurred painting, noised
for a part of the way, and painted on from there (SDEdit, Meng et al., 2022). The shape stays the emoji's, and
the paint is the style's. Those in which a judge sees the style least are left out.
"""

from __future__ import annotations

import io
import random
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageFilter, ImageOps

from pipelines.training.captions import Facts, compose_caption
from pipelines.training.evaluation.judge import Judge, style_probabilities
from pipelines.training.evaluation.painting import Manner, Painter
from pipelines.training.evaluation.prompts import Wanted
from pipelines.training.pack import FORMATS, RENDERED, Entry, Format, is_validation
from pipelines.training.pictures import PictureBank
from pipelines.training.ranking import SHEETS, Wish, without_poorest, write_own
from pipelines.training.wordnet import WordNet

_MOVED = frozenset(("05", "06", "13", "17", "20"))
"""WordNet's files of animals, artefacts, food, objects and plants: persons the paintings have themselves."""

_PERSONS = "18"
_PLACES = frozenset(("landscape", "cityscape", "still life"))

_WORDINGS = 20
"""So often a caption is worded until it names the thing, which nine in ten do at once."""

Cutouts = Mapping[str, Sequence[Image.Image]]
"""Of each word the emoji whose titles have it, cut out, RGBA."""


@dataclass(frozen=True)
class Transplanting:
    """How things are laid on grounds and painted over.

    `strength` is how far a batch is noised, drawn between these: at 0.2 nearly all things are known at sight,
    in the style's paint; at 0.3 two of three, and at 0.5 half are gone (looked at, in two styles). `side` is
    the thing's longer side as a share of the format's shorter one, `blur_px` the most that a ground is
    blurred by, and `drop` the share of each style that is left out.
    """

    strength: tuple[float, float] = (0.18, 0.3)
    side: tuple[float, float] = (0.55, 0.85)
    blur_px: float = 4.0
    drop: float = 0.4
    painted_at_once: int = 512


def cut_out(entries: Sequence[Entry], net: WordNet) -> dict[str, list[Image.Image]]:
    """What the training pictures have as emoji whose titles name a thing that can be moved, by that word."""
    cutouts: dict[str, list[Image.Image]] = defaultdict(list)
    for entry in entries:
        facts = entry.facts
        if facts.source != "emoji-3d" or is_validation(entry.key):
            continue
        words = [word for word in re.findall("[a-z]+", facts.title) if _can_be_moved(word, net)]
        if not words:
            continue
        with Image.open(io.BytesIO(entry.image)) as image:
            whole = image.convert("RGBA")
        cut = whole.crop(whole.getchannel("A").getbbox())
        for word in words:
            cutouts[word].append(cut)
    return dict(cutouts)


def _can_be_moved(word: str, net: WordNet) -> bool:
    """Whether one of its first two senses is such a thing, the first no person, and it is no adjective: blue.

    That it is oftener a verb (to bear, to train) says nothing here: titles of emoji name what they show.
    """
    noun = word if word in net.senses else word.removesuffix("s")
    files = [net.files[sense] for sense in net.senses.get(noun, ()) if sense[0] == "n"][:2]
    return bool(_MOVED & {*files}) and files[0] != _PERSONS and not net.tagged.get((word, "a"))


def lay_on(
    ground: Image.Image, cutout: Image.Image, transplanting: Transplanting, rng: random.Random
) -> Image.Image:
    """Lay a thing, mirrored or not, on a copy of a ground, blurred, so that little else is to be seen."""
    laid = ground.filter(ImageFilter.GaussianBlur(rng.uniform(0, transplanting.blur_px)))
    scale = rng.uniform(*transplanting.side) * min(ground.size) / max(cutout.size)
    size = max(1, round(cutout.width * scale)), max(1, round(cutout.height * scale))
    thing = cutout.resize(size, Image.Resampling.LANCZOS)
    if rng.random() < 0.5:
        thing = thing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    # Rather below the middle, where things stand.
    left, top = (ground.width - size[0]) * rng.random(), (ground.height - size[1]) * rng.uniform(0.4, 0.9)
    laid.paste(thing, (round(left), round(top)), thing)
    return laid


def name_thing(facts: Facts, common: frozenset[str], rng: random.Random) -> str:
    """Word a caption in which the thing is named: of its style alone it would be no picture."""
    captions = (compose_caption(facts, common, rng) for _ in range(_WORDINGS))
    named = re.compile(rf"\b{facts.title}\b")  # "romanticism" is no ant
    return next((one for one in captions if named.search(one)), f"{facts.title}, {facts.style}")


def transplant(
    painter: Painter,
    manner: Manner,
    judge: Judge,
    cutouts: Cutouts,
    bank: PictureBank,
    count: int,
    folder: Path,
    *,
    common: frozenset[str],
    transplanting: Transplanting,
    seed: int,
    say: Callable[[str], None],
) -> int:
    """Paint `count` things in styles and write those that are kept as rows of pictures; return how many.

    Each word and each style is painted as often. `folder` is laid out as a prepared pack is.
    Raises ValueError where there is nothing to be laid on anything.
    """
    rng = random.Random(seed)
    grounds = _grounds(bank)
    if not cutouts or not grounds:
        raise ValueError("the pack has no 3D render of a thing, or no painting of a place to lay it on")
    words, styles = sorted(cutouts), sorted(grounds)
    # A painting's title tells only what is common: here each word is the thing itself.
    common |= cutouts.keys()
    kept: list[tuple[Wish, torch.Tensor, float]] = []
    while len(kept) < count:
        shape = rng.choice(FORMATS)
        wanted: list[Wanted] = []
        wishes: list[Wish] = []
        laid: list[Image.Image] = []
        for _ in range(min(transplanting.painted_at_once, count - len(kept))):
            word, style = rng.choice(words), rng.choice(styles)
            at, index = rng.choice(grounds[style])
            ground = Image.fromarray(bank.pixels[at][index].cpu().numpy())
            ground = ImageOps.fit(ground, (shape.width, shape.height))
            laid.append(lay_on(ground, rng.choice(cutouts[word]), transplanting, rng))
            facts = Facts("painting", style, title=word)
            wishes.append(Wish(facts, name_thing(facts, common, rng), shape))
            wanted.append(Wanted(f"{word}, {style}", rng.getrandbits(31), shape))
        images = painter.paint_over(wanted, laid, manner, rng.uniform(*transplanting.strength))
        seen = style_probabilities(judge, images, bank.device).cpu()
        asked = torch.tensor([judge.styles.index(wish.facts.style) for wish in wishes])
        kept += zip(wishes, images, seen.gather(1, asked[:, None])[:, 0].tolist(), strict=True)
        say(f"  {len(kept)} of {count} things painted")
    chosen = without_poorest(kept, transplanting.drop)
    write_own([(wish, image) for wish, image, _ in chosen], folder, common, seed, name_thing)
    return len(chosen)


def _grounds(bank: PictureBank) -> dict[str, list[tuple[Format, int]]]:
    """Of each style the paintings of places that a thing could stand in: their formats and rows."""
    grounds: dict[str, list[tuple[Format, int]]] = defaultdict(list)
    for shape, rows in bank.rows.items():
        for index, row in enumerate(rows):
            if row.genre in _PLACES and not row.validation and row.style not in (RENDERED, SHEETS):
                grounds[row.style].append((shape, index))
    return dict(grounds)
