"""Atelier beside plain diffusers: the same weights, the same steps, in one process and in turn."""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

from pipelines.bench_in_line import InLine, plain_diffusers
from pipelines.bench_together import Together, of_artists, one_by_one, paint_together, strip_of
from pipelines.calls import Calls, decoder_for
from pipelines.decoding import decode_kept
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
from pipelines.timeline import TimelineWriter

log = logging.getLogger(__name__)

_FEW_STEPS = "picture, few steps"
_GUIDED_STEPS = "picture, 25 guided steps"
_BY_OPENVINO = ", OpenVINO"
_GUIDED = Defaults(num_inference_steps=25)
_PROMPT = "seascape, moonlight"
# On an accelerator, unless others are asked for.
_ARTISTS = (1, 4, 16, 64)


class BenchRow(BaseModel):
    """One comparison; times are medians in seconds per picture, `ratio` is ours over plain diffusers.

    `plain_s` is the median of all `plain_rounds` plain pictures of the same model, size and steps in the run,
    painted between all of ours; `plain_least_s` and `plain_most_s` are the quickest and the slowest of them.
    Of a strip it is what its pictures took one after another, painted by the studio itself.

    Of pictures at once also how long a tick takes, when the last of the artists has her first preview, how
    long one waits for hers who joins the others, and, on an accelerator, its memory at its fullest and how
    long compiling took before (`pipelines.bench_together`).
    """

    model_config = ConfigDict(frozen=True)

    name: str
    model: str
    device: str
    artists: int
    ours_s: float
    plain_s: float
    ratio: float
    plain_rounds: int
    plain_least_s: float
    plain_most_s: float
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


@dataclass(frozen=True, slots=True)
class _Measured:
    """One of our ways, and the pictures in line that it is compared with once all of them are painted."""

    name: str
    ours_s: float
    in_line: InLine
    artists: int = 1
    together: Together | None = None

    def row(self, model: StableDiffusion) -> BenchRow:
        numbers = {} if self.together is None else asdict(self.together)
        known = {name: value for name, value in numbers.items() if value and name != "ours_s"}
        return BenchRow.model_validate(
            {
                "name": self.name,
                "model": model.folder.name,
                "device": _device_name(model.device),
                "artists": self.artists,
                "ours_s": self.ours_s,
                "plain_s": self.in_line.median_s,
                "ratio": self.ours_s / self.in_line.median_s,
                "plain_rounds": len(self.in_line.times_s),
                "plain_least_s": min(self.in_line.times_s),
                "plain_most_s": max(self.in_line.times_s),
                **known,
            }
        )


def bench(
    folder: ModelFolder,
    *,
    rounds: int = 5,
    artists: Sequence[int] = (),
    prompt: str = _PROMPT,
    strip: bool = False,
) -> Bench:
    """Time one picture at the model's default settings, each way in turn, `rounds` times.

    Rows: "picture" in the precision plain diffusers loads (float32 on a CPU, float16 elsewhere), "picture,
    timeline kept" with every frame written to disk; where the studio would choose another precision "picture,
    studio precision"; beside a plain picture of 25 guided steps "picture, 25 guided steps" and, where the
    model has a companion, "picture, few steps" as the studio paints them, both also by OpenVINO where it is
    installed. For each number of `artists`, "together": they all paint at once as in the studio, on a CPU one
    round for every five; on CUDA "together, eager" and "together, compiled". With a `strip`, likewise "strip
    of seven": mixes at once, over the same in line.
    """
    studio = find_placement()
    plain_dtype = torch.float32 if studio.device.type == "cpu" else torch.float16
    same = load_model(folder, Placement(studio.device, plain_dtype, plain_dtype))

    recipe, guided = _recipe_of(folder, folder.defaults, prompt), _recipe_of(folder, _GUIDED, prompt)
    plain = plain_diffusers(folder, recipe, studio.device, plain_dtype)
    plain_guided = plain_diffusers(folder, guided, studio.device, plain_dtype)
    costs: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        ways: dict[str, Callable[[], object]] = {
            "picture": lambda: _picture(same, recipe),
            "picture, timeline kept": lambda: costs.append(painted_and_kept(same, recipe, Path(scratch))),
        }
        as_studio = same if studio.dtype == plain_dtype else load_model(folder, studio)
        if as_studio is not same:
            ways["picture, studio precision"] = lambda: _picture(as_studio, recipe)
        beside_guided = {_GUIDED_STEPS: guided}
        if folder.companion is not None:
            beside_guided[_FEW_STEPS] = _recipe_of(folder, folder.companion.pace, prompt)
        for name, asked in beside_guided.items():
            ways[name] = partial(_picture, as_studio, asked)
        if openvino_is_for(as_studio):
            try:
                as_studio.openvino = prepare_openvino(as_studio)
            except RuntimeError as error:
                log.warning("%s: it is not timed", error)
            else:
                for name, asked in beside_guided.items():
                    ways[name + _BY_OPENVINO] = partial(_picture_by_openvino, as_studio, asked)
        times = _in_turn(ways, (plain, plain_guided), rounds)
    measured = [
        _Measured(
            name,
            statistics.median(own),
            plain_guided if name.removesuffix(_BY_OPENVINO) in beside_guided else plain,
        )
        for name, own in times.items()
    ]
    counts = artists or _usual_artists(studio.device)
    measured += _together(as_studio, recipe, plain, counts, rounds, strip=strip)
    return Bench([one.row(as_studio) for one in measured], statistics.median(costs))


