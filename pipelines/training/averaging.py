"""An exponential moving average of a model's weights, kept as a model of its own."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class AveragedModel:
    """A copy of a model whose weights follow the original's slowly (the weights that are shipped).

    The decay is ramped, min(decay, (1 + n) / (10 + n)), so that the first random weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Copy `model` as it is now."""
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self._source = model
        self._updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take one step towards the original's present weights; buffers are copied."""
        self._updates += 1
        decay = min(self.decay, (1 + self._updates) / (10 + self._updates))
        averaged: list[torch.Tensor] = [parameter.data for parameter in self.model.parameters()]
        source: list[torch.Tensor] = [parameter.data for parameter in self._source.parameters()]
        get_ema_multi_avg_fn(decay)(averaged, source, self._updates)
        for mine, theirs in zip(self.model.buffers(), self._source.buffers(), strict=True):
            mine.copy_(theirs)

    def state_dict(self) -> dict[str, object]:
        """The averaged weights and how many updates made them."""
        return {"model": self.model.state_dict(), "updates": self._updates}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Take up `state_dict`'s weights and count."""
        self.model.load_state_dict(state["model"])  # pyright: ignore[reportArgumentType]
        self._updates = int(str(state["updates"]))
