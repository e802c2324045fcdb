"""Assembles the Stable Diffusion pipeline, writes the shipped folder, and paints sample sheets from it."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from pipelines.training.architecture import build_scheduler
from pipelines.training.pack import FORMATS
from pipelines.training.sheets import save_sheet

Model = TypeVar("Model", bound=nn.Module)

MODEL_LIMIT_BYTES = 100_000_000

SHEET_PROMPTS = (
    "seascape, moonlight, romanticism",
    "still life with fruit, baroque",
    "self portrait by vincent van gogh",
    "a cat, 3d render",
    "a lighthouse, post-impressionism",
    "river landscape with trees, impressionism, bright",
    "portrait of a young woman, romanticism",
    "mount fuji, ukiyo-e",
    "apple, botanical watercolour",
    "winter village in the snow, impressionism",
)
"""What every sample sheet paints, the same seeds each time, in each format."""


def assemble_pipeline(
    vae: AutoencoderKL, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, unet: UNet2DConditionModel
) -> StableDiffusionPipeline:
    """The parts as an ordinary Stable Diffusion pipeline, with the default sampler and no safety checker."""
    parts: dict[str, Any] = {
        "vae": vae,
        "text_encoder": text_encoder,
        "tokenizer": tokenizer,
        "unet": unet,
        "scheduler": build_scheduler(),
        "safety_checker": None,
        "feature_extractor": None,
        "image_encoder": None,
    }
    pipeline = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def export_model(pipeline: StableDiffusionPipeline, folder: Path) -> int:
    """Write the pipeline as float16 safetensors in the Stable Diffusion layout; return its weights' bytes.

    Raises ValueError where they would be more than `MODEL_LIMIT_BYTES`. A file that the export does
    not make, such as the model card, is left in place.
    """
    half = assemble_pipeline(
        _halved(pipeline.vae),
        _halved(pipeline.text_encoder),
        pipeline.tokenizer,
        _halved(pipeline.unet),
    )
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    half.save_pretrained(str(unfinished), safe_serialization=True)
    for config in unfinished.glob("*/config.json"):  # Where a part was loaded from is nobody's business.
        fields = json.loads(config.read_text())
        fields.pop("_name_or_path", None)
        config.write_text(json.dumps(fields, indent=2) + "\n")
    size_bytes = sum(path.stat().st_size for path in unfinished.rglob("*.safetensors"))
    if size_bytes >= MODEL_LIMIT_BYTES:
        raise ValueError(f"the model takes {size_bytes:,} bytes; at most {MODEL_LIMIT_BYTES:,} are shipped")
    folder.mkdir(parents=True, exist_ok=True)
    for part in unfinished.iterdir():
        target = folder / part.name
        if target.is_dir():
            shutil.rmtree(target)
        part.replace(target)
    unfinished.rmdir()
    return size_bytes


def _halved(model: Model) -> Model:
    """A float16 copy on the CPU."""
    half = copy.deepcopy(model)
    nn.Module.to(half, device="cpu", dtype=torch.float16)
    return half


@torch.no_grad()
def paint_sheet(
    pipeline: StableDiffusionPipeline,
    path: Path,
    *,
    device: torch.device,
    prompts: tuple[str, ...] = SHEET_PROMPTS,
    num_inference_steps: int = 25,
    guidance_scale: float = 5.0,
) -> None:
    """Paint every prompt in every format, one seed each, into one PNG."""
    rows: list[torch.Tensor] = []
    for shape in FORMATS:
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in range(len(prompts))]
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            result = pipeline(
                list(prompts),
                width=shape.width,
                height=shape.height,
                generator=generators,
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                output_type="np",
            )
        assert isinstance(result, StableDiffusionPipelineOutput)
        pixels = np.nan_to_num(np.asarray(result.images))
        rows.append(torch.from_numpy((pixels * 255).round().astype(np.uint8)))
    save_sheet(path, rows)
