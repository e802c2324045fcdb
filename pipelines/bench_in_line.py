"""Pictures one after another, as plain diffusers paints them: what painting together is measured against."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from pipelines.models.find import ModelFolder
from pipelines.recipe import Recipe
from pipelines.samplers import make_scheduler


class InLine:
    """Pictures of one kind, painted one after another; all that were timed tell how long one takes.

    They are painted between whatever they are compared with, and their median is taken over the whole run: a
    machine's processor may be twice as slow from one minute to the next.
    """

    def __init__(self, paint: Callable[[], object]) -> None:
        """Take what paints a picture, to its numbers on the CPU; the first one warms up."""
        self._paint = paint
        self.times_s: list[float] = []
        paint()

    def paint(self, pictures: int = 1) -> None:
        """Paint and time some more."""
        for _ in range(pictures):
            start = time.perf_counter()
            self._paint()
            self.times_s.append(time.perf_counter() - start)

    @property
    def median_s(self) -> float:
        """How long a picture takes, in seconds."""
        return statistics.median(self.times_s)


def plain_diffusers(folder: ModelFolder, recipe: Recipe, device: torch.device, dtype: torch.dtype) -> InLine:
    """Have the recipe painted by diffusers' own pipeline."""
    from diffusers import DiffusionPipeline
    from diffusers.utils import logging as diffusers_logging

    diffusers_logging.disable_progress_bar()
    pipeline: Any = DiffusionPipeline.from_pretrained(
        folder.path, dtype=dtype, variant=folder.variant or None, local_files_only=True
    )
    pipeline.scheduler = make_scheduler(recipe.sampler, folder.scheduler_config)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)
    return InLine(
        lambda: pipeline(
            recipe.prompt,
            negative_prompt=recipe.negative_prompt,
            generator=torch.Generator().manual_seed(recipe.seed),
            width=recipe.width,
            height=recipe.height,
            num_inference_steps=recipe.num_inference_steps,
            guidance_scale=recipe.guidance_scale,
        )
    )
