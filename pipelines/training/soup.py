"""The mean of two models of one descent, often better than either (Wortsman et al., 2022, model soups).

What a U-Net learns when it is trained on moves it along a valley: halfway it keeps what it could do before
and has most of what is new, and somewhat further it has more of that (task arithmetic, Ilharco et al., 2023).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from pipelines.training.distillation import LORA_FILE

_UNET = Path("unet") / "diffusion_pytorch_model.safetensors"
_AUTOENCODER = Path("vae") / "diffusion_pytorch_model.safetensors"


def average_models(
    model: Path, earlier: Path, output: Path, *, share: float, autoencoder_share: float = 1.0
) -> None:
    """Write `model` as `output`, its U-Net, companion and autoencoder averaged with those of `earlier`.

    `share` is that of `model` in the first two, more than 1 to go on from it the way it came from `earlier`;
    `autoencoder_share` is that in the last. Raises FileNotFoundError where a folder has no U-Net, ValueError
    where the two are not of one architecture.
    """
    weights = _mean(load_file(model / _UNET), load_file(earlier / _UNET), share)
    if output.resolve() != model.resolve():
        shutil.copytree(model, output, dirs_exist_ok=True)
    save_file(weights, output / _UNET, {"format": "pt"})
    if autoencoder_share < 1:
        latents = _mean(load_file(model / _AUTOENCODER), load_file(earlier / _AUTOENCODER), autoencoder_share)
        save_file(latents, output / _AUTOENCODER, {"format": "pt"})
    if (model / LORA_FILE).exists() and (earlier / LORA_FILE).exists():
        updates = average_low_rank(load_file(model / LORA_FILE), load_file(earlier / LORA_FILE), share)
        save_file(updates, output / LORA_FILE)


def average_low_rank(
    first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    """Average two LoRAs, layer by layer: of the mean, whose rank is both together, the first's is kept."""
    averaged: dict[str, torch.Tensor] = {}
    for name, mine in first.items():
        if not name.endswith("lora_A.weight"):
            continue
        other = name.replace("lora_A", "lora_B")
        down = torch.cat([mine, second[name]]).float().flatten(1)
        up = torch.cat([share * first[other].float(), (1 - share) * second[other].float()], dim=1).flatten(1)
        turn, values, back = torch.linalg.svd(up @ down, full_matrices=False)
        scale = values[: len(mine)].sqrt()
        averaged[name] = (scale[:, None] * back[: len(mine)]).view_as(mine).to(mine.dtype).contiguous()
        averaged[other] = (turn[:, : len(mine)] * scale).view_as(first[other]).to(mine.dtype).contiguous()
    return averaged


def _mean(
    first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    if {name: one.shape for name, one in first.items()} != {name: one.shape for name, one in second.items()}:
        raise ValueError("only models of one architecture can be averaged")
    return {
        name: (share * one.float() + (1 - share) * second[name].float()).to(one.dtype)
        for name, one in first.items()
    }
