"""Paints recipes to files, for the command line: one load of the model, and refusals before any work."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pipelines.models.find import ModelFolder, find_model
from pipelines.models.ip_adapter_files import IPAdapterShelf
from pipelines.models.lora_files import LoraShelf
from pipelines.models.shelves import Shelves
from pipelines.picture_files import fitted_size, picture_size, read_file
from pipelines.recipe import BadInput, Recipe, make_recipe
from pipelines.regions import painted_size
from pipelines.sources import Source, make_source, open_among, source_key
from studio.files import DataDir
from studio.settings import default_data_dir

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.calls import Engine
    from pipelines.denoising import Frame
    from pipelines.models.sd import StableDiffusion


def recipe_maker(folder: ModelFolder, **options: object) -> Callable[..., Recipe]:
    """Return what makes a recipe of a picture's own fields, the same options for all.

    An option that is None takes the model's own default. What it makes raises BadInput with the sentence.
    """
    sampler = options.get("sampler")
    pace = folder.defaults_for(None if sampler is None else str(sampler))
    defaults = {**pace.model_dump(), "width": folder.width, "height": folder.height}
    chosen = {name: defaults.get(name) if value is None else value for name, value in options.items()}

    def recipe(**fields: object) -> Recipe:
        made = make_recipe(model=folder.name, model_revision=folder.revision, **chosen, **fields)
        folder.check_sampler(made.sampler)
        return folder.steered(made)

    return recipe


def shelves_for(folder: ModelFolder, loras: Path | None, ip_adapters: Path | None) -> Shelves:
    """Find LoRAs and IP-Adapters in two folders, and in those of the usual data directory.

    Raises:
        BadInput: there is no such folder.
    """
    for given, option, kind in (
        (loras, "--loras", "LoRAs"),
        (ip_adapters, "--ip-adapters", "IP-Adapters"),
    ):
        if given is not None and not given.is_dir():
            raise BadInput(
                f"There is no folder {given}. Give {option} a folder with {kind} as safetensors files."
            )
    usual = DataDir(default_data_dir())
    return Shelves(
        LoraShelf(tuple(filter(None, (loras, usual.loras))), folder, str(loras or usual.loras)),
        IPAdapterShelf(
            tuple(filter(None, (ip_adapters, usual.ip_adapters))),
            folder,
            str(ip_adapters or usual.ip_adapters),
        ),
    )


@dataclass(frozen=True, slots=True)
class Beginning:
    """What recipes begin from: a source, the size in pixels that suits it, and the files it names."""

    source: Source | None = None
    width: int | None = None
    height: int | None = None
    files: tuple[bytes, ...] = ()


def read_beginning(folder: ModelFolder, image: Path | None, strength: str) -> Beginning:
    """Read the picture that recipes begin from, if there is one.

    Raises:
        BadInput: it cannot be opened, or the strength is none.
    """
    if image is None:
        return Beginning()
    content = read_file(image)
    width, height = fitted_size(picture_size(content), area=folder.width * folder.height)
    return Beginning(make_source(image=source_key(content), strength=strength), width, height, (content,))


def read_hole(folder: ModelFolder, image: Path, mask: Path | None, **choices: object) -> Beginning:
    """Read a picture and the mask of what is repainted in it, if not only what it grows by is painted.

    Raises:
        BadInput: one of them cannot be opened, they differ in size, nothing is painted, or a choice is none.
    """
    picture, hole = read_file(image), None if mask is None else read_file(mask)
    keys = [None if file is None else source_key(file) for file in (picture, hole)]
    source = make_source(image=keys[0], mask=keys[1], **choices)
    if not source.in_part:
        raise BadInput(
            "Give --mask FILE, white where it is repainted, or let it grow, as by --right 64.", "mask"
        )
    size = painted_size(source, picture, hole, area=folder.width * folder.height)
    return Beginning(source, *size, (picture,) if hole is None else (picture, hole))


def read_reference(given: str, ip_adapter: str = "") -> tuple[dict[str, object], bytes]:
    """Read "picture.jpg=0.4": what a mix says of a picture that it follows, and the picture's file.

    With the name of an IP-Adapter it is followed through that one.

    Raises:
        BadInput: there is no "=" in it, or no such picture.
    """
    name, equals, strength = given.rpartition("=")
    if not equals:
        raise BadInput(f"Give a picture to follow as FILE=STRENGTH, such as {given}=0.4.", "mix")
    content = read_file(Path(name))
    picture_size(content)
    return {"image": source_key(content), "strength": strength, "ip_adapter": ip_adapter}, content


def paint_all(
    folder: Path,
    jobs: list[tuple[Path, Recipe]],
    timeline: Path | None,
    sources: Iterable[bytes] = (),
    *,
    deterministic: bool = False,
    calls: str = "",
    shelves: Shelves | None = None,
) -> None:
    """Load the model once and paint every job to its file, with torch's own calls.

    `sources` are the files that recipes name; `deterministic` paints as a studio does that is; `calls`, as
    the infotext of a picture has them, paints as it was painted; `shelves` are where LoRAs and
    IP-Adapters are found.
    """
    from pipelines.calls import Call, Calls, buckets_of, calls_in_words, decoder_for, engine_of, fit_buckets
    from pipelines.decoding import decode_kept
    from pipelines.denoising import Rows
    from pipelines.models.load import load_model
    from pipelines.prompt_to_image import paint as paint_latents
    from pipelines.remarks import remarks
    from pipelines.stitching import stitch
    from pipelines.timeline import TimelineWriter
    from studio.provenance import save_png

    open_source = open_among(sources)
    for path, recipe in jobs:
        for key in recipe.files:
            open_source(key)  # what is missing is said before the model is loaded
        if shelves is not None:
            shelves.check(recipe)
        prepare_folder(path.parent)
    if timeline is not None:
        prepare_folder(timeline)
    with _progress(len(jobs)) as progress:
        model: StableDiffusion = load_model(find_model(str(folder)))
        if shelves is not None:
            model.find_on(shelves)
        buckets = buckets_of(model, calls)
        if deterministic and model.device.type != "cpu":
            buckets = fit_buckets(model, deterministic=True)
        _hasten(model, calls)
        asking = Calls(model, buckets)
        for path, recipe in jobs:
            writer = TimelineWriter(timeline, recipe) if timeline is not None else None

            def on_frame(frame: Frame, name: str = path.name, writer: TimelineWriter | None = writer) -> None:
                progress(name, frame.step + 1, frame.steps)
                if writer is not None:
                    writer.add(frame)

            made: dict[Call, None] = {}
            engine = engine_of(model, recipe, calls)

            def predict(rows: Rows, engine: Engine = engine, made: dict[Call, None] = made) -> Tensor:
                answers, used = asking.predict(rows, engine)
                made.update(dict.fromkeys(used))
                return answers

            for remark in remarks(model, recipe):
                typer.echo(remark, err=True)
            latents = paint_latents(model, recipe, on_frame, open_source=open_source, predict=predict)
            if writer is not None:
                writer.close()
            painted, decoder = decode_kept(model, [latents], decoder_for(map(str, made), calls))[0]
            save_png(path, stitch(recipe, painted, open_source).whole, recipe, calls_in_words(made, decoder))


def _hasten(model: StableDiffusion, calls: str) -> None:
    """Prepare what the calls in an infotext were made with, where this machine has it."""
    from pipelines.models.cuda_graphs import CudaGraphs, cuda_graphs_are_for
    from pipelines.models.openvino_cpu import openvino_is_for, prepare_openvino

    if calls.startswith("openvino") and openvino_is_for(model):
        try:
            model.openvino = prepare_openvino(model)
        except RuntimeError as error:
            typer.echo(f"{error}. The picture is painted by torch, nearly the same.", err=True)
    if "compiled" in calls and cuda_graphs_are_for(model):
        model.compiled = CudaGraphs(model, waits=True)


@contextmanager
def _progress(pictures: int) -> Generator[Callable[[str, int, int], None]]:
    """Show a bar for the picture being painted, where standard error is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("loading the model", total=None)
        done = 0

        def show(name: str, step: int, steps: int) -> None:
            nonlocal done
            label = name if pictures == 1 else f"{name} ({done + 1} of {pictures})"
            progress.update(task, description=label, completed=step, total=steps)
            done += step == steps

        yield show


def png_path(path: Path) -> Path:
    """Take a path to write a PNG to.

    Raises:
        BadInput: it is a folder, or called otherwise.
    """
    if path.suffix.lower() != ".png":
        raise BadInput(f"--output is a PNG file, such as {path.with_suffix('.png').name}, not {path.name}.")
    if path.is_dir():
        raise BadInput(f"--output is a PNG file, and {path} is a folder.")
    return path


def prepare_folder(folder: Path) -> None:
    """Make a folder and see that it can be written to, before any work is spent.

    Raises:
        BadInput: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise BadInput(
            f"Nothing can be written to {folder.resolve()}; choose a folder that you may write to."
        )


def read_text(file: Path) -> str:
    """Read a text file.

    Raises:
        BadInput: it cannot be read, or is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise BadInput(f"{file} is not UTF-8 text.") from None
