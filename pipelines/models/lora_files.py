"""The LoRA files of a studio: which there are, and which fit its model. No torch at import."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from pipelines.models.lora_names import LoraNames, Shape, read_lora_names
from pipelines.models.shelf import Header, Shelf, ShelfFile
from pipelines.recipe import Recipe
from pipelines.styles import Lora

_PEFT_METADATA = "lora_adapter_metadata"
_PICTURE_ONLY = (
    "Only its picture part is used: what it would change in how the prompt is read is left to the model."
)


@dataclass
class LoraShelf(Shelf):
    """The LoRA files in some folders; only headers are read to see what fits."""

    where: str = "the folder of LoRAs"
    what: ClassVar[str] = "LoRA"

    def _wanted(self, recipe: Recipe) -> Sequence[Lora]:
        return recipe.loras

    def _look_at(self, path: Path) -> ShelfFile:
        names = LoraHeader.read(path).names(self.layers)
        return ShelfFile(path.stem, path, self.digest(path), note=_PICTURE_ONLY if names.reads_text else "")


@dataclass(frozen=True)
class LoraHeader(Header):
    """What a LoRA's file says of itself before its numbers."""

    def names(self, layers: Mapping[str, Shape]) -> LoraNames:
        """Find the layers that its tensors change, see `read_lora_names`."""
        return read_lora_names(self.shapes, layers)

    def scale(self, layer: str, rank: int) -> float:
        """Return what the product of a layer's two matrices is multiplied by, where no tensor says it.

        That is 1, but where PEFT wrote its settings beside the matrices: alpha over the rank, or, "rank
        stabilised" (Kalajdzievski 2023), over its root.
        """
        settings = self._settings
        alpha = settings.alpha_of(layer)
        if alpha is None:
            return 1.0
        return alpha / (math.sqrt(rank) if settings.use_rslora else rank)

    @cached_property
    def _settings(self) -> _Settings:
        try:
            told = _WORDS.validate_json(self.metadata.get(_PEFT_METADATA, "{}"))
            unet = {name.removeprefix("unet."): value for name, value in told.items()}
            return _Settings.model_validate(unet)
        except ValidationError:
            return _Settings()


class _Settings(BaseModel):
    """What PEFT says of a LoRA, of which this is needed."""

    lora_alpha: float | None = None
    alpha_pattern: dict[str, float] = {}
    use_rslora: bool = False

    def alpha_of(self, layer: str) -> float | None:
        """Return the alpha of a layer: a pattern is the end of its name, as a regular expression."""
        for pattern, alpha in self.alpha_pattern.items():
            if re.fullmatch(rf"(.*\.)?{pattern}", layer):
                return alpha
        return self.lora_alpha


_WORDS = TypeAdapter(dict[str, object])
