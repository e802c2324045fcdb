"""Shared attention: rows of a call whose self-attention also looks at another row, a reference picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_EPSILON = 1e-5


@dataclass(frozen=True, slots=True)
class Shared:
    """Which rows of one call share attention: `listeners` with each of `references`, by their numbers.

    `strengths` has, for each reference, how far a listener goes from its own attention to the shared one.
    """

    listeners: tuple[int, ...]
    references: tuple[int, ...]
    strengths: tuple[float, ...]

    def behind(self, rows: int) -> Shared:
        """Say the same of a call in which so many other rows come first."""
        return Shared(
            tuple(row + rows for row in self.listeners),
            tuple(row + rows for row in self.references),
            self.strengths,
        )


class SharedAttention:
    """Takes the place of a self-attention's processor (Hertz et al. 2024, "Style Aligned Image Generation").

    Every row attends to itself, as ever. A listener's answer is then moved towards the one it gives when its
    queries and keys have the reference's mean and deviation (AdaIN) and the reference's keys and values lie
    beside its own (equation 5). Rows that are named nowhere come out as if there were no others.
    """

    def __init__(self) -> None:
        """Begin with nothing shared; `shared` is set before each call of the network."""
        self.shared: tuple[Shared, ...] = ()

    def __call__(self, attention: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        """Attend: (n, places, channels) to the same shape, as the processor of a plain U-Net block does."""
        heads: int = attention.heads
        query, key, value = (
            project(hidden_states).unflatten(-1, (heads, -1)).transpose(1, 2)
            for project in (attention.to_q, attention.to_k, attention.to_v)
        )
        attended = functional.scaled_dot_product_attention(query, key, value)
        for shared in self.shared:
            rows = list(shared.listeners)
            own = attended[rows]
            whole = max(1.0, sum(shared.strengths))
            moved = torch.zeros_like(own)
            for reference, strength in zip(shared.references, shared.strengths, strict=True):
                its_query, its_key, its_value = (part[[reference]] for part in (query, key, value))
                together = functional.scaled_dot_product_attention(
                    _as_varied(query[rows], its_query),
                    torch.cat([_as_varied(key[rows], its_key), its_key.expand_as(key[rows])], 2),
                    torch.cat([value[rows], its_value.expand_as(value[rows])], 2),
                )
                moved = moved + strength / whole * (together - own)
            attended = attended.index_copy(0, torch.tensor(rows, device=own.device), own + moved)
        return attention.to_out[0](attended.transpose(1, 2).flatten(2))


def share_attention(unet: Any) -> SharedAttention:
    """Let a U-Net's self-attention listen; one processor serves all of its layers."""
    processor = SharedAttention()
    for name, module in unet.named_modules():
        if name.endswith("attn1"):
            module.set_processor(processor)
    return processor


def _as_varied(own: Tensor, reference: Tensor) -> Tensor:
    """Give (n, heads, places, d) the mean and deviation over places of a reference (1, heads, places, d)."""
    mean, deviation = own.mean(2, keepdim=True), own.std(2, keepdim=True) + _EPSILON
    its_mean, its_deviation = reference.mean(2, keepdim=True), reference.std(2, keepdim=True) + _EPSILON
    return (own - mean) / deviation * its_deviation + its_mean
