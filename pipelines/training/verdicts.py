"""What critics say of pictures, as a loss that pixels can be changed by.

The critics are those of `ranking`: a judge of style and genre, a dual encoder and a rule for colours. There
they choose among finished pictures; here each opinion is differentiable.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pipelines.training.evaluation.judge import doubts, labels_of
from pipelines.training.evaluation.network import glance
from pipelines.training.evaluation.palette import WORDS, missing_colours
from pipelines.training.evaluation.subjects import SubjectRanks
from pipelines.training.ranking import Critics, Wish


@dataclass(frozen=True)
class Weights:
    """How much each opinion counts.

    The gradient of what a network says of subjects, seeing through an ImageNet classifier, is six times as
    long by the latents as a judge's of style: weighed alike it drowns that (measured). With these weights
    style and subject pull as hard, genre nearly as hard, palette nearly half. `sure_enough` caps a
    log-probability, so that no picture is bent to please a critic beyond reason.

    A subject is told from so many random `rivals`: among all words it would have to be told from its like
    too, a cliff from rocks and a shore. `likeness` is what likeness counts for there, less than the dual
    encoder learns, since the balance above was measured with it: of 50 subjects held-out pictures have a
    cross entropy of 2.45 nats with it, 2.34 with a learnt 19 (a trial on a CPU; 3.9 by chance). `grain` is
    what finer detail than life counts.
    """

    style: float = 6.0
    genre: float = 6.0
    subject: float = 1.0
    palette: float = 4.0
    sure_enough: float = -0.3
    rivals: int = 64
    likeness: float = 9.0
    grain: float = 4.0


@dataclass(frozen=True)
class Aim:
    """What critics insist on, and the share of wishes that are for a single word."""

    weights: Weights
    word_share: float


AIMS = {
    # Subjects fall the shortest of their bar, and colours have the most to spare.
    "both": Aim(Weights(genre=4.0, subject=1.5, palette=3.0), 0.7),
    "styles": Aim(Weights(subject=0.3), 0.25),
    "subjects": Aim(Weights(style=3.0, genre=2.0, palette=2.0), 0.8),
}
"""What a U-Net can be tuned for. What is tuned for one aim each can be mixed later (Ramé et al., 2023)."""


@dataclass(frozen=True)
class Asked:
    """What N wishes ask for, as the critics read it.

    `styles` and `genres` (N,) are a judge's labels; `colours` (N, 16) and `words` (N, V) are 1 for those that
    a caption names. `subjects` (styles, V, D) are a dual encoder's vectors of every word in every style, the
    same for all wishes.
    """

    styles: torch.Tensor
    genres: torch.Tensor
    colours: torch.Tensor
    words: torch.Tensor
    subjects: torch.Tensor

    def take(self, rows: torch.Tensor) -> Asked:
        """Those of some rows, (B,)."""
        return Asked(
            self.styles[rows], self.genres[rows], self.colours[rows], self.words[rows], self.subjects
        )


@torch.no_grad()
def ask_critics(critics: Critics, words: Sequence[str], wishes: Sequence[Wish]) -> Asked:
    """Read wishes for these critics; `words` are the subjects that are told apart."""
    device, judge = critics.device, critics.judge
    styles, genres = ([getattr(wish.facts, name) for wish in wishes] for name in ("style", "genre"))
    told = [set(re.findall("[a-z]+", wish.caption)) for wish in wishes]

    def named(known: Sequence[str]) -> torch.Tensor:
        return torch.tensor([[float(word in one) for word in known] for one in told], device=device)

    ranks = SubjectRanks(critics.encoder, critics.tokenizer, words, device)
    return Asked(
        labels_of(judge.styles, styles).to(device),
        labels_of(judge.genres, genres).to(device),
        named(tuple(WORDS)),
        named(words),
        torch.stack([ranks.queries(style) for style in judge.styles]),
    )


def freeze(critics: Critics) -> None:
    """Let no critic be taught by the pictures it is shown."""
    critics.judge.requires_grad_(False)
    critics.encoder.requires_grad_(False)


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
    return {
        "style": weights.style * style,
        "genre": weights.genre * genre,
        "subject": weights.subject * _unseen(vectors, asked, weights, generator),
        "palette": weights.palette * missing_colours(pixels, asked.colours),
    }


def _unseen(
    pictures: torch.Tensor, asked: Asked, weights: Weights, generator: torch.Generator
) -> torch.Tensor:
    """Cross entropy of pictures (B, D) with the words told of them, among some words in their style.

    A mean over the pictures of which a word was told.
    """
    told = asked.words / asked.words.sum(1, keepdim=True).clamp_min(1)
    subjects = asked.subjects[asked.styles.clamp_min(0)]
    likeness = weights.likeness * (subjects @ pictures[:, :, None])[:, :, 0]
    drawn = torch.rand(likeness.shape[1], device=likeness.device, generator=generator)
    rival = drawn.argsort().argsort() < weights.rivals
    sure = likeness.masked_fill(~rival & (asked.words == 0), -math.inf).log_softmax(1)
    sure = sure.clamp(max=weights.sure_enough).where(asked.words > 0, 0.0)
    return -(sure * told).sum() / told.sum().clamp_min(1)
