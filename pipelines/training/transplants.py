"""Things that the pack has as 3D renders alone, in the styles of its paintings, to be trained on further.

No painting of the pack shows a bicycle, and a U-Net that met bicycles as emoji alone paints no impressionist
one. But it paints in a style over whatever shapes it is given: an emoji is laid on a blurred painting, noised
for a part of the way, and painted on from there (SDEdit, Meng et al., 2022). The shape stays the emoji's, and
the paint is the style's; those in which a judge sees the style least are left out. Or it is painted into a
sharp painting by a filter's strokes: then nothing is learnt that the U-Net has made up, and all are kept.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pipelines.training.captions import Facts, compose_caption
from pipelines.training.evaluation.judge import Judge, style_probabilities
from pipelines.training.evaluation.painting import Manner, Painter
from pipelines.training.evaluation.prompts import Wanted
from pipelines.training.laying import (
    Laying,
    cut_out,
    find_grounds,
    is_thing,
    lay_on,
    paint_in,
    take_ground,
)
from pipelines.training.pack import FORMATS, Entry, is_validation
from pipelines.training.pictures import PictureBank
from pipelines.training.ranking import Wish, without_poorest, write_own
from pipelines.training.wordnet import WordNet

_MOVED = frozenset(("05", "06", "13", "17", "20"))
"""WordNet's files of animals, artefacts, food, objects and plants: persons the paintings have themselves."""

_PERSONS = "18"
_PAINTED = frozenset(("painting", "ukiyo-e"))
_OF_NATURE = frozenset(("17", "20"))
_SHOWN = 40
"""What is of nature and told of so many paintings is theirs: a tree became an emoji in every style."""

_WORDINGS = 20
"""So often a caption is worded until it names the thing, which nine in ten do at once."""

Cutouts = Mapping[str, Sequence[Image.Image]]
"""Of each word the emoji whose titles have it, cut out, RGBA."""


@dataclass(frozen=True)
class Transplanting:
    """How things are laid on grounds and painted over.

    `strength` is how far a batch is noised, drawn between these: at 0.2 nearly all things are known at sight,
    in the style's paint; at 0.3 two of three, and at 0.5 half are gone (looked at, in two styles). `drop` is
    the share of each style that a judge leaves out.
    """

    strength: tuple[float, float] = (0.18, 0.3)
    laying: Laying = field(default_factory=Laying)
    drop: float = 0.4
    painted_at_once: int = 512


def cut_out_things(entries: Sequence[Entry], net: WordNet) -> dict[str, list[Image.Image]]:
    """What the training pictures have as emoji whose titles name a thing that can be moved, by that word.

    Of each word those alone that show it the most wholly, by their titles.
    """
    cutouts: dict[str, dict[int, list[Image.Image]]] = defaultdict(lambda: defaultdict(list))
    known = [entry for entry in entries if not is_validation(entry.key)]
    shown = Counter(
        word
        for entry in known
        if entry.facts.source in _PAINTED
        for word in {*re.findall("[a-z]+", entry.facts.title), *entry.facts.seen}
    )
    for entry in known:
        words = re.findall("[a-z]+", entry.facts.title) if is_thing(entry) else []
        moved = [word for word in words if _can_be_moved(word, net, shown[word])]
        if moved:
            cut = cut_out(entry)
            for word in moved:
                cutouts[word][_wholeness(words, word)].append(cut)
    return {word: by_wholeness[max(by_wholeness)] for word, by_wholeness in cutouts.items()}


def _wholeness(title: Sequence[str], word: str) -> int:
    """How wholly an emoji shows a word of its title's: a cat does, a black cat nearly, a cat face little."""
    return (title == [word]) + (title[-1] == word)


