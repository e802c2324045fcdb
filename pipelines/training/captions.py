"""Captions: many wordings of what is known of one picture.

An artist types "seascape, moonlight, romanticism" or "self portrait by vincent van gogh", not a
catalogue entry. So each picture is given many captions, each a different choice of the facts known of it,
in a different order and in different words.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipelines.training.wording import (
    BRIGHTNESS_WORDS,
    GENRE_WORDS,
    HINTS,
    LITTLE_WORDS,
    SATURATION_WORDS,
    STYLE_ADJECTIVES,
    STYLE_WORDS,
    SYNONYMS,
)

COMMON_WORD_MIN_TITLES = 4
"""A title's word stands alone as a tag when this many titles have it: rarer ones are mostly names."""

_SYNONYM_PROBABILITY = 0.12
_WORD = re.compile(r"[a-z]+(?:'s)?")
_TITLE_TAILS = re.compile(
    r"\b(?:also known as|aka|formerly|detail|fragment|unfinished|from the series)\b.*$"
    r"|\b(?:no )?\d+\b|\s+(?:i|ii|iii|iv|v|vi|vii|viii|ix|x)$"
)


@dataclass(frozen=True)
class Facts:
    """What the pack tells of one picture, and what a seer saw in it; an absent field is empty."""

    source: str
    style: str
    title: str = ""
    artist: str = ""
    genre: str = ""
    keywords: tuple[str, ...] = ()
    palette: tuple[str, ...] = ()
    brightness: str = ""
    saturation: str = ""
    seen: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, fields: dict[str, object], seen: tuple[str, ...] = ()) -> Facts:
        """Read the pack's JSON, ignoring the fields that captions do not use; `seen` it does not have."""

        def text(name: str) -> str:
            value = fields.get(name, "")
            return _plain(value) if isinstance(value, str) else ""

        def texts(name: str) -> tuple[str, ...]:
            value = fields.get(name, ())
            return tuple(_plain(str(item)) for item in value) if isinstance(value, list | tuple) else ()

        return cls(
            source=text("source"),
            style=text("style"),
            title=clean_title(text("title")),
            artist=text("artist"),
            genre=text("genre"),
            keywords=tuple(word for word in texts("keywords") if re.fullmatch(r"[a-z][a-z -]+", word)),
            palette=texts("palette"),
            brightness=text("brightness"),
            saturation=text("saturation"),
            seen=seen,
        )


def clean_title(title: str) -> str:
    """Drop what no picture shows: numbers, "also known as", and the pack's lost apostrophes."""
    title = _TITLE_TAILS.sub("", _plain(title))
    title = re.sub(r"(\w) s\b", r"\1's", title)
    return re.sub(r"\s+", " ", title).strip(" -,.:")


def common_words(titles: Iterable[str]) -> frozenset[str]:
    """The words that stand in at least `COMMON_WORD_MIN_TITLES` titles and say something alone."""
    counts = Counter(word for title in titles for word in set(_WORD.findall(title)))
    return frozenset(
        word
        for word, count in counts.items()
        if count >= COMMON_WORD_MIN_TITLES and word not in LITTLE_WORDS and len(word) > 2
    )


def compose_caption(facts: Facts, common: frozenset[str], rng: random.Random, background: str = "") -> str:
    """Word one caption: sometimes a subject or a style alone, mostly several facts in varied order.

    `common` is `common_words` of the whole pack; `background` names the colour that an emoji was put on.
    """
    subject = _subject(facts, common, rng)
    style = rng.choice(STYLE_WORDS.get(facts.style, (facts.style,)))
    kind = rng.random()
    if subject and kind < 0.08:
        return _reword(subject, rng)
    if kind < 0.15:
        genre = _genre(facts, rng) if rng.random() < 0.5 else ""
        return _join(_shuffled([genre, style], rng))
    if subject and kind < 0.35:
        sentence = _sentence(facts, subject, rng)
        extras = _extras(facts, rng, background)
        return _join([_reword(sentence, rng), *extras])
    parts = [style] if rng.random() < 0.95 else []
    if facts.artist and rng.random() < 0.35:
        parts.append(rng.choice(("by {}", "{}", "in the style of {}")).format(facts.artist))
    genre = _genre(facts, rng)
    if genre and genre not in subject and rng.random() < 0.4:
        parts.append(genre)
    parts += _extras(facts, rng, background)
    subject = _reword(subject, rng)
    if rng.random() < 0.7:
        return _join([subject, *_shuffled(parts, rng)])
    return _join(_shuffled([subject, *parts], rng))


def title_tags(title: str, common: frozenset[str]) -> list[str]:
    """The title's own common words, and what they hint at: a ship makes a seascape."""
    words = [word.removesuffix("'s") for word in _WORD.findall(title)]
    tags = [word for word in dict.fromkeys(words) if word in common]
    hints = [hint for word in words if (hint := HINTS.get(word)) and hint not in tags]
    return tags + list(dict.fromkeys(hints))


