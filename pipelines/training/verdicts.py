"""What critics say of pictures, as a loss that pixels can be changed by.

The critics are those of `ranking`: a judge of style and genre, a dual encoder, a seer and a rule for colours.
There they choose among finished pictures; here each opinion is differentiable.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pipelines.training.evaluation.dual_encoder import SubjectRanks
from pipelines.training.evaluation.judge import doubts, labels_of
from pipelines.training.evaluation.network import glance
from pipelines.training.evaluation.palette import WORDS, missing_colours
from pipelines.training.latent_bank import tokenize
from pipelines.training.ranking import Critics, Wish
from pipelines.training.seeing import classify


@dataclass(frozen=True)
class Weights:
    """How much each opinion counts, and where more of it counts for nothing.

    `kind` is a seer's opinion of the style, and of the genre as much again. `sure_enough` caps a judge's
    log-probability and `seen_most` a seer's surprise, so that no picture is bent to please them beyond
    reason.
    """

    style: float = 1.5
    genre: float = 2.0
    likeness: float = 0.3
    subject: float = 0.7
    seen: float = 0.5
    kind: float = 0.7
    palette: float = 0.7
    sure_enough: float = -0.3
    seen_most: float = 4.0


@dataclass(frozen=True)
class Asked:
    """What N wishes ask for, as the critics read it.

    `styles` and `genres` (N,) are a judge's labels; `colours` (N, 16) and `words` (N, V) are 1 for those that
    a caption names, `kinds` (N, 2, V) for the style and for the genre as a seer's word; `captions` (N, D) are
    a dual encoder's vectors, and `subjects` (styles, V, D) its vectors of every word in every style, the same
    for all wishes.
    """

    styles: torch.Tensor
    genres: torch.Tensor
    colours: torch.Tensor
    words: torch.Tensor
    kinds: torch.Tensor
    captions: torch.Tensor
    subjects: torch.Tensor

    def take(self, rows: torch.Tensor) -> Asked:
        """Those of some rows, (B,)."""
        return Asked(
            self.styles[rows],
            self.genres[rows],
            self.colours[rows],
            self.words[rows],
            self.kinds[rows],
            self.captions[rows],
            self.subjects,
        )


@torch.no_grad()
def ask_critics(critics: Critics, wishes: Sequence[Wish]) -> Asked:
    """Read wishes for these critics."""
    device, judge = critics.device, critics.judge
    styles, genres = ([getattr(wish.facts, name) for wish in wishes] for name in ("style", "genre"))
    told = [set(re.findall(r"[a-z'-]+", wish.caption)) for wish in wishes]
    words = [one - set(kinds) for one, *kinds in zip(told, styles, genres, strict=True)]

    def named(said: Sequence[set[str]], known: Sequence[str]) -> torch.Tensor:
        index = {word: number for number, word in enumerate(known)}
        rows = torch.zeros(len(said), len(known))
        for row, one in zip(rows, said, strict=True):
            row[[index[word] for word in one if word in index]] = 1
        return rows.to(device)

    ids = tokenize(critics.tokenizer, [wish.caption for wish in wishes]).to(device)
    ranks = SubjectRanks(critics.encoder, critics.tokenizer, critics.seer.words, device)
    return Asked(
        labels_of(judge.styles, styles).to(device),
        labels_of(judge.genres, genres).to(device),
        named(told, tuple(WORDS)),
        named(words, critics.seer.words),
        torch.stack([named([{one} for one in kind], critics.seer.words) for kind in (styles, genres)], dim=1),
        torch.cat([critics.encoder.encode_words(part) for part in ids.split(1024)]),
        torch.stack([ranks.queries(style) for style in judge.styles]),
    )


def freeze(critics: Critics) -> None:
    """Let no critic be taught by the pictures it is shown."""
    for network in (critics.judge, critics.encoder, critics.seer.probe):
        network.requires_grad_(False)


def displeasure(
    critics: Critics, pixels: torch.Tensor, asked: Asked, weights: Weights, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """What the critics miss in pixels (B, 3, H, W) in [-1, 1], opinion by opinion: scalars, weighted.

    The judge and the dual encoder look at a random crop, varied as in their training.
    """
    view = glance(pixels, generator)
    style, genre = doubts(critics.judge, view, asked.styles, asked.genres, weights.sure_enough)
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=pixels.is_cuda):
        vectors = critics.encoder(view).float()
        answers = classify(critics.seer.classifier, pixels).float()
    probe = critics.seer.probe
    surprise = (probe(answers) - probe.get_buffer("prior")).clamp(max=weights.seen_most)
    words = asked.words / asked.words.sum(1, keepdim=True).clamp_min(1)
    # Genres are asked for less often than styles: each is a mean over the pictures that were to have one.
    kinds = asked.kinds / asked.kinds.sum((0, 2), keepdim=True).clamp_min(1)
    vectors = critics.encoder.log_scale.exp() * vectors
    return {
        "style": weights.style * style,
        "genre": weights.genre * genre,
        "likeness": weights.likeness * _unlikeness(vectors, asked.captions),
        "subject": weights.subject * _unseen(vectors, asked, words, weights.sure_enough),
        "seen": -weights.seen * (surprise * words).sum(1).mean(),
        "kind": -weights.kind * (surprise[:, None] * kinds).sum(),
        "palette": weights.palette * missing_colours(pixels, asked.colours),
    }


def _unseen(pictures: torch.Tensor, asked: Asked, told: torch.Tensor, sure_enough: float) -> torch.Tensor:
    """Cross entropy of pictures (B, D) with the words that are told (B, V), among all in their style."""
    subjects = asked.subjects[asked.styles.clamp_min(0)]
    sure = (subjects @ pictures[:, :, None])[:, :, 0].log_softmax(1).clamp(max=sure_enough)
    return -(sure * told).sum() / told.sum().clamp_min(1)


def _unlikeness(pictures: torch.Tensor, captions: torch.Tensor) -> torch.Tensor:
    """Contrastive cross entropy from pictures to captions, both (B, D); equal captions all count as right."""
    same = (captions[:, None] - captions[None]).abs().amax(2) < 1e-4
    logits = pictures @ captions.T
    own = logits.masked_fill(~same, -torch.inf).logsumexp(1)
    return (logits.logsumexp(1) - own).mean()
