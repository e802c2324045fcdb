"""Atelier beside plain diffusers: the same weights, the same steps, in one process and in turn."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from pipelines.bench_together import paint_together
from pipelines.calls import Calls, decode
from pipelines.denoising import Frame
from pipelines.latents import to_images
from pipelines.models.cuda_graphs import CudaGraphs, cuda_graphs_are_for
from pipelines.models.find import Defaults, ModelFolder
from pipelines.models.load import load_model
from pipelines.models.openvino_cpu import openvino_is_for, prepare_openvino
from pipelines.models.place import Placement, find_placement
from pipelines.models.sd import StableDiffusion
from pipelines.prompt_to_image import paint
from pipelines.recipe import Recipe, make_recipe
from pipelines.samplers import make_scheduler
from pipelines.timeline import TimelineWriter

_FEW_STEPS = "picture, few steps"
_GUIDED_STEPS = "picture, 25 guided steps"
_OPENVINO = "picture, 25 guided steps, OpenVINO"
_GUIDED = Defaults(num_inference_steps=25)
_PROMPT = "seascape, moonlight"
# On an accelerator, unless others are asked for.
_ARTISTS = (1, 4, 16, 64)


class BenchRow(BaseModel):
    """One comparison; times are medians in seconds per picture, `ratio` is ours over plain diffusers.

    Of artists at once also how long a tick takes, when the last of them has her first preview, how long one
    waits for hers who joins the others, and, on an accelerator, its memory at its fullest and how long
    compiling took before (`pipelines.bench_together`).
    """

    model_config = ConfigDict(frozen=True)

    name: str
    model: str
    device: str
    artists: int
    ours_s: float
    plain_s: float
    ratio: float
    tick_s: float | None = None
    first_preview_s: float | None = None
    joiner_preview_s: float | None = None
    joiner_ticks: int | None = None
    peak_bytes: int | None = None
    compile_s: float | None = None


@dataclass(frozen=True, slots=True)
class Bench:
    """What a bench measured; `timeline_cost` is the time spent keeping the timeline over the rest of its run.

    It is measured inside each run, since two runs on a busy machine differ by more than it.
    """

    rows: list[BenchRow]
    timeline_cost: float | None = None


def bench(
    folder: ModelFolder, *, rounds: int = 5, artists: Sequence[int] = (), prompt: str = _PROMPT
) -> Bench:
    """Time one picture at the model's default settings, each way in turn, `rounds` times.

    Rows: "picture" in the precision plain diffusers loads (float32 on a CPU, float16 elsewhere), "picture,
    timeline kept" with every frame written to disk; where the studio would choose another precision "picture,
    studio precision"; where the model has a companion "picture, few steps": its own in the studio's
    precision, beside a plain picture of 25 guided steps; "25 guided steps" and, where it is installed, "25
    guided steps, OpenVINO" as the studio paints them. For each number of `artists`, "together": they all
    paint at once as in the studio, one round for every five; on CUDA "together, eager" and "together,
    compiled".
    """
    studio = find_placement()
    plain_dtype = torch.float32 if studio.device.type == "cpu" else torch.float16
    same = load_model(folder, Placement(studio.device, plain_dtype, plain_dtype))

    recipe, guided = _recipe_of(folder, folder.defaults, prompt), _recipe_of(folder, _GUIDED, prompt)
    costs: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        ways: dict[str, Callable[[], object]] = {
            "plain": plain_diffusers(folder, recipe, studio.device, plain_dtype),
            "picture": lambda: _picture(same, recipe),
            "picture, timeline kept": lambda: costs.append(painted_and_kept(same, recipe, Path(scratch))),
        }
        as_studio = same if studio.dtype == plain_dtype else load_model(folder, studio)
        if as_studio is not same:
            ways["picture, studio precision"] = lambda: _picture(as_studio, recipe)
        ways["plain, 25 guided steps"] = plain_diffusers(folder, guided, studio.device, plain_dtype)
        ways[_GUIDED_STEPS] = lambda: _picture(as_studio, guided)
        if openvino_is_for(as_studio):
            as_studio.openvino = prepare_openvino(as_studio, _wait)
            ways[_OPENVINO] = lambda: _picture_by_openvino(as_studio, guided)
        if folder.companion is not None:
            sketch = _recipe_of(folder, folder.companion.pace, prompt)
            ways[_FEW_STEPS] = lambda: _picture(as_studio, sketch)
        times = _in_turn(ways, rounds)
    medians = {name: statistics.median(measured) for name, measured in times.items()}
    plain = dict.fromkeys([_FEW_STEPS, _GUIDED_STEPS, _OPENVINO], medians.pop("plain, 25 guided steps"))
    plain_s = medians.pop("plain")
    rows = [
        BenchRow(
            name=name,
            model=folder.name,
            device=_device_name(studio.device),
            artists=1,
            ours_s=ours_s,
            plain_s=plain.get(name, plain_s),
            ratio=ours_s / plain.get(name, plain_s),
        )
        for name, ours_s in medians.items()
    ]
    plainly = plain_diffusers(folder, recipe, studio.device, plain_dtype)
    rows += _rows_together(as_studio, recipe, plainly, artists or _usual_artists(studio.device), rounds)
    return Bench(rows, statistics.median(costs))


def bench_architecture(folder: ModelFolder, *, rounds: int = 5, artists: Sequence[int] = ()) -> Bench:
    """Time artists at once only, as `bench` does, for a model whose pictures are of no interest."""
    studio = find_placement()
    plain_dtype = torch.float32 if studio.device.type == "cpu" else torch.float16
    recipe = _recipe_of(folder, folder.defaults, _PROMPT)
    plainly = plain_diffusers(folder, recipe, studio.device, plain_dtype)
    model = load_model(folder, studio)
    counts = artists or _usual_artists(studio.device) or (1,)
    return Bench(_rows_together(model, recipe, plainly, counts, rounds))


def _usual_artists(device: torch.device) -> tuple[int, ...]:
    return () if device.type == "cpu" else _ARTISTS


def _recipe_of(folder: ModelFolder, pace: Defaults, prompt: str) -> Recipe:
    size = {"width": folder.width, "height": folder.height}
    model = {"model": folder.name, "model_revision": folder.revision}
    return make_recipe(**model, **size, **pace.model_dump(), prompt=prompt, seed=1)


def _rows_together(
    model: StableDiffusion,
    recipe: Recipe,
    plainly: Callable[[], object],
    artists: Sequence[int],
    rounds: int,
) -> list[BenchRow]:
    """Paint for each number of artists at once; on CUDA by torch's own calls, then by compiled ones."""
    names = ["together"]
    if cuda_graphs_are_for(model):
        names = ["together, eager", "together, compiled"]
    rows: list[BenchRow] = []
    for name in names:
        model.compiled = CudaGraphs(model, waits=True) if name.endswith("compiled") else None
        for count in artists:
            # What many paint together has its median in itself.
            turns = rounds if count == 1 else max(1, rounds // 5)
            together = paint_together(model, recipe, plainly, artists=count, rounds=turns)
            rows.append(
                BenchRow(
                    name=name,
                    model=model.folder.name,
                    device=_device_name(model.device),
                    artists=count,
                    ratio=together.ours_s / together.plain_s,
                    **{name: value for name, value in asdict(together).items() if value},
                )
            )
    model.compiled = None
    return rows


def plain_diffusers(
    folder: ModelFolder, recipe: Recipe, device: torch.device, dtype: torch.dtype
) -> Callable[[], object]:
    """Return a call that paints the recipe with diffusers' own pipeline."""
    from diffusers import DiffusionPipeline
    from diffusers.utils import logging as diffusers_logging

    diffusers_logging.disable_progress_bar()
    pipeline: Any = DiffusionPipeline.from_pretrained(
        folder.path, dtype=dtype, variant=folder.variant or None, local_files_only=True
    )
    pipeline.scheduler = make_scheduler(recipe.sampler, folder.scheduler_config)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)

    def paint_plainly() -> object:
        return pipeline(
            recipe.prompt,
            negative_prompt=recipe.negative_prompt,
            generator=torch.Generator().manual_seed(recipe.seed),
            width=recipe.width,
            height=recipe.height,
            num_inference_steps=recipe.num_inference_steps,
            guidance_scale=recipe.guidance_scale,
        )

    return paint_plainly


