"""Many pictures at once beside the same number one after another."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch

from pipelines.batching import Failed, Finished, StepBatcher
from pipelines.bench_in_line import InLine
from pipelines.calls import decoder_for, engine_of, fit_buckets
from pipelines.decoding import decode_kept, decode_looks
from pipelines.denoising import Frame
from pipelines.models.sd import StableDiffusion
from pipelines.palette import make_mix
from pipelines.prompt_to_image import prompt_to_image
from pipelines.recipe import Recipe
from pipelines.series import strip

# A picture in line takes as long as any other: a few in each round tell how long.
_IN_LINE = 4
# How long the others have been painting when one more joins them.
_TICKS_BEFORE = 3


@dataclass(frozen=True, slots=True)
class Together:
    """What painting together came to, in seconds; `ours_s` is per picture.

    `tick_s` is the median of the ticks in which everybody stepped, `first_preview_s` when the last of the
    artists saw her first preview. `joiner_preview_s` and `joiner_ticks` say how long one of them waits for
    hers who joins when the others are painting already; 0 where there are no others. `peak_bytes` is the
    device's memory at its fullest, 0 where the device is a CPU, whose memory holds both ways at once;
    `compile_s` is how long compiling took, before anything was timed.
    """

    ours_s: float
    tick_s: float
    first_preview_s: float
    peak_bytes: int
    joiner_preview_s: float = 0.0
    joiner_ticks: int = 0
    compile_s: float = 0.0


def of_artists(recipe: Recipe, artists: int) -> Callable[[int], list[Recipe]]:
    """Give each artist a seed and a prompt of her own, another one in each round: none is read before."""
    return lambda round_: [
        recipe.model_copy(update={"seed": seed, "prompt": f"{recipe.prompt}, {round_} {seed}"})
        for seed in range(artists)
    ]


def strip_of(recipe: Recipe) -> list[Recipe]:
    """Walk from one style to another, in seven stops."""
    styles = [{"name": name, "weight": 1} for name in ("impressionism", "ukiyo-e")]
    mixed = recipe.model_copy(update={"mix": make_mix(styles, "conditioning")})
    return [cell.recipe for cell in strip(mixed)]


def one_by_one(model: StableDiffusion, recipes: Sequence[Recipe]) -> InLine:
    """Have recipes painted as a studio paints them, one after another, over and over."""
    buckets = _buckets(model)
    left: list[Recipe] = []

    def paint() -> None:
        left.extend([] if left else recipes)
        _all_at_once(model, [left.pop(0)], buckets)

    return InLine(paint)


def paint_together(
    model: StableDiffusion, recipes_of: Callable[[int], Sequence[Recipe]], in_line: InLine, *, rounds: int
) -> Together:
    """Paint a round's recipes all at once, then some in line, in turn.

    Returns:
        The medians over the rounds, after a first step that warms up: what is compiled is compiled in it.

    Raises:
        RuntimeError: a picture could not be painted.
    """
    recipes, buckets = recipes_of(-1), _buckets(model)
    compiled_s = model.compiled.compile_s if model.compiled is not None else 0.0
    _all_at_once(model, [one.model_copy(update={"num_inference_steps": 1}) for one in recipes], buckets)
    if len(recipes) > 1 and model.compiled is not None:
        _joining(model, recipes, buckets)  # whose preview is decoded alone
    compiled_s = model.compiled.compile_s - compiled_s if model.compiled is not None else 0.0
    measured: list[Together] = []
    for round_ in range(rounds):
        measured.append(_all_at_once(model, recipes_of(round_), buckets))
        in_line.paint(min(len(recipes), _IN_LINE))
    joiner_preview_s, joiner_ticks = 0.0, 0
    if len(recipes) > 1:
        joiner_preview_s, joiner_ticks = _joining(model, recipes_of(rounds), buckets)
    return Together(
        statistics.median(one.ours_s for one in measured),
        statistics.median(one.tick_s for one in measured),
        statistics.median(one.first_preview_s for one in measured),
        max(one.peak_bytes for one in measured),
        joiner_preview_s,
        joiner_ticks,
        compiled_s,
    )


def _buckets(model: StableDiffusion) -> tuple[int, ...]:
    return fit_buckets(model) if model.device.type != "cpu" else ()


def _all_at_once(model: StableDiffusion, recipes: Sequence[Recipe], buckets: Sequence[int]) -> Together:
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(model.device)
    start = time.perf_counter()
    batcher = StepBatcher(model, buckets=buckets)
    for key, recipe in enumerate(recipes):
        batcher.join(key, prompt_to_image(model, recipe), engine_of(model, recipe))
    ticks: list[float] = []
    seen: set[Hashable] = set()
    first_preview_s = 0.0
    while len(batcher):
        everybody = len(batcher) == len(recipes)
        before = time.perf_counter()
        events = batcher.tick()
        if everybody:
            ticks.append(time.perf_counter() - before)
        first = {key: event for key, event in events if isinstance(event, Frame) and key not in seen}
        if first:
            decode_looks(model, [frame.denoised for frame in first.values()])
            seen |= first.keys()
            first_preview_s = time.perf_counter() - start
        painted = [event for _, event in events if isinstance(event, Finished)]
        if painted:
            decoder = decoder_for(map(str, painted[0].calls))
            decode_kept(model, [event.latents for event in painted], decoder)
        for _, event in events:
            if isinstance(event, Failed):
                raise RuntimeError("a picture of the bench could not be painted") from event.error
    peak = torch.cuda.max_memory_allocated(model.device) if model.device.type == "cuda" else 0
    ours_s = (time.perf_counter() - start) / len(recipes)
    return Together(ours_s, statistics.median(ticks), first_preview_s, peak)


def _joining(model: StableDiffusion, recipes: Sequence[Recipe], buckets: Sequence[int]) -> tuple[float, int]:
    """Let the last of the artists join when the others are painting; tell when she has her first preview.

    Returns:
        The seconds until then, and the ticks.
    """
    batcher = StepBatcher(model, buckets=buckets)
    for key, recipe in enumerate(recipes[:-1]):
        batcher.join(key, prompt_to_image(model, recipe), engine_of(model, recipe))
    for _ in range(min(_TICKS_BEFORE, recipes[0].num_inference_steps - 1)):
        batcher.tick()
    start = time.perf_counter()
    batcher.join("joiner", prompt_to_image(model, recipes[-1]), engine_of(model, recipes[-1]))
    ticks = 0
    while True:
        ticks += 1
        for key, event in batcher.tick():
            if isinstance(event, Failed):
                raise RuntimeError("a picture of the bench could not be painted") from event.error
            if key == "joiner" and isinstance(event, Frame):
                decode_looks(model, [event.denoised])
                return time.perf_counter() - start, ticks
