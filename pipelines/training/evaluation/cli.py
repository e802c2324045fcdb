"""`python app.py train evaluate`, `evaluate-mixing`, `evaluate-filling` and `sheet`: how good a model is.

torch is imported by the commands, not by this module, so that listing the commands stays quick.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines.training.options import CORES, Data, FinetuningSteps, Limit, Output, Workers
from pipelines.training.refusing import check_data, find_or_refuse, refused

evaluation_app = typer.Typer()

Model = Annotated[str | None, typer.Option(help="A model's name or folder; by default the embedded one.")]


@evaluation_app.command()
def evaluate(
    data: Data,
    output: Output,
    model: Model = None,
    size: Annotated[Literal["v1", "toy"], typer.Option(help="Of the judges; toy is for tests.")] = "v1",
    pictures: Annotated[int, typer.Option(min=4, help="Painted from held-out captions.")] = 2000,
    prompts: Annotated[int, typer.Option(min=2, help="Painted for style, genre and palette.")] = 500,
    subject_seeds: Annotated[int, typer.Option(min=1, help="Pictures of each subject and manner.")] = 4,
    pair_seeds: Annotated[int, typer.Option(min=1, help="Pictures of each word of a pair.")] = 10,
    diversity_seeds: Annotated[int, typer.Option(min=2, help="Pictures of one prompt.")] = 8,
    mixed_prompts: Annotated[int, typer.Option(min=1, help="Painted in mixes of two styles.")] = 100,
    mixed_seeds: Annotated[int, typer.Option(min=1, help="Pictures of each mix.")] = 3,
    judge_steps: Annotated[int, typer.Option(min=1, help="Training steps of each judge.")] = 3000,
    finetuning_steps: FinetuningSteps = 600,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures painted in one go.")] = 64,
    sampler: Annotated[str | None, typer.Option(help="The model's own by default.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="The model's own by default.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(min=0, help="The model's own by default.")] = None,
    caption_guidance: Annotated[
        float | None, typer.Option(min=0, help="For the Fréchet distance; --guidance-scale by default.")
    ] = None,
    prompts_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Other prompts, as TOML.")
    ] = None,
    classifier: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="As for `see`: the dual encoder sees through it, not from scratch.",
        ),
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="What to measure, with commas between; everything by default.")
    ] = None,
    workers: Workers = CORES,
    limit: Limit = None,
) -> None:
    """Measure a model: agreement, distance to real pictures, diversity, memorisation, its autoencoder."""
    from pipelines.recipe import BadInput
    from pipelines.samplers import SAMPLERS

    folder = find_or_refuse(model)
    chosen = sampler or folder.defaults.sampler
    if chosen not in SAMPLERS:
        raise refused(f"There is no sampler {chosen}; these are: {', '.join(SAMPLERS)}.")
    try:
        folder.check_sampler(chosen)
    except BadInput as error:
        raise refused(str(error)) from error
    check_data(data)

    from pipelines.training.evaluation.evaluate import PARTS, Counts, Evaluation, Part
    from pipelines.training.evaluation.painting import Manner
    from pipelines.training.evaluation.prompts import PROMPTS_FILE, read_prompts
    from pipelines.training.evaluation.report import Report

    asked = PARTS if only is None else only.split(",")
    parts: list[Part] = [part for part in PARTS if part in asked]
    if unknown := [name for name in asked if name not in PARTS]:
        raise refused(f"--only {unknown[0]} is not measured; these are: {', '.join(PARTS)}.")
    defaults = folder.defaults_for(chosen)
    manner = Manner(
        chosen,
        defaults.num_inference_steps if steps is None else steps,
        defaults.guidance_scale if guidance_scale is None else guidance_scale,
    )
    counts = Counts(
        pictures,
        prompts,
        subject_seeds,
        pair_seeds,
        diversity_seeds,
        mixed_prompts,
        mixed_seeds,
        judge_steps,
        finetuning_steps,
        batch_size,
    )
    evaluation = Evaluation(
        folder,
        data,
        output,
        prompts=read_prompts(prompts_file or PROMPTS_FILE),
        counts=counts,
        manner=manner,
        classifier=classifier,
        size=size,
        workers=workers,
        limit=limit,
        say=lambda line: typer.echo(line, err=True),
    )
    report = Report(
        model=folder.name,
        revision=folder.revision,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        device=str(evaluation.device),
        manner=manner,
        counts=counts,
        classifier=None if classifier is None else classifier.name,
        results=evaluation.run(parts, caption_guidance),
    )
    report.write(output / "evaluation.json")
    typer.echo(report.markdown())
    typer.echo(f"written to {output / 'evaluation.json'}", err=True)


@evaluation_app.command()
def sheet(
    output: Annotated[Path, typer.Option(help="The picture to write, such as after.webp.")],
    model: Model = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures painted in one go.")] = 8,
    prompts_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Other prompts, as TOML.")
    ] = None,
) -> None:
    """Paint the sheet of prompts that versions of the model are compared by, at the model's own settings."""
    import torch
    from accelerate import PartialState

    from pipelines.training.evaluation.painting import Manner, Painter
    from pipelines.training.evaluation.prompts import PROMPTS_FILE, plan_sheet, read_prompts
    from pipelines.training.sheets import save_sheet

    folder = find_or_refuse(model)
    pace = folder.defaults
    manner = Manner(pace.sampler, pace.num_inference_steps, pace.guidance_scale)
    painter = Painter(folder, torch.device(PartialState().device or "cpu"), batch_size)
    wanted = plan_sheet(read_prompts(prompts_file or PROMPTS_FILE).sheet)
    images = painter.paint(wanted, manner, lambda line: typer.echo(line, err=True))
    save_sheet(output, [torch.stack(images[start : start + 8]) for start in range(0, len(images), 8)])
    typer.echo(f"{output}: {len(images)} pictures")


