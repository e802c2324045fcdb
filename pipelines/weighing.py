"""Words of a prompt that weigh more or less than the others: "a (lighthouse:1.4) by the sea".

No torch at import.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_WEIGHT = 3.0

# Brackets without a number stay what they are.
_MARK = re.compile(r"\((?P<words>[^():]+):\s*(?P<weight>\d+\.?\d*|\.\d+)\s*\)")


@dataclass(frozen=True, slots=True)
class Weighed:
    """A prompt without its marks: what a model reads.

    For each of its characters `weights` says what its word weighs, 1 mostly, and `places` where it stands in
    the prompt as it was typed.
    """

    text: str
    weights: tuple[float, ...]
    places: tuple[int, ...]

    def typed(self, start: int, stop: int) -> tuple[int, int]:
        """Return where some characters of the text stand in the prompt; none stand at (0, 0)."""
        return (self.places[start], self.places[stop - 1] + 1) if start < stop else (0, 0)

    def weight(self, start: int, stop: int) -> float:
        """Return what the word of some characters weighs; what stands for no character weighs 1."""
        return self.weights[start] if start < stop else 1.0


def weigh(prompt: str) -> Weighed:
    """Take the marks out of a prompt: `(words:weight)` weighs its words, from 0 to 3.

    What looks like a mark and weighs more than that stays as it stands: it may be a time or a verse.
    """
    kept: list[tuple[str, float, int]] = []
    read = 0
    for mark in _MARK.finditer(prompt):
        if float(mark["weight"]) <= MAX_WEIGHT:
            kept += _plain(prompt, read, mark.start())
            kept += [(prompt[at], float(mark["weight"]), at) for at in range(*mark.span("words"))]
            read = mark.end()
    kept += _plain(prompt, read, len(prompt))
    return Weighed(
        "".join(character for character, _, _ in kept),
        tuple(weight for _, weight, _ in kept),
        tuple(place for _, _, place in kept),
    )


def too_heavy(prompt: str) -> list[str]:
    """List what looks like a mark and weighs more than a word can."""
    return [mark[0] for mark in _MARK.finditer(prompt) if float(mark["weight"]) > MAX_WEIGHT]


def _plain(prompt: str, start: int, stop: int) -> list[tuple[str, float, int]]:
    return [(prompt[at], 1.0, at) for at in range(start, stop)]
