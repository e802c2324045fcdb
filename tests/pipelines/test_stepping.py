"""Steps taken together are the steps that diffusers takes for each run, to the last bit."""

from __future__ import annotations

import random
from collections.abc import Hashable
from typing import Any

import pytest
import torch
from torch import Tensor

from pipelines.batching import Finished, StepBatcher
from pipelines.denoising import Rows
from pipelines.guidance import Guidance
from pipelines.models.sd import StableDiffusion
from pipelines.prompt_to_image import prompt_to_image
from pipelines.recipe import SAMPLER_NAMES, Recipe
from pipelines.samplers import Scheduler, make_scheduler
from pipelines.stepping import Stepping, solver_of, step_together
from tests.pipelines.test_branching import branched
from tests.pipelines.test_denoising import recipe_of
from tests.pipelines.test_style_blending import LEFT, mixed, style

RUNS, MOST_STEPS = 12, 20
SHAPE = (1, 4, 8, 8)
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


def begun(sampler: str, config: dict[str, Any], steps: int) -> Scheduler:
    scheduler = make_scheduler(sampler, config)
    scheduler.set_timesteps(steps, device=torch.device("cpu"))
    return scheduler


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("final_sigmas_type", ["zero", "sigma_min"])
def test_steps_at_any_position_are_those_of_diffusers(
    tiny: StableDiffusion, prediction_type: str, final_sigmas_type: str
) -> None:
    changes = {"prediction_type": prediction_type, "final_sigmas_type": final_sigmas_type}
    check_steps(tiny, dict(tiny.folder.scheduler_config) | changes)


def check_steps(model: StableDiffusion, config: dict[str, Any]) -> None:
    """Compare steps of runs of different schedules, each at a position of its own, some just begun."""
    chance, generator = random.Random(7), torch.Generator().manual_seed(7)
    embeds = model.encode_prompt(["", "a cat"]).split()

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(model.device)

    runs: list[tuple[Scheduler, Scheduler, Guidance]] = []
    latents: list[Tensor] = []
    for _ in range(RUNS):
        sampler, steps = chance.choice(("DPM++ 2M", "DPM++ 2M Karras")), chance.randint(1, MOST_STEPS)
        guidance = Guidance(embeds[1], embeds[0], chance.uniform(1.5, 9.0))
        runs.append((begun(sampler, config, steps), begun(sampler, config, steps), guidance))
        latents.append(noise(*SHAPE))
    taken = 0
    for position in range(MOST_STEPS):
        alike: list[tuple[int, Stepping]] = []
        for run, (ours, _, guidance) in enumerate(runs):
            # Every fourth run joins later; each leaves at the end of its schedule.
            own = position - 3 * (run % 4 == 0)
            if 0 <= own < len(ours.timesteps):
                solver = solver_of(ours)
                assert solver is not None
                alike.append((run, Stepping(solver, guidance, ours.timesteps[own], latents[run])))
        if not alike:
            continue
        answers = [noise(2, *SHAPE[1:]) for _ in alike]
        step_together([stepping for _, stepping in alike], answers)
        for (run, stepping), answer in zip(alike, answers, strict=True):
            _, theirs, guidance = runs[run]
            model_output, direction = guidance.combine(answer)
            following = theirs.step(model_output, stepping.timestep, latents[run], return_dict=False)[0]
            assert stepping.taken is not None
            for mine, other in zip(stepping.taken, (model_output, direction, following), strict=True):
                assert torch.equal(mine, other), (run, position)
            latents[run] = following
            taken += 1
    assert taken > RUNS * 5


@pytest.mark.parametrize("sampler", [name for name in SAMPLER_NAMES if not name.startswith("DPM++ 2M")])
def test_other_samplers_take_their_own_steps(tiny: StableDiffusion, sampler: str) -> None:
    assert solver_of(begun(sampler, dict(tiny.folder.scheduler_config), 4)) is None


def painted(model: StableDiffusion, recipes: list[Recipe], monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Paint recipes at once, each joining a tick after the one before, the network's calls a row's own."""
    predict = model.predict

    def one_by_one(rows: Rows) -> Tensor:
        count = len(rows.latents)
        alone = [
            Rows(rows.latents[i : i + 1], rows.timestep[i : i + 1], rows.prompt_embeds[i : i + 1])
            for i in range(count)
        ]
        return torch.cat([predict(row) for row in alone])

    monkeypatch.setattr(model, "predict", one_by_one)
    batcher = StepBatcher(model, merge=True)
    ends: dict[Hashable, Tensor] = {}
    waiting = list(enumerate(recipes))
    while waiting or len(batcher):
        if waiting:
            key, recipe = waiting.pop(0)
            batcher.join(key, prompt_to_image(model, recipe))
        ends |= {key: event.latents for key, event in batcher.tick() if isinstance(event, Finished)}
    monkeypatch.undo()
    return [ends[key] for key in range(len(recipes))]


def test_runs_that_step_together_paint_what_they_paint_alone(
    tiny: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures, branches, a mix of predictions and one without guidance, of any sampler and length."""
    mix = mixed(tiny, "prediction", style("ink", 0.6), style("oil", 0.4))
    recipes = [
        recipe_of(tiny, num_inference_steps=7, seed=1),
        recipe_of(tiny, num_inference_steps=4, seed=2, guidance_scale=2.5),
        recipe_of(tiny, sampler="DPM++ 2M Karras", num_inference_steps=16, seed=3),
        recipe_of(tiny, sampler="Euler", seed=4),
        recipe_of(tiny, guidance_scale=1.0, seed=5),
        mix,
        branched(recipe_of(tiny, seed=6), 3, prompt="a bird"),
        branched(recipe_of(tiny, seed=7), 2, prompt="a fish", mask=LEFT),
    ]
    together = painted(tiny, recipes, monkeypatch)
    for recipe, latents in zip(recipes, together, strict=True):
        (alone,) = painted(tiny, [recipe], monkeypatch)
        assert torch.equal(latents, alone), recipe
