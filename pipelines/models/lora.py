"""Low-rank updates of a U-Net's weights, and their merging."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from pipelines.models.lora_files import LoraHeader
from pipelines.models.lora_names import Shape
from pipelines.recipe import BadInput


@dataclass(frozen=True, slots=True)
class Update:
    """A layer's update: scale B·A (Hu et al. 2022, equation 3), with A (r, in, …) as `down`, B as `up`."""

    down: Tensor
    up: Tensor
    scale: float

    def change(self, weight: Tensor) -> Tensor:
        """Return what is added to a weight, in its shape and on its device; float32."""
        up, down = (matrix.to(weight.device).flatten(1) for matrix in (self.up, self.down))
        return (self.scale * (up @ down)).view_as(weight)


Updates = Mapping[str, Update]


def read_updates(file: Path, layers: Mapping[str, Shape]) -> Updates:
    """Read a LoRA's updates, by the layer of the U-Net that they change.

    Raises:
        BadInput: the file is damaged or does not fit.
        OSError: it cannot be read.
    """
    try:
        header = LoraHeader.read(file)
        names = header.names(layers).layers
    except BadInput as error:
        raise BadInput(f"{file.name} {error}", "mix") from None
    updates: dict[str, Update] = {}
    opened: Any = safe_open(file, framework="pt")
    with opened as tensors:
        for layer, named in names.items():
            down, up = (tensors.get_tensor(name).float() for name in (named.down, named.up))
            rank = len(down)
            scale = (
                float(tensors.get_tensor(named.alpha)) / rank if named.alpha else header.scale(layer, rank)
            )
            updates[layer] = Update(down, up, scale)
    return updates


@torch.no_grad()
def merge_updates(unet: nn.Module, files: Sequence[Path], parts: Sequence[tuple[Updates, float]]) -> None:
    """Give the layers of a U-Net that some updates change weights of their own, with all of them added.

    The sums are made in float32 from the weights as they lie in the U-Net's `files`, and rounded once to the
    precision it runs in: what is merged is as exact as if the model had been saved so.

    Args:
        unet: may share its weights with others, which keep theirs.
        files: the safetensors files of its model.
        parts: each LoRA's updates, and how much of it.
    """
    changed = {layer for updates, _ in parts for layer in updates}
    for file in files:
        opened: Any = safe_open(file, framework="pt")
        with opened as tensors:
            here: list[str] = tensors.keys()
            for layer in sorted(changed & {name.removesuffix(".weight") for name in here}):
                module = unet.get_submodule(layer)
                old = module.weight
                assert isinstance(old, Tensor)
                weight = tensors.get_tensor(f"{layer}.weight").to(old.device, torch.float32, copy=True)
                for updates, amount in parts:
                    if layer in updates:
                        weight += amount * updates[layer].change(weight)
                merged = torch.empty_like(old)  # of the same precision, in the same order in memory
                module.weight = nn.Parameter(merged.copy_(weight), requires_grad=False)
