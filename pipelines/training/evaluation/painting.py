"""Paints many pictures, a batch at a time, through diffusers' own pipeline."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from PIL import Image
from transformers.utils import logging as transformers_logging

from pipelines.models.adapters import Adapters
from pipelines.models.find import ModelFolder
from pipelines.models.words import teach
from pipelines.samplers import SAMPLERS, make_scheduler
from pipelines.training.evaluation.prompts import Wanted
from pipelines.training.pack import Format


@dataclass(frozen=True)
class Manner:
    """How pictures are painted: the sampler's name, its steps and the guidance."""

    sampler: str
    num_inference_steps: int
    guidance_scale: float


class Painter:
    """A model's pipeline on one device, in float16 on a GPU and float32 elsewhere."""

    def __init__(self, folder: ModelFolder, device: torch.device, batch_size: int) -> None:
        """Load the folder; `batch_size` pictures are painted in one go."""
        transformers_logging.disable_progress_bar()
        pipeline: Any = StableDiffusionPipeline.from_pretrained(
            folder.path,
            dtype=torch.float16 if device.type == "cuda" else torch.float32,
            variant=folder.variant or None,
            local_files_only=True,
        )
        pipeline.set_progress_bar_config(disable=True)
        teach(folder.words, pipeline.tokenizer, pipeline.text_encoder)
        pipeline.to(device)
        self._pipeline = pipeline
        self._networks = Adapters(folder, pipeline.unet, kept=1)
        self._folder, self._batch_size = folder, batch_size

    @property
    def vae(self) -> Any:
        """The pipeline's autoencoder."""
        return self._pipeline.vae

    def paint(
        self, wanted: Sequence[Wanted], manner: Manner, say: Callable[[str], None]
    ) -> list[torch.Tensor]:
        """Paint every wanted picture: (height, width, 3) uint8 on the CPU, in the order asked for."""
        self._prepare(manner)
        by_shape: dict[Format, list[int]] = defaultdict(list)
        for index, one in enumerate(wanted):
            by_shape[one.shape].append(index)
        painted: dict[int, torch.Tensor] = {}
        for shape, indices in by_shape.items():
            for start in range(0, len(indices), self._batch_size):
                part = indices[start : start + self._batch_size]
                images = self._paint_batch([wanted[index] for index in part], shape, manner)
                painted |= dict(zip(part, images, strict=True))
            say(f"  {len(painted)} of {len(wanted)} painted")
        return [painted[index] for index in range(len(wanted))]

    def paint_over(
        self, wanted: Sequence[Wanted], pictures: Sequence[Image.Image], manner: Manner, strength: float
    ) -> list[torch.Tensor]:
        """Paint every wanted picture on from one of its size, noised for `strength` of the way (0 to 1).

        All are of one shape; images as from `paint`.
        """
        self._prepare(manner)
        # One step at the least: diffusers rounds down, and has nothing to paint then.
        strength = max(strength, 1.001 / manner.num_inference_steps)
        over: Any = StableDiffusionImg2ImgPipeline(**self._pipeline.components, requires_safety_checker=False)
        over.set_progress_bar_config(disable=True)
        painted: list[torch.Tensor] = []
        for start in range(0, len(wanted), self._batch_size):
            part = wanted[start : start + self._batch_size]
            painted += self._run(
                over, part, manner, image=list(pictures[start : start + len(part)]), strength=strength
            )
        return painted

    def _prepare(self, manner: Manner) -> None:
        self._pipeline.unet = self._networks[SAMPLERS[manner.sampler].adapter].unet
        self._pipeline.scheduler = make_scheduler(manner.sampler, self._folder.scheduler_config)

    def _paint_batch(self, wanted: Sequence[Wanted], shape: Format, manner: Manner) -> list[torch.Tensor]:
        return self._run(self._pipeline, wanted, manner, width=shape.width, height=shape.height)

    def _run(
        self, pipeline: Any, wanted: Sequence[Wanted], manner: Manner, **asked: object
    ) -> list[torch.Tensor]:
        images = pipeline(
            [one.prompt for one in wanted],
            # Noise from the CPU, so that a seed is the same picture on every machine.
            generator=[torch.Generator().manual_seed(one.seed) for one in wanted],
            num_inference_steps=manner.num_inference_steps,
            guidance_scale=manner.guidance_scale,
            output_type="pt",
            return_dict=False,
            **asked,
        )[0]
        # A picture that is not a number is a failure to be seen in the figures, not a crash: it turns black.
        pixels = images.float().nan_to_num() * 255
        return list(pixels.round().byte().permute(0, 2, 3, 1).cpu())
