"""Atelier's command line: serve, paint, replay, train, bench, models, doctor."""

from __future__ import annotations

import os

# Idle OpenMP threads must not spin while another thread works; read once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.models.find import EMBEDDED, find_model, list_models
from pipelines.recipe import BadInput, Recipe, make_recipe
from pipelines.training.cli import train_app

if TYPE_CHECKING:
    from pipelines.denoising import Frame
    from pipelines.models.sd import StableDiffusion

app = typer.Typer(
    help="A shared diffusion art studio in the browser.",
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=False,
)
app.add_typer(train_app, name="train")

Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")]
Port = Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)]
DataDir = Annotated[
    Path | None, typer.Option(help="Where pictures are kept [default: ~/.local/share/atelier].")
]
ModelName = Annotated[str, typer.Option(help="A model's name, or the path of a Stable Diffusion folder.")]
# Numbers arrive as text, so that the recipe's own sentences answer for them.
Number = Annotated[str | None, typer.Option(metavar="NUMBER")]


@app.callback(invoke_without_command=True)
def default(
    context: typer.Context,
    host: Host = "127.0.0.1",
    port: Port = 7860,
    data_dir: DataDir = None,
    model: ModelName = EMBEDDED,
) -> None:
    """Serve the studio when no command is given."""
    if context.invoked_subcommand is None:
        serve(host, port, data_dir, model)


@app.command()
def serve(
    host: Host = "127.0.0.1", port: Port = 7860, data_dir: DataDir = None, model: ModelName = EMBEDDED
) -> None:
    """Open the studio to browsers (the default)."""
    from studio.serve import serve as serve_studio
    from studio.settings import Settings, default_data_dir

    serve_studio(Settings(host=host, port=port, data_dir=data_dir or default_data_dir(), model=model))


@app.command()
def paint(
    prompt: Annotated[str | None, typer.Argument(help="What to paint; empty for whatever comes.")] = None,
    *,
    output: Annotated[Path, typer.Option(help="The PNG to write, or a folder with --prompts.")],
    prompts: Annotated[Path | None, typer.Option(help="A text file with one prompt a line.")] = None,
    negative_prompt: Annotated[str, typer.Option(help="What the picture should keep away from.")] = "",
    seed: Annotated[str, typer.Option(metavar="NUMBER", help="-1 draws one.")] = "-1",
    num_inference_steps: Number = None,
    guidance_scale: Number = None,
    width: Number = None,
    height: Number = None,
    sampler: Annotated[str | None, typer.Option(help="As in the studio: DPM++ 2M, Euler a, …")] = None,
    model: ModelName = EMBEDDED,
    timeline: Annotated[Path | None, typer.Option(help="Keep every step in this folder.")] = None,
) -> None:
    """Paint one picture, or one for each line of a file."""
    if (prompt is None) == (prompts is None):
        raise BadInput('Give either a prompt, as in paint "a quiet harbour", or --prompts FILE.')
    if prompts is not None and timeline is not None:
        raise BadInput("--timeline keeps the steps of one picture; give it with a prompt, without --prompts.")
    folder = find_model(model)
    defaults = folder.defaults

    def recipe(text: str) -> Recipe:
        chosen = make_recipe(
            model=folder.name,
            model_revision=folder.revision,
            prompt=text,
            negative_prompt=negative_prompt,
            seed=seed,
            width=folder.width if width is None else width,
            height=folder.height if height is None else height,
            sampler=defaults.sampler if sampler is None else sampler,
            num_inference_steps=(
                defaults.num_inference_steps if num_inference_steps is None else num_inference_steps
            ),
            guidance_scale=defaults.guidance_scale if guidance_scale is None else guidance_scale,
        )
        folder.check_sampler(chosen.sampler)
        return chosen

    if prompts is None:
        jobs = [(_png(output), recipe(prompt or ""))]
    else:
        lines = [line.strip() for line in _read_text(prompts).splitlines() if line.strip()]
        if not lines:
            raise BadInput(f"{prompts} has no prompts: write one a line.")
        if output.exists() and not output.is_dir():
            raise BadInput(f"With --prompts, --output is a folder, and {output} is a file.")
        jobs = [(output / f"{number:05d}.png", recipe(line)) for number, line in enumerate(lines)]
    _paint_all(folder.path, jobs, timeline)


