"""Many artists at once beside plain diffusers, which paints their pictures one after another."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipelines.batching import Failed, Finished, StepBatcher
from pipelines.calls import decode, engine_of, fit_buckets
from pipelines.denoising import Frame
from pipelines.latents import to_images
from pipelines.models.sd import StableDiffusion
from pipelines.prompt_to_image import prompt_to_image
from pipelines.recipe import Recipe

# Plain diffusers takes as long for each picture: a few of them tell how long.
_PLAIN_PICTURES = 4
# First previews that come together are decoded together on an accelerator, as in the studio.
_DECODED_AT_ONCE = 8
# How long the others have been painting when one more joins them.
_TICKS_BEFORE = 3


@dataclass(frozen=True, slots=True)
class Together:
    """What painting together came to, in seconds; `ours_s` and `plain_s` are per picture.

    `tick_s` is the median of the ticks in which everybody stepped, `first_preview_s` when the last of the
    artists saw her first preview. `joiner_preview_s` and `joiner_ticks` say how long one of them waits for
    hers who joins when the others are painting already; 0 where there are no others. `peak_bytes` is the
    device's memory at its fullest, 0 where the device is a CPU, whose memory holds both ways at once;
    `compile_s` is how long compiling took, before anything was timed.
    """

    ours_s: float
    plain_s: float
    tick_s: float
    first_preview_s: float
    peak_bytes: int
    joiner_preview_s: float = 0.0
    joiner_ticks: int = 0
    compile_s: float = 0.0


def paint_together(
    model: StableDiffusion, recipe: Recipe, plain: Callable[[], object], *, artists: int, rounds: int
) -> Together:
    """Paint the recipe with a seed of its own for each artist, all at once, then plainly in line, in turn.

    Returns:
        The medians over the rounds, after a first tick and a plain picture that warm up; what is compiled is
        compiled in that tick.

    Raises:
        RuntimeError: a picture could not be painted.
    """
    recipes = [recipe.model_copy(update={"seed": seed}) for seed in range(artists)]
    buckets = fit_buckets(model) if model.device.type != "cpu" else ()
    compiled_s = model.compiled.compile_s if model.compiled is not None else 0.0
    _all_at_once(model, [recipe.model_copy(update={"num_inference_steps": 1})] * artists, buckets)
    compiled_s = model.compiled.compile_s - compiled_s if model.compiled is not None else 0.0
    plain()
    measured: list[Together] = []
    for _ in range(rounds):
        together = _all_at_once(model, recipes, buckets)
        start = time.perf_counter()
        in_line = min(artists, _PLAIN_PICTURES)  # each of them ends with numbers on the CPU
        for _ in range(in_line):
            plain()
        measured.append(replace(together, plain_s=(time.perf_counter() - start) / in_line))
    joiner_preview_s, joiner_ticks = _joining(model, recipes, buckets) if artists > 1 else (0.0, 0)
    return Together(
        statistics.median(one.ours_s for one in measured),
        statistics.median(one.plain_s for one in measured),
        statistics.median(one.tick_s for one in measured),
        statistics.median(one.first_preview_s for one in measured),
        max(one.peak_bytes for one in measured),
        joiner_preview_s,
        joiner_ticks,
        compiled_s,
    )


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
            _preview(model, [frame.denoised for frame in first.values()])
            seen |= first.keys()
            first_preview_s = time.perf_counter() - start
        for _, event in events:
            match event:
                case Finished(latents, calls):
                    to_images(decode(model, latents, calls[0].engine))
                case Failed(error):
                    raise RuntimeError("a picture of the bench could not be painted") from error
                case _:
                    pass
    peak = torch.cuda.max_memory_allocated(model.device) if model.device.type == "cuda" else 0
    ours_s = (time.perf_counter() - start) / len(recipes)
    return Together(ours_s, 0.0, statistics.median(ticks), first_preview_s, peak)


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
                _preview(model, [event.denoised])
                return time.perf_counter() - start, ticks


def _preview(model: StableDiffusion, latents: Sequence[Tensor]) -> None:
    size = 1 if model.device.type == "cpu" else _DECODED_AT_ONCE
    for start in range(0, len(latents), size):
        to_images(model.preview(torch.cat(list(latents[start : start + size]))))
