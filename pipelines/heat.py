"""Where something happened at each step of a kept run: maps of heat, made from its frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pipelines.denoising import strength_by_place
from pipelines.recipe import BadInput
from pipelines.timeline import StoredFrame, Timeline

Heat = list[Tensor | None]
"""A map (h, w) of values from 0 up for each step; None where nothing is known."""

# What is brighter than all but so few places of a run is drawn as bright as it gets.
_BRIGHTEST = 0.995
_AT_REST = 0.2
_ALIKE = 0.3


def change_heat(timeline: Timeline) -> Heat:
    """Tell where the predicted picture moved since the step before, as RMS over its latent channels."""
    heat: Heat = [None]
    for before, frame in pairwise(_frames(timeline)):
        if before is None or frame is None:
            heat.append(None)
        else:
            heat.append(_map(strength_by_place(frame.denoised - before.denoised)))
    return heat


def guidance_heat(timeline: Timeline) -> Heat:
    """Tell where the prompt pulled at each step, as `Frame.guidance_heat` has it.

    Raises:
        BadInput: nothing pulled, or the run is from before this was kept.
    """
    heat: Heat = [None if frame is None else _map(frame.guidance_heat) for frame in _frames(timeline)]
    if all(place is None for place in heat):
        raise BadInput(
            "Where the prompt pulled is not known for this picture: it was painted without guidance, or "
            "before Atelier kept it."
        )
    return heat


def style_heat(timeline: Timeline, name: str) -> Heat:
    """Tell where one style of a mix pulled at each step, or steering, as `Frame.contributions` has it.

    Raises:
        BadInput: the mix has no such style, or it was not mixed by predictions.
    """
    heat: Heat = []
    for frame, step in zip(_frames(timeline), timeline.steps, strict=True):
        pulls = None if frame is None else frame.contributions
        names = list(step.contributions)
        heat.append(None if pulls is None or name not in names else pulls[names.index(name)])
    if all(place is None for place in heat):
        raise BadInput(
            f"Where {name or 'a style'} pulled is not known for this picture: it is not among the styles "
            "that were mixed by their predictions.",
            "style",
        )
    return heat


def beside_other_styles(timeline: Timeline) -> Callable[[Heat], Heat]:
    """Return what scales the heat of a style as `over_run` does, on one scale for all styles of the mix."""
    names = dict.fromkeys(name for step in timeline.steps for name in step.contributions)
    every: Heat = [place for name in names for place in style_heat(timeline, name)]
    return lambda heat: over_run([*heat, *every])[: len(heat)]


def mean_heat(heat: Heat) -> Tensor | None:
    """Average a run's heat over its steps."""
    known = [place for place in heat if place is not None]
    return torch.stack(known).mean(0) if known else None


def over_run(heat: Heat) -> Heat:
    """Scale to [0, 1] on one scale for the whole run: the root of each value's share of the brightest."""
    known = [place.flatten() for place in heat if place is not None]
    if not known:
        return heat
    high = _quantile(torch.cat(known), _BRIGHTEST).clamp(min=1e-12)
    return [None if place is None else (place / high).clamp(0, 1).sqrt() for place in heat]


def within_step(heat: Heat) -> Heat:
    """Scale to [0, 1] at every step anew, from what most places have up to the brightest."""

    def scaled(place: Tensor) -> Tensor:
        values = place.flatten()
        low, high = _quantile(values, _AT_REST), _quantile(values, _BRIGHTEST)
        # Where every place is nearly alike, little is made of the difference.
        return ((place - low) / (high - low).clamp(min=_ALIKE * values.mean().item())).clamp(0, 1)

    return [None if place is None else scaled(place) for place in heat]


def enlarged(heat: Heat, *, width: int, height: int) -> Tensor:
    """Return maps in [0, 1] as (steps, height, width), black where nothing is known."""
    known = next((place for place in heat if place is not None), torch.zeros(1, 1))
    maps = torch.stack([torch.zeros_like(known) if place is None else place for place in heat])
    large = interpolate(maps[:, None], size=(height, width), mode="bicubic", align_corners=False)
    return large[:, 0].clamp(0, 1)


def _quantile(values: Tensor, share: float) -> Tensor:
    """Return a quantile; torch's own takes no more than 16 million values."""
    return values.kthvalue(max(1, min(len(values), round(share * len(values))))).values


def _frames(timeline: Timeline) -> Sequence[StoredFrame | None]:
    return [_frame(timeline, step.step) for step in timeline.steps]


def _frame(timeline: Timeline, step: int) -> StoredFrame | None:
    try:
        return timeline.frame(step)
    except BadInput:
        return None  # damaged: the others still tell


def _map(strength: Tensor | None) -> Tensor | None:
    return None if strength is None else strength[0, 0]
