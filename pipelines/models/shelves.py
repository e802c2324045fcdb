"""The shelves beside a model: all files that the mix of a recipe can name. No torch at import."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.models.ip_adapter_files import IPAdapterShelf
from pipelines.models.lora_files import LoraShelf
from pipelines.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Shelves:
    """LoRAs, and IP-Adapters with their image encoders."""

    loras: LoraShelf
    ip_adapters: IPAdapterShelf

    def check(self, recipe: Recipe) -> None:
        """See that every file that a recipe and its ancestors need is here.

        Raises:
            BadInput: one is missing.
        """
        self.loras.check(recipe)
        self.ip_adapters.check(recipe)
