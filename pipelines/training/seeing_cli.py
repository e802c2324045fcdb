"""`app.py train see`, `rank`, `transplant`, `reward`: what pictures show, and a model told how it paints.

torch is imported by the commands, not by this module, so that listing the commands stays quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipelines.training.options import (
    CORES,
    BatchSize,
    Data,
    FinetuningSteps,
    FinishedModel,
    LearningRate,
    Limit,
    MaxSteps,
    Minutes,
    Output,
    Own,
    RenderedShare,
    Resume,
    Size,
    WordNetFolder,
    Workers,
)
from pipelines.training.refusing import check_data, find_or_refuse, need_limit, refused

if TYPE_CHECKING:
    from pipelines.training.wordnet import WordNet

seeing_app = typer.Typer()

Classifier = Annotated[
    Path,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="An ImageNet classifier that torch.export saved: pixels (B, 3, 260, 260) in [-1, 1] to answers.",
    ),
]

Guidance = Annotated[float | None, typer.Option(min=0, help="The model's own by default.")]
JudgeSize = Annotated[Literal["v1", "toy"], typer.Option(help="Of the judges; toy is for tests.")]
PaintedAtOnce = Annotated[int, typer.Option(min=1, help="Pictures painted in one go.")]
JudgeSteps = Annotated[int, typer.Option(min=1, help="Training steps of each judge.")]


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _read_wordnet(folder: Path) -> WordNet:
    from pipelines.training.wordnet import WordNet

    try:
        return WordNet.read(folder)
    except FileNotFoundError as error:
        raise refused(str(error)) from error


@seeing_app.command()
def see(
    data: Data, output: Output, classifier: Classifier, wordnet: WordNetFolder, limit: Limit = None
) -> None:
    """Learn from titles to say what a picture shows, and say it of all paintings: seen.tsv."""
    from pipelines.training.seeing import SeerTraining, train_seer

    check_data(data)
    net = _read_wordnet(wordnet)
    path = train_seer(data, output, classifier, net, training=SeerTraining(), say=_say, limit=limit)
    typer.echo(f"{path}: {len(path.read_text().splitlines())} pictures")


@seeing_app.command()
def rank(
    data: Data,
    output: Output,
    model: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="The model folder that paints the candidates.")
    ],
    classifier: Classifier,
    name: Annotated[str, typer.Option(help="Of the folder in --output/own that the best go to.")],
    wordnet: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="WordNet's own files, dict/; without, no words are wished for."
        ),
    ] = None,
    wishes: Annotated[int, typer.Option(min=1, help="How many pictures are wished for.")] = 6000,
    candidates: Annotated[int, typer.Option(min=1, help="How many are painted of each.")] = 8,
    seed: Annotated[int, typer.Option(help="Another one wishes for others.")] = 0,
    guidance_scale: Guidance = None,
    steps: Annotated[int, typer.Option(min=1, help="Of each candidate.")] = 16,
    size: JudgeSize = "v1",
    judge_steps: JudgeSteps = 3000,
    finetuning_steps: FinetuningSteps = 600,
    batch_size: PaintedAtOnce = 512,
    workers: Workers = CORES,
    limit: Limit = None,
) -> None:
    """Let a model paint wishes several times and keep the best, to be trained on by `diffusion --own`.

    Wishes are single words that WordNet knows for things, genres in styles, and what the pack has.
    """
    from pipelines.training.critics import Schooling, rank_with_critics
    from pipelines.training.evaluation.painting import Manner
    from pipelines.training.ranking import Ranking

    folder = find_or_refuse(str(model))
    check_data(data)
    defaults = folder.defaults
    guidance = defaults.guidance_scale if guidance_scale is None else guidance_scale
    count = rank_with_critics(
        data,
        output,
        folder,
        classifier,
        wordnet=wordnet and _read_wordnet(wordnet),
        name=name,
        wishes=wishes,
        seed=seed,
        manner=Manner(defaults.sampler, steps, guidance),
        ranking=Ranking(candidates=candidates),
        schooling=Schooling(size == "toy", judge_steps, finetuning_steps),
        batch_size=batch_size,
        workers=workers,
        limit=limit,
        say=_say,
    )
    typer.echo(f"{output / 'own' / name}: {count} pictures")


@seeing_app.command()
def transplant(
    context: typer.Context,
    data: Data,
    output: Output,
    wordnet: WordNetFolder,
    name: Annotated[str, typer.Option(help="Of the folder in --output/own that they go to.")],
    model: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="The model folder that paints them over; without, a filter's strokes paint them in.",
        ),
    ] = None,
    count: Annotated[
        int, typer.Option(min=1, help="How many are painted; the poorest painted over go.")
    ] = 12000,
    seed: Annotated[int, typer.Option(help="Another one lays other things on other grounds.")] = 0,
    guidance_scale: Guidance = None,
    steps: Annotated[int, typer.Option(min=1, help="Of the whole way; less than half is gone.")] = 24,
    size: JudgeSize = "v1",
    judge_steps: JudgeSteps = 3000,
    batch_size: PaintedAtOnce = 512,
    workers: Workers = CORES,
    limit: Limit = None,
) -> None:
    """Paint what the pack has as 3D renders alone in the styles of its paintings, for `diffusion --own`."""
    from pipelines.training.critics import Schooling, transplant_things

    if model is None:
        for of_a_model in ("guidance_scale", "steps", "size", "judge_steps"):
            source = context.get_parameter_source(of_a_model)
            if source is not None and source.name != "DEFAULT":
                option = "--" + of_a_model.replace("_", "-")
                raise refused(
                    f"{option} is for a model that paints over: name it with --model, or leave {option} out"
                )
    folder, net = find_or_refuse(str(model)) if model else None, _read_wordnet(wordnet)
    check_data(data)
    try:
        kept = transplant_things(
            data,
            output,
            folder,
            wordnet=net,
            name=name,
            count=count,
            seed=seed,
            steps=steps,
            guidance_scale=guidance_scale,
            schooling=Schooling(size == "toy", judge_steps),
            batch_size=batch_size,
            workers=workers,
            limit=limit,
            say=_say,
        )
    except ValueError as error:
        raise refused(str(error)) from error
    typer.echo(f"{output / 'own' / name}: {kept} pictures")


@seeing_app.command()
def reward(
    data: Data,
    output: Output,
    model: FinishedModel,
    classifier: Classifier,
    wordnet: WordNetFolder,
    size: Size = "v1",
    minutes: Minutes = None,
    max_steps: MaxSteps = None,
    batch_size: BatchSize = None,
    aim: Annotated[
        Literal["both", "styles", "subjects"], typer.Option(help="What the critics insist on.")
    ] = "both",
    wishes: Annotated[int, typer.Option(min=1, help="How many different pictures are wished for.")] = 20000,
    seed: Annotated[int, typer.Option(help="Another one wishes for others, and trains other critics.")] = 0,
    weight: Annotated[
        float | None, typer.Option(min=0, help="What the critics' loss counts beside the pack's.")
    ] = None,
    learning_rate: LearningRate = None,
    rendered_share: RenderedShare = None,
    own: Own = None,
    judge_steps: JudgeSteps = 3000,
    finetuning_steps: FinetuningSteps = 600,
    resume: Resume = False,
    workers: Workers = CORES,
    limit: Limit = None,
) -> None:
    """Tune a U-Net so that critics see in its pictures what was wished for; leaves the model in --output."""
    need_limit(minutes, max_steps)
    check_data(data)

    from pipelines.training.critics import Schooling, reward_with_critics

    net = _read_wordnet(wordnet)
    reward_with_critics(
        data,
        output,
        model,
        classifier,
        wordnet=net,
        size=size,
        minutes=minutes,
        max_steps=max_steps,
        batch_size=batch_size,
        aim=aim,
        wishes=wishes,
        seed=seed,
        weight=weight,
        learning_rate=learning_rate,
        rendered_share=rendered_share,
        own=own,
        schooling=Schooling(size == "toy", judge_steps, finetuning_steps),
        resume=resume,
        workers=workers,
        limit=limit,
        say=_say,
    )
    typer.echo(str(output / "model"))