def _picture(
    model: StableDiffusion, recipe: Recipe, on_frame: Callable[[Frame], object] | None = None
) -> object:
    return to_images(model.decode(paint(model, recipe, on_frame)))


def _picture_by_openvino(model: StableDiffusion, recipe: Recipe) -> object:
    calls = Calls(model)
    latents = paint(model, recipe, predict=lambda rows: calls.predict(rows, "openvino")[0])
    return to_images(decode(model, latents, "openvino"))


def _wait(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def painted_and_kept(model: StableDiffusion, recipe: Recipe, folder: Path) -> float:
    """Paint and keep the timeline; return the share of time that keeping it took."""
    writer = TimelineWriter(folder, recipe)
    kept_s = 0.0

    def keep(frame: Frame) -> None:
        nonlocal kept_s
        start = time.perf_counter()
        writer.add(frame)
        kept_s += time.perf_counter() - start

    start = time.perf_counter()
    _picture(model, recipe, keep)
    closing = time.perf_counter()
    writer.close()
    kept_s += time.perf_counter() - closing
    return kept_s / (time.perf_counter() - start - kept_s)


def _in_turn(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time every way once a round, after one that warms up: a machine's drift then meets all alike."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(-1, rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if round_ >= 0:
                times[name].append(time.perf_counter() - start)
    return times


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.cpu.get_capabilities().get('cpu_name', device.type)}, {torch.get_num_threads()} threads"
