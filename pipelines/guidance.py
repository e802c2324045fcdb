"""Guidance: which conditionings a step asks the network about, and how the answers become one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from pipelines.denoising import Rows


@dataclass(frozen=True, slots=True)
class Guidance:
    """Classifier-free guidance (Ho and Salimans 2022).

    `prompt_embeds` and `negative_prompt_embeds` are (1, tokens, dim). As in diffusers a `scale` of 1 or less
    means no guidance: the negative prompt then costs no row.
    """

    prompt_embeds: Tensor
    negative_prompt_embeds: Tensor
    scale: float

    def rows(self, latents: Tensor, timestep: Tensor) -> Rows:
        """Ask for x_t under the negative and the positive prompt, or the positive alone without guidance."""
        from pipelines.denoising import Rows

        if self.scale <= 1:
            return Rows(latents, timestep.reshape(1), self.prompt_embeds)
        return Rows(
            torch.cat([latents] * 2),
            timestep.expand(2),
            torch.cat([self.negative_prompt_embeds, self.prompt_embeds]),
        )

    def combine(self, predictions: Tensor) -> tuple[Tensor, Tensor]:
        """Return unconditional + scale (conditional - unconditional), and the difference: the direction.

        The direction is (1, C, h, w), or a scalar zero without guidance.
        """
        if self.scale <= 1:
            return predictions, predictions.new_zeros(())
        unconditional, conditional = predictions.chunk(2)
        direction = conditional - unconditional
        return unconditional + self.scale * direction, direction
