"""What the commands of training refuse in a sentence, with exit status 2."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pipelines.models.find import ModelFolder


def refused(sentence: str) -> typer.Exit:
    """Say what is wrong on standard error; to be raised."""
    typer.echo(f"error: {sentence}", err=True)
    return typer.Exit(2)


def find_or_refuse(model: str | None) -> ModelFolder:
    """A model by its name or folder, by default the embedded one."""
    # Here, so that training alone needs neither this nor pydantic.
    from pipelines.models.find import EMBEDDED, find_model
    from pipelines.recipe import BadInput

    try:
        return find_model(model or EMBEDDED)
    except BadInput as error:
        raise refused(str(error)) from error


def check_data(data: Path) -> None:
    """Refuse a folder without a shard."""
    if not sorted(data.glob("*.tar*")):
        raise refused(f"no .tar shard in {data}: --data is the folder of the data pack")


def need_limit(*limits: float | int | None) -> None:
    """Refuse a run that would never end."""
    if all(limit is None for limit in limits):
        raise refused("say how long to train: --minutes, --max-steps or both")
