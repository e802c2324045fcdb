"""The options that several commands of training share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

CORES = os.cpu_count() or 1

Data = Annotated[Path, typer.Option(help="The data pack: a folder of WebDataset tar shards.")]
Output = Annotated[Path, typer.Option(help="Where checkpoints, logs, sheets and the model go.")]
Size = Annotated[Literal["v1", "toy"], typer.Option(help="v1 is what ships; toy is for tests.")]
Resume = Annotated[bool, typer.Option("--resume", help="Take up the last checkpoint in --output.")]
Minutes = Annotated[float | None, typer.Option(min=0.01, help="Stop, fully annealed, after these minutes.")]
MaxSteps = Annotated[int | None, typer.Option(min=1, help="Stop, fully annealed, after these steps.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Pictures a step in each process.")]
LearningRate = Annotated[
    float | None, typer.Option(min=0, help="At its highest; training that goes on wants less than the first.")
]
Compile = Annotated[bool, typer.Option("--compile", help="torch.compile; pays on a GPU only.")]
CompileFor = Annotated[
    Literal["blocks", "format-blocks", "formats", "any"],
    typer.Option(help="What --compile compiles: the U-Net's blocks, or all of it, for any or each format."),
]
Workers = Annotated[int, typer.Option(min=1, help="Processes that read and arrange pictures.")]
Initial = Annotated[
    Path | None,
    typer.Option(
        exists=True, file_okay=False, help="A model folder to train on from, as assets/models/… is."
    ),
]
FinishedModel = Annotated[
    Path, typer.Option(exists=True, file_okay=False, help="A finished model folder, to go on from.")
]
Own = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        file_okay=False,
        help="A folder with what `rank` and `transplant` left in folders: trained on as well.",
    ),
]
RenderedShare = Annotated[
    float | None, typer.Option(min=0, max=0.95, help="3D renders among what is drawn; 0.13 by default.")
]
SnrFloor = Annotated[
    float | None,
    typer.Option(min=0, help="What the noisiest steps, which compose, count; 0.4 by default."),
]
FinetuningSteps = Annotated[
    int,
    typer.Option(
        min=0,
        help="Of the classifier, taught along with the dual encoder; 0 leaves it as it is.",
    ),
]
EnglishWords = Annotated[
    Path, typer.Option(exists=True, dir_okay=False, help="English words, the commonest first.")
]
SentenceEncoderFolder = Annotated[
    Path, typer.Option(exists=True, file_okay=False, help="A BERT sentence encoder, as all-MiniLM-L6-v2 is.")
]
WordNetFolder = Annotated[
    Path, typer.Option(exists=True, file_okay=False, help="WordNet's own files, dict/.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Use only the first pictures of the pack.")]
