"""Inpainting: what a run is painted over, and what its hole begins from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from pipelines.latents import to_pixels
from pipelines.recipe import Recipe
from pipelines.samplers import Scheduler
from pipelines.sources import OpenSource, Source
from pipelines.stitching import Hole, read_hole, spread

if TYPE_CHECKING:
    from pipelines.models.sd import StableDiffusion


@dataclass(frozen=True, slots=True)
class Canvas:
    """What a run is painted over, in latent space.

    `source` (1, C, h, w) is the encoded picture, `noise` of the same shape the run's own, `mask` (1, 1, h, w)
    from 0, kept, to 1, painted; `begin` the schedule position the painting begins at. `mask` is None where
    the whole is painted. `shown` (1, 1 + C, h, w) is what a network of the inpainting kind sees beside x_t:
    the mask and the picture with its hole; it then keeps the outside by itself.
    """

    source: Tensor | None
    noise: Tensor
    mask: Tensor | None
    begin: int
    shown: Tensor | None = None

    def lay(self, scheduler: Scheduler, latents: Tensor, position: int) -> Tensor:
        """Put the picture back where the mask does not let go yet, noised to a position of the schedule.

        A value of the mask is the part of the run that may change its place: it is let go once that much is
        left (Levin and Fried 2023, differential diffusion, algorithm 1). A hard mask is blended at every
        step, as in Avrahami et al. 2022.
        """
        if self.source is None or self.mask is None or self.shown is not None:
            return latents
        whole = len(scheduler.timesteps)
        past = (position - self.begin) / max(1, whole - self.begin)
        free = ((1 - self.mask <= past) & (self.mask > 0)).float()
        source = self.source
        if position < whole:
            source = scheduler.add_noise(source, self.noise, scheduler.timesteps[position : position + 1])
        return (1 - free) * source + free * latents

    def show(self, scaled: Tensor) -> Tensor:
        """Give the network beside x_t what it sees of the picture, if it is of the inpainting kind."""
        return scaled if self.shown is None else torch.cat([scaled, self.shown], 1)


def begin_canvas(
    model: StableDiffusion,
    recipe: Recipe,
    scheduler: Scheduler,
    generator: torch.Generator,
    open_source: OpenSource,
    *,
    first: int,
) -> tuple[Tensor, Canvas]:
    """Draw the noise of a run and, where it begins from a picture, encode that and noise it to `first`.

    All is drawn on the CPU, so that a seed means the same on every device; the encoder draws first, then the
    noise, as in diffusers. A network of the inpainting kind begins at full strength from pure noise, as it
    was trained; every other one from the noised picture, of which a trace is left even there.

    Returns:
        x_t (1, C, h, w) at the scheduler's own scale, float32, on the model's device, and the canvas.

    Raises:
        BadInput: the picture or its mask is gone, damaged or of another size.
    """
    if recipe.source is not None and (set_begin_index := getattr(scheduler, "set_begin_index", None)):
        set_begin_index(first)
    factor = model.vae_scale_factor
    shape = (1, model.latent_channels, recipe.height // factor, recipe.width // factor)
    hole = read_hole(recipe, recipe.source, open_source) if recipe.source is not None else None
    pure = hole is None or recipe.source is None or (model.sees_mask and recipe.source.strength == 1)
    source = None if hole is None or pure else model.encode(to_pixels(hole.image), generator)
    noise = torch.randn(shape, generator=generator).to(model.device)
    mask = None if hole is None or hole.mask is None else _to_latent(hole.mask, shape).to(model.device)
    if mask is not None and bool((mask == 1).all()):
        mask = None  # image to image
    if mask is not None and source is not None:
        source = source.contiguous()  # as diffusers has it here: convolutions round by how latents lie
    if source is None or hole is None or recipe.source is None:
        latents = noise * scheduler.init_noise_sigma
    else:
        begun = source if mask is None else _filled(model, hole, source, mask, recipe.source)
        latents = scheduler.add_noise(begun, noise, scheduler.timesteps[first : first + 1])
    if model.device.type != "cpu":
        # Encoded they lie channels last, unless they are joined with others', and convolutions round by it.
        latents = latents.contiguous()
    shown = _shown(model, hole, shape, generator) if model.sees_mask else None
    return latents, Canvas(source, noise, mask, first, shown)


def _filled(model: StableDiffusion, hole: Hole, source: Tensor, mask: Tensor, choice: Source) -> Tensor:
    """Encode what the hole begins from: x_0 that is the source outside the mask."""
    if choice.hole == "original" or hole.mask is None:
        return source
    if choice.hole == "noise":
        return source * (1 - mask)
    pixels = to_pixels(hole.image).contiguous()
    outside = (hole.mask == 0).float()
    if choice.hole == "blur":
        fill = spread(pixels * outside, outside)
    else:
        fill = ((pixels * outside).sum((2, 3), True) / outside.sum().clamp(min=1)).expand_as(pixels)
    begun = model.encode(pixels + hole.mask * (fill - pixels))
    return source + mask * (begun - source)


def _shown(
    model: StableDiffusion, hole: Hole | None, shape: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """What a network of the inpainting kind sees: the hard mask and the picture with a grey hole."""
    factor = model.vae_scale_factor
    if hole is None or hole.mask is None:
        pixels = torch.zeros((1, 3, shape[2] * factor, shape[3] * factor))
        mask = torch.ones_like(pixels[:, :1])
    else:
        mask = (hole.mask >= 0.5).float()
        pixels = to_pixels(hole.image) * (mask < 0.5)
    masked = model.encode(pixels, generator)
    return torch.cat([functional.interpolate(mask, shape[2:]).to(model.device), masked], 1)


def _to_latent(mask: Tensor, shape: tuple[int, ...]) -> Tensor:
    return functional.adaptive_avg_pool2d(mask, (shape[2], shape[3]))
