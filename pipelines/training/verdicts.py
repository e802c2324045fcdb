"""What critics say of pictures, as a loss that pixels can be changed by.

The critics are those of `ranking`: a judge of style and genre, a dual encoder, a seer and a rule for colours.
There they choose among finished pictures; here each opinion is differentiable.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from pipelines.training.evaluation.dual_encoder import SubjectRanks
from pipelines.training.evaluation.network import CROP_PX, vary
from pipelines.training.evaluation.palette import WORDS, missing_colours
from pipelines.training.latent_bank import tokenize
from pipelines.training.ranking import Critics, Wish
from pipelines.training.seeing import classify

_NOT_ASKED = -1


@dataclass(frozen=True)
class Weights:
    """How much each opinion counts, and where more of it counts for nothing.

    `sure_enough` caps a judge's log-probability and `seen_most` a seer's surprise, so that no picture is bent
    to please them beyond reason.
    """

    style: float = 1.0
    genre: float = 1.0
    likeness: float = 0.3
    subject: float = 0.5
    seen: float = 0.3
    palette: float = 1.0
    sure_enough: float = -0.3
    seen_most: float = 4.0


@dataclass(frozen=True)
class Asked:
    """What N wishes ask for, as the critics read it.

    `styles` and `genres` (N,) are a judge's labels, -1 for none; `colours` (N, 16) and `words` (N, V) are 1
    for those that a caption names; `captions` (N, D) are a dual encoder's vectors, and `subjects`
    (styles, V, D) its vectors of every word in every style, the same for all wishes.
    """

    styles: torch.Tensor
    genres: torch.Tensor
    colours: torch.Tensor
    words: torch.Tensor
    captions: torch.Tensor
    subjects: torch.Tensor

    def take(self, rows: torch.Tensor) -> Asked:
        """Those of some rows, (B,)."""
        return Asked(
            self.styles[rows],
            self.genres[rows],
            self.colours[rows],
            self.words[rows],
            self.captions[rows],
            self.subjects,
        )


@torch.no_grad()
def ask_critics(critics: Critics, wishes: Sequence[Wish]) -> Asked:
    """Read wishes for these critics."""
    device, judge = critics.device, critics.judge
    told = [set(re.findall(r"[a-z'-]+", wish.caption)) for wish in wishes]

    def labels(names: Sequence[str], known: Sequence[str]) -> torch.Tensor:
        return torch.tensor([known.index(name) if name in known else _NOT_ASKED for name in names])

    def named(known: Sequence[str]) -> torch.Tensor:
        return torch.tensor([[float(word in words) for word in known] for words in told])

    ids = tokenize(critics.tokenizer, [wish.caption for wish in wishes]).to(device)
    ranks = SubjectRanks(critics.encoder, critics.tokenizer, critics.seer.words, device)
    return Asked(
        labels([wish.facts.style for wish in wishes], judge.styles).to(device),
        labels([wish.facts.genre for wish in wishes], judge.genres).to(device),
        named(tuple(WORDS)).to(device),
        named(critics.seer.words).to(device),
        torch.cat([critics.encoder.encode_words(part) for part in ids.split(1024)]),
        torch.stack([ranks.queries(style) for style in judge.styles]),
    )


def freeze(critics: Critics) -> None:
    """Let no critic be taught by the pictures it is shown."""
    networks = (critics.judge, critics.encoder, critics.seer.probe, critics.seer.classifier)
    for network in networks:
        assert isinstance(network, nn.Module)
        network.requires_grad_(False)


def displeasure(
    critics: Critics, pixels: torch.Tensor, asked: Asked, weights: Weights, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """What the critics miss in pixels (B, 3, H, W) in [-1, 1], opinion by opinion: scalars, weighted.

    The judge and the dual encoder look at a random crop, varied as in their training.
    """
    judge, encoder = critics.judge, critics.encoder
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=pixels.is_cuda):
        view = vary(_crop(pixels, generator), generator)
        seen, vectors = judge(view).float(), encoder(view).float()
        answers = classify(critics.seer.classifier, pixels)
    _, style, genre = seen.split([judge.features.out_features, len(judge.styles), len(judge.genres)], dim=1)
    probe = critics.seer.probe
    surprise = (probe(answers.float()) - probe.get_buffer("prior")).clamp(max=weights.seen_most)
    told = asked.words / asked.words.sum(1, keepdim=True).clamp_min(1)
    scale = encoder.log_scale.exp()
    return {
        "style": weights.style * _doubt(style, asked.styles, weights.sure_enough),
        "genre": weights.genre * _doubt(genre, asked.genres, weights.sure_enough),
        "likeness": weights.likeness * _unlikeness(scale * vectors, asked.captions),
        "subject": weights.subject * _unseen(scale * vectors, asked, told, weights.sure_enough),
        "seen": -weights.seen * (surprise * told).sum(1).mean(),
        "palette": weights.palette * missing_colours(pixels, asked.colours),
    }


def _crop(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A random square of pixels, the same of the whole batch."""
    height, width = pixels.shape[2:]
    side = min(CROP_PX, height, width)

    def draw(end: int) -> int:
        return int(torch.randint(end, (), generator=generator, device=generator.device))

    top, left = draw(height - side + 1), draw(width - side + 1)
    return pixels[:, :, top : top + side, left : left + side]


def _doubt(logits: torch.Tensor, labels: torch.Tensor, sure_enough: float) -> torch.Tensor:
    """Cross entropy of logits (B, K) with the labels that are asked for, no less than `-sure_enough` each."""
    known = labels != _NOT_ASKED
    sure = logits.log_softmax(1).gather(1, labels.clamp_min(0)[:, None])[:, 0]
    return -(sure.clamp(max=sure_enough) * known).sum() / known.sum().clamp_min(1)


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
