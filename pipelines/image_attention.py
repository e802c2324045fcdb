"""Decoupled cross-attention: rows of a call that read pictures beside their prompt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Projected = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class ImagePrompt:
    """A picture as each cross-attention layer of a network reads it: `keys_values`, by the layer's name.

    Both are (2, tokens, channels), of no picture, as the unconditional row reads it, and of this one; without
    guidance (1, tokens, channels).
    """

    keys_values: dict[str, Projected]

    def of(self, layer: str, rows: int, *, is_guided: bool) -> Projected:
        """Return what so many rows read in a layer, of which the first is unconditional under guidance."""
        key, value = (
            torch.cat([both[:1], both[-1:].expand(rows - 1, -1, -1)])
            if is_guided
            else both[-1:].expand(rows, -1, -1)
            for both in self.keys_values[layer]
        )
        return key, value


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture that `rows` rows of one call read, from `first` on, and how much it has to say."""

    picture: ImagePrompt
    strength: float
    rows: int
    is_guided: bool
    first: int = 0

    def behind(self, rows: int) -> Shown:
        """Say the same of a call in which so many other rows come first."""
        return replace(self, first=self.first + rows)


@dataclass(slots=True)
class SeenPictures:
    """What the layers of a network are to look at; set before each call of it."""

    shown: tuple[Shown, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageAttention:
    """Takes the place of a cross-attention's processor (Ye et al. 2023, "IP-Adapter", equation 5).

    To what a row reads in its prompt it adds, for each picture, the attention of the same queries to the
    picture's own keys and values, times its strength. diffusers' `IPAdapterAttnProcessor2_0` computes the
    same, but has one strength for all rows and projects the pictures anew in every call.
    """

    layer: str
    usual: Any
    seen: SeenPictures

    def __call__(
        self, attention: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, *rest: Any, **options: Any
    ) -> Tensor:
        """Attend: (n, places, channels) and (n, tokens, dim) to the shape of the first."""
        if not self.seen.shown:
            return self.usual(attention, hidden_states, encoder_hidden_states, *rest, **options)
        query = attention.to_q(hidden_states)
        key, value = attention.to_k(encoder_hidden_states), attention.to_v(encoder_hidden_states)
        attended = _attend(query, key, value, attention.heads)
        for shown in self.seen.shown:
            rows = slice(shown.first, shown.first + shown.rows)
            key, value = shown.picture.of(self.layer, shown.rows, is_guided=shown.is_guided)
            attended[rows] += shown.strength * _attend(query[rows], key, value, attention.heads)
        return attention.to_out[0](attended)


def show_pictures(unet: Any) -> SeenPictures:
    """Let a U-Net's cross-attention read pictures too; the layers are told together which."""
    seen = SeenPictures()
    for name, module in unet.named_modules():
        if name.endswith("attn2"):
            module.set_processor(ImageAttention(name, module.processor, seen))
    return seen


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key, value))
    return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
