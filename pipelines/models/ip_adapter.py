"""IP-Adapters (Ye et al. 2023): pictures as a U-Net's cross-attention reads them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from diffusers.models.embeddings import ImageProjection
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

from pipelines.image_attention import ImagePrompt
from pipelines.models.find import ModelFolder, weight_files
from pipelines.models.ip_adapter_files import IPAdapterShelf, weights_of
from pipelines.picture_files import read_picture
from pipelines.recipe import BadInput
from pipelines.sources import OpenSource
from pipelines.styles import IPAdapter

# Loaded adapters that are kept for the next picture, and pictures as they read them (0.1 MB at the most).
_KEPT = 2
_REMEMBERED = 32
_CROSS_ATTENTION = "attn2.processor"


@dataclass(eq=False)
class ImageEncoder:
    """A CLIP image encoder (Radford et al. 2021), with the side in pixels at which it looks at a picture."""

    network: Any

    @staticmethod
    def load(folder: Path, device: torch.device, dtype: torch.dtype) -> ImageEncoder:
        """Load one from a folder in the layout of transformers."""
        variant, _ = weight_files(folder.parent, folder.name, "model")
        loaded: Any = CLIPVisionModelWithProjection.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, variant=variant or None, local_files_only=True
        )
        return ImageEncoder(loaded.to(device).eval().requires_grad_(False))

    def encode(self, image: Image.Image, *, is_whole: bool, is_guided: bool) -> Tensor:
        """Encode a picture: (1, dim) of the whole, or (1, places, dim).

        With guidance two, as diffusers does: before it, no picture. That is zeros in place of the vector of
        the whole, or as a picture that is looked at.
        """
        side: int = self.network.config.image_size
        # Pillow's and never torchvision's scaling, so that a seed stays a seed.
        prepare: Any = CLIPImageProcessorPil(size=side, crop_size=side)
        pixels = prepare(image, return_tensors="pt").pixel_values.to(self.network.device, self.network.dtype)
        if is_whole:
            embeds = self.network(pixels).image_embeds
            return torch.cat([torch.zeros_like(embeds), embeds]) if is_guided else embeds
        seen = [torch.zeros_like(pixels), pixels] if is_guided else [pixels]
        return torch.cat([self.network(one, output_hidden_states=True).hidden_states[-2] for one in seen])


@dataclass(eq=False)
class LoadedIPAdapter:
    """An adapter on the device: what makes words of a picture, and each layer's projections of those.

    `layers` has for each cross-attention the weights that make keys and values, (channels, dim).
    """

    encoder: ImageEncoder
    projection: nn.Module
    layers: dict[str, tuple[Tensor, Tensor]]

    @staticmethod
    def load(file: Path, encoder: ImageEncoder, unet: Any) -> LoadedIPAdapter:
        """Load one for a U-Net, which is not changed."""
        tensors = load_file(file)
        seen = {
            name.removeprefix("image_proj."): tensor
            for name, tensor in tensors.items()
            if name.startswith("image_proj.")
        }
        # With low_cpu_mem_usage diffusers would empty the device's cache, which torch forbids while a graph
        # is recorded, as another thread may be doing.
        projection = unet._convert_ip_adapter_image_proj_to_diffusers(seen, low_cpu_mem_usage=False)
        layers: dict[str, tuple[Tensor, Tensor]] = {}
        attentions = [name for name in unet.attn_processors if name.endswith(_CROSS_ATTENTION)]
        for place, name in enumerate(attentions):
            # Files number all attentions, every second of which is a cross-attention.
            key, value = (
                tensors[f"ip_adapter.{2 * place + 1}.{part}.weight"].to(unet.device, unet.dtype)
                for part in ("to_k_ip", "to_v_ip")
            )
            layers[name.removesuffix(".processor")] = key, value
        return LoadedIPAdapter(encoder, projection.to(unet.device, unet.dtype), layers)

    def words(self, image: Image.Image, dtype: torch.dtype, *, is_guided: bool) -> Tensor:
        """Read a picture as a network reads words: (1, tokens, dim), or with guidance (2, tokens, dim)."""
        is_whole = isinstance(self.projection, ImageProjection)
        return self.projection(self.encoder.encode(image, is_whole=is_whole, is_guided=is_guided).to(dtype))

    def project(self, words: Tensor) -> ImagePrompt:
        """Make each layer's keys and values, once for all steps: they do not depend on the noise."""
        return ImagePrompt(
            {
                name: (functional.linear(words, key), functional.linear(words, value))
                for name, (key, value) in self.layers.items()
            }
        )


class IPAdapters:
    """The IP-Adapters of a model, loaded when a picture is first followed through them.

    They belong to no network: a run holds its pictures as the layers read them, and whichever U-Net answers,
    one with LoRAs too, looks at them.
    """

    def __init__(self, folder: ModelFolder, unet: Any) -> None:
        """Take a model's own U-Net."""
        self.shelf = IPAdapterShelf((), folder)
        self._unet = unet
        self._loaded: OrderedDict[str, LoadedIPAdapter] = OrderedDict()
        self._loading = threading.Lock()
        self._encoders: WeakValueDictionary[tuple[str, ...], ImageEncoder] = WeakValueDictionary()
        self._words: OrderedDict[tuple[str, str, bool], Tensor] = OrderedDict()

    @torch.inference_mode()
    def encode(
        self, adapter: IPAdapter, image: str, open_source: OpenSource, *, is_guided: bool
    ) -> ImagePrompt:
        """Read a picture, a file's SHA-256, through an adapter, for runs with or without guidance.

        Raises:
            BadInput: the picture or the adapter is not here, or damaged.
        """
        content = open_source(image)
        with self._loading:  # not twice, where a kept run is looked at again meanwhile
            loaded = self._load(adapter)
        key = adapter.sha256, image, is_guided
        words = self._words.pop(key, None)
        if words is None:
            words = loaded.words(read_picture(content).rgb(), self._unet.dtype, is_guided=is_guided)
        _remember(self._words, key, words, _REMEMBERED)
        return loaded.project(words)

    def _load(self, adapter: IPAdapter) -> LoadedIPAdapter:
        file = self.shelf.find(adapter)
        assert file.encoder is not None, "what can be used has its encoder"
        loaded = self._loaded.pop(adapter.sha256, None)
        try:
            if loaded is None:
                loaded = LoadedIPAdapter.load(file.path, self._encoder(file.encoder), self._unet)
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            reason = " ".join(str(error).split())
            raise BadInput(
                f"{file.path.name} cannot be loaded, it or its encoder is damaged: {reason}", "mix"
            ) from error
        _remember(self._loaded, adapter.sha256, loaded, _KEPT)
        return loaded

    def _encoder(self, folder: Path) -> ImageEncoder:
        content = tuple(self.shelf.digest(file) for file in weights_of(folder))
        encoder = self._encoders.get(content)
        if encoder is None:
            # In half precision it is as good and half of 2.5 GB; on a CPU most have no fast one.
            dtype = torch.float32 if self._unet.device.type == "cpu" else self._unet.dtype
            encoder = self._encoders[content] = ImageEncoder.load(folder, self._unet.device, dtype)
        return encoder


def _remember(kept: OrderedDict[Any, Any], key: object, value: object, most: int) -> None:
    kept[key] = value
    while len(kept) > most:
        kept.popitem(last=False)
