"""Words that a model never learnt, and the one that each is read as.

`words.tsv` beside a model's weights has a line of two for each. A new word becomes a token of its own whose
embedding is the known one's: it reads as that one to the bit, and every other text reads as before. Who loads
the folder without the list loses nothing but these words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from pipelines.refusal import BadInput


def read_words(file: Path) -> dict[str, str]:
    """Read a list of words.

    Raises:
        BadInput: a line that is not a word, a tab and a word.
    """
    words: dict[str, str] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        said = re.fullmatch("([a-z]+)\t([a-z]+)", line)
        if said is None:
            raise BadInput(
                f"{file}, line {number}: a line is a word, a tab and the word it is read as, in lower case.",
                "model",
            )
        words[said[1]] = said[2]
    return words


def readable(words: Mapping[str, str], tokenizer: CLIPTokenizer) -> dict[str, int]:
    """The words that can be read as their known one, and the token that this is; it must be a single one.

    A word that spells the beginning of others cannot: what stands for it stands for those too.
    """
    pieces = tokenizer.get_vocab()
    spelt = {word: tokenizer.tokenize(known) for word, known in words.items() if word not in pieces}
    return {word: pieces[tokens[0]] for word, tokens in spelt.items() if len(tokens) == 1}


def teach(file: Path | None, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel) -> dict[str, str]:
    """Let a model read the words that its folder lists, if it does; return them and what each is read as.

    Raises:
        BadInput: as `read_words`.
    """
    return {} if file is None else add_words(read_words(file), tokenizer, text_encoder)


def add_words(
    words: Mapping[str, str], tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel
) -> dict[str, str]:
    """Let each word that is `readable` be read as its known one; return those."""
    read_as = readable(words, tokenizer)
    weights = _embedding(text_encoder).detach()
    weights = torch.cat([weights, weights[list(read_as.values())]])
    # In lower case, and whole: of "colts" a token for "colt" takes nothing.
    whole: Any = [AddedToken(word, single_word=True, normalized=True) for word in read_as]
    tokenizer.add_tokens(whole)
    text_encoder.resize_token_embeddings(len(weights), mean_resizing=False)
    _embedding(text_encoder).requires_grad_(False).copy_(weights)
    return {word: words[word] for word in read_as}


def _embedding(text_encoder: CLIPTextModel) -> torch.Tensor:
    embedding = text_encoder.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    return embedding.weight
