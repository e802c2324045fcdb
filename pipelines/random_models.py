"""Model folders with random weights, built from configuration: real architectures to time, no download."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging as transformers_logging

_START, _END, _PADDING = "<|startoftext|>", "<|endoftext|>", "!"


@dataclass(frozen=True, slots=True)
class SDXLSizes:
    """The configuration of each part, by diffusers' and transformers' names."""

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    text_encoder: Mapping[str, Any]
    text_encoder_2: Mapping[str, Any]
    vocabulary: int
    tokens: int


# stabilityai/stable-diffusion-xl-base-1.0: 2.57, 0.08, 0.12 and 0.69 billion parameters.
SDXL_BASE = SDXLSizes(
    unet=MappingProxyType(
        {
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "layers_per_block": 2,
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        }
    ),
    vae=MappingProxyType({"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}),
    text_encoder=MappingProxyType(
        {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "projection_dim": 768,
            "hidden_act": "quick_gelu",
        }
    ),
    text_encoder_2=MappingProxyType(
        {
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_attention_heads": 20,
            "projection_dim": 1280,
            "hidden_act": "gelu",
        }
    ),
    vocabulary=49408,
    tokens=77,
)


def write_random_sdxl(folder: Path, sizes: SDXLSizes = SDXL_BASE, *, in_channels: int = 4) -> Path:
    """Write an SDXL folder in diffusers' layout, float16, whose weights are random and always the same.

    `in_channels` is 9 for a network of the inpainting kind. At the size of the base it takes 7 GB of disk,
    and while it is written 8 GB of memory.
    """
    transformers_logging.disable_progress_bar()
    _save_tokenizer(folder / "tokenizer", sizes, _END)
    _save_tokenizer(folder / "tokenizer_2", sizes, _PADDING)
    parts = sdxl_networks(sizes, in_channels=in_channels)
    largest = max(weight.numel() for part in parts.values() for weight in part.parameters())
    generator = torch.Generator().manual_seed(0)
    pool = torch.rand(2 * largest, generator=generator).mul_(2).sub_(1).half()
    for name, part in parts.items():
        _fill(part, pool, generator)
        part.save_pretrained(folder / name)
    _save_scheduler(folder / "scheduler")
    index = {
        "_class_name": f"StableDiffusionXL{'' if in_channels == 4 else 'Inpaint'}Pipeline",
        "force_zeros_for_empty_prompt": True,
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))
    return folder


def sdxl_networks(sizes: SDXLSizes = SDXL_BASE, *, in_channels: int = 4) -> dict[str, Any]:
    """Build the four networks on the meta device: their shapes, and no weights."""
    with torch.device("meta"):
        return {
            "unet": _unet(sizes, in_channels),
            "vae": _vae(sizes),
            "text_encoder": CLIPTextModel(_text_config(sizes, sizes.text_encoder)),
            "text_encoder_2": CLIPTextModelWithProjection(_text_config(sizes, sizes.text_encoder_2)),
        }


def _unet(sizes: SDXLSizes, in_channels: int) -> nn.Module:
    unet_class: Any = UNet2DConditionModel
    return unet_class(
        in_channels=in_channels,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        addition_embed_type="text_time",
        use_linear_projection=True,
        **sizes.unet,
    )


def _vae(sizes: SDXLSizes) -> nn.Module:
    levels = len(sizes.vae["block_out_channels"])
    vae_class: Any = AutoencoderKL
    return vae_class(
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        sample_size=sizes.unet["sample_size"] * 2 ** (levels - 1),
        scaling_factor=0.13025,
        force_upcast=True,
        **sizes.vae,
    )


def _text_config(sizes: SDXLSizes, size: Mapping[str, Any]) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=sizes.vocabulary,
        max_position_embeddings=sizes.tokens,
        bos_token_id=sizes.vocabulary - 2,
        eos_token_id=sizes.vocabulary - 1,
        **size,
    )


def _save_scheduler(folder: Path) -> None:
    scheduler_class: Any = EulerDiscreteScheduler
    scheduler_class(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="leading",
        steps_offset=1,
    ).save_config(folder)


def _save_tokenizer(folder: Path, sizes: SDXLSizes, pad_token: str) -> None:
    """Write a tokenizer that knows single characters; the rest of its vocabulary is never read."""
    letters = [chr(code) for code in range(ord(_PADDING), ord("~") + 1)]
    words = [*letters, *(letter + "</w>" for letter in letters)]
    words += [f"unused {number}" for number in range(sizes.vocabulary - len(words) - 2)] + [_START, _END]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        model_max_length=sizes.tokens,
        pad_token=pad_token,
    )
    tokenizer.save_pretrained(str(folder))


def _fill(part: nn.Module, pool: Tensor, generator: torch.Generator) -> None:
    """Give a network on the meta device its weights, scaled as torch scales a new layer's.

    The numbers are drawn once and read from another place for each layer: billions of them take minutes.
    """
    weights: dict[str, Tensor] = {}
    for name, weight in part.state_dict().items():
        if weight.ndim == 1:
            weights[name] = torch.full(weight.shape, float(name.endswith("weight")), dtype=pool.dtype)
            continue
        start = int(torch.randint(len(pool) - weight.numel(), (), generator=generator))
        numbers = pool[start : start + weight.numel()].view(weight.shape)
        weights[name] = numbers / math.sqrt(weight[0].numel())
    part.load_state_dict(weights, assign=True)