def _can_be_moved(word: str, net: WordNet, shown: int) -> bool:
    """Whether one of its first two senses is such a thing, the first no person, and it is no adjective: blue.

    Of nature it must be `shown` by few paintings. That it is oftener a verb (to bear, to train) says nothing
    here: titles of emoji name what they show.
    """
    noun = word if word in net.senses else word.removesuffix("s")
    files = [net.files[sense] for sense in net.senses.get(noun, ()) if sense[0] == "n"][:2]
    if not _MOVED & {*files} or files[0] == _PERSONS or net.tagged.get((word, "a")):
        return False
    return files[0] not in _OF_NATURE or shown < _SHOWN


def name_thing(facts: Facts, common: frozenset[str], rng: random.Random) -> str:
    """Word a caption in which the thing is named: of its style alone it would be no picture."""
    captions = (compose_caption(facts, common, rng) for _ in range(_WORDINGS))
    named = re.compile(rf"\b{facts.title}\b")  # "romanticism" is no ant
    return next((one for one in captions if named.search(one)), f"{facts.title}, {facts.style}")


Place = tuple[Wanted, Image.Image, Image.Image]
"""What is wanted, the ground that it goes on, and the thing."""

Paint = Callable[[Sequence[Place], random.Random], list[torch.Tensor]]
"""Paints what is wanted where it is to be, all of one size: images (height, width, 3) uint8."""


def over(painter: Painter, manner: Manner, transplanting: Transplanting) -> Paint:
    """Painted over by a model."""

    def paint(places: Sequence[Place], rng: random.Random) -> list[torch.Tensor]:
        laid = [lay_on(ground, thing, transplanting.laying, rng) for _, ground, thing in places]
        strength = rng.uniform(*transplanting.strength)
        return painter.paint_over([wanted for wanted, _, _ in places], laid, manner, strength)

    return paint


def in_strokes(laying: Laying) -> Paint:
    """Painted in by a filter."""

    def paint(places: Sequence[Place], rng: random.Random) -> list[torch.Tensor]:
        painted = (paint_in(ground, thing, laying, rng) for _, ground, thing in places)
        return [torch.from_numpy(np.array(one)) for one in painted]

    return paint


def transplant(
    paint: Paint,
    judge: Judge | None,
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

    Each word and each style is painted as often; without a `judge` all are kept. `folder` is laid out as a
    prepared pack is.
    Raises ValueError where there is nothing to be laid on anything.
    """
    rng = random.Random(seed)
    grounds = find_grounds(bank)
    if not cutouts or not grounds:
        raise ValueError("the pack has no 3D render of a thing, or no painting of a place to lay it on")
    words, styles = sorted(cutouts), sorted(grounds)
    # A painting's title tells only what is common: here each word is the thing itself.
    common |= cutouts.keys()
    kept: list[tuple[Wish, torch.Tensor, float]] = []
    while len(kept) < count:
        shape = rng.choice(FORMATS)
        wishes: list[Wish] = []
        places: list[Place] = []
        for _ in range(min(transplanting.painted_at_once, count - len(kept))):
            word, style = rng.choice(words), rng.choice(styles)
            ground = take_ground(bank, rng.choice(grounds[style]), shape)
            wanted = Wanted(f"{word}, {style}", rng.getrandbits(31), shape)
            places.append((wanted, ground, rng.choice(cutouts[word])))
            facts = Facts("painting", style, title=word)
            wishes.append(Wish(facts, name_thing(facts, common, rng), shape))
        images = paint(places, rng)
        kept += zip(wishes, images, _sureness(judge, wishes, images, bank.device), strict=True)
        say(f"  {len(kept)} of {count} things painted")
    chosen = kept if judge is None else without_poorest(kept, transplanting.drop)
    write_own([(wish, image) for wish, image, _ in chosen], folder, common, seed, name_thing)
    return len(chosen)


def _sureness(
    judge: Judge | None, wishes: Sequence[Wish], images: Sequence[torch.Tensor], device: torch.device
) -> list[float]:
    """How sure a judge is of the style of each image; as sure of all without one."""
    if judge is None:
        return [1.0] * len(images)
    seen = style_probabilities(judge, images, device).cpu()
    asked = torch.tensor([judge.styles.index(wish.facts.style) for wish in wishes])
    return seen.gather(1, asked[:, None])[:, 0].tolist()
