"""Prompt to image: a recipe becomes a denoising run."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pipelines.denoising import Frame, Run, denoise
from pipelines.guidance import Guidance
from pipelines.latents import initial_latents
from pipelines.models.sd import StableDiffusion
from pipelines.recipe import Recipe
from pipelines.samplers import SAMPLERS, make_scheduler


def prompt_to_image(model: StableDiffusion, recipe: Recipe) -> Run:
    """Make the denoising run of a recipe; nothing is computed until it is driven.

    Raises:
        BadInput: when the sampler does not follow the model's noise schedule.
    """
    model.folder.check_sampler(recipe.sampler)
    scheduler = make_scheduler(recipe.sampler, model.folder.scheduler_config)
    scheduler.set_timesteps(recipe.num_inference_steps, device=model.device)
    negative_prompt_embeds, prompt_embeds = model.encode_prompt(
        [recipe.negative_prompt, recipe.prompt]
    ).split(1)
    generator = torch.Generator("cpu").manual_seed(recipe.seed)
    latents = initial_latents(
        scheduler,
        generator,
        channels=model.latent_channels,
        height=recipe.height // model.vae_scale_factor,
        width=recipe.width // model.vae_scale_factor,
    )
    return denoise(
        scheduler,
        SAMPLERS[recipe.sampler].space,
        Guidance(prompt_embeds, negative_prompt_embeds, recipe.guidance_scale),
        latents.to(model.device),
        generator,
    )


@torch.inference_mode()
def paint(model: StableDiffusion, recipe: Recipe, on_frame: Callable[[Frame], None] | None = None) -> Tensor:
    """Drive one run alone, from noise to the final latents (1, C, h, w)."""
    run = prompt_to_image(model, recipe)
    answer: Tensor | None = None
    while True:
        try:
            event = run.send(answer)
        except StopIteration as end:
            latents: Tensor = end.value
            return latents
        answer = None
        if isinstance(event, Frame):
            if on_frame:
                on_frame(event)
        else:
            answer = model.predict(event)
