"""Prompts as a network reads them, and their mixing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_MEAN_ROUNDS = 12

Mean = Callable[[Sequence[Tensor], Sequence[float | Tensor]], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Conditioning:
    """Encoded prompts: `embeds` (n, tokens, dim), float32, one vector for each token.

    `pooled` (n, dim) is one vector for each whole prompt, which networks of SDXL's kind read beside them;
    None for those that do not.
    """

    embeds: Tensor
    pooled: Tensor | None = None

    def split(self) -> list[Conditioning]:
        """Take the prompts apart, one row each."""
        return [self.take([row]) for row in range(len(self.embeds))]

    def take(self, rows: Sequence[int]) -> Conditioning:
        """Take rows by their numbers, as often as they are named."""
        return self._each(lambda tensor: tensor[list(rows)])

    def expand(self, count: int) -> Conditioning:
        """Repeat the one row there is, without memory of its own."""
        return self._each(lambda tensor: tensor.expand(count, *tensor.shape[1:]))

    def zeros(self) -> Conditioning:
        """Return as many rows that say nothing at all."""
        return self._each(torch.zeros_like)

    def equals(self, other: Conditioning) -> bool:
        """Tell whether every number is the same."""
        if self.pooled is None or other.pooled is None:
            return self.pooled is other.pooled and torch.equal(self.embeds, other.embeds)
        return torch.equal(self.embeds, other.embeds) and torch.equal(self.pooled, other.pooled)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        return Conditioning(change(self.embeds), None if self.pooled is None else change(self.pooled))


def concatenate(prompts: Sequence[Conditioning]) -> Conditioning:
    """Put the rows of several below each other."""
    return _joined(prompts, torch.cat)


def mixed(
    prompts: Sequence[Conditioning], shares: Sequence[float] | Sequence[Tensor], mean: Mean
) -> Conditioning:
    """Mix prompts in shares that sum to one, by the weighted or the spherical mean: what is pooled too.

    One prompt, named again and again, stays what it is, to the last bit.
    """
    if all(prompt is prompts[0] for prompt in prompts):
        return prompts[0]
    return _joined(prompts, lambda tensors: mean(tensors, list(shares)))


def weighted_mean(embeds: Sequence[Tensor], shares: Sequence[float | Tensor]) -> Tensor:
    """Mix embeddings along straight lines."""
    parts = (share * embedding for share, embedding in zip(shares, embeds, strict=True))
    return sum(parts, torch.zeros_like(embeds[0]))


def spherical_mean(embeds: Sequence[Tensor], shares: Sequence[float | Tensor]) -> Tensor:
    """Mix embeddings (1, ..., dim) along the sphere, vector by vector; shares sum to one.

    The weighted mean on the sphere of Buss and Fillmore 2001 (algorithm A1), which for two vectors is the
    spherical interpolation of Shoemake 1985. Lengths are mixed as they are.
    """
    points = torch.cat(list(embeds)).double()
    weights = points.new_tensor(list(shares)).view(-1, *[1] * (points.ndim - 1))
    lengths = points.norm(dim=-1, keepdim=True)
    units = points / lengths.clamp(min=1e-12)
    mean = functional.normalize((weights * units).sum(0, keepdim=True), dim=-1)
    for _ in range(_MEAN_ROUNDS):
        cosines = (units * mean).sum(-1, keepdim=True).clamp(-1, 1)
        across = units - cosines * mean
        towards = functional.normalize(across, dim=-1) * torch.atan2(
            across.norm(dim=-1, keepdim=True), cosines
        )
        step = (weights * towards).sum(0, keepdim=True)
        angle = step.norm(dim=-1, keepdim=True)
        mean = angle.cos() * mean + angle.sin() * functional.normalize(step, dim=-1)
        mean = functional.normalize(mean, dim=-1)
    return (mean * (weights * lengths).sum(0, keepdim=True)).float()


def _joined(prompts: Sequence[Conditioning], join: Callable[[list[Tensor]], Tensor]) -> Conditioning:
    pooled = [prompt.pooled for prompt in prompts if prompt.pooled is not None]
    return Conditioning(join([prompt.embeds for prompt in prompts]), join(pooled) if pooled else None)
