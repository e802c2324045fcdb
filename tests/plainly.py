"""diffusers' own pipelines, painting what a recipe says: what runs of Atelier are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from pipelines.models.find import ModelFolder
from pipelines.recipe import Recipe
from pipelines.samplers import make_scheduler


def plain_pipeline(pipeline_class: Any, folder: ModelFolder, recipe: Recipe) -> Any:
    """Load a folder in float32, with a recipe's sampler, and its companion where that asks for it."""
    optional = {"safety_checker": None} if folder.family == "sd" else {}
    pipeline = pipeline_class.from_pretrained(folder.path, dtype=torch.float32, **optional)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = make_scheduler(recipe.sampler, folder.scheduler_config)
    if recipe.sampler == "LCM":
        _fuse_companion(pipeline.unet, folder.path)
    return pipeline


def painted_plainly(pipeline: Any, recipe: Recipe, **given: object) -> Any:
    """Paint a recipe; `given` are what the pipeline takes besides, such as the picture itself."""
    if recipe.source is None or recipe.source.mask is not None:
        given |= {"width": recipe.width, "height": recipe.height}
    if recipe.source is not None:
        given["strength"] = recipe.source.strength
    return pipeline(
        recipe.prompt,
        negative_prompt=recipe.negative_prompt or None,
        generator=torch.Generator().manual_seed(recipe.seed),
        num_inference_steps=recipe.num_inference_steps,
        guidance_scale=recipe.guidance_scale,
        **{"output_type": "latent", **given},
    ).images


def _fuse_companion(unet: Any, folder: Path) -> None:
    """Add B·A to the weights, as diffusers' `fuse_lora` does with PEFT (which is no dependency of ours)."""
    lora = load_file(folder / "lcm" / "pytorch_lora_weights.safetensors")
    weights = unet.state_dict()
    for name in [name for name in lora if name.endswith(".lora_A.weight")]:
        layer = name.removesuffix(".lora_A.weight")
        weight = weights[layer.removeprefix("unet.") + ".weight"]
        a, b = lora[name], lora[f"{layer}.lora_B.weight"]
        if weight.ndim == 4:
            a, b = a.reshape(len(a), -1), b.squeeze(3).squeeze(2)
        weight.copy_(weight + (b @ a).reshape(weight.shape))
