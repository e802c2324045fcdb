"""Gives words that no caption has a token of their own, which reads as the nearest word that captions have.

A text encoder that agrees with a sentence encoder puts a colt near a horse. The U-Net never met what lies
between the two, and paints neither. So the tokenizer learns the new word whole, and the text encoder answers
it as it answers the known one: every other text reads as before, to the bit. Which word is nearest is told by
WordNet's tree (Wu & Palmer, 1994), by the sentence encoder, and by how often pictures show it; a word that is
near none stays what it is.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from pipelines.training.architecture import load_tokenizer
from pipelines.training.captions import Facts, common_words, title_tags
from pipelines.training.pack import Row
from pipelines.training.text_encoder import SentenceEncoder
from pipelines.training.wordnet import Synset, WordNet

LISTED = "read-as.tsv"

_LEAST_PICTURES = 5
"""Fewer do not teach a U-Net what a word looks like."""

_NEAR_ENOUGH = 1.15
"""The least sum of both likenesses, 2 at the most, and of what being well known counts for."""

_ALIKE = 0.25
"""The least that the sentence encoder must say of two persons: not everyone is a woman, painted most."""

_OFTEN = 0.06
"""What e times as many pictures of a word count for: of two that are near, the better known."""


def known_words(facts: Sequence[Facts], net: WordNet, tokenizer: CLIPTokenizer) -> dict[str, int]:
    """Nouns of things, of one token each, that are told of some pictures, and of how many.

    A word that is an adjective too ("young", "orange") is no thing that another could be read as.
    """
    common = common_words(one.title for one in facts)
    counts = Counter(
        word for one in facts for word in {*title_tags(one.title, common), *one.keywords, *one.seen}
    )
    return {
        word: count
        for word, count in counts.items()
        if count >= _LEAST_PICTURES
        and net.things(word)
        and all(part != "a" for part, _ in net.senses.get(word, []))
        and len(tokenizer.tokenize(word)) == 1
    }


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
    tree = _Tree(net, [net.things(name)[0] for name in names])
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


def add_words(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, near: Mapping[str, str]) -> int:
    """Let each new word be read as its known one, which is one token; returns how many are added.

    A word that spells the beginning of others is not: what stands for it stands for those too.
    """
    pieces = tokenizer.get_vocab()
    tokens = {word: tokenizer.tokenize(known) for word, known in sorted(near.items()) if word not in pieces}
    read_as = {word: pieces[spelt[0]] for word, spelt in tokens.items() if len(spelt) == 1}
    weights = _embedding(text_encoder).detach()
    weights = torch.cat([weights, weights[list(read_as.values())]])
    # In lower case, and whole: of "colts" a token for "colt" takes nothing.
    whole: Any = [AddedToken(word, single_word=True, normalized=True) for word in read_as]
    tokenizer.add_tokens(whole)
    text_encoder.resize_token_embeddings(len(weights), mean_resizing=False)
    with torch.no_grad():
        _embedding(text_encoder).copy_(weights)
    return len(read_as)


def _embedding(text_encoder: CLIPTextModel) -> torch.Tensor:
    embedding = text_encoder.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    return embedding.weight


def reread(
    rows: Sequence[Row],
    facts: Sequence[Facts],
    model: Path,
    output: Path,
    *,
    words: Sequence[str],
    net: WordNet,
    load_teacher: Callable[[], SentenceEncoder],
) -> int:
    """Write the tokenizer and the text encoder of the folder `model`, new words added, into `output`.

    `rows` are the pack's, `facts` those of its training pictures, `words` English ones. `output/read-as.tsv`
    says which word is read as which; one that is there already is taken as it is, and so can be corrected.
    Returns how many words were added. Raises ValueError where a line of that list is not two words.
    """
    tokenizer = load_tokenizer(model / "tokenizer")
    listed = output / LISTED
    if listed.exists():
        near = _corrected(listed)
    else:
        told = {word for row in rows for text in row.captions for word in re.findall("[a-z]+", text)}
        known = known_words(facts, net, tokenizer)
        new = [word for word in words if word not in told and net.things(word)]
        near = nearest_words(new, known, net, load_teacher())
        output.mkdir(parents=True, exist_ok=True)
        listed.write_text(
            "".join(f"{one}\t{other}\n" for one, other in sorted(near.items())), encoding="utf-8"
        )
    text_encoder = CLIPTextModel.from_pretrained(str(model / "text_encoder"))
    added = add_words(tokenizer, text_encoder, near)
    tokenizer.save_pretrained(str(output / "tokenizer"))
    text_encoder.save_pretrained(str(output / "text_encoder"))
    return added


def _corrected(listed: Path) -> dict[str, str]:
    near: dict[str, str] = {}
    for number, line in enumerate(listed.read_text(encoding="utf-8").splitlines(), 1):
        said = re.fullmatch("([a-z]+)\t([a-z]+)", line)
        if said is None:
            raise ValueError(
                f"{listed}, line {number}: a word, a tab and the word it is read as, in small letters"
            )
        near[said[1]] = said[2]
    return near