def bench_architecture(
    folder: ModelFolder, *, rounds: int = 5, artists: Sequence[int] = (), strip: bool = False
) -> Bench:
    """Time artists at once only, as `bench` does, for a model whose pictures are of no interest."""
    studio = find_placement()
    plain_dtype = torch.float32 if studio.device.type == "cpu" else torch.float16
    recipe = _recipe_of(folder, folder.defaults, _PROMPT)
    plain = plain_diffusers(folder, recipe, studio.device, plain_dtype)
    model = load_model(folder, studio)
    counts = artists or _usual_artists(studio.device) or (1,)
    measured = _together(model, recipe, plain, counts, rounds, strip=strip)
    return Bench([one.row(model) for one in measured])


def _usual_artists(device: torch.device) -> tuple[int, ...]:
    return () if device.type == "cpu" else _ARTISTS


def _recipe_of(folder: ModelFolder, pace: Defaults, prompt: str) -> Recipe:
    size = {"width": folder.width, "height": folder.height}
    model = {"model": folder.name, "model_revision": folder.revision}
    return make_recipe(**model, **size, **pace.model_dump(), prompt=prompt, seed=1)


def _together(
    model: StableDiffusion, recipe: Recipe, plain: InLine, artists: Sequence[int], rounds: int, *, strip: bool
) -> list[_Measured]:
    """Paint for each number of artists at once; on CUDA by torch's own calls, then by compiled ones."""
    engines = [", eager", ", compiled"] if cuda_graphs_are_for(model) else [""]
    measured: list[_Measured] = []
    for engine in engines:
        model.compiled = CudaGraphs(model, waits=True) if engine == ", compiled" else None
        for count in artists:
            # On a CPU what many paint together has its median in itself.
            turns = max(1, rounds // 5) if count > 1 and model.device.type == "cpu" else rounds
            together = paint_together(model, of_artists(recipe, count), plain, rounds=turns)
            measured.append(_Measured(f"together{engine}", together.ours_s, plain, count, together))
        if strip:
            cells = strip_of(recipe)
            in_line = one_by_one(model, cells)
            together = paint_together(model, lambda _, cells=cells: cells, in_line, rounds=rounds)
            name = f"strip of seven{engine}, over the seven in line"
            measured.append(_Measured(name, together.ours_s, in_line, len(cells), together))
    model.compiled = None
    return measured


def _picture(
    model: StableDiffusion, recipe: Recipe, on_frame: Callable[[Frame], object] | None = None
) -> object:
    return to_images(model.decode(paint(model, recipe, on_frame)))


def _picture_by_openvino(model: StableDiffusion, recipe: Recipe) -> object:
    calls = Calls(model)
    latents = paint(model, recipe, predict=lambda rows: calls.predict(rows, "openvino")[0])
    return decode_kept(model, [latents], decoder_for(["openvino"]))


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


def _in_turn(
    ways: dict[str, Callable[[], object]], plains: Sequence[InLine], rounds: int
) -> dict[str, list[float]]:
    """Time every way once a round, and plain pictures with them, after a round that warms up.

    A machine's drift then meets all alike.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(-1, rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if round_ >= 0:
                times[name].append(time.perf_counter() - start)
        for plain in plains if round_ >= 0 else ():
            plain.paint()
    return times


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.cpu.get_capabilities().get('cpu_name', device.type)}, {torch.get_num_threads()} threads"
