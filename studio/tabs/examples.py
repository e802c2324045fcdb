"""Prompt examples: what an artist may begin from (assets/examples.toml)."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from pipelines.models.find import ModelFolder

EXAMPLES = Path(__file__).resolve().parents[2] / "assets" / "examples.toml"


class Example(BaseModel):
    """A prompt that shows the model at its best; `image` is the name of a thumbnail in assets/examples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str
    format: str
    seed: int | None = None
    image: str | None = None


class ExampleSheet(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    example: tuple[Example, ...]


def read_examples(folder: ModelFolder, path: Path = EXAMPLES) -> list[dict[str, object]]:
    """Read the examples as the fields that each one fills; a format the model lacks leaves the size alone."""
    sheet = ExampleSheet.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    return [_fields(example, folder) for example in sheet.example]


def _fields(example: Example, folder: ModelFolder) -> dict[str, object]:
    fields: dict[str, object] = {"prompt": example.prompt, "image": example.image}
    fields["seed"] = "-1" if example.seed is None else str(example.seed)
    for known in folder.formats:
        if known.name == example.format:
            fields |= {"width": known.width, "height": known.height}
    return fields
