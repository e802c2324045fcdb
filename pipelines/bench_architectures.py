"""Architectures as others publish them, with random weights: their speed does not depend on the numbers."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from pipelines.models.find import EMBEDDED, MODELS_FOLDER, ModelFolder, find_model
from pipelines.models.place import find_placement
from pipelines.random_models import write_random_sdxl
from pipelines.recipe import BadInput

_TOKENS, _VOCABULARY = 77, 49408
_STEPS = 20


def build_sd15(folder: Path, device: torch.device) -> None:
    """Save a Stable Diffusion 1.5 of random numbers, made on a device in float16, to a folder."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    # diffusers' own types take configurations as one parameter each.
    unet_class: Any = UNet2DConditionModel
    vae_class: Any = AutoencoderKL
    scheduler_class: Any = DDIMScheduler
    pipeline_class: Any = StableDiffusionPipeline
    tokenizer: Any = CLIPTokenizer.from_pretrained(tokenizer_for(folder))
    with device:
        # The U-Net that diffusers describes by default is this one, but for the width of the prompt.
        unet = unet_class(sample_size=64, cross_attention_dim=768)
        vae = vae_class(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            sample_size=512,
        )
        text_encoder: Any = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=_VOCABULARY,
                hidden_size=768,
                intermediate_size=3072,
                num_hidden_layers=12,
                num_attention_heads=12,
                max_position_embeddings=_TOKENS,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    pipeline_class(
        unet=unet.half(),
        vae=vae.half(),
        text_encoder=text_encoder.half(),
        tokenizer=tokenizer,
        scheduler=scheduler_class(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def build_sdxl(folder: Path, device: torch.device) -> None:
    """Save an SDXL of random numbers to a folder; they are drawn on the CPU, whatever the device."""
    del device
    write_random_sdxl(folder)


ARCHITECTURES: Mapping[str, Callable[[Path, torch.device], None]] = MappingProxyType(
    {"sd15": build_sd15, "sdxl": build_sdxl}
)


@contextmanager
def random_model(name: str) -> Generator[ModelFolder]:
    """Build an architecture with random weights in a folder that is removed again.

    Raises:
        BadInput: there is no such architecture.
    """
    if name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise BadInput(f"There is no architecture {name}; these can be built: {known}.", "architecture")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / name
        torch.manual_seed(0)
        ARCHITECTURES[name](folder, find_placement().device)
        (folder / "atelier.json").write_text(json.dumps({"num_inference_steps": _STEPS}), encoding="utf-8")
        yield find_model(str(folder))


def tokenizer_for(folder: Path) -> Path:
    """Copy the embedded model's tokenizer into a folder, made to read as many tokens as these models do."""
    target = folder / "tokenizer"
    shutil.copytree(MODELS_FOLDER / EMBEDDED / "tokenizer", target)
    file = target / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(
        json.dumps(settings | {"model_max_length": _TOKENS, "max_length": _TOKENS}), encoding="utf-8"
    )
    return target
