"""Atelier's command line: serve, paint, blend, inpaint, replay, train, bench, models, doctor."""

from __future__ import annotations

import os

# Idle OpenMP threads must not spin while another thread works; read once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipelines.models.find import EMBEDDED, find_model, list_models
from pipelines.palette import make_mix, read_share
from pipelines.picture_files import read_file
from pipelines.recipe import BadInput
from pipelines.training.cli import train_app
from studio.options import (
    DataDir,
    Deterministic,
    Grow,
    Image,
    IPAdapters,
    Loras,
    Method,
    ModelName,
    Output,
    PictureOptions,
    Strength,
    StudioOptions,
    Styles,
    with_options,
)
from studio.to_files import (
    paint_all,
    png_path,
    prepare_folder,
    read_beginning,
    read_hole,
    read_reference,
    read_text,
    shelves_for,
)

app = typer.Typer(
    help="A shared diffusion art studio in the browser.",
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=False,
)
app.add_typer(train_app, name="train")


@app.callback(invoke_without_command=True)
@with_options
def default(context: typer.Context, *, options: StudioOptions) -> None:
    """Serve the studio when no command is given."""
    if context.invoked_subcommand is None:
        _serve(options)


@app.command()
@with_options
def serve(*, options: StudioOptions) -> None:
    """Open the studio to browsers (the default)."""
    _serve(options)


def _serve(options: StudioOptions) -> None:
    from studio.serve import serve as serve_studio

    serve_studio(options.settings)


@app.command()
@with_options
def paint(
    prompt: Annotated[str | None, typer.Argument(help="What to paint; empty for whatever comes.")] = None,
    *,
    output: Annotated[Path, typer.Option(help="The PNG to write, or a folder with --prompts.")],
    prompts: Annotated[Path | None, typer.Option(help="A text file with one prompt a line.")] = None,
    image: Image = None,
    strength: Strength = "0.6",
    options: PictureOptions,
    deterministic: Deterministic = False,
) -> None:
    """Paint one picture, or one for each line of a file."""
    if (prompt is None) == (prompts is None):
        raise BadInput('Give either a prompt, as in paint "a quiet harbour", or --prompts FILE.')
    if prompts is not None and options.timeline is not None:
        raise BadInput("--timeline keeps the steps of one picture; give it with a prompt, without --prompts.")
    folder = find_model(options.model)
    begun = read_beginning(folder, image, strength)
    recipe = options.recipes(folder, begun)
    if prompts is None:
        jobs = [(png_path(output), recipe(prompt=prompt or ""))]
    else:
        lines = [line.strip() for line in read_text(prompts).splitlines() if line.strip()]
        if not lines:
            raise BadInput(f"{prompts} has no prompts: write one a line.")
        if output.exists() and not output.is_dir():
            raise BadInput(f"With --prompts, --output is a folder, and {output} is a file.")
        jobs = [(output / f"{number:05d}.png", recipe(prompt=line)) for number, line in enumerate(lines)]
    paint_all(folder.path, jobs, options.timeline, begun.files, deterministic=deterministic)


@app.command()
@with_options
def blend(
    prompt: Annotated[str, typer.Argument(help="What to paint, without any style.")],
    *,
    style: Styles = None,
    follow: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE=STRENGTH", help="A picture to follow, from 0 to 1; once for each."),
    ] = None,
    ip_adapter: Annotated[
        str,
        typer.Option(metavar="NAME", help="Follow them through this IP-Adapter, not by shared attention."),
    ] = "",
    ip_adapters: IPAdapters = None,
    steer: Annotated[
        str, typer.Option(metavar="NUMBER", help="How hard the model's style classifier steers, 0 to 10.")
    ] = "0",
    lora: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=WEIGHT", help="A LoRA to add, from -2 to 2; once for each."),
    ] = None,
    loras: Loras = None,
    method: Method = "conditioning",
    output: Output,
    image: Image = None,
    strength: Strength = "0.6",
    options: PictureOptions,
) -> None:
    """Paint one picture in several styles at once."""
    target = png_path(output)
    if ip_adapter and not follow:
        raise BadInput("An IP-Adapter needs a picture to look at: give --follow FILE=STRENGTH, too.")
    references = [read_reference(given, ip_adapter) for given in follow or []]
    shares = [read_share(share) for share in style or []]
    added = [read_share(share, "LoRA") for share in lora or []]
    folder = find_model(options.model)
    shelves = shelves_for(folder, loras, ip_adapters)
    mix = make_mix(
        shares,
        method,
        references=shelves.ip_adapters.followed_through([told for told, _ in references]),
        steer=steer,
        loras=shelves.loras.chosen(added),
    )
    begun = read_beginning(folder, image, strength)
    jobs = [(target, options.recipes(folder, begun)(prompt=prompt, mix=mix))]
    files = [*begun.files, *(content for _, content in references)]
    paint_all(folder.path, jobs, options.timeline, files, shelves=shelves)


