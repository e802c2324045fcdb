"""A branch with a mask is its parent outside it, bit for bit, and costs no step more; styles may change."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import torch

from pipelines.models.sd import StableDiffusion
from pipelines.palette import make_mix
from pipelines.recipe import BadInput
from pipelines.styles import METHODS, REGION_SIDE
from tests.pipelines.test_branching import branched, drive, painted
from tests.pipelines.test_denoising import recipe_of


def mask_of(*amounts: int) -> str:
    """Paint upright stripes of equal width, each of one amount from 0 to 255."""
    wide = REGION_SIDE // len(amounts)
    row = bytes(amount for amount in amounts for _ in range(wide))
    return base64.b64encode(row * REGION_SIDE).decode()


LEFT = mask_of(255, 0)  # latents are 32 wide here, as the mask is
INSIDE, OUTSIDE = slice(0, 16), slice(16, 32)


@pytest.mark.parametrize("sampler", ["DPM++ 2M", "Euler a", "DDIM", "Heun"])
def test_outside_its_mask_a_branch_is_its_parent_at_every_step(
    tiny: StableDiffusion, tmp_path: Path, sampler: str
) -> None:
    parent = recipe_of(tiny, sampler=sampler)
    original, timeline = painted(tiny, parent, tmp_path)
    n, k = len(timeline.steps), 2
    child = branched(parent, k, prompt="a dog", seed=99, mask=LEFT)
    latents, frames, calls = drive(tiny, child, timeline)
    assert calls == n - k
    assert [frame.step for frame in frames] == list(range(n))
    for frame in frames:
        assert torch.equal(frame.latents[..., OUTSIDE], timeline.frame(frame.step).latents[..., OUTSIDE])
    assert torch.equal(latents[..., OUTSIDE], original[..., OUTSIDE])
    assert not torch.equal(latents[..., INSIDE], original[..., INSIDE])
    alone, _, calls = drive(tiny, child, None)
    assert torch.equal(alone, latents), "the recipe alone paints the same"
    assert calls == n + n - k
    same, _, calls = drive(tiny, branched(parent, k, mask=LEFT), timeline)
    assert torch.equal(same, original), "nothing is changed inside either"
    assert calls == n - k


@pytest.mark.parametrize(("sampler", "steps"), [("Euler", 6), ("DDIM", 9), ("Heun", 5), ("LCM", 4)])
def test_another_sampler_ends_in_the_parent_too(
    tiny: StableDiffusion, tmp_path: Path, sampler: str, steps: int
) -> None:
    parent = recipe_of(tiny)
    original, timeline = painted(tiny, parent, tmp_path)
    child = branched(parent, 2, sampler=sampler, num_inference_steps=steps, mask=LEFT)
    latents, frames, calls = drive(tiny, child, timeline)
    assert calls == len(frames) - 2
    assert torch.equal(latents[..., OUTSIDE], original[..., OUTSIDE])
    assert not torch.equal(latents[..., INSIDE], original[..., INSIDE])


def test_a_soft_mask_lets_go_later(tiny: StableDiffusion, tmp_path: Path) -> None:
    parent = recipe_of(tiny, sampler="DDIM", num_inference_steps=10)
    original, timeline = painted(tiny, parent, tmp_path)
    child = branched(parent, 2, prompt="a dog", mask=mask_of(255, 128, 0, 0))
    latents, frames, _ = drive(tiny, child, timeline)
    changed = (latents != original).any(1).any(1)[0]
    assert changed[:16].all()
    assert not changed[16:].any()
    half = slice(8, 16)
    held = [
        torch.equal(frame.latents[..., half], timeline.frame(frame.step).latents[..., half])
        for frame in frames
    ]
    assert held == [True] * 6 + [False] * 4, "the grey is let go when half of the branch is left"


def test_branches_of_a_masked_branch_need_only_its_own_timeline(
    tiny: StableDiffusion, tmp_path: Path
) -> None:
    parent = recipe_of(tiny)
    original, _ = painted(tiny, parent, tmp_path / "parent")
    child = branched(parent, 2, prompt="a dog", mask=LEFT)
    hers, timeline = painted(tiny, child, tmp_path / "child")
    n = len(timeline.steps)
    free, _, calls = drive(tiny, branched(child, 4, prompt="a bird"), timeline)
    assert calls == n - 4
    assert not torch.equal(free[..., OUTSIDE], original[..., OUTSIDE])
    right = mask_of(0, 255)
    held, _, calls = drive(tiny, branched(child, 4, prompt="a bird", mask=right), timeline)
    assert calls == n - 4
    assert torch.equal(held[..., INSIDE], hers[..., INSIDE])
    assert not torch.equal(held[..., OUTSIDE], hers[..., OUTSIDE])
    alone, _, _ = drive(tiny, branched(child, 4, prompt="a bird", mask=right), None)
    assert torch.equal(alone, held)


@pytest.mark.parametrize("method", METHODS)
def test_styles_change_from_a_step_on(tiny: StableDiffusion, tmp_path: Path, method: str) -> None:
    def mix(**weights: float) -> object:
        return make_mix([{"name": name, "weight": weight} for name, weight in weights.items()], method)

    parent = recipe_of(tiny, mix=mix(baroque=3, romanticism=1))
    original, timeline = painted(tiny, parent, tmp_path)
    n = len(timeline.steps)
    same, _, calls = drive(tiny, branched(parent, 3), timeline)
    assert torch.equal(same, original)
    assert calls == n - 3
    for changes in ({"mix": mix(baroque=1, romanticism=3)}, {"mix": mix(impressionism=1)}, {"mix": None}):
        latents, frames, calls = drive(tiny, branched(parent, 3, **changes), timeline)
        assert calls == n - 3
        assert torch.equal(frames[2].denoised, timeline.frame(2).denoised)
        assert torch.equal(frames[3].latents, timeline.frame(3).latents)
        assert not torch.equal(latents, original)
        assert torch.equal(drive(tiny, branched(parent, 3, **changes), None)[0], latents)


def test_a_mask_is_in_the_recipe_only_where_there_is_one(tiny: StableDiffusion) -> None:
    parent = recipe_of(tiny)
    assert "mask" not in branched(parent, 1).model_dump_json()
    assert branched(parent, 1, mask=LEFT).key != branched(parent, 1).key
    for wrong, sentence in {
        "not base64": "The mask of the branch cannot be read: paint it again.",
        mask_of(0): "The mask of the branch covers nothing: paint where it may change.",
    }.items():
        with pytest.raises(BadInput) as refused:
            branched(parent, 1, mask=wrong)
        assert (str(refused.value), refused.value.field) == (sentence, "mask")
