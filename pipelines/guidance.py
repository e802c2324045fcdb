"""Guidance: which conditionings a step asks the network about, and how the answers become one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pipelines.conditioning import Conditioning, concatenate, mixed, weighted_mean

if TYPE_CHECKING:
    from pipelines.denoising import Rows


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance (Ho and Salimans 2022).

    `prompt` and `negative_prompt` are one row each. As in diffusers a `scale` of 1 or less means no guidance:
    the negative prompt then costs no row.
    """

    prompt: Conditioning
    negative_prompt: Conditioning
    scale: float

    @property
    def is_guided(self) -> bool:
        """Whether the first row is unconditional."""
        return self.scale > 1

    def rows(self, latents: Tensor, timestep: Tensor) -> Rows:
        """Ask for x_t under the negative and the positive prompt, or the positive alone without guidance."""
        if self.scale <= 1:
            return _rows(latents, timestep, self.prompt)
        return _rows(latents, timestep, self._both)

    @cached_property
    def _both(self) -> Conditioning:
        """What both rows read; every step asks with the same."""
        return concatenate([self.negative_prompt, self.prompt])

    @property
    def voices(self) -> tuple[Voice, ...]:
        """The one conditioning there is."""
        return (Voice("", self.prompt, self.negative_prompt, self.prompt.embeds.new_ones(())),)

    def at(self, progress: float) -> Guidance:
        """Return the guidance of a moment of the run, from 0 to 1: this one is always the same."""
        del progress
        return self

    def combine(self, predictions: Tensor) -> tuple[Tensor, Tensor]:
        """Return unconditional + scale (conditional - unconditional), and the difference: the direction.

        The direction is (1, C, h, w), or a scalar zero without guidance.
        """
        if self.scale <= 1:
            return predictions, predictions.new_zeros(())
        unconditional, conditional = predictions.chunk(2)
        direction = conditional - unconditional
        return unconditional + self.scale * direction, direction

    def contributions(self, predictions: Tensor) -> dict[str, Tensor]:
        """Tell how hard each style pulls: nothing, where there is one conditioning only."""
        del predictions
        return {}


@dataclass(frozen=True, slots=True)
class Voice:
    """One conditioning of a composition, and how much it has to say.

    `share` is a scalar or a map (1, 1, h, w); the prompts are one row each.
    """

    name: str
    prompt: Conditioning
    negative_prompt: Conditioning
    share: Tensor


@dataclass(frozen=True)
class Composition:
    """Composed predictions: one row for each voice and one unconditional (Liu et al. 2022, equation 11).

    epsilon = u + scale sum_i share_i (c_i - u), with the negative prompts of all voices averaged into one
    row u. Without guidance (a `scale` of 1 or less) and with shares that sum to one, u costs no row.
    """

    voices: tuple[Voice, ...]
    scale: float

    @property
    def is_guided(self) -> bool:
        """Whether the first row is unconditional."""
        return not self._is_convex

    @cached_property
    def _is_convex(self) -> bool:
        return self.scale <= 1 and all(bool((voice.share >= 0).all()) for voice in self.voices)

    def rows(self, latents: Tensor, timestep: Tensor) -> Rows:
        """Ask for x_t under the negative prompt, where it is needed, and under each voice's own."""
        return _rows(latents, timestep, self._read)

    @cached_property
    def _read(self) -> Conditioning:
        """What the rows read."""
        prompts = [voice.prompt for voice in self.voices]
        if not self._is_convex:
            prompts.insert(0, self._negative_prompt())
        return concatenate(prompts)

    def combine(self, predictions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the composed prediction, and the direction it was taken in (a zero scalar without one)."""
        if self._is_convex:
            return self._weighted(predictions), predictions.new_zeros(())
        unconditional, conditional = predictions[:1], predictions[1:]
        direction = self._weighted(conditional - unconditional)
        return unconditional + max(self.scale, 1.0) * direction, direction

    def contributions(self, predictions: Tensor) -> dict[str, Tensor]:
        """Tell how hard each voice pulls, place by place: the RMS over channels of its part, (1, 1, h, w)."""
        middle = self._weighted(predictions) if self._is_convex else predictions[:1]
        own = predictions if self._is_convex else predictions[1:]
        pulls = zip(self.voices, own.split(1), strict=True)
        return {
            voice.name: (voice.share * (prediction - middle)).square().mean(1, keepdim=True).sqrt()
            for voice, prediction in pulls
        }

    def _weighted(self, rows: Tensor) -> Tensor:
        parts = (voice.share * row for voice, row in zip(self.voices, rows.split(1), strict=True))
        return sum(parts, torch.zeros_like(rows[:1]))

    def _negative_prompt(self) -> Conditioning:
        amounts = torch.stack([voice.share.abs().mean() for voice in self.voices])
        shares = (amounts / amounts.sum()).unbind()
        return mixed([voice.negative_prompt for voice in self.voices], shares, weighted_mean)


def _rows(latents: Tensor, timestep: Tensor, read: Conditioning) -> Rows:
    """Ask for x_t (1, C, h, w) under each of the prompts that are read."""
    from pipelines.denoising import Rows

    count = len(read.embeds)
    return Rows(torch.cat([latents] * count), timestep.expand(count), read.embeds, pooled_embeds=read.pooled)
