"""Words that no caption had: each is read as the nearest word that the model has learnt.

Which word is nearest is found out once, from WordNet and a sentence encoder, and kept in `words.tsv`. A new
word becomes a token of its own, whose row in the text encoder is a copy of the known one's. No weights but
the model's own are shipped.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import AddedToken, AutoModel, AutoTokenizer, CLIPTextModel, CLIPTokenizer

from pipelines.training.captions import Facts, common_words, compose_caption
from pipelines.training.wording import LITTLE_WORDS
from pipelines.training.wordnet import WordNet

WORDS_FILE = Path(__file__).with_name("words.tsv")
MAX_WORDS = 3500
"""A word costs its row in the text encoder: 640 bytes in the shipped model, and these are 2.2 MB."""

_CAPTIONS = 20  # drawn for each picture, to see which words there are
_MIN_PICTURES = 4  # that had a word in their captions, for it to be known
_MIN_LIKENESS = 0.5  # cosine, as the sentence encoder has it, less what lies between them in WordNet
_PRICE = 0.04  # of a step in WordNet, in cosine
_TEMPLATES = ("{}", "a painting of {}")
# Known from "ecce homo" alone and taken for something else; and what nobody should be told that she means.
_NEVER = frozenset(("homo", "prostitute", "prostitutes", "whore", "whores"))


def known_words(facts: Iterable[Facts], tokenizer: CLIPTokenizer) -> tuple[list[str], frozenset[str]]:
    """List the words that captions had often enough to be known, and all words that they had.

    A known word is one token: only such a one has a row in the text encoder to be read from.
    """
    told = list(facts)
    common = common_words(one.title for one in told)
    artists = {word for one in told for word in _words(one.artist)}
    pictures: Counter[str] = Counter()
    for one in told:
        rng = random.Random(one.title)
        pictures.update(
            {word for _ in range(_CAPTIONS) for word in _words(compose_caption(one, common, rng))}
        )
    vocabulary = tokenizer.get_vocab()
    known = [
        word
        for word, count in pictures.items()
        if count >= _MIN_PICTURES
        and f"{word}</w>" in vocabulary
        and len(word) > 2
        and word not in LITTLE_WORDS | artists | _NEVER
    ]
    return known, frozenset(pictures)


def find_words(
    wide: Iterable[str], known: Sequence[str], seen: frozenset[str], net: WordNet, sentence_encoder: Path
) -> list[tuple[str, str]]:
    """Pair up to `MAX_WORDS` words of a wide vocabulary with the nearest known ones.

    Nature comes first, then whatever else a picture can show, each in the order of `wide`: the commonest
    first. The words of a pair must be related in WordNet; among those related the sentence encoder chooses.
    Words in `seen` are left alone: the text encoder has read them.
    """
    forms: dict[str, list[int]] = defaultdict(list)
    for index, word in enumerate(known):
        if net.is_seen(word):
            for stem in net.stems(word):
                forms[stem].append(index)
    new = [
        word for word in wide if re.fullmatch("[a-z]{3,}", word) and word not in seen and net.is_seen(word)
    ]
    new.sort(key=lambda word: not net.is_nature(word))
    there, here = _embed(known, sentence_encoder), _embed(new, sentence_encoder)
    pairs: list[tuple[str, str]] = []
    for word, vector in zip(new, here, strict=True):
        distances = {index: far for name, far in net.near(word).items() for index in forms.get(name, ())}
        candidates = [index for index in distances if not net.is_insult(word, known[index])]
        if not candidates or len(pairs) == MAX_WORDS:
            continue
        likeness = (there[candidates] @ vector).tolist()
        score, index = max(
            (cosine - _PRICE * distances[index], index)
            for cosine, index in zip(likeness, candidates, strict=True)
        )
        if score >= _MIN_LIKENESS:
            pairs.append((word, known[index]))
    return pairs


def write_pairs(path: Path, pairs: Iterable[tuple[str, str]]) -> None:
    """Write one pair a line: the new word, a tab, the known one."""
    path.write_text("".join(f"{new}\t{known}\n" for new, known in sorted(pairs)), encoding="utf-8")


def read_pairs(path: Path = WORDS_FILE) -> list[tuple[str, str]]:
    """Read what `write_pairs` wrote."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [(new, known) for new, known in (line.split("\t") for line in lines)]


def add_words(
    tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, pairs: Iterable[tuple[str, str]]
) -> list[str]:
    """Teach both, in place, to read each new word as the known one; whatever else they read stays as it is.

    A word that was added before is read anew as its known one, which a model trained further reads otherwise.

    Returns:
        The words added: pairs are passed over whose known word is not one token or whose new one was learnt.
    """
    vocabulary = tokenizer.get_vocab()
    learnt = vocabulary.keys() - {str(token) for token in tokenizer.added_tokens_decoder.values()}
    added = [
        (new, f"{known}</w>")
        for new, known in pairs
        if f"{known}</w>" in vocabulary and not {new, f"{new}</w>"} & learnt
    ]
    tokens: list[str | AddedToken] = [AddedToken(new, single_word=True, normalized=True) for new, _ in added]
    tokenizer.add_tokens(tokens)
    resize: Any = text_encoder.resize_token_embeddings
    resize(len(tokenizer), mean_resizing=False)
    embedding: Any = text_encoder.get_input_embeddings()
    rows = embedding.weight.data
    for new, known in added:
        rows[tokenizer.convert_tokens_to_ids(new)] = rows[vocabulary[known]]
    return [new for new, _ in added]


def _words(text: str) -> list[str]:
    return re.findall("[a-z]+", text)


@torch.inference_mode()
def _embed(words: Sequence[str], folder: Path) -> torch.Tensor:
    """Embed words alone and in a phrase: (n, dim) of unit length, the mean over tokens of a BERT encoder."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    encoder: Any = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    wordings: list[torch.Tensor] = []
    for template in _TEMPLATES:
        parts: list[torch.Tensor] = []
        for start in range(0, len(words), 512):
            texts = [template.format(word) for word in words[start : start + 512]]
            batch = tokenizer(texts, padding=True, return_tensors="pt")
            mask = batch["attention_mask"][..., None]
            mean = (encoder(**batch)[0] * mask).sum(1) / mask.sum(1)
            parts.append(functional.normalize(mean, dim=1))
        wordings.append(torch.cat(parts) / len(_TEMPLATES) ** 0.5)
    return torch.cat(wordings, 1)
