"""A branch is its parent up to a step, exactly, and costs only what comes after it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipelines.denoising import Frame, Known
from pipelines.models.sd import StableDiffusion
from pipelines.prompt_to_image import paint, prompt_to_image
from pipelines.recipe import SAMPLER_NAMES, BadInput, Recipe, make_recipe, read_recipe
from pipelines.timeline import Timeline, TimelineWriter, read_timeline
from tests.pipelines.test_denoising import recipe_of


def branched(parent: Recipe, step: int, *, mask: object = None, **changes: object) -> Recipe:
    branch = {"parent": parent, "step": step, "mask": mask}
    return make_recipe(**{**dict(parent), **changes, "branch": branch})


def painted(tiny: StableDiffusion, recipe: Recipe, folder: Path) -> tuple[Tensor, Timeline]:
    writer = TimelineWriter(folder, recipe)
    latents = paint(tiny, recipe, writer.add)
    writer.close()
    return latents, read_timeline(folder)


def drive(
    tiny: StableDiffusion, recipe: Recipe, timeline: Timeline | None
) -> tuple[Tensor, list[Frame], int]:
    """Drive a branch; return its latents, its frames and how many model calls it made."""
    assert recipe.branch is not None
    known: list[Known] = []
    if timeline is not None:
        masked = recipe.branch.mask is not None
        known = timeline.known(len(timeline.steps) if masked else recipe.branch.step, tiny.device)
    run = prompt_to_image(tiny, recipe, known)
    frames: list[Frame] = []
    calls = 0
    answer: Tensor | None = None
    while True:
        try:
            event = run.send(answer)
        except StopIteration as end:
            return end.value, frames, calls
        answer = None
        if isinstance(event, Frame):
            frames.append(event)
        else:
            answer = tiny.predict(event)
            calls += 1


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_nothing_changed_is_the_original_bit_for_bit(
    tiny: StableDiffusion, tmp_path: Path, sampler: str
) -> None:
    parent = recipe_of(tiny, sampler=sampler)
    original, timeline = painted(tiny, parent, tmp_path)
    n = len(timeline.steps)
    for k in (0, 1, n // 2, n - 1):
        latents, frames, calls = drive(tiny, branched(parent, k), timeline)
        assert torch.equal(latents, original), f"branched at step {k}"
        assert calls == n - k
        assert [frame.step for frame in frames] == list(range(n))
    again, _, calls = drive(tiny, branched(parent, n // 2), None)
    assert torch.equal(again, original), "without the stored frames it is painted from the start"
    assert calls == n


@pytest.mark.parametrize("sampler", ["DPM++ 2M", "Euler a", "Heun", "UniPC"])
def test_a_new_prompt_is_heard_from_the_branching_step_on(
    tiny: StableDiffusion, tmp_path: Path, sampler: str
) -> None:
    parent = recipe_of(tiny, sampler=sampler)
    original, timeline = painted(tiny, parent, tmp_path)
    child = branched(parent, 3, prompt="a dog", guidance_scale=2.0)
    latents, frames, _ = drive(tiny, child, timeline)
    assert not torch.equal(latents, original)
    for frame in frames[:3]:
        assert torch.equal(frame.denoised, timeline.frame(frame.step).denoised)
    assert torch.equal(frames[3].latents, timeline.frame(3).latents), "it leaves from the same x_t"
    assert not torch.equal(frames[3].denoised, timeline.frame(3).denoised)
    assert torch.equal(drive(tiny, child, None)[0], latents), "the recipe alone paints the same branch"


def test_a_new_seed_changes_only_the_noise_that_is_still_to_come(
    tiny: StableDiffusion, tmp_path: Path
) -> None:
    parent = recipe_of(tiny, sampler="Euler a")
    original, timeline = painted(tiny, parent, tmp_path / "ancestral")
    latents, frames, _ = drive(tiny, branched(parent, 3, seed=99), timeline)
    assert torch.equal(frames[3].latents, timeline.frame(3).latents)
    assert not torch.equal(latents, original)
    plain = recipe_of(tiny, sampler="DDIM")
    original, timeline = painted(tiny, plain, tmp_path / "plain")
    latents, _, _ = drive(tiny, branched(plain, 3, seed=99), timeline)
    assert torch.equal(latents, original), "DDIM draws no noise of its own"


@pytest.mark.parametrize("sampler", ["Euler", "DDIM", "DPM++ 2M Karras", "Heun", "DEIS", "DDPM", "LCM"])
def test_another_sampler_takes_over(tiny: StableDiffusion, tmp_path: Path, sampler: str) -> None:
    parent = recipe_of(tiny, num_inference_steps=12)
    _, timeline = painted(tiny, parent, tmp_path)
    child = branched(parent, 5, sampler=sampler)
    latents, frames, calls = drive(tiny, child, timeline)
    assert latents.isfinite().all()
    assert calls == len(frames) - 5
    assert [frame.step for frame in frames] == list(range(len(frames)))
    assert {frame.steps for frame in frames} == {len(frames)}
    sigmas = [frame.sigma for frame in frames]
    assert sigmas == sorted(sigmas, reverse=True)
    assert frames[5].noisy.std().item() == pytest.approx(timeline.frame(5).noisy.std().item(), rel=0.1)


def test_the_full_model_goes_on_from_a_sketch(tiny: StableDiffusion, tmp_path: Path) -> None:
    sketch = recipe_of(tiny, sampler="LCM", num_inference_steps=4, guidance_scale=1.0)
    _, timeline = painted(tiny, sketch, tmp_path)
    child = branched(sketch, 1, sampler="DPM++ 2M", num_inference_steps=12, guidance_scale=5.0)
    latents, frames, calls = drive(tiny, child, timeline)
    assert torch.equal(frames[0].denoised, timeline.frame(0).denoised)
    assert calls == len(frames) - 1
    assert frames[1].sigma < frames[0].sigma
    assert torch.equal(drive(tiny, child, None)[0], latents)


@pytest.mark.parametrize("step", [0, 20])
def test_samplers_of_one_path_end_in_one_picture(tiny: StableDiffusion, tmp_path: Path, step: int) -> None:
    """With many steps DDIM and Euler both follow the probability flow: changing over loses nothing."""
    parent = recipe_of(tiny, sampler="DDIM", num_inference_steps=40)
    original, timeline = painted(tiny, parent, tmp_path)
    latents, _, _ = drive(tiny, branched(parent, step, sampler="Euler"), timeline)
    assert math.sqrt((latents - original).square().mean().item()) < 0.05 * original.std().item()


def test_a_branch_of_a_branch(tiny: StableDiffusion, tmp_path: Path) -> None:
    parent = recipe_of(tiny)
    child = branched(parent, 2, prompt="a dog")
    _, timeline = painted(tiny, child, tmp_path)
    grandchild = branched(child, 4, prompt="a bird", sampler="Euler")
    latents, frames, calls = drive(tiny, grandchild, timeline)
    assert calls == len(frames) - 4
    assert torch.equal(frames[2].denoised, timeline.frame(2).denoised)
    assert torch.equal(drive(tiny, grandchild, None)[0], latents)
    before_that = branched(child, 1, prompt="a bird")
    straight = branched(parent, 1, prompt="a bird")
    assert torch.equal(drive(tiny, before_that, None)[0], drive(tiny, straight, None)[0])


def test_what_cannot_be_branched_is_refused_in_a_sentence(tiny: StableDiffusion) -> None:
    parent = recipe_of(tiny)
    with pytest.raises(BadInput, match=r"has steps 0 to 5\. There is no step 6"):
        prompt_to_image(tiny, branched(parent, 6))
    with pytest.raises(BadInput, match="PNDM cannot take over in the middle of a run"):
        prompt_to_image(tiny, branched(parent, 3, sampler="PNDM"))
    with pytest.raises(BadInput, match="a branch has the model, width and height"):
        branched(parent, 3, width=128)


def test_lineage_survives_json(tiny: StableDiffusion) -> None:
    parent = recipe_of(tiny)
    grandchild = branched(branched(parent, 2, prompt="a dog"), 4, seed=5)
    again = read_recipe(grandchild.model_dump_json())
    assert again == grandchild
    assert [recipe.prompt for recipe in again.lineage()] == ["a cat, ukiyo-e", "a dog", "a dog"]
