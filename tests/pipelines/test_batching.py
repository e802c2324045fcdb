"""Runs share the network and nothing else."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pipelines.batching import Failed, Finished, StepBatcher
from pipelines.calls import Call, Calls, buckets_of, fit_buckets
from pipelines.denoising import Frame, Rows, Run
from pipelines.models.sd import StableDiffusion
from pipelines.prompt_to_image import paint, prompt_to_image
from pipelines.recipe import Recipe
from tests.pipelines.test_denoising import recipe_of

RECIPES = [
    {"sampler": "DPM++ 2M", "num_inference_steps": 5, "seed": 1},
    {"sampler": "Euler a", "num_inference_steps": 9, "seed": 2, "guidance_scale": 1.0},
    {"sampler": "Heun", "num_inference_steps": 3, "seed": 3, "prompt": "a fish"},
    {"sampler": "PNDM", "num_inference_steps": 7, "seed": 4, "width": 72},
    {"sampler": "LCM", "num_inference_steps": 4, "seed": 5, "guidance_scale": 1.0},
]


def drive(batcher: StepBatcher, joining: Mapping[int, tuple[Hashable, Run]]) -> dict[Hashable, Tensor]:
    finished: dict[Hashable, Tensor] = {}
    tick = 0
    while len(batcher) or tick <= max(joining):
        if tick in joining:
            batcher.join(*joining[tick])
        for key, event in batcher.tick():
            if isinstance(event, Finished):
                finished[key] = event.latents
        tick += 1
    return finished


def test_runs_that_join_midway_paint_what_they_paint_alone(tiny: StableDiffusion) -> None:
    recipes = [recipe_of(tiny, **changes) for changes in RECIPES]
    joining = {2 * i: (i, prompt_to_image(tiny, recipe)) for i, recipe in enumerate(recipes)}
    together = drive(StepBatcher(tiny), joining)
    for i, recipe in enumerate(recipes):
        assert torch.equal(together[i], paint(tiny, recipe))


def test_rows_in_one_call_agree_with_rows_alone(tiny: StableDiffusion) -> None:
    recipes = [recipe_of(tiny, **changes) for changes in RECIPES]
    joining = {i: (i, prompt_to_image(tiny, recipe)) for i, recipe in enumerate(recipes)}
    together = drive(StepBatcher(tiny, merge=True), joining)
    for i, recipe in enumerate(recipes):
        torch.testing.assert_close(together[i], paint(tiny, recipe), rtol=1e-3, atol=1e-3)


def test_merged_runs_of_one_size_share_a_call(tiny: StableDiffusion) -> None:
    batcher = StepBatcher(tiny, merge=True)
    for seed in range(3):
        batcher.join(seed, prompt_to_image(tiny, recipe_of(tiny, seed=seed)))
    events = batcher.tick()
    assert [key for key, event in events if isinstance(event, Frame)] == [0, 1, 2]


def test_a_call_has_the_rows_of_one_adapter(tiny: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int]] = []
    predict = tiny.predict

    def noted(rows: Rows) -> Tensor:
        calls.append((rows.adapter, len(rows.latents)))
        return predict(rows)

    monkeypatch.setattr(tiny, "predict", noted)
    batcher = StepBatcher(tiny, merge=True)
    for seed, sampler in enumerate(["LCM", "Euler", "LCM", "Euler"]):
        batcher.join(seed, prompt_to_image(tiny, recipe_of(tiny, seed=seed, sampler=sampler)))
    batcher.tick()
    assert calls == [("", 4), ("lcm", 4)]


def test_a_run_that_leaves_touches_no_other(tiny: StableDiffusion) -> None:
    recipe = recipe_of(tiny)
    batcher = StepBatcher(tiny)
    batcher.join("stays", prompt_to_image(tiny, recipe))
    batcher.join("leaves", prompt_to_image(tiny, recipe_of(tiny, seed=9)))
    batcher.tick()
    batcher.leave("leaves")
    batcher.leave("never was")
    assert len(batcher) == 1
    assert torch.equal(
        drive(batcher, {0: ("late", prompt_to_image(tiny, recipe))})["stays"], paint(tiny, recipe)
    )


def broken_after(run: Run, frames: int) -> Run:
    """Pass a real run on and raise after some frames, as a scheduler or a full memory might."""
    answer: Tensor | None = None
    while True:
        event = run.send(answer)
        answer = yield event
        if isinstance(event, Frame):
            frames -= 1
            if frames == 0:
                raise ArithmeticError("the latents are not finite")


@pytest.mark.parametrize("merge", [False, True])
def test_a_run_that_raises_fails_alone(tiny: StableDiffusion, merge: bool) -> None:
    batcher = StepBatcher(tiny, merge=merge)
    batcher.join("good", prompt_to_image(tiny, recipe_of(tiny)))
    batcher.join("bad", broken_after(prompt_to_image(tiny, recipe_of(tiny, seed=1)), 2))
    ends: dict[Hashable, Finished | Failed] = {}
    while len(batcher):
        ends.update((key, event) for key, event in batcher.tick() if not isinstance(event, Frame))
    assert isinstance(ends["good"], Finished)
    bad = ends["bad"]
    assert isinstance(bad, Failed)
    assert isinstance(bad.error, ArithmeticError)


def test_a_failing_call_fails_only_the_runs_in_it(tiny: StableDiffusion) -> None:
    batcher = StepBatcher(tiny)

    def asks_nonsense() -> Run:
        yield Rows(torch.zeros(1, 3, 8, 8), torch.zeros(1), torch.zeros(1, 1, 1))
        return torch.zeros(1)

    batcher.join("nonsense", asks_nonsense())
    batcher.join("good", prompt_to_image(tiny, recipe_of(tiny)))
    events = dict(batcher.tick())
    assert isinstance(events["nonsense"], Failed)
    assert isinstance(events["good"], Frame)


def test_runs_survive_when_memory_runs_out(tiny: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is real; only its memory is small: more than four rows are refused as CUDA refuses them."""
    sizes: list[int] = []
    predict = tiny.predict

    def in_little_memory(rows: Rows) -> Tensor:
        sizes.append(len(rows.latents))
        if len(rows.latents) > 4:
            raise torch.OutOfMemoryError("out of memory")
        return predict(rows)

    monkeypatch.setattr(tiny, "predict", in_little_memory)
    batcher = StepBatcher(tiny, merge=True)
    recipes = [recipe_of(tiny, seed=seed) for seed in range(5)]
    together = drive(batcher, {i: (i, prompt_to_image(tiny, r)) for i, r in enumerate(recipes)})
    monkeypatch.undo()
    for i, recipe in enumerate(recipes):
        torch.testing.assert_close(together[i], paint(tiny, recipe), rtol=1e-3, atol=1e-3)
    first_refusal = next(i for i, size in enumerate(sizes) if size > 4)
    assert max(sizes[first_refusal + 1 :]) <= 4, "it is asked for too much only once"


