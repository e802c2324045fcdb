"""Stable Diffusion XL folders (Podell et al. 2024): two text encoders, and a network told the size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from pipelines.conditioning import Conditioning
from pipelines.denoising import Rows
from pipelines.models.find import ModelFolder
from pipelines.models.place import Placement
from pipelines.models.sd import StableDiffusion


class StableDiffusionXL(StableDiffusion):
    """A loaded SDXL model on its device; both text encoders are in float32, as the one of its predecessors.

    Prompts are cut and their words found by the first tokenizer: the second differs in its padding only.
    """

    def __init__(self, folder: ModelFolder, placement: Placement) -> None:
        super().__init__(folder, placement)
        self._text_encoder_2 = self._load(CLIPTextModelWithProjection, "text_encoder_2", torch.float32)
        tokenizer: Any = CLIPTokenizer.from_pretrained(folder.path, subfolder="tokenizer_2")
        self._tokenizer_2 = tokenizer
        index = json.loads((folder.path / "model_index.json").read_bytes())
        self._zeros_for_empty: bool = index.get("force_zeros_for_empty_prompt", True)
        self._time_ids: dict[tuple[int, int], Tensor] = {}

    def _vae_dtypes(self, placement: Placement) -> tuple[torch.dtype, torch.dtype]:
        """Keep float16 away from an autoencoder that overflows in it, as diffusers does.

        Looks that are not kept may be in bfloat16, which does not overflow, where the device computes it.
        """
        dtypes = super()._vae_dtypes(placement)
        config: Any = AutoencoderKL.load_config(self.folder.path, subfolder="vae", local_files_only=True)
        if torch.float16 not in dtypes or not config.get("force_upcast", True):
            return dtypes
        has_bf16 = placement.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.float32, torch.bfloat16 if has_bf16 else torch.float32

    def _encode(self, texts: Sequence[str]) -> Conditioning:
        """Read texts with both encoders: the last layer but one of each, and the second's pooled vector."""
        embeds: list[Tensor] = []
        pooled: Tensor | None = None
        for tokenizer, text_encoder in (
            (self._tokenizer, self._text_encoder),
            (self._tokenizer_2, self._text_encoder_2),
        ):
            tokens = tokenizer(
                list(texts),
                padding="max_length",
                max_length=tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            )
            read = text_encoder(tokens.input_ids.to(self.device), output_hidden_states=True)
            embeds.append(read.hidden_states[-2])
            pooled = read[0]
        return Conditioning(torch.cat(embeds, dim=-1), pooled)

    def encode_pair(self, prompt: str, negative_prompt: str) -> tuple[Conditioning, Conditioning]:
        """Encode a prompt and its negative prompt, each by itself, as diffusers does, to the last bit.

        An empty negative prompt is none: as diffusers does where it is given none, and where the model's
        `force_zeros_for_empty_prompt` asks for it, its embeddings are zeros and not those of empty text.
        """
        read = self.encode_prompt([prompt])
        if negative_prompt or not self._zeros_for_empty:
            return read, self.encode_prompt([negative_prompt])
        return read, read.zeros()

    def unet_arguments(self, rows: Rows) -> dict[str, Any]:
        """Return what the U-Net is called with for these rows: pooled embeddings and the picture's size too.

        Original and target size are the picture's own, nothing is cropped: diffusers' defaults.
        """
        assert rows.pooled_embeds is not None, "every prompt of this model is pooled"
        time_ids = self._time_ids_of(rows.latents.shape[-2], rows.latents.shape[-1])
        return super().unet_arguments(rows) | {
            "added_cond_kwargs": {
                "text_embeds": rows.pooled_embeds.to(self.dtype),
                "time_ids": time_ids.expand(len(rows.latents), -1),
            }
        }

    def _time_ids_of(self, height: int, width: int) -> Tensor:
        """Return the size that latents of this height and width stand for, (1, 6).

        In float32, in which every size is exact, and on the device already: no call has to wait for it.
        """
        if (height, width) not in self._time_ids:
            size = [height * self.vae_scale_factor, width * self.vae_scale_factor]
            self._time_ids[height, width] = torch.tensor(
                [[*size, 0, 0, *size]], dtype=torch.float32, device=self.device
            )
        return self._time_ids[height, width]
