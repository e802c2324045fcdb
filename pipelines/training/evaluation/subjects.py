"""Which of many subjects does a picture show? A dual encoder's ranks, and how well it ranks real pictures."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import torch
from transformers import CLIPTokenizer

from pipelines.training.evaluation.dual_encoder import QUERIES, DualEncoder
from pipelines.training.evaluation.network import held_out, look
from pipelines.training.latent_bank import tokenize
from pipelines.training.pack import RENDERED
from pipelines.training.pictures import PictureBank

TOP = 5
"""A subject counts as shown when it is among this many likeliest of all subjects."""

_PICTURES = 12
"""Of the pictures of one subject so many are looked at, spread over all: men have hundreds."""


class SubjectRanks:
    """Where a subject stands among all, by the dual encoder's likeness to a picture."""

    def __init__(
        self,
        encoder: DualEncoder,
        tokenizer: CLIPTokenizer,
        names: Sequence[str],
        device: torch.device,
    ) -> None:
        """Rank among `names`."""
        self.encoder, self.tokenizer, self.names, self.device = encoder, tokenizer, tuple(names), device

    def ranks(
        self, images: Sequence[torch.Tensor], subjects: Sequence[str], styles: Sequence[str]
    ) -> torch.Tensor:
        """The rank of each picture's subject, 0 for the first: (N,) for images (height, width, 3) uint8."""
        likeness = self.likeness(look(self.encoder, images, self.device), styles)
        index = torch.tensor([self.names.index(subject) for subject in subjects], device=self.device)
        return (likeness > likeness.gather(1, index[:, None])).sum(1)

    def likeness(self, seen: torch.Tensor, styles: Sequence[str]) -> torch.Tensor:
        """How like every subject in its style each picture is, (N, names); `seen` (N, D) are unit vectors."""
        queries = {style: self.queries(style) for style in set(styles)}
        return torch.stack([queries[style] @ vector for style, vector in zip(styles, seen, strict=True)])

    @torch.no_grad()
    def queries(self, style: str) -> torch.Tensor:
        """The mean vector of every subject's wordings in a style, (names, D)."""
        wordings = [query.format(name, style) for name in self.names for query in QUERIES]
        vectors = self.encoder.encode_words(tokenize(self.tokenizer, wordings).to(self.device))
        return vectors.unflatten(0, (len(self.names), len(QUERIES))).mean(1)


def rank_real_pictures(
    ranks: SubjectRanks, bank: PictureBank, painted_styles: Collection[str]
) -> dict[str, float]:
    """How often the right one of all subjects is among the likeliest `TOP` of real pictures.

    Of held-out pictures, by their captions; and of pictures that the dual encoder learnt from, in the
    `painted_styles` and as 3D renders: the mean of all subjects, as of what a model paints, where those that
    no picture shows count as never right. It is beside these that a model's own figures are to be read.
    """
    rows, real = held_out(bank)
    shown = [
        (image, subject, row.style)
        for (_, row), image in zip(rows, real, strict=True)
        for subject in ranks.names
        if any(re.search(rf"\b{subject}\b", caption) for caption in row.captions)
    ]
    return {
        "real held-out, in top 5": _share_in_top(ranks, shown) if shown else float("nan"),
        "real held-out, pictures and subjects": len(shown),
        **_rank_learnt(ranks, bank, painted_styles, "painting"),
        **_rank_learnt(ranks, bank, (RENDERED,), "3d render"),
    }


def _rank_learnt(
    ranks: SubjectRanks, bank: PictureBank, styles: Collection[str], called: str
) -> dict[str, float]:
    learnt = [
        (bank.pixels[shape][index], row)
        for shape, rows in bank.rows.items()
        for index, row in enumerate(rows)
        if row.style in styles and not row.validation
    ]
    of_each = [
        [(image, name, row.style) for image, row in learnt if name in row.words] for name in ranks.names
    ]
    known = [_share_in_top(ranks, some[:: -(-len(some) // _PICTURES)]) for some in of_each if some]
    return {
        f"{called}s learnt from, in top 5": sum(known) / len(ranks.names),
        f"subjects that are in no {called} learnt from": len(ranks.names) - len(known),
    }


def _share_in_top(ranks: SubjectRanks, shown: Sequence[tuple[torch.Tensor, str, str]]) -> float:
    pictures, subjects, styles = zip(*shown, strict=True)
    return float((ranks.ranks(pictures, subjects, styles) < TOP).float().mean())
