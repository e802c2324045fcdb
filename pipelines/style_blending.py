"""Style blending: the guidance of a recipe, which mixes its styles anew at every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional

from pipelines.conditioning import mixed, spherical_mean, weighted_mean
from pipelines.denoising import Guiding
from pipelines.guidance import Composition, Guidance, Voice
from pipelines.models.sd import StableDiffusion
from pipelines.recipe import Recipe
from pipelines.references import Pictures, Referred, pictures_of
from pipelines.sources import OpenSource, no_sources
from pipelines.styles import REGION_SIDE, Method, Mix, MixedStyle, region_bytes, with_fragment


def guidance_of(model: StableDiffusion, recipe: Recipe, open_source: OpenSource = no_sources) -> Guiding:
    """Encode a recipe's prompts, one pair for each style that is felt, and the pictures that it follows.

    Raises:
        BadInput: a picture that it follows, or the IP-Adapter it is followed through, is gone or damaged.
    """
    plain = _encode(model, recipe, None)
    mix = recipe.mix
    if mix is None:
        return plain
    plain, *own = _sharing_negatives([plain, *(_encode(model, recipe, style) for style in mix.felt)])
    voices = tuple(zip(mix.felt, own, strict=True))
    blend = Blend(mix.method, voices, _regions(model, recipe, mix), plain)
    pictures = pictures_of(model, recipe, open_source)
    return blend if pictures is None else Referring(blend, pictures)


def shares_of(model: StableDiffusion, recipe: Recipe, mix: Mix) -> Shares:
    """Tell how much of each style of a mix there is to be, when and where."""
    return Shares(mix.felt, _regions(model, recipe, mix))


def prompts_of(recipe: Recipe) -> dict[str, str]:
    """Tell every prompt that the model is to read, by what it is called to an artist."""
    if recipe.mix is None:
        return {"prompt": recipe.prompt, "negative prompt": recipe.negative_prompt}
    prompts: dict[str, str] = {}
    if not recipe.mix.felt:
        prompts = {"prompt": recipe.prompt, "negative prompt": recipe.negative_prompt}
    for style in recipe.mix.felt:
        positive, negative = _texts(recipe, style)
        prompts[f"prompt with {style.name}"] = positive
        prompts[f"negative prompt with {style.name}"] = negative
    return prompts


def region_map(region: str, height: int, width: int) -> Tensor:
    """Spread a painted region over the canvas: (1, 1, height, width) from 0 to 1, with soft borders."""
    painted = torch.frombuffer(bytearray(region_bytes(region)), dtype=torch.uint8).float() / 255
    square = painted.view(1, 1, REGION_SIDE, REGION_SIDE)
    return functional.interpolate(square, (height, width), mode="bilinear", antialias=True).clamp(0, 1)


@dataclass(frozen=True, slots=True)
class Blend:
    """Guidance by several styles, each with its weight, curve and region.

    `voices` pairs each style with its own guidance, `regions` has a map (1, 1, h, w) for those that were
    painted, `plain` is the prompt without any style, for where and when none is felt.
    """

    method: Method
    voices: tuple[tuple[MixedStyle, Guidance], ...]
    regions: dict[str, Tensor]
    plain: Guidance
    _last: dict[tuple[float, ...], Guidance | Composition] = field(
        default_factory=dict[tuple[float, ...], "Guidance | Composition"], init=False, compare=False
    )

    def at(self, progress: float) -> Guidance | Composition:
        """Mix for a moment of the run, from 0 at its first step to 1 at its last.

        Styles without a region are mixed by the method, painted regions lie over them. A style whose weight
        is zero at this moment asks for no row. While weights stay as they are, so does the mix.
        """
        weights = tuple(style.at(progress) for style, _ in self.voices)
        if weights not in self._last:
            mixed_now = self._mix(progress)
            self._last.clear()
            self._last[weights] = mixed_now
        return self._last[weights]

    def _mix(self, progress: float) -> Guidance | Composition:
        felt = [(style, own, style.at(progress)) for style, own in self.voices]
        ground = [one for one in felt if one[0].region is None and one[2] != 0]
        painted = [one for one in felt if one[0].region is not None and one[2] > 0]
        voices = self._ground(ground)
        if painted:
            voices = self._paint_over(voices, painted, progress)
        if len(voices) == 1 and not painted:
            only = voices[0]
            return Guidance(only.prompt, only.negative_prompt, self.plain.scale)
        return Composition(tuple(voices), self.plain.scale)

    def _ground(self, felt: Sequence[tuple[MixedStyle, Guidance, float]]) -> list[Voice]:
        """Mix the styles that are everywhere; without one that pulls, the prompt speaks alone."""
        whole = sum(weight for _, _, weight in felt if weight > 0)
        if whole == 0:
            return [_voice("no style", self.plain, 1.0)]
        if self.method == "prediction" or len(felt) == 1:
            return [_voice(style.name, own, weight / whole) for style, own, weight in felt]
        shares = [weight / whole for _, _, weight in felt]
        mean = spherical_mean if self.method == "slerp" else weighted_mean
        prompt = mixed([own.prompt for _, own, _ in felt], shares, mean)
        negative_prompt = mixed([own.negative_prompt for _, own, _ in felt], shares, mean)
        together = Guidance(prompt, negative_prompt, self.plain.scale)
        return [_voice(" + ".join(style.name for style, _, _ in felt), together, 1.0)]

    def _paint_over(
        self, ground: list[Voice], painted: Sequence[tuple[MixedStyle, Guidance, float]], progress: float
    ) -> list[Voice]:
        """Lay regions over the ground."""
        cover, parts = _laid_over([style for style, _, _ in painted], self.regions, progress)
        voices = [_voice(style.name, own, part) for (style, own, _), part in zip(painted, parts, strict=True)]
        if bool((cover == 1).all()):
            return voices
        return [replace(voice, share=voice.share * (1 - cover)) for voice in ground] + voices


@dataclass(frozen=True, slots=True)
class Shares:
    """How much of each style there is to be, as `Blend` mixes them whatever its method."""

    styles: tuple[MixedStyle, ...]
    regions: dict[str, Tensor]

    def at(self, progress: float) -> list[tuple[str, float | Tensor]]:
        """List the styles that are felt at a moment, each with its share, a number or a map (1, 1, h, w)."""
        ground = [style for style in self.styles if style.region is None and style.at(progress) != 0]
        painted = [style for style in self.styles if style.region is not None and style.at(progress) > 0]
        whole = sum(max(0.0, style.at(progress)) for style in ground)
        shares: list[tuple[str, float | Tensor]] = []
        if whole > 0:
            shares = [(style.name, style.at(progress) / whole) for style in ground]
        if painted:
            cover, parts = _laid_over(painted, self.regions, progress)
            shares = [(name, share * (1 - cover)) for name, share in shares]
            shares += [(style.name, part) for style, part in zip(painted, parts, strict=True)]
        return shares


@dataclass(frozen=True, slots=True)
class Referring:
    """A mix that also follows pictures."""

    blend: Blend
    pictures: Pictures

    def at(self, progress: float) -> Referred:
        """Mix for a moment of the run, from 0 at its first step to 1 at its last."""
        return Referred(self.blend.at(progress), self.pictures)


def _laid_over(
    painted: Sequence[MixedStyle], regions: dict[str, Tensor], progress: float
) -> tuple[Tensor, Tensor]:
    """Tell how far regions cover the ground (1, 1, h, w), and each one's part of that (n, 1, 1, h, w).

    They share by weight where they overlap. A region's curve also fades it in and out as a whole.
    """
    faded = [regions[style.name] * (style.at(progress) / style.weight) for style in painted]
    cover = torch.stack(faded).sum(0).clamp(max=1)
    rival = torch.stack([style.at(progress) * map_ for style, map_ in zip(painted, faded, strict=True)])
    return cover, cover * rival / rival.sum(0).clamp(min=1e-12)


def _regions(model: StableDiffusion, recipe: Recipe, mix: Mix) -> dict[str, Tensor]:
    canvas = (recipe.height // model.vae_scale_factor, recipe.width // model.vae_scale_factor)
    return {
        style.name: region_map(style.region, *canvas).to(model.device)
        for style in mix.felt
        if style.region is not None
    }


def _voice(name: str, own: Guidance, share: float | Tensor) -> Voice:
    # Filled on the device: a number that is sent there would be waited for.
    amount = share if isinstance(share, Tensor) else own.prompt.embeds.new_full((), share)
    return Voice(name, own.prompt, own.negative_prompt, amount)


def _texts(recipe: Recipe, style: MixedStyle | None) -> tuple[str, str]:
    if style is None:
        return recipe.prompt, recipe.negative_prompt
    return (
        with_fragment(recipe.prompt, style.prompt),
        with_fragment(recipe.negative_prompt, style.negative_prompt),
    )


def _sharing_negatives(guidances: Sequence[Guidance]) -> list[Guidance]:
    """Give those with equal negative prompts the very same one, so that no step has to compare them."""
    sharing: list[Guidance] = []
    for own in guidances:
        negatives = [known.negative_prompt for known in sharing]
        same = (known for known in negatives if known.equals(own.negative_prompt))
        sharing.append(replace(own, negative_prompt=next(same, own.negative_prompt)))
    return sharing


def _encode(model: StableDiffusion, recipe: Recipe, style: MixedStyle | None) -> Guidance:
    # Each style's pair by itself, so that its embeddings do not depend on how many others there are.
    return Guidance(*model.encode_pair(*_texts(recipe, style)), recipe.guidance_scale)
