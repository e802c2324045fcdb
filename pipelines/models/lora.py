"""Low-rank updates of a network's weights, and their merging."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

_A, _B = ".lora_A.weight", ".lora_B.weight"


@torch.no_grad()
def merge_lora(unet: nn.Module, lora: Mapping[str, Tensor]) -> None:
    """Add a LoRA to a U-Net's weights in place: W + B·A (Hu et al. 2022, equation 3, at scale 1).

    Args:
        unet: its weights and the sums are in float32 or wider.
        lora: diffusers' names, `unet.<module>.lora_A.weight` (r, in[, kh, kw]) and
            `unet.<module>.lora_B.weight` (out, r[, 1, 1]).

    Raises:
        ValueError: a tensor has no partner, or belongs to no weight of this network.
    """
    modules = dict(unet.named_modules())
    names = {name.removesuffix(_A).removesuffix(_B) for name in lora}
    for name in sorted(names):
        weight = getattr(modules.get(name.removeprefix("unet.")), "weight", None)
        down, up = lora.get(name + _A), lora.get(name + _B)
        if not isinstance(weight, nn.Parameter) or down is None or up is None:
            raise ValueError(f"the update {name} belongs to no layer of this network")
        if (up.shape[0], *down.shape[1:]) != weight.shape or down.shape[0] != up.shape[1]:
            raise ValueError(f"the update {name} has another shape than its layer")
        update = up.flatten(1).to(weight.dtype) @ down.flatten(1).to(weight.dtype)
        weight += update.view_as(weight)