def telling_words(facts: Facts, common: frozenset[str]) -> list[str]:
    """The words that a picture may be called by, each once: its title's, a seer's, an emoji's keywords.

    A painting's title is mostly a name: only its `common` words tell something. An emoji's says what it is.
    """
    own = _WORD.findall(facts.title) if facts.source == "emoji-3d" else ()
    named = [word for word in own if word not in LITTLE_WORDS and len(word) > 2]
    return list(dict.fromkeys([*title_tags(facts.title, common), *named, *facts.seen, *facts.keywords]))


def _subject(facts: Facts, common: frozenset[str], rng: random.Random) -> str:
    tags = list(dict.fromkeys([*title_tags(facts.title, common), *facts.seen]))
    choice = rng.random()
    if facts.source == "emoji-3d" and facts.keywords and choice < 0.15:
        few = rng.sample(facts.keywords, min(len(facts.keywords), rng.randint(1, 2)))
        return ", ".join([facts.title, *few] if rng.random() < 0.85 else few)
    # A title that is mostly a name tells less than its plain words or the genre.
    plain = sum(word in common or word in LITTLE_WORDS for word in _WORD.findall(facts.title))
    named = facts.source != "emoji-3d" and 2 * plain < len(_WORD.findall(facts.title))
    if tags and choice < (0.75 if named else 0.5):
        few = rng.sample(tags, min(len(tags), rng.choice((1, 1, 2, 2, 3))))
        if rng.random() < 0.4:
            few.append(_genre(facts, rng))
        elif len(few) == 1 and rng.random() < 0.4:
            few[0] = _with_article(few[0])
        return _join(_shuffled(few, rng))
    if facts.title and choice < (0.8 if named and not tags else 0.92):
        return facts.title
    return _genre(facts, rng) or facts.title


def _sentence(facts: Facts, subject: str, rng: random.Random) -> str:
    """One phrase, such as "a baroque painting of a fruit bowl by Jan Fyt"."""
    adjective = rng.choice(STYLE_ADJECTIVES.get(facts.style, (facts.style,)))
    medium = _genre(facts, rng) if facts.genre and rng.random() < 0.3 else ""
    if not medium or medium == subject:
        medium = "picture" if facts.source == "emoji-3d" else "painting"
    by_artist = f" by {facts.artist}" if facts.artist and rng.random() < 0.45 else ""
    kind = rng.random()
    if kind < 0.45:
        return f"{_with_article(f'{adjective} {medium}')} of {subject}{by_artist}"
    if kind < 0.55:
        return f"{subject}{by_artist}"
    if kind < 0.75:
        return f"{subject}{by_artist}, {rng.choice(STYLE_WORDS.get(facts.style, (facts.style,)))}"
    if facts.artist and kind < 0.9:
        return f"{subject} in the style of {facts.artist}"
    return f"{subject} in {facts.style} style{by_artist}"


def _extras(facts: Facts, rng: random.Random, background: str) -> list[str]:
    """Palette, light and background words, each only now and then."""
    extras: list[str] = []
    if facts.palette and rng.random() < 0.4:
        colours = _shuffled(facts.palette[: rng.randint(1, 3)], rng)
        wording = rng.choice(("{}", "{}", "{} tones", "{} tones", "mostly {}", "{} palette", "in {}"))
        extras.append(wording.format(" and ".join(colours) if rng.random() < 0.6 else ", ".join(colours)))
    if facts.brightness and rng.random() < 0.35:
        extras.append(rng.choice(BRIGHTNESS_WORDS.get(facts.brightness, (facts.brightness,))))
    if facts.saturation and rng.random() < 0.3:
        extras.append(rng.choice(SATURATION_WORDS.get(facts.saturation, (facts.saturation,))))
    if background and rng.random() < 0.35:
        extras.append(rng.choice((f"{background} background", f"on {_with_article(background)} background")))
    return extras


def _genre(facts: Facts, rng: random.Random) -> str:
    return rng.choice(GENRE_WORDS.get(facts.genre, (facts.genre,)))


def _reword(text: str, rng: random.Random) -> str:
    """Now and then put a synonym for a word, so that one never met in a title is met in a caption."""

    def replace(match: re.Match[str]) -> str:
        synonyms = SYNONYMS.get(match.group())
        return rng.choice(synonyms) if synonyms and rng.random() < _SYNONYM_PROBABILITY else match.group()

    return re.sub(r"[a-z]+", replace, text)


def _join(parts: Sequence[str]) -> str:
    """Join with commas, each part once."""
    return ", ".join(dict.fromkeys(part for part in parts if part))


def _with_article(noun: str) -> str:
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"


def _shuffled(parts: Sequence[str], rng: random.Random) -> list[str]:
    return rng.sample(list(parts), len(parts))


def _plain(text: str) -> str:
    """Lower case without accents, since artists seldom type them."""
    decomposed = unicodedata.normalize("NFKD", text.lower())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter)).strip()
