"""Lists words that no caption has, and which of those that captions have each is to be read as.

A text encoder that agrees with a sentence encoder puts a colt near a horse. The U-Net never met what lies
between the two, and paints neither; it had better be told of a horse (see `pipelines.models.words`). Which
word is nearest is told by WordNet's tree (Wu & Palmer, 1994), by the sentence encoder, and by how often
pictures show it; a word that is near none is not listed.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from transformers import CLIPTokenizer

from pipelines.models.words import readable
from pipelines.training.architecture import load_tokenizer
from pipelines.training.captions import Facts, common_words, title_tags
from pipelines.training.pack import Row, is_validation, load_rows, prepare_pack, read_shards
from pipelines.training.text_encoder import SentenceEncoder
from pipelines.training.wordnet import Synset, WordNet

_LEAST_PICTURES = 5
"""Fewer do not teach a U-Net what a word looks like."""

_NEAR_ENOUGH = 1.15
"""The least sum of both likenesses, 2 at the most, and of what being well known counts for."""

_ALIKE = 0.25
"""The least that the sentence encoder must say of two persons: not everyone is a woman, painted most."""

_OFTEN = 0.06
"""What e times as many pictures of a word count for: of two that are near, the better known."""


def known_words(
    facts: Sequence[Facts], net: WordNet, tokenizer: CLIPTokenizer, least: int = _LEAST_PICTURES
) -> dict[str, int]:
    """Nouns of things, of one token each, that are told of `least` pictures or more, and of how many.

    A word that is met as an adjective too ("young", "orange") is no thing that another could be read as, nor
    is one that could be one and is never met as a noun. What is all of an emoji's title names what is shown,
    though it be oftener a verb ("bear").
    """
    common = common_words(one.title for one in facts)
    titles = {one.title for one in facts if one.source == "emoji-3d"}
    counts = Counter(
        word for one in facts for word in {*title_tags(one.title, common), *one.keywords, *one.seen}
    )
    return {
        word: count
        for word, count in counts.items()
        if count >= least
        and (net.named_things(word) if word in titles else net.things(word))
        and not _is_adjective(word, net, named=word in titles)
        and len(tokenizer.tokenize(word)) == 1
    }


def _is_adjective(word: str, net: WordNet, *, named: bool) -> bool:
    if not any(part == "a" for part, _ in net.senses.get(word, [])):
        return False
    met = {part: net.tagged.get((word, part), 0) for part in "na"}
    return met["a"] > 0 or (met["n"] == 0 and not named)


def nearest_words(
    new: Sequence[str],
    known: Mapping[str, int],
    net: WordNet,
    teacher: Callable[[Sequence[str]], torch.Tensor],
) -> dict[str, str]:
    """New words, and which of the `known` each is to be read as; those that are near none are left out."""
    names = list(known)
    likeness = torch.zeros(len(new), len(names))
    for form in ("{}", "a painting of {}"):
        vectors = teacher([form.format(word) for word in (*new, *names)]).cpu()
        likeness += vectors[: len(new)] @ vectors[len(new) :].T / 2
    often = _OFTEN * np.log([known[name] for name in names])
    tree = _Tree(net, [net.named_things(name)[0] for name in names])
    found: dict[str, str] = {}
    for word, near in zip(new, likeness.numpy(), strict=True):
        score = near + often + tree.likeness(net.things(word))
        best = int(score.argmax())
        person = net.is_person(word) or net.is_person(names[best])
        if score[best] >= _NEAR_ENOUGH and (near[best] >= _ALIKE or not person):
            found[word] = names[best]
    return found


class _Tree:
    """How near the senses of known words lie to any other in WordNet's tree."""

    def __init__(self, net: WordNet, known: Sequence[Synset]) -> None:
        self._net, self._count = net, len(known)
        self._below: dict[Synset, np.ndarray] = {}
        for number, sense in enumerate(known):
            for above, steps in net.above(sense).items():
                self._below.setdefault(above, np.full(len(known), math.inf))[number] = steps

    def likeness(self, senses: Sequence[Synset]) -> np.ndarray:
        """Wu and Palmer's likeness of the nearest of some senses to every known one, 0 to 1, (known,)."""
        best = np.zeros(self._count)
        for sense in senses:
            for above, steps in self._net.above(sense).items():
                if above in self._below:
                    twice = 2 * (1 + max(self._net.above(above).values()))
                    best = np.maximum(best, twice / (twice + steps + self._below[above]))
        return best


def list_words(
    rows: Sequence[Row],
    facts: Sequence[Facts],
    tokenizer: CLIPTokenizer,
    *,
    words: Sequence[str],
    net: WordNet,
    teacher: Callable[[Sequence[str]], torch.Tensor],
) -> dict[str, str]:
    """English `words` that no caption of `rows` has, and which known word each is to be read as.

    `facts` are those of the pack's training pictures, `tokenizer` the model's own.
    """
    told = {word for row in rows for text in row.captions for word in re.findall("[a-z]+", text)}
    new = [word for word in words if word not in told and net.things(word)]
    near = nearest_words(new, known_words(facts, net, tokenizer), net, teacher)
    return {word: near[word] for word in sorted(readable(near, tokenizer))}


def reread_words(
    data: Path,
    output: Path,
    model: Path,
    *,
    words: Path,
    wordnet: Path,
    sentence_encoder: Path,
    workers: int = 1,
    limit: int | None = None,
) -> int:
    """List into `output/words.tsv` what the words that no caption has are to be read as; returns how many.

    `words` lists English ones. Raises FileNotFoundError where `data` holds no shard or `wordnet` no WordNet.
    """
    net = WordNet.read(wordnet)
    prepare_pack(data, output / "pack", workers=workers, limit=limit)
    listed = dict.fromkeys(words.read_text(encoding="utf-8").split())
    near = list_words(
        [row for rows in load_rows(output / "pack").values() for row in rows if not row.validation],
        [entry.facts for entry in read_shards(data, limit) if not is_validation(entry.key)],
        load_tokenizer(model / "tokenizer"),
        words=[word for word in listed if re.fullmatch("[a-z]{3,}", word)],
        net=net,
        teacher=SentenceEncoder(sentence_encoder, torch.device(PartialState().device or "cpu")),
    )
    lines = "".join(f"{word}\t{known}\n" for word, known in near.items())
    (output / "words.tsv").write_text(lines, encoding="utf-8")
    return len(near)
