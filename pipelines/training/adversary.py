"""A patch discriminator: what sharpens the autoencoder's texture in the last part of its training."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class PatchDiscriminator(nn.Module):
    """Says of each patch whether it is real, and shows its features (Isola et al., 2017)."""

    def __init__(self, width: int = 64) -> None:
        """Build with random weights; `width` is the number of channels of the first layer."""
        super().__init__()
        channels = (3, width, 2 * width, 4 * width)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels[i], channels[i + 1], 4, stride=2, padding=1),
                nn.GroupNorm(8, channels[i + 1]) if i else nn.Identity(),
                nn.LeakyReLU(0.2),
            )
            for i in range(3)
        )
        self.head = nn.Conv2d(4 * width, 1, 3, padding=1)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Pixels (B, 3, H, W) to logits (B, 1, H/8, W/8) and the features of each layer."""
        features: list[torch.Tensor] = []
        hidden = pixels
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=pixels.is_cuda):
            for layer in self.layers:
                hidden = layer(hidden)
                features.append(hidden)
            logits = self.head(hidden)
        return logits.float(), features


def adversarial_pull(
    leaf: torch.Tensor,
    pixels: torch.Tensor,
    pull: torch.Tensor,
    discriminator: nn.Module,
    *,
    adversary_share: float,
    matching_share: float,
) -> torch.Tensor:
    """The discriminator's gradient on the reconstruction, at fixed shares of the norm of `pull`.

    `matching_share` is for the distance between its features of the real and of the reconstructed pixels.
    """
    logits, features = discriminator(leaf)
    with torch.no_grad():
        _, wanted = discriminator(pixels)
    adversary = -logits.mean()
    matching = torch.stack(
        [(mine.float() - real.float()).abs().mean() for mine, real in zip(features, wanted, strict=True)]
    ).sum()
    (by_adversary,) = torch.autograd.grad(adversary, leaf, retain_graph=True)
    (by_matching,) = torch.autograd.grad(matching, leaf)
    norm = pull.norm()
    return (
        by_adversary * (adversary_share * norm / by_adversary.norm().clamp_min(1e-12))
        + by_matching * (matching_share * norm / by_matching.norm().clamp_min(1e-12))
    ).float()


def train_adversary(
    decoded: torch.Tensor,
    pixels: torch.Tensor,
    discriminator: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    """One hinge step of the discriminator on real and reconstructed pixels."""
    logits, _ = discriminator(torch.cat([pixels, decoded]))
    real, made = logits.chunk(2)
    loss = functional.relu(1.0 - real).mean() + functional.relu(1.0 + made).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
