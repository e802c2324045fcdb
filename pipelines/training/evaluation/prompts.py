"""What an evaluation paints, from `prompts.toml` and the held-out pictures' captions."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pipelines.training.pack import FORMATS, Format, Row

PROMPTS_FILE = Path(__file__).with_name("prompts.toml")


@dataclass(frozen=True)
class Wanted:
    """One picture to paint, and what it should show; an empty field is not asked for."""

    prompt: str
    seed: int
    shape: Format
    style: str = ""
    genre: str = ""
    palette: tuple[str, ...] = ()
    subject: str = ""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Scene(_Model):
    """A thing to paint and the genre a judge should take it for."""

    text: str
    genre: str
    style: str = ""


class Agreement(_Model):
    """Scenes, styles and palettes that are asked for together."""

    styles: tuple[str, ...]
    scenes: tuple[Scene, ...]
    palettes: tuple[tuple[str, ...], ...]
    others: tuple[Scene, ...]


class Subjects(_Model):
    """Single subjects, each painted and rendered."""

    painted_styles: tuple[str, ...]
    rendered_style: str
    names: tuple[str, ...]


class Pairs(_Model):
    """Pairs of a word that captions do not know and one that they do."""

    styles: tuple[str, ...]
    words: tuple[tuple[str, str], ...]


class Diversity(_Model):
    """Prompts painted from many seeds."""

    prompts: tuple[str, ...]


class Sheet(_Model):
    """Prompts painted from one seed each, to be looked at."""

    prompts: tuple[str, ...]


class Prompts(_Model):
    """Everything that an evaluation asks for."""

    agreement: Agreement
    subjects: Subjects
    pairs: Pairs
    sheet: Sheet
    diversity: Diversity


def read_prompts(path: Path = PROMPTS_FILE) -> Prompts:
    """Read and check the list of prompts."""
    return Prompts.model_validate(tomllib.loads(path.read_text()))


def plan_agreement(agreement: Agreement, count: int) -> list[Wanted]:
    """Scenes in styles, every second one also in a palette: `count` of them, the same each time."""
    scenes = [
        Scene(text=f"{scene.text}, {style}", genre=scene.genre, style=style)
        for scene in agreement.scenes
        for style in agreement.styles
    ] + list(agreement.others)
    # Each lap over the scenes is shuffled by itself, so that a smaller count asks for a fair part of all.
    rng = random.Random(0)
    laps = -(-count // len(scenes))
    order = [scene for _ in range(laps) for scene in rng.sample(scenes, len(scenes))][:count]
    wanted: list[Wanted] = []
    for index, scene in enumerate(order):
        asks_palette = index % 2 == 1
        palette = agreement.palettes[index // 2 % len(agreement.palettes)] if asks_palette else ()
        prompt = f"{scene.text}, {' and '.join(palette)} tones" if palette else scene.text
        shape = FORMATS[index % len(FORMATS)]
        wanted.append(Wanted(prompt, index, shape, style=scene.style, genre=scene.genre, palette=palette))
    return wanted


def plan_subjects(subjects: Subjects, seeds: int) -> list[Wanted]:
    """Every subject in `seeds` pictures in painted styles, then in as many in the rendered style."""
    painted = [
        _of_subject(name, subjects.painted_styles[(index + seed) % len(subjects.painted_styles)], seed)
        for index, name in enumerate(subjects.names)
        for seed in range(seeds)
    ]
    rendered = [
        _of_subject(name, subjects.rendered_style, seed) for name in subjects.names for seed in range(seeds)
    ]
    return painted + rendered


def plan_pairs(pairs: Pairs, seeds: int) -> list[Wanted]:
    """For each pair `seeds` pictures of its new word, as many of its known one, and as many from other seeds.

    Of two pictures from one seed only the words differ; from other seeds it is the noise too.
    """
    return [
        _of_subject(word, pairs.styles[seed % len(pairs.styles)], first + seed)
        for new, known in pairs.words
        for word, first in ((new, 0), (known, 0), (known, 1000))
        for seed in range(seeds)
    ]


def plan_diversity(diversity: Diversity, seeds: int) -> list[Wanted]:
    """Every prompt from `seeds` seeds, in a square."""
    square = FORMATS[-1]
    return [Wanted(prompt, seed, square) for prompt in diversity.prompts for seed in range(seeds)]


def plan_sheet(sheet: Sheet) -> list[Wanted]:
    """Every prompt once, in a square, its number the seed."""
    square = FORMATS[-1]
    return [Wanted(prompt, seed, square) for seed, prompt in enumerate(sheet.prompts)]


def plan_captions(rows: Sequence[tuple[Format, Row]], count: int) -> list[Wanted]:
    """The captions of held-out pictures in their own formats, `count` of them, each picture as often."""
    wanted: list[Wanted] = []
    for index in range(count):
        shape, row = rows[index % len(rows)]
        caption = row.captions[index // len(rows) % len(row.captions)]
        wanted.append(Wanted(caption, index, shape))
    return wanted


def _of_subject(name: str, style: str, seed: int) -> Wanted:
    return Wanted(f"{name}, {style}", seed, FORMATS[-1], style=style, subject=name)
