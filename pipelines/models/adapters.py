"""The networks of a model: its own, its companion's, and those that LoRAs are added to."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakValueDictionary

from torch import nn

from pipelines.image_attention import SeenPictures, Shown, show_pictures
from pipelines.models.find import ModelFolder
from pipelines.models.lora import Updates, merge_updates, read_updates
from pipelines.models.lora_files import LoraShelf
from pipelines.models.shelf import unet_files
from pipelines.shared_attention import Shared, SharedAttention, share_attention
from pipelines.styles import Lora

# As the companion's sampler asks for it (`SAMPLERS`).
COMPANION = "lcm"


@dataclass(eq=False)
class Adapter:
    """A network under the name that rows ask for it by."""

    name: str
    unet: Any

    def on_same_weights(self) -> Any:
        """Return a second U-Net on the same weights: it takes no memory, and its modules may be changed."""
        weights = (*self.unet.parameters(), *self.unet.buffers())
        return copy.deepcopy(self.unet, {id(weight): weight for weight in weights})

    @cached_property
    def _listening(self) -> tuple[Any, SharedAttention, SeenPictures]:
        unet = self.on_same_weights()
        return unet, share_attention(unet), show_pictures(unet)

    def answering(self, shared: Sequence[Shared | Shown]) -> Any:
        """Return the U-Net that answers a call in which rows attend to others, or to pictures, as told."""
        if not shared:
            return self.unet
        unet, attention, pictures = self._listening
        attention.shared = tuple(one for one in shared if isinstance(one, Shared))
        pictures.shown = tuple(one for one in shared if isinstance(one, Shown))
        return unet


class Adapters:
    """Finds networks by their names, and makes those that LoRAs are added to when they are first asked for.

    LoRAs are merged: such a network answers as fast as the model's own, and many stand beside each other.
    PEFT's `set_adapters` would set one network for all runs at once, compute two further products for every
    changed layer in every call, and in half precision round each of them. A merged copy costs the memory of
    the layers that are changed, and once what `merge_updates` takes. Whoever holds an `Adapter` keeps it; of
    the others the last few are kept.
    """

    def __init__(self, folder: ModelFolder, unet: nn.Module, *, kept: int) -> None:
        """Take a model's own U-Net, and add its companion's, where it has one.

        Raises:
            BadInput: the companion's weights are damaged or belong to another model.
        """
        self.shelf = LoraShelf((), folder)
        self._files = unet_files(folder)
        self._companion: Updates = {}
        self._own = {"": Adapter("", unet)}
        self._merged: WeakValueDictionary[str, Adapter] = WeakValueDictionary()
        self._last: OrderedDict[str, Adapter] = OrderedDict()
        self._kept = kept
        self._merging = threading.Lock()
        if folder.companion is not None:
            self._companion = read_updates(folder.path / folder.companion.lora, self.shelf.layers)
            self._own[COMPANION] = self._merge(COMPANION, COMPANION, ())

    @property
    def names(self) -> tuple[str, ...]:
        """The names of those that are always there."""
        return tuple(self._own)

    def __getitem__(self, name: str) -> Adapter:
        """Return the network of a name; one with LoRAs is there while somebody holds it."""
        return self._own[name] if name in self._own else self._merged[name]

    def weights(self, base: str, loras: Sequence[Lora]) -> Weights:
        """Say which weights a run wants: those of a name, with LoRAs added.

        Raises:
            BadInput: the file of one is not here.
        """
        for lora in loras:
            self.shelf.find(lora)
        return Weights(self, base, tuple(loras))

    def with_loras(self, base: str, loras: Sequence[Lora]) -> Adapter:
        """Find or make the network of a name with LoRAs added.

        Raises:
            BadInput: the file of one is not here any more.
        """
        if not loras:
            return self._own[base]
        name = "+".join([base, *(f"{lora.sha256}*{lora.weight!r}" for lora in loras)])
        with self._merging:
            adapter = self._merged.get(name) or self._merge(name, base, loras)
            self._merged[name] = adapter
            self._last[name] = adapter
            self._last.move_to_end(name)
            while len(self._last) > self._kept:
                self._last.popitem(last=False)
        return adapter

    def _merge(self, name: str, base: str, loras: Sequence[Lora]) -> Adapter:
        parts = [(self._companion, 1.0)] if base == COMPANION else []
        for lora in loras:
            parts.append((read_updates(self.shelf.find(lora).path, self.shelf.layers), lora.weight))
        unet = self._own[""].on_same_weights()
        merge_updates(unet, self._files, parts)
        return Adapter(name, unet)


@dataclass(eq=False)
class Weights:
    """Which weights a run wants; they are made when it first asks, and kept while this is."""

    adapters: Adapters
    base: str
    loras: tuple[Lora, ...]

    @cached_property
    def adapter(self) -> Adapter:
        """The network itself."""
        return self.adapters.with_loras(self.base, self.loras)

    @property
    def name(self) -> str:
        """The name that rows ask for it by."""
        return self.adapter.name
