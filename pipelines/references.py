"""Pictures that a run follows: its rows attend to them, as to further rows or as to further words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipelines.conditioning import Conditioning, concatenate
from pipelines.denoising import Rows
from pipelines.guidance import Composition, Guidance, Voice
from pipelines.image_attention import ImagePrompt, Shown
from pipelines.latents import to_pixels
from pipelines.models.sd import StableDiffusion
from pipelines.picture_files import fit_picture, read_picture
from pipelines.recipe import Recipe
from pipelines.samplers import make_scheduler
from pipelines.shared_attention import Shared
from pipelines.sources import OpenSource
from pipelines.styles import Reference

_MIN_ALPHA_BAR = 2.0**-24


@dataclass(frozen=True, slots=True)
class References:
    """The pictures that a run follows by shared attention, (k, C, h, w) as `latents`, and how far each.

    They are not inverted: each is noised to every step anew, always with the noise (1, C, h, w) that the
    run's seed draws first, and read under an empty `prompt`, one row. `sigmas` are the noise levels (noise
    over signal) of the model's timesteps, on the CPU as those are.
    """

    latents: Tensor
    noise: Tensor
    strengths: tuple[float, ...]
    prompt: Conditioning
    sigmas: Tensor

    def beside(self, rows: Rows, *, is_guided: bool) -> Rows:
        """Put a row for each picture behind those of a step; all but the unconditional one listen to them.

        Guidance then carries what they hear as it carries the prompt: with the unconditional row listening
        too, hardly anything of a picture came over on the embedded model.
        """
        own, count = len(rows.latents), len(self.latents)
        sigma = self._sigma_at(rows.timestep[0])
        noisy = (self.latents + sigma * self.noise) / (1 + sigma**2).sqrt()
        # A network of the inpainting kind sees the run's own hole beside them.
        further = rows.latents[:1, self.latents.shape[1] :].expand(count, -1, -1, -1)
        read = concatenate([rows.conditioning, self.prompt.expand(count)])
        return replace(
            rows,
            latents=torch.cat([rows.latents, torch.cat([noisy, further], 1)]),
            timestep=rows.timestep[:1].expand(own + count),
            prompt_embeds=read.embeds,
            pooled_embeds=read.pooled,
            shared=(
                Shared(tuple(range(int(is_guided), own)), tuple(range(own, own + count)), self.strengths),
            ),
        )

    def _sigma_at(self, timestep: Tensor) -> Tensor:
        """Find the noise level of a timestep, which may lie between two, as diffusers does."""
        place = timestep.to(self.sigmas.dtype).clamp(0, len(self.sigmas) - 1)
        low, high = place.floor().long(), place.ceil().long()
        return torch.lerp(self.sigmas[low], self.sigmas[high], place - low)


@dataclass(frozen=True, slots=True)
class Pictures:
    """All pictures that a run follows: `references` by shared attention, `prompts` through IP-Adapters.

    Each of the prompts comes with its strength.
    """

    references: References | None
    prompts: tuple[tuple[ImagePrompt, float], ...]

    def beside(self, rows: Rows, *, is_guided: bool) -> Rows:
        """Let the rows of a step follow the pictures."""
        own = len(rows.latents)
        shown = (Shown(prompt, strength, own, is_guided) for prompt, strength in self.prompts)
        if self.references is not None:
            rows = self.references.beside(rows, is_guided=is_guided)
        return replace(rows, shared=(*rows.shared, *shown))

    @property
    def rows(self) -> int:
        """How many rows they put behind those of a step."""
        return 0 if self.references is None else len(self.references.latents)


@dataclass(frozen=True, slots=True)
class Referred:
    """A step's guidance with pictures that it follows."""

    own: Guidance | Composition
    pictures: Pictures

    @property
    def voices(self) -> tuple[Voice, ...]:
        """The conditionings of the guidance; the pictures say nothing in words."""
        return self.own.voices

    @property
    def scale(self) -> float:
        """The scale of the guidance."""
        return self.own.scale

    def rows(self, latents: Tensor, timestep: Tensor) -> Rows:
        """Ask for what the guidance asks, with the pictures beside it."""
        return self.pictures.beside(self.own.rows(latents, timestep), is_guided=self.own.is_guided)

    def combine(self, predictions: Tensor) -> tuple[Tensor, Tensor]:
        """Combine the guidance's own rows."""
        return self.own.combine(self._own(predictions))

    def contributions(self, predictions: Tensor) -> dict[str, Tensor]:
        """Tell how hard each style pulls."""
        return self.own.contributions(self._own(predictions))

    def _own(self, predictions: Tensor) -> Tensor:
        return predictions[: len(predictions) - self.pictures.rows]


def pictures_of(model: StableDiffusion, recipe: Recipe, open_source: OpenSource) -> Pictures | None:
    """Encode the pictures that a recipe follows; None where it follows none.

    Raises:
        BadInput: one of them, or the IP-Adapter that one is followed through, is gone or damaged.
    """
    mix = recipe.mix
    if mix is None or not mix.followed:
        return None
    shared = [one for one in mix.followed if one.ip_adapter is None]
    is_guided = recipe.guidance_scale > 1 or any(style.weight < 0 for style in mix.felt)
    prompts = tuple(
        (model.ip_adapters.encode(one.ip_adapter, one.image, open_source, is_guided=is_guided), one.strength)
        for one in mix.followed
        if one.ip_adapter is not None
    )
    return Pictures(_references(model, recipe, shared, open_source) if shared else None, prompts)


def _references(
    model: StableDiffusion, recipe: Recipe, shared: Sequence[Reference], open_source: OpenSource
) -> References:
    size = (recipe.width, recipe.height)
    encoded = [
        model.encode(to_pixels(fit_picture(read_picture(open_source(one.image)).rgb(), *size)))
        for one in shared
    ]
    generator = torch.Generator("cpu").manual_seed(recipe.seed)
    noise = torch.randn(encoded[0].shape, generator=generator).to(model.device)
    scheduler = make_scheduler(recipe.sampler, model.folder.scheduler_config)
    alpha_bar = scheduler.alphas_cumprod.clamp(min=_MIN_ALPHA_BAR)
    return References(
        torch.cat(encoded),
        noise,
        tuple(one.strength for one in shared),
        model.encode_prompt([""]),
        ((1 - alpha_bar) / alpha_bar).sqrt(),
    )
