"""A classifier of styles that reads noisy latents at every noise level: what steers a run towards a style."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers.models.embeddings import get_timestep_embedding
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (48, 96, 160)
_GROUPS = 8


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the noise level scales and shifts between them."""

    def __init__(self, channels: int, out_channels: int, time_channels: int) -> None:
        super().__init__()
        self.first_norm = nn.GroupNorm(_GROUPS, channels)
        self.first = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.time = nn.Linear(time_channels, 2 * out_channels)
        self.second_norm = nn.GroupNorm(_GROUPS, out_channels)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, out_channels, 1)

    def forward(self, hidden: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.time(time)[:, :, None, None].chunk(2, 1)
        out = self.first(functional.silu(self.first_norm(hidden)))
        out = self.second(functional.silu(self.second_norm(out) * (1 + scale) + shift))
        return out + self.shortcut(hidden)


class StyleClassifier(nn.Module):
    """log p(style | x_t, t), up to a constant (Dhariwal and Nichol 2021, section 4).

    x_t is alpha_t x_0 + sigma_t noise, the scale at which the network of the model sees it.
    """

    def __init__(self, styles: Sequence[str], channels: int, widths: Sequence[int] = WIDTHS) -> None:
        """Build with random weights; each width after the first halves the resolution."""
        super().__init__()
        self.styles = tuple(styles)
        self.time = nn.Sequential(
            nn.Linear(widths[0], widths[-1]), nn.SiLU(), nn.Linear(widths[-1], widths[-1])
        )
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            _Block(before, width, widths[-1])
            for before, width in zip((widths[0], *widths[:-1]), widths, strict=True)
        )
        self.norm = nn.GroupNorm(_GROUPS, widths[-1])
        self.head = nn.Linear(widths[-1], len(styles))

    def forward(self, noisy: Tensor, timestep: Tensor) -> Tensor:
        """Latents (B, C, h, w) of any size and timesteps (B,) to logits (B, styles)."""
        embedding = get_timestep_embedding(timestep, self.stem.out_channels).to(noisy.dtype)
        time = functional.silu(self.time(embedding))
        hidden = self.stem(noisy)
        for number, block in enumerate(self.blocks):
            hidden = block(functional.avg_pool2d(hidden, 2) if number else hidden, time)
        return self.head(functional.silu(self.norm(hidden)).mean((2, 3)))


def load_style_classifier(file: Path, styles: Sequence[str], device: torch.device) -> StyleClassifier:
    """Read what training wrote, in any precision; it computes in float32."""
    weights = load_file(file, device=str(device))
    widths = [len(weights[f"blocks.{number}.first.bias"]) for number in range(len(WIDTHS))]
    classifier = StyleClassifier(styles, weights["stem.weight"].shape[1], widths)
    classifier.load_state_dict(weights)
    nn.Module.to(classifier, device, torch.float32)
    return classifier.eval().requires_grad_(False)
