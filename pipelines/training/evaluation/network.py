"""What the judge and the dual encoder share: a small residual network, its training and its crops."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional

from pipelines.training.clock import learning_rate_scale
from pipelines.training.loop import set_learning_rate
from pipelines.training.pack import Format, Row
from pipelines.training.pictures import PictureBank, to_pixels

Model = TypeVar("Model", bound=nn.Module)

CROP_PX = 160
"""The crop that is looked at: the short side of the two oblong formats."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al., 2016)."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        """Build with random weights."""
        super().__init__()
        self.first = nn.Conv2d(channels, out_channels, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(out_channels)
        self.second = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(out_channels)
        shortcut: list[nn.Module] = []
        if stride > 1:
            # Averaged, not skipped (He et al., 2019). A 1x1 convolution with a stride also corrupts memory
            # in its backward pass on CPUs with torch 2.13 when the pixels lie channels-last.
            shortcut.append(nn.AvgPool2d(stride, ceil_mode=True))
        if channels != out_channels:
            shortcut += [nn.Conv2d(channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, channels, h, w) to (B, out_channels, h / stride, w / stride)."""
        out = functional.relu(self.first_norm(self.first(hidden)))
        return functional.relu(self.second_norm(self.second(out)) + self.shortcut(hidden))


class Backbone(nn.Module):
    """Pixels (B, 3, H, W) in [-1, 1] of any size to one vector each, (B, widths[-1])."""

    def __init__(self, widths: Sequence[int], blocks: int) -> None:
        """Build with random weights; each width after the first halves the resolution."""
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, widths[0], 5, 2, 2, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        ]
        channels = widths[0]
        for width in widths:
            layers.append(ResidualBlock(channels, width, 2))
            layers += [ResidualBlock(width, width, 1) for _ in range(blocks - 1)]
            channels = width
        self.layers = nn.Sequential(*layers)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """The mean over all places of the last layer."""
        return self.layers(pixels).float().mean((2, 3))


def fit(
    model: Model,
    loss_of_step: Callable[[int], torch.Tensor],
    *,
    steps: int,
    learning_rate: float,
    weight_decay: float,
    say: Callable[[str], None],
) -> Model:
    """Train for `steps` of AdamW, warmed up and annealed; `loss_of_step` draws its own batch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    model.train()
    for step in range(steps):
        scale = learning_rate_scale(step / steps, step, warmup_steps=min(200, steps), decay_from=0.2)
        set_learning_rate(optimizer, learning_rate * scale)
        loss = loss_of_step(step)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % max(1, steps // 5) == 0:
            say(f"  step {step + 1} of {steps}, loss {loss.item():.3f}")
    return model.eval()


def view_rows(bank: PictureBank, shape: Format, rows: torch.Tensor) -> torch.Tensor:
    """A random training crop of each row (count,), varied: (count, 3, side, side) in [-1, 1]."""
    return vary(bank.crop(shape, rows, min(CROP_PX, shape.width, shape.height)), bank.generator)


def vary(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Change the light and the contrast a little, blur some, and hide a square of each picture.

    The blur keeps a judge from telling a made picture by its autoencoder's softness; hue stays, since it
    belongs to a style.
    """
    count, _, height, width = pixels.shape
    device = pixels.device

    def draw(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, 1, device=device, generator=generator)

    pixels = pixels * draw(0.8, 1.2) + draw(-0.15, 0.15)
    softness = draw(-1.0, 1.0).clamp_min(0)
    pixels = pixels + softness * (functional.avg_pool2d(pixels, 3, 1, 1, count_include_pad=False) - pixels)
    side = height // 3
    top, left = (draw(0, height - side).long(), draw(0, width - side).long())
    y = torch.arange(height, device=device).view(1, 1, -1, 1)
    x = torch.arange(width, device=device).view(1, 1, 1, -1)
    hidden = (y >= top) & (y < top + side) & (x >= left) & (x < left + side)
    return torch.where(hidden & (draw(0, 1) < 0.5), torch.zeros_like(pixels), pixels).clamp(-1, 1)


def glance(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A random square of pixels (B, 3, H, W), the same of the whole batch, varied as in training."""
    height, width = pixels.shape[2:]
    side = min(CROP_PX, height, width)

    def draw(end: int) -> int:
        return int(torch.randint(end, (), generator=generator, device=generator.device))

    top, left = draw(height - side + 1), draw(width - side + 1)
    return vary(pixels[:, :, top : top + side, left : left + side], generator)


def two_views(pixels: torch.Tensor) -> torch.Tensor:
    """The crops at both ends of pictures (N, 3, height, width): (2, N, 3, side, side)."""
    side = min(CROP_PX, *pixels.shape[2:])
    return torch.stack([pixels[..., :side, :side], pixels[..., -side:, -side:]])


def look(
    network: Callable[[torch.Tensor], torch.Tensor], images: Sequence[torch.Tensor], device: torch.device
) -> torch.Tensor:
    """The mean of `network` over both views of each image (height, width, 3) uint8: (N, D) on `device`."""
    return map_by_size(lambda batch: look_at_pixels(network, to_pixels(batch)), images, device)


def look_at_pixels(network: Callable[[torch.Tensor], torch.Tensor], pixels: torch.Tensor) -> torch.Tensor:
    """The mean of `network` over both views of pixels (N, 3, H, W) in [-1, 1]: (N, D)."""
    views = two_views(pixels)
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=pixels.is_cuda):
        return network(views.flatten(0, 1)).float().unflatten(0, (2, len(pixels))).mean(0)


@torch.no_grad()
def map_by_size(
    function: Callable[[torch.Tensor], torch.Tensor],
    images: Sequence[torch.Tensor],
    device: torch.device,
    batch_size: int = 128,
) -> torch.Tensor:
    """Map batches of images of one size, (B, height, width, 3) uint8, to (B, D); all as (N, D) in order."""
    by_size: dict[torch.Size, list[int]] = defaultdict(list)
    for index, image in enumerate(images):
        by_size[image.shape].append(index)
    order: list[int] = []
    parts: list[torch.Tensor] = []
    for indices in by_size.values():
        for start in range(0, len(indices), batch_size):
            part = indices[start : start + batch_size]
            parts.append(function(torch.stack([images[index] for index in part]).to(device)))
            order += part
    return torch.cat(parts)[torch.tensor(order, device=device).argsort()]


def thumbnails(images: Sequence[torch.Tensor], device: torch.device, side: int = 16) -> torch.Tensor:
    """Whole pictures shrunk to `side` by `side` pixels, (N, 3, side, side) in [-1, 1]."""

    def shrink(batch: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(to_pixels(batch), (side, side), mode="area")

    return map_by_size(shrink, images, device)


def learnt_from(bank: PictureBank) -> list[torch.Tensor]:
    """The pack's pictures that are not held out, every arrangement of each, on the bank's device."""
    return [bank.pixels[shape][index] for shape, rows in bank.training.items() for index in rows]


def held_out(bank: PictureBank) -> tuple[list[tuple[Format, Row]], list[torch.Tensor]]:
    """The held-out rows with their formats, in the order of their keys, and their pictures on the CPU."""
    found = sorted(
        (
            (bank.rows[shape][index], shape, index)
            for shape, held in bank.validation.items()
            for index in held
        ),
        key=lambda one: one[0].key,
    )
    rows = [(shape, row) for row, shape, _ in found]
    return rows, [bank.pixels[shape][index].cpu() for _, shape, index in found]
