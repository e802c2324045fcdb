"""`python app.py train …`: the command line of training.

torch is imported by the commands, not by this module, so that listing the commands stays quick.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from pipelines.training.stages import Run

train_app = typer.Typer(
    help="Train the embedded model again, from the data pack to the shipped folder.", no_args_is_help=True
)

CORES = os.cpu_count() or 1

Data = Annotated[Path, typer.Option(help="The data pack: a folder of WebDataset tar shards.")]
Output = Annotated[Path, typer.Option(help="Where checkpoints, logs, sheets and the model go.")]
Size = Annotated[Literal["v1", "toy"], typer.Option(help="v1 is what ships; toy is for tests.")]
Resume = Annotated[bool, typer.Option("--resume", help="Take up the last checkpoint in --output.")]
Minutes = Annotated[float | None, typer.Option(min=0.01, help="Stop, fully annealed, after these minutes.")]
MaxSteps = Annotated[int | None, typer.Option(min=1, help="Stop, fully annealed, after these steps.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Pictures a step in each process.")]
Compile = Annotated[bool, typer.Option("--compile", help="torch.compile; pays on a GPU only.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes that read and arrange pictures.")]
Initial = Annotated[
    Path | None,
    typer.Option(
        exists=True, file_okay=False, help="A model folder to train on from, as assets/models/… is."
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Use only the first pictures of the pack.")]


def _run(
    data: Path,
    output: Path,
    size: str,
    *,
    resume: bool = False,
    workers: int = 1,
    limit: int | None = None,
    compiled: bool = False,
) -> Run:
    from pipelines.training.stages import Run

    try:
        return Run.start(
            data, output, size=size, resume=resume, workers=workers, limit=limit, compiled=compiled
        )
    except FileNotFoundError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def _need_limit(*limits: float | int | None) -> None:
    if all(limit is None for limit in limits):
        typer.echo("error: say how long to train: --minutes, --max-steps or both", err=True)
        raise typer.Exit(2)


@train_app.command()
def autoencoder(
    data: Data,
    output: Output,
    size: Size = "v1",
    minutes: Minutes = None,
    max_steps: MaxSteps = None,
    batch_size: BatchSize = None,
    resume: Resume = False,
    compiled: Compile = False,
    workers: Workers = CORES,
    limit: Limit = None,
) -> None:
    """Train the autoencoder: pictures to latents and back."""
    _need_limit(minutes, max_steps)
    run = _run(data, output, size, resume=resume, workers=workers, limit=limit, compiled=compiled)
    run.autoencoder(minutes=minutes, max_steps=max_steps, batch_size=batch_size)


@train_app.command()
def diffusion(
    data: Data,
    output: Output,
    size: Size = "v1",
    minutes: Minutes = None,
    max_steps: MaxSteps = None,
    batch_size: BatchSize = None,
    resume: Resume = False,
    compiled: Compile = False,
    workers: Workers = CORES,
    limit: Limit = None,
    initial: Initial = None,
) -> None:
    """Train the text encoder and the U-Net on the autoencoder's latents; needs its folder in --output."""
    _need_limit(minutes, max_steps)
    run = _run(data, output, size, resume=resume, workers=workers, limit=limit, compiled=compiled)
    if initial is not None:
        run.take_over(initial)
    if not run.has_autoencoder:
        typer.echo(
            f"error: no autoencoder in {output}: train one first, or name a model by --initial", err=True
        )
        raise typer.Exit(2)
    run.diffusion(minutes=minutes, max_steps=max_steps, batch_size=batch_size, initial=initial)


@train_app.command(name="all")
def everything(
    data: Data,
    output: Output,
    size: Size = "v1",
    autoencoder_minutes: Annotated[float | None, typer.Option(min=0.01, help="For the autoencoder.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="For everything together.")] = None,
    max_steps: MaxSteps = None,
    resume: Resume = False,
    compiled: Compile = False,
    workers: Workers = CORES,
    limit: Limit = None,
) -> None:
    """Train both, one after the other; the U-Net gets what the autoencoder leaves of --minutes."""
    _need_limit(minutes, max_steps)
    if minutes is not None and autoencoder_minutes is None:
        autoencoder_minutes = 0.3 * minutes
    run = _run(data, output, size, resume=resume, workers=workers, limit=limit, compiled=compiled)
    if not run.has_autoencoder:
        run.autoencoder(minutes=autoencoder_minutes, max_steps=max_steps)
    left = None if minutes is None else max(0.05, minutes - run.elapsed_minutes)
    run.diffusion(minutes=left, max_steps=max_steps)


@train_app.command()
def export(
    output: Output,
    model: Annotated[Path, typer.Option(help="The folder to write, such as assets/models/atelier-v1.")],
    size: Size = "v1",
) -> None:
    """Write the averaged weights of the last checkpoint as a Stable Diffusion folder in float16."""
    from pipelines.training.stages import export_checkpoint

    try:
        size_bytes = export_checkpoint(output, model, size=size)
    except (FileNotFoundError, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"{model}: {size_bytes:,} bytes")