@pytest.mark.parametrize("size", [2, 8])
def test_a_full_batch_paints_what_one_alone_does_at_the_same_bucket(tiny: StableDiffusion, size: int) -> None:
    """Bit for bit: rows fill a bucket up, share it, or take several calls of it."""
    kinds = [*RECIPES, {"seed": 6}, {"seed": 7}]
    recipes = [recipe_of(tiny, **(changes | {"num_inference_steps": 2})) for changes in kinds]

    def at_bucket(recipes: list[Recipe]) -> list[tuple[Tensor, tuple[Call, ...]]]:
        batcher = StepBatcher(tiny, merge=True, buckets=(size,))
        for i, recipe in enumerate(recipes):
            batcher.join(i, prompt_to_image(tiny, recipe))
        ends: dict[Hashable, tuple[Tensor, tuple[Call, ...]]] = {}
        while len(batcher):
            ends |= {key: (e.latents, e.calls) for key, e in batcher.tick() if isinstance(e, Finished)}
        return [ends[i] for i in range(len(recipes))]

    for recipe, (latents, calls) in zip(recipes, at_bucket(recipes), strict=True):
        assert calls == (Call("eager", size),)
        assert torch.equal(latents, at_bucket([recipe])[0][0]), recipe


def test_a_picture_tells_every_size_of_call_that_it_was_in(tiny: StableDiffusion) -> None:
    batcher = StepBatcher(tiny, merge=True, buckets=(2, 4, 8))
    batcher.join("alone, then not", prompt_to_image(tiny, recipe_of(tiny, num_inference_steps=3)))
    batcher.tick()
    for seed in range(2):
        batcher.join(seed, prompt_to_image(tiny, recipe_of(tiny, seed=seed, num_inference_steps=4)))
    calls: dict[Hashable, tuple[Call, ...]] = {}
    while len(batcher):
        calls |= {key: event.calls for key, event in batcher.tick() if isinstance(event, Finished)}
    assert calls["alone, then not"] == (Call("eager", 2), Call("eager", 8))
    assert calls[0] == calls[1] == (Call("eager", 8), Call("eager", 4))


def test_what_fits_in_memory_is_found_at_the_start(
    tiny: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = tiny.predict

    def in_little_memory(rows: Rows) -> Tensor:
        if len(rows.latents) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more.")
        return predict(rows)

    monkeypatch.setattr(tiny, "predict", in_little_memory)
    assert fit_buckets(tiny) == (2, 4)
    assert fit_buckets(tiny, deterministic=True) == (4,)


def test_a_picture_is_asked_again_in_calls_of_its_own_size(tiny: StableDiffusion) -> None:
    asked = next(prompt_to_image(tiny, recipe_of(tiny)))
    assert isinstance(asked, Rows)
    full, (call, *_) = Calls(tiny, (16,)).predict(asked)
    assert str(call) == "eager 16"
    assert torch.equal(Calls(tiny, (16,)).predict(asked)[0], full)
    assert buckets_of(tiny, str(call)) == (), "on a CPU every picture has calls of its own"


def test_what_cannot_be_asked_fails_alone_in_a_shared_call(tiny: StableDiffusion) -> None:
    def asks_nonsense(like: Run) -> Run:
        rows = next(like)
        assert isinstance(rows, Rows)
        yield replace(rows, timestep=torch.zeros(0))
        return torch.zeros(1)

    batcher = StepBatcher(tiny, merge=True)
    batcher.join("good", prompt_to_image(tiny, recipe_of(tiny)))
    batcher.join("nonsense", asks_nonsense(prompt_to_image(tiny, recipe_of(tiny, seed=1))))
    events = dict(batcher.tick())
    assert isinstance(events["nonsense"], Failed)
    assert isinstance(events["good"], Frame)


def test_a_run_too_large_alone_fails_with_the_reason(
    tiny: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(rows: Rows) -> Tensor:
        raise torch.OutOfMemoryError(f"no room for {len(rows.latents)} rows")

    monkeypatch.setattr(tiny, "predict", no_memory)
    batcher = StepBatcher(tiny, merge=True)
    for seed in range(2):
        batcher.join(seed, prompt_to_image(tiny, recipe_of(tiny, seed=seed)))
    events = dict(batcher.tick())
    assert all(isinstance(event, Failed) for event in events.values())
    assert len(batcher) == 0