@evaluation_app.command()
def evaluate_mixing(
    output: Output,
    model: Model = None,
    prompts: Annotated[int, typer.Option(min=1, help="Painted in mixes of two styles.")] = 100,
    seeds: Annotated[int, typer.Option(min=1, help="Pictures of each mix.")] = 3,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures painted in one go.")] = 4,
    steps: Annotated[int | None, typer.Option(min=1, help="The model's own by default.")] = None,
    prompts_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Other prompts, as TOML.")
    ] = None,
) -> None:
    """Measure mixes by the style classifier beside the model: needs no pack, and trains nothing."""
    folder = find_or_refuse(model)
    if folder.classifier is None:
        raise refused(f"{folder.name} has no style classifier beside it: take `evaluate`, which trains one.")

    from functools import partial

    from pipelines.models.load import load_model
    from pipelines.models.openvino_cpu import openvino_is_for, prepare_openvino
    from pipelines.training.evaluation.judge import own_probabilities
    from pipelines.training.evaluation.mixing import measure_mixing
    from pipelines.training.evaluation.painting import Manner
    from pipelines.training.evaluation.prompts import PROMPTS_FILE, read_prompts

    def say(line: str) -> None:
        typer.echo(line, err=True)

    loaded = load_model(folder)
    if openvino_is_for(loaded):
        loaded.openvino = prepare_openvino(loaded)
    assert loaded.style_classifier is not None
    known, pace = loaded.style_classifier.styles, folder.defaults
    agreement = read_prompts(prompts_file or PROMPTS_FILE).agreement
    figures = measure_mixing(
        loaded,
        partial(own_probabilities, loaded),
        known,
        Manner(pace.sampler, pace.num_inference_steps if steps is None else steps, pace.guidance_scale),
        scenes=[scene.text for scene in agreement.scenes],
        styles=[style for style in agreement.styles if style in known],
        prompts=prompts,
        seeds=seeds,
        at_once=batch_size,
        say=say,
    )
    for name, value in figures.items():
        typer.echo(f"{name}: {value:.4g}")
    output.mkdir(parents=True, exist_ok=True)
    (output / "mixing.json").write_text(json.dumps(figures, indent=2) + "\n")
    say(f"written to {output / 'mixing.json'}")


@evaluation_app.command()
def evaluate_filling(
    data: Data,
    output: Output,
    model: Model = None,
    size: Annotated[Literal["v1", "toy"], typer.Option(help="Of the judge; toy is for tests.")] = "v1",
    pictures: Annotated[int, typer.Option(min=1, help="Held-out paintings with a hole.")] = 50,
    judge_steps: Annotated[int, typer.Option(min=1, help="Training steps of the judge.")] = 3000,
    judge_batch_size: Annotated[
        int | None, typer.Option(min=1, help="Pictures in each; fewer suit a CPU.")
    ] = None,
    judge: Annotated[
        Literal["trained", "own"],
        typer.Option(help="One that is trained now, or the style classifier beside the model."),
    ] = "trained",
    steps: Annotated[int | None, typer.Option(min=1, help="The model's own by default.")] = None,
    workers: Workers = CORES,
    limit: Limit = None,
) -> None:
    """Measure how a model fills holes: the seam, colours and style, beside naive ways of filling."""
    folder = find_or_refuse(model)
    check_data(data)

    from pipelines.recipe import BadInput
    from pipelines.training.evaluation.filling import filling_table, measure_filling, write_filling

    try:
        results = measure_filling(
            folder,
            data,
            output,
            pictures=pictures,
            judge_steps=judge_steps,
            judge_batch_size=judge_batch_size,
            judged_by_own=judge == "own",
            steps=steps,
            size=size,
            workers=workers,
            limit=limit,
            say=lambda line: typer.echo(line, err=True),
        )
    except BadInput as error:
        raise refused(str(error)) from error
    write_filling(results, output / "filling.json")
    typer.echo(filling_table(results))
    typer.echo(f"written to {output / 'filling.json'}", err=True)
