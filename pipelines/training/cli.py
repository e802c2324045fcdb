"""`python app.py train …`: the command line of training.

torch is imported by the commands, not by this module, so that listing the commands stays quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipelines.training.evaluation.cli import evaluation_app
from pipelines.training.options import (
    CORES,
    BatchSize,
    Compile,
    CompileFor,
    Data,
    EnglishWords,
    FinishedModel,
    Initial,
    LearningRate,
    Limit,
    MaxSteps,
    Minutes,
    Output,
    Own,
    RenderedShare,
    Resume,
    SentenceEncoderFolder,
    Size,
    SnrFloor,
    WordNetFolder,
    Workers,
)
from pipelines.training.refusing import need_limit, refused
from pipelines.training.seeing_cli import seeing_app

if TYPE_CHECKING:
    from pipelines.training.stages import Run

train_app = typer.Typer(
    help="Train the embedded model again, from the data pack to the shipped folder.", no_args_is_help=True
)

train_app.add_typer(evaluation_app)
train_app.add_typer(seeing_app)


def _run(
    data: Path,
    output: Path,
    size: str,
    *,
    resume: bool = False,
    workers: int = 1,
    limit: int | None = None,
    compiled: bool = False,
    compile_for: Literal["blocks", "format-blocks", "formats", "any"] = "blocks",
    own: Path | None = None,
) -> Run:
    from pipelines.training.stages import Run

    try:
        return Run.start(
            data,
            output,
            size=size,
            resume=resume,
            workers=workers,
            limit=limit,
            compiled=compiled,
            compile_for=compile_for,
            own=own,
        )
    except FileNotFoundError as error:
        raise refused(str(error)) from error


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
    initial: Initial = None,
    anchored: Annotated[
        bool, typer.Option("--anchored", help="Keep the latents of --initial, so that its U-Net still fits.")
    ] = False,
) -> None:
    """Train the autoencoder: pictures to latents and back."""
    need_limit(minutes, max_steps)
    if anchored and initial is None:
        raise refused("--anchored keeps the latents of another model: name it by --initial")
    run = _run(data, output, size, resume=resume, workers=workers, limit=limit, compiled=compiled)
    run.autoencoder(
        minutes=minutes, max_steps=max_steps, batch_size=batch_size, initial=initial, anchored=anchored
    )


@train_app.command(name="text-encoder")
def text_encoder(
    data: Data,
    output: Output,
    words: EnglishWords,
    wordnet: WordNetFolder,
    sentence_encoder: SentenceEncoderFolder,
    size: Size = "v1",
    minutes: Minutes = None,
    max_steps: MaxSteps = None,
    batch_size: BatchSize = None,
    resume: Resume = False,
    workers: Workers = CORES,
    limit: Limit = None,
) -> None:
    """Train the text encoder to read English as a sentence encoder does, the words of a wide list too."""
    need_limit(minutes, max_steps)
    run = _run(data, output, size, resume=resume, workers=workers, limit=limit)
    run.text_encoder(
        words=words,
        wordnet=wordnet,
        sentence_encoder=sentence_encoder,
        minutes=minutes,
        max_steps=max_steps,
        batch_size=batch_size,
    )


@train_app.command()
def reread(
    data: Data,
    output: Output,
    model: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="The model folder that is to read them.")
    ],
    words: EnglishWords,
    wordnet: WordNetFolder,
    sentence_encoder: SentenceEncoderFolder,
    workers: Workers = CORES,
    limit: Limit = None,
) -> None:
    """List words that no caption has, and the nearest that captions have: words.tsv of a model folder."""
    from pipelines.training.rereading import reread_words

    try:
        count = reread_words(
            data,
            output,
            model,
            words=words,
            wordnet=wordnet,
            sentence_encoder=sentence_encoder,
            workers=workers,
            limit=limit,
        )
    except FileNotFoundError as error:
        raise refused(str(error)) from error
    typer.echo(f"{output / 'words.tsv'}: {count} words")


@train_app.command()
def diffusion(
    data: Data,
    output: Output,
    size: Size = "v1",
    minutes: Minutes = None,
    max_steps: MaxSteps = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    resume: Resume = False,
    compiled: Compile = False,
    compile_for: CompileFor = "blocks",
    workers: Workers = CORES,
    limit: Limit = None,
    initial: Initial = None,
    own: Own = None,
    rendered_share: RenderedShare = None,
    snr_floor: SnrFloor = None,
) -> None:
    """Train the U-Net on the autoencoder's latents; needs its folder in --output.

    A text encoder that is there too stays as it is; without one it is learnt along with the U-Net.
    """
    need_limit(minutes, max_steps)
    run = _run(
        data,
        output,
        size,
        resume=resume,
        workers=workers,
        limit=limit,
        compiled=compiled,
        compile_for=compile_for,
        own=own,
    )
    if initial is not None:
        run.take_over(initial)
    if not run.has_autoencoder:
        raise refused(f"no autoencoder in {output}: train one first, or name a model by --initial")
    run.diffusion(
        minutes=minutes,
        max_steps=max_steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        snr_floor=snr_floor,
        initial=initial,
        rendered_share=rendered_share,
    )


@train_app.command()
def emphasise(
    data: Data,
    output: Output,
    model: FinishedModel,
    wordnet: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="WordNet's own files, dict/: teaches things."),
    ] = None,
    size: Size = "v1",
    minutes: Minutes = None,
    max_steps: MaxSteps = None,
    batch_size: BatchSize = None,
    share: Annotated[
        float | None, typer.Option(min=0, help="Of what each word is meant to gain; 1 by default.")
    ] = None,
    resume: Resume = False,
    workers: Workers = CORES,
    limit: Limit = None,
) -> None:
    """Teach a text encoder to read styles as if said twice, or with --wordnet things as if said three times.

    Leaves the model in --output.
    """
    need_limit(minutes, max_steps)

    from pipelines.training.saying import read_lesson
    from pipelines.training.wordnet import WordNet

    run = _run(data, output, size, resume=resume, workers=workers, limit=limit)
    try:
        lesson = read_lesson(data, run.prepared, model, wordnet and WordNet.read(wordnet), limit)
    except (ValueError, FileNotFoundError) as error:
        raise refused(str(error)) from error
    run.emphasise(model, lesson, share=share, minutes=minutes, max_steps=max_steps, batch_size=batch_size)
    typer.echo(str(output / "model"))


@train_app.command()
def distill(
    data: Data,
    output: Output,
    model: FinishedModel,
    size: Size = "v1",
    minutes: Minutes = None,
    max_steps: MaxSteps = None,
    batch_size: BatchSize = None,
    guidance_scale: Annotated[float, typer.Option(min=1, help="What the companion paints as if with.")] = 3.5,
    initial: Initial = None,
    judge: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="One that `reward` left in --output/critics."),
    ] = None,
    resume: Resume = False,
    workers: Workers = CORES,
    limit: Limit = None,
    own: Own = None,
) -> None:
    """Distil a model into the companion that paints in four steps; goes into lcm/ beside its other parts.

    With --initial it is that model's companion which is trained on.
    """
    need_limit(minutes, max_steps)

    from pipelines.training.distillation import LORA_FILE

    if initial is not None and not (initial / LORA_FILE).exists():
        raise refused(
            f"{initial} has no companion to train on: a model folder that has one holds {LORA_FILE}"
        )
    run = _run(data, output, size, resume=resume, workers=workers, limit=limit, own=own)
    run.distill(
        model,
        guidance_scale=guidance_scale,
        initial=initial,
        judge=judge,
        minutes=minutes,
        max_steps=max_steps,
        batch_size=batch_size,
    )


@train_app.command(name="style-classifier")
def style_classifier(
    data: Data,
    output: Output,
    model: FinishedModel,
    size: Size = "v1",
    minutes: Minutes = None,
    max_steps: MaxSteps = None,
    batch_size: BatchSize = None,
    most_per_style: Annotated[
        int | None, typer.Option(min=1, help="Use so many training pictures of a style at the most.")
    ] = None,
    resume: Resume = False,
    workers: Workers = CORES,
    limit: Limit = None,
) -> None:
    """Train the classifier that steers a model towards styles; goes into style_classifier/ in its folder."""
    need_limit(minutes, max_steps)
    run = _run(data, output, size, resume=resume, workers=workers, limit=limit)
    accuracy = run.style_classifier(
        model, minutes=minutes, max_steps=max_steps, batch_size=batch_size, most_per_style=most_per_style
    )
    for timestep, share in accuracy.items():
        typer.echo(f"timestep {timestep}: {share:.1%} right, every style counting alike")


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
    compile_for: CompileFor = "blocks",
    workers: Workers = CORES,
    limit: Limit = None,
) -> None:
    """Train both, one after the other; the U-Net gets what the autoencoder leaves of --minutes."""
    need_limit(minutes, max_steps)
    if minutes is not None and autoencoder_minutes is None:
        autoencoder_minutes = 0.3 * minutes
    run = _run(
        data,
        output,
        size,
        resume=resume,
        workers=workers,
        limit=limit,
        compiled=compiled,
        compile_for=compile_for,
    )
    if not run.has_autoencoder:
        run.autoencoder(minutes=autoencoder_minutes, max_steps=max_steps)
    left = None if minutes is None else max(0.05, minutes - run.elapsed_minutes)
    run.diffusion(minutes=left, max_steps=max_steps)


@train_app.command()
def average(
    model: Annotated[Path, typer.Option(exists=True, file_okay=False, help="The model that was trained on.")],
    earlier: Annotated[Path, typer.Option(exists=True, file_okay=False, help="What it was before that.")],
    output: Annotated[Path, typer.Option(help="The folder to write.")],
    share: Annotated[
        float,
        typer.Option(min=0, max=2, help="Of --model, the rest is --earlier's; beyond 1 it goes on from it."),
    ] = 0.5,
    autoencoder_share: Annotated[
        float, typer.Option(min=0, max=1, help="The same for the autoencoder, whose latents must be alike.")
    ] = 1.0,
) -> None:
    """Average a model's U-Net, companion and autoencoder with those it had before."""
    from pipelines.training.soup import average_models

    try:
        average_models(model, earlier, output, share=share, autoencoder_share=autoencoder_share)
    except (FileNotFoundError, ValueError) as error:
        raise refused(str(error)) from error
    typer.echo(str(output))


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
        raise refused(str(error)) from error
    typer.echo(f"{model}: {size_bytes:,} bytes")
