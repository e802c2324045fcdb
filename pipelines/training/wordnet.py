"""WordNet (Fellbaum, 1998): which words a picture can show and what is a kind of what, from its own files."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from pathlib import Path

Synset = tuple[str, str]  # part of speech, offset in its data file

_PARTS = {"n": "noun", "v": "verb", "a": "adj"}
_SENSES = 3  # of a word and part of speech, the commonest first; later ones are hardly ever meant
_PLURALS = (("ies", "y"), ("ves", "f"), ("es", ""), ("s", ""))
_ENDINGS = (
    *_PLURALS, ("ing", ""), ("ing", "e"), ("ed", ""), ("ed", "e"),
    ("ier", "y"), ("er", ""), ("est", ""),
)  # fmt: skip
# The files of the lexicographers whose words a picture can show: animals, food, objects, phenomena, plants;
# artefacts, bodies, feelings, places, persons, shapes, substances and times; and adjectives.
_SEEN = frozenset(("05", "13", "17", "19", "20", "06", "08", "12", "15", "18", "25", "27", "28", "00"))
# Of those, and of groups (a forest, a village), what is a thing that stands somewhere.
_THINGS = frozenset(("05", "06", "08", "13", "14", "15", "17", "18", "19", "20", "28"))
_PERSONS = "18"


@dataclass
class WordNet:
    """Its synsets: `names` their words, `files` the lexicographer's file.

    `kinds` are what a synset is a kind of. `tagged` says how many senses of a word, as one part of speech,
    were met in a corpus.
    """

    senses: dict[str, list[Synset]] = field(default_factory=lambda: defaultdict(list))
    names: dict[Synset, list[str]] = field(default_factory=dict[Synset, list[str]])
    files: dict[Synset, str] = field(default_factory=dict[Synset, str])
    kinds: dict[Synset, list[Synset]] = field(default_factory=lambda: defaultdict(list))
    tagged: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    _above: dict[Synset, dict[Synset, int]] = field(default_factory=dict[Synset, dict[Synset, int]])

    @classmethod
    def read(cls, folder: Path) -> WordNet:
        """Read `data.*` and `index.*` of nouns, verbs and adjectives.

        Raises FileNotFoundError where one of them is missing.
        """
        net = cls()
        for part, name in _PARTS.items():
            for line in _entries(folder / f"data.{name}"):
                net._add(part, line.split(" | ")[0].split())
            for line in _entries(folder / f"index.{name}"):
                word, _, _, kinds, *rest = line.split()
                net.tagged[word, part] = int(rest[int(kinds) + 1])
                net.senses[word] += [(part, offset) for offset in rest[int(kinds) + 2 :][:_SENSES]]
        return net

    def _add(self, part: str, fields: list[str]) -> None:
        synset = part, fields[0]
        count = int(fields[3], 16)
        self.names[synset] = [fields[4 + 2 * index].split("(")[0] for index in range(count)]
        self.files[synset] = fields[1]
        pointers = fields[5 + 2 * count :]
        for symbol, offset, kind in zip(pointers[::4], pointers[1::4], pointers[2::4], strict=False):
            if symbol == "@":
                self.kinds[synset].append((kind, offset))

    def stems(self, word: str) -> list[str]:
        """The word and what it is a form of, as far as WordNet has them; irregular forms are not known."""
        cut = [word.removesuffix(end) + put for end, put in _ENDINGS if word.endswith(end)]
        return [stem for stem in dict.fromkeys([word, *cut]) if len(stem) > 2 and stem in self.senses]

    def is_seen(self, word: str) -> bool:
        """Whether the word is common (not a name), and its first sense is one that a picture can show."""
        return self._first_file(word) in _SEEN

    def things(self, word: str) -> list[Synset]:
        """Those of the first two senses of a common noun that are things.

        None for other words, and none for one that is oftener a verb or an adjective: "filled", "better".
        """
        noun, _ = self._nouns(word)
        met = {part: self.tagged.get((noun, part), 0) for part in _PARTS}
        return self.named_things(word) if met["n"] >= max(met.values()) else []

    def named_things(self, word: str) -> list[Synset]:
        """The same of a word that names what is shown, however often it is a verb elsewhere: "bear"."""
        noun, senses = self._nouns(word)
        return [sense for sense in senses if self._names_thing(sense, noun)]

    def _nouns(self, word: str) -> tuple[str, list[Synset]]:
        """The first form of a word that is a noun, and the first two senses of it."""
        for noun in (word, *(word.removesuffix(end) + put for end, put in _PLURALS if word.endswith(end))):
            senses = [sense for sense in self.senses.get(noun, ()) if sense[0] == "n"][:2]
            if senses:
                return noun, senses
        return word, []

    def is_person(self, word: str) -> bool:
        """Whether a thing's first sense is a person."""
        return [self.files[sense] for sense in self.named_things(word)[:1]] == [_PERSONS]

    def _names_thing(self, sense: Synset, word: str) -> bool:
        return self.files[sense] in _THINGS and word in self.names[sense]

    def above(self, sense: Synset) -> dict[Synset, int]:
        """The sense itself and all that it is a kind of, each with the fewest steps up to it."""
        if sense not in self._above:
            found, waiting = {sense: 0}, deque([sense])
            while waiting:
                one = waiting.popleft()
                for kind in self.kinds.get(one, ()):
                    if kind not in found:
                        found[kind] = found[one] + 1
                        waiting.append(kind)
            self._above[sense] = found
        return self._above[sense]

    def _first_file(self, word: str) -> str:
        for stem in self.stems(word):
            first = next((sense for sense in self.senses[stem] if sense[0] != "v"), None)
            if first is not None and stem in self.names[first]:
                return self.files[first]
        return ""


def _entries(path: Path) -> list[str]:
    # The licence stands at the head of each file, indented.
    return [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith(" ")]