@app.command()
def replay(
    picture: Annotated[Path, typer.Argument(help="A PNG that Atelier painted.")],
    output: Annotated[Path, typer.Option(help="The PNG to write.")],
    model: Annotated[str | None, typer.Option(help="Where its model is, when it was given by path.")] = None,
) -> None:
    """Paint the picture that a PNG describes once more, to the same pixels on the same machine."""
    from studio.provenance import read_png_recipe

    target = _png(output)
    recipe = read_png_recipe(picture)
    folder = find_model(model or recipe.model)
    if folder.revision != recipe.model_revision:
        raise BadInput(
            f"{picture.name} was painted with {recipe.model} at revision {recipe.model_revision[:8]}, and "
            f"{folder.path} is revision {folder.revision[:8]}: the picture would differ. Give the folder "
            "with the same weights as --model."
        )
    _paint_all(folder.path, [(target, recipe)], None)


@app.command()
def bench(
    output: Annotated[Path | None, typer.Option(help="A JSON file for the rows.")] = None,
    rounds: Annotated[int, typer.Option(help="How often each way is timed.", min=1)] = 5,
    model: ModelName = EMBEDDED,
) -> None:
    """Time one picture beside plain diffusers, on the same weights and in the same run."""
    import json

    from rich.console import Console
    from rich.table import Table

    from pipelines.bench import bench as bench_model

    if output is not None:
        _prepare_folder(output.parent)
    measured = bench_model(find_model(model), rounds=rounds)
    table = Table("what", "model", "device", "ours, s", "plain diffusers, s", "ratio")
    for row in measured.rows:
        times = f"{row.ours_s:.3f}", f"{row.plain_s:.3f}", f"{row.ratio:.3f}"
        table.add_row(row.name, row.model, row.device, *times)
    Console().print(table)
    typer.echo(f"Keeping the timeline costs {measured.timeline_cost:.1%} of a run.")
    if output is not None:
        output.write_text(json.dumps([row.model_dump() for row in measured.rows], indent=1), encoding="utf-8")


@app.command()
def models() -> None:
    """List the models that are installed."""
    for path in list_models():
        folder = find_model(str(path))
        typer.echo(f"{folder.name}\t{folder.revision[:8]}\t{folder.width}x{folder.height}\t{folder.path}")


@app.command()
def doctor(data_dir: DataDir = None, model: ModelName = EMBEDDED) -> None:
    """Say what this machine has; exit with 1 when something needed is missing."""
    from studio.doctor import examine

    findings = examine(data_dir, model)
    for finding in findings:
        typer.echo(f"{'ok  ' if finding.ok else 'FAIL'} {finding.what}: {finding.found}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def _paint_all(folder: Path, jobs: list[tuple[Path, Recipe]], timeline: Path | None) -> None:
    """Load the model once and paint every job to its file."""
    from pipelines.latents import to_images
    from pipelines.models.load import load_model
    from pipelines.prompt_to_image import paint as paint_latents
    from pipelines.timeline import TimelineWriter
    from studio.provenance import save_png

    for path, _ in jobs:
        _prepare_folder(path.parent)
    if timeline is not None:
        _prepare_folder(timeline)
    with _progress(len(jobs)) as progress:
        model: StableDiffusion = load_model(find_model(str(folder)))
        for path, recipe in jobs:
            writer = TimelineWriter(timeline, recipe) if timeline is not None else None

            def on_frame(frame: Frame, name: str = path.name, writer: TimelineWriter | None = writer) -> None:
                progress(name, frame.step + 1, frame.steps)
                if writer is not None:
                    writer.add(frame)

            if unread := model.unread(recipe.prompt):
                typer.echo(f"The prompt is longer than the model reads; left out: {unread}", err=True)
            latents = paint_latents(model, recipe, on_frame)
            if writer is not None:
                writer.close()
            save_png(path, to_images(model.decode(latents))[0], recipe)


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


def _png(path: Path) -> Path:
    if path.suffix.lower() != ".png":
        raise BadInput(f"--output is a PNG file, such as {path.with_suffix('.png').name}, not {path.name}.")
    if path.is_dir():
        raise BadInput(f"--output is a PNG file, and {path} is a folder.")
    return path


def _prepare_folder(folder: Path) -> None:
    """Make a folder and see that it can be written to, before any work is spent."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise BadInput(
            f"Nothing can be written to {folder.resolve()}; choose a folder that you may write to."
        )


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise BadInput(f"{file} is not UTF-8 text.") from None


def main() -> None:
    """Run the command line; bad input is one line on standard error and exit status 2."""
    try:
        status: object = app(standalone_mode=False)
    except BadInput as error:
        sentence = str(error)
    except typer.TyperException as error:
        sentence = getattr(error, "format_message", error.__str__)()
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except OSError as error:
        print(f"{error.filename or 'Writing'}: {error.strerror}.", file=sys.stderr)
        sys.exit(1)
    else:
        sys.exit(status if isinstance(status, int) else 0)
    print(" ".join(sentence.split()), file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
