"""Tiny random Stable Diffusion folders, SDXL among them, for tests of exact equality."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from pipelines.random_models import SDXLSizes, write_random_sdxl
from pipelines.style_classifier import StyleClassifier


def build_tiny_sd(folder: Path, *, prediction_type: str = "epsilon", in_channels: int = 4) -> Path:
    """Save a random Stable Diffusion model of about 0.4 million parameters that paints 64 by 64 pixels."""
    torch.manual_seed(0)
    unet_class: Any = UNet2DConditionModel
    unet = unet_class(
        sample_size=32,
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    vae_class: Any = AutoencoderKL
    vae = vae_class(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
        sample_size=64,
    )
    tokenizer: Any = _byte_tokenizer(folder / "tokenizer")
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=16,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    scheduler_class: Any = DDIMScheduler
    scheduler = scheduler_class(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    pipeline_class: Any = StableDiffusionPipeline
    pipeline_class(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


TINY_SDXL = SDXLSizes(
    unet={
        "sample_size": 32,
        "block_out_channels": (16, 16, 32),
        "layers_per_block": 1,
        "transformer_layers_per_block": (1, 1, 2),
        "attention_head_dim": (2, 2, 4),
        "norm_num_groups": 8,
        "cross_attention_dim": 48,
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 24 + 6 * 8,
    },
    vae={"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8},
    text_encoder={
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "hidden_act": "quick_gelu",
    },
    text_encoder_2={
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "projection_dim": 24,
        "hidden_act": "gelu",
    },
    vocabulary=200,
    tokens=16,
)


def build_tiny_sdxl(folder: Path, *, in_channels: int = 4) -> Path:
    """Save a random SDXL model of about 0.2 million parameters that paints 64 by 64 pixels."""
    return write_random_sdxl(folder, TINY_SDXL, in_channels=in_channels)


def add_companion(folder: Path, *, rank: int = 4) -> Path:
    """Give a model few-step weights of small random numbers, for every layer of its U-Net."""
    (folder / "lcm").mkdir()
    tensors = {
        f"unet.{layer}.lora_{letter}.weight": matrix
        for layer, matrices in random_updates(folder, rank=rank, seed=1).items()
        for letter, matrix in zip("AB", matrices, strict=True)
    }
    save_file(tensors, folder / "lcm" / "pytorch_lora_weights.safetensors")
    companion = {"lora": "lcm/pytorch_lora_weights.safetensors", "num_inference_steps": 4}
    (folder / "atelier.json").write_text(json.dumps({"companion": companion}))
    return folder


def random_updates(
    folder: Path, *, rank: int, seed: int, size: float = 0.1
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Draw a low-rank update for every layer of a model's U-Net: (r, in, ...) and (out, r, ...) by name."""
    loaded: Any = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    generator = torch.Generator().manual_seed(seed)
    updates: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for name, module in loaded.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            out, *kernel = module.weight.shape
            shapes = (rank, *kernel), (out, rank, *([1, 1] if len(kernel) == 3 else []))
            down, up = (size * torch.randn(shape, generator=generator) for shape in shapes)
            updates[name] = down, up
    return updates


def add_classifier(folder: Path, *, channels: int = 4) -> Path:
    """Give a model a random classifier of two styles, ink and oil, of latents of so many channels."""
    torch.manual_seed(2)
    classifier = StyleClassifier(("ink", "oil"), channels, (8, 8, 16))
    (folder / "style_classifier").mkdir()
    save_file(classifier.state_dict(), folder / "style_classifier" / "style_classifier.safetensors")
    told = {"weights": "style_classifier/style_classifier.safetensors", "styles": classifier.styles}
    (folder / "atelier.json").write_text(json.dumps({"style_classifier": told}))
    return folder


def _byte_tokenizer(folder: Path) -> CLIPTokenizer:
    """Make a CLIP tokenizer without merges: every character is a token."""
    folder.mkdir(parents=True)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789,.'-"
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16, unk_token="<|endoftext|>"
    )


def save_ip_adapter(
    folder: Path, model: Path, *, name: str = "looks", kind: str = "whole", seed: int = 5
) -> Path:
    """Save a random IP-Adapter for a model, and beside it the image encoder that it was trained with.

    `kind` is "whole" as the first of its releases, "plus" as those that look place by place, or "full".
    """
    loaded: Any = UNet2DConditionModel.from_pretrained(model, subfolder="unet")
    width: int = loaded.config.cross_attention_dim
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) / shape[-1] ** 0.5

    tensors = {f"image_proj.{key}": random(*shape) for key, shape in _IMAGE_PROJECTIONS[kind](width).items()}
    attentions = [key for key in loaded.attn_processors if key.endswith("attn2.processor")]
    for attention in attentions:
        place = 2 * attentions.index(attention) + 1
        channels: int = loaded.get_submodule(attention.removesuffix(".processor")).to_k.out_features
        for part in ("to_k_ip", "to_v_ip"):
            tensors[f"ip_adapter.{place}.{part}.weight"] = random(channels, width)
    save_file(tensors, folder / f"{name}.safetensors")
    if not (folder / "image_encoder").exists():
        torch.manual_seed(6)
        config = CLIPVisionConfig(
            hidden_size=24,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=3,
            image_size=32,
            patch_size=16,
            projection_dim=20,
        )
        CLIPVisionModelWithProjection(config).save_pretrained(folder / "image_encoder")
    return folder / f"{name}.safetensors"


# The shapes of what makes words of a picture, for a network that reads words of so many numbers.
_IMAGE_PROJECTIONS: dict[str, Callable[[int], dict[str, tuple[int, ...]]]] = {
    "whole": lambda width: {
        "proj.weight": (4 * width, 20),
        "proj.bias": (4 * width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    },
    "full": lambda width: {
        "proj.0.weight": (24, 24),
        "proj.0.bias": (24,),
        "proj.2.weight": (width, 24),
        "proj.2.bias": (width,),
        "proj.3.weight": (width,),
        "proj.3.bias": (width,),
    },
    "plus": lambda width: (
        {
            "latents": (1, 5, 16),
            "proj_in.weight": (16, 24),
            "proj_in.bias": (16,),
            "proj_out.weight": (width, 16),
            "proj_out.bias": (width,),
            "norm_out.weight": (width,),
            "norm_out.bias": (width,),
        }
        | {
            f"layers.{layer}.{key}": shape
            for layer in range(4)
            for key, shape in {
                "0.norm1.weight": (16,),
                "0.norm1.bias": (16,),
                "0.norm2.weight": (16,),
                "0.norm2.bias": (16,),
                "0.to_q.weight": (64, 16),
                "0.to_kv.weight": (128, 16),
                "0.to_out.weight": (16, 64),
                "1.0.weight": (16,),
                "1.0.bias": (16,),
                "1.1.weight": (64, 16),
                "1.3.weight": (16, 64),
            }.items()
        }
    ),
}
