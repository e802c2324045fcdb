"""Thirty-two runs that come and go as they like paint what each of them paints alone."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Hashable

import torch
from torch import Tensor

from pipelines.batching import Finished, StepBatcher
from pipelines.models.sd import StableDiffusion
from pipelines.prompt_to_image import paint, prompt_to_image
from pipelines.recipe import SAMPLER_NAMES, Recipe
from tests.pipelines.test_denoising import recipe_of

RUNS = 32
MOST_STEPS, LAST_TO_JOIN = 6, 6


def any_recipe(model: StableDiffusion, sampler: str, chance: random.Random) -> Recipe:
    return recipe_of(
        model,
        sampler=sampler,
        num_inference_steps=chance.randint(1, MOST_STEPS),
        guidance_scale=chance.choice((1.0, 2.5, 7.0)),
        prompt=chance.choice(("", "a cat", "a harbour, moonlight")),
        seed=chance.getrandbits(64),
        width=chance.choice((64, 72)),
        height=64,
    )


def test_runs_of_any_kind_joining_at_any_time_are_what_they_are_alone(tiny: StableDiffusion) -> None:
    """On the CPU in float32, bit for bit."""
    chance = random.Random(20261123)
    samplers = [SAMPLER_NAMES[run % len(SAMPLER_NAMES)] for run in range(RUNS)]
    chance.shuffle(samplers)
    recipes = [any_recipe(tiny, sampler, chance) for sampler in samplers]
    joining: defaultdict[int, list[int]] = defaultdict(list)
    for run in range(RUNS):
        joining[chance.randint(0, LAST_TO_JOIN)].append(run)

    batcher = StepBatcher(tiny)
    together: dict[Hashable, Tensor] = {}
    most = tick = 0
    while len(batcher) or tick <= LAST_TO_JOIN:
        for run in joining[tick]:
            batcher.join(run, prompt_to_image(tiny, recipes[run]))
        most = max(most, len(batcher))
        for key, event in batcher.tick():
            if isinstance(event, Finished):
                together[key] = event.latents
        tick += 1
    assert most > RUNS // 4, "they were really together"
    for run, recipe in enumerate(recipes):
        assert torch.equal(together[run], paint(tiny, recipe)), recipe