@app.command()
@with_options
def inpaint(
    image: Annotated[Path, typer.Argument(help="The picture: PNG, JPEG, WebP, AVIF, TIFF or HEIC.")],
    *,
    mask: Annotated[
        Path | None, typer.Option(help="A picture of the same size; what is white is repainted.")
    ] = None,
    left: Grow = "0",
    top: Grow = "0",
    right: Grow = "0",
    bottom: Grow = "0",
    style: Styles = None,
    method: Method = "conditioning",
    prompt: Annotated[str, typer.Option(help="What should be there.")] = "",
    strength: Annotated[
        str, typer.Option(metavar="NUMBER", help="How much of the schedule is painted in the hole.")
    ] = "1",
    feather: Annotated[
        str, typer.Option(metavar="PX", help="How many pixels beyond its border the mask fades out over.")
    ] = "0",
    hole: Annotated[str, typer.Option(help="Begin from original, blur, colour or noise.")] = "original",
    paste_back: Annotated[bool, typer.Option(help="Fit the fill into the untouched picture.")] = True,
    output: Output,
    options: PictureOptions,
) -> None:
    """Repaint what a mask covers, or let a picture grow; the rest stays as it is, to the last bit."""
    target, folder = png_path(output), find_model(options.model)
    mix = make_mix([read_share(share) for share in style], method) if style else None
    begun = read_hole(
        folder,
        image,
        mask,
        feather_px=feather,
        strength=strength,
        hole=hole,
        paste_back=paste_back,
        extend=(left, top, right, bottom),
    )
    jobs = [(target, options.recipes(folder, begun)(prompt=prompt, mix=mix))]
    paint_all(folder.path, jobs, options.timeline, begun.files)


@app.command()
def replay(
    picture: Annotated[Path, typer.Argument(help="A PNG that Atelier painted.")],
    output: Output,
    model: Annotated[str | None, typer.Option(help="Where its model is, when it was given by path.")] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="A file it begins from, its mask too; once for each.")
    ] = None,
    loras: Loras = None,
    ip_adapters: IPAdapters = None,
) -> None:
    """Paint the picture that a PNG describes once more, to the same pixels on the same machine."""
    from studio.provenance import read_png_calls, read_png_recipe

    target = png_path(output)
    recipe, calls = read_png_recipe(picture), read_png_calls(picture)
    folder = find_model(model or recipe.model)
    if folder.revision != recipe.model_revision:
        raise BadInput(
            f"{picture.name} was painted with {recipe.model} at revision {recipe.model_revision[:8]}, and "
            f"{folder.path} is revision {folder.revision[:8]}: the picture would differ. Give the folder "
            "with the same weights as --model."
        )
    files, shelves = [read_file(file) for file in image or []], shelves_for(folder, loras, ip_adapters)
    paint_all(folder.path, [(target, recipe)], None, files, calls=calls, shelves=shelves)


@app.command()
def bench(
    output: Annotated[Path | None, typer.Option(help="A JSON file for the rows.")] = None,
    rounds: Annotated[int, typer.Option(help="How often each way is timed.", min=1)] = 5,
    artists: Annotated[
        list[int] | None,
        typer.Option(help="Time so many pictures at once, too; once for each number.", min=1),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A model's name or path; the embedded one, unless architectures are given."),
    ] = None,
    architecture: Annotated[
        list[str] | None,
        typer.Option(help="Time artists at once with this architecture and random weights: sd15 or sdxl."),
    ] = None,
    strip: Annotated[
        bool,
        typer.Option("--strip", help="Time a strip of seven mixes at once, too, over the seven in line."),
    ] = False,
) -> None:
    """Time pictures beside plain diffusers, on the same weights and in the same run."""
    import json

    from pipelines.bench import BenchRow, bench_architecture
    from pipelines.bench import bench as bench_model
    from pipelines.bench_architectures import random_model
    from pipelines.bench_table import print_rows

    if output is not None:
        prepare_folder(output.parent)
    rows: list[BenchRow] = []
    if model is not None or not architecture:
        measured = bench_model(
            find_model(model or EMBEDDED), rounds=rounds, artists=artists or (), strip=strip
        )
        rows += measured.rows
        typer.echo(f"Keeping the timeline costs {measured.timeline_cost:.1%} of a run.")
    for name in architecture or ():
        with random_model(name) as folder:
            rows += bench_architecture(folder, rounds=rounds, artists=artists or (), strip=strip).rows
    print_rows(rows)
    if output is not None:
        output.write_text(
            json.dumps([row.model_dump(exclude_none=True) for row in rows], indent=1), encoding="utf-8"
        )


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
