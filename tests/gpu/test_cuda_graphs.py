"""Compiled calls on a real GPU: the same pictures, whoever paints meanwhile. Skipped where there is no CUDA.

Alone, also where pytest has none of the plugins that the others need:
`python3 -m pytest -c /dev/null --rootdir . tests/gpu`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Hashable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipelines.batching import Failed, Finished, StepBatcher
from pipelines.calls import Call, Calls, engine_of, fit_buckets
from pipelines.decoding import decode_kept, decode_looks, decoded_at_once
from pipelines.denoising import Frame, Rows, Run
from pipelines.latents import to_images
from pipelines.models.cuda_graphs import CudaGraphs, cuda_graphs_are_for
from pipelines.models.find import find_model
from pipelines.models.load import load_model
from pipelines.models.place import Placement
from pipelines.models.sd import StableDiffusion
from pipelines.prompt_to_image import prompt_to_image
from pipelines.recipe import Recipe
from tests.pipelines.test_denoising import recipe_of
from tests.pipelines.test_image_to_image import from_picture, picture, png
from tests.pipelines.test_stepping import PREDICTION_TYPES, check_steps

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    pytest.mark.filterwarnings("default"),  # of torch's compiler, to which nothing here could be done
]

AGREE_DB = 40.0
BUCKETS = (2, 4)
# Of pictures of the size that `recipe_of` paints.
AT_ONCE = decoded_at_once("cuda", width=64, height=72)


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> StableDiffusion:
    half = torch.float16
    return load_model(find_model(str(tiny_folder)), Placement(torch.device("cuda"), half, half))


@pytest.fixture(scope="module")
def prepared(model: StableDiffusion) -> CudaGraphs:
    """The graphs of all calls that these tests make, compiled once."""
    assert cuda_graphs_are_for(model)
    graphs = CudaGraphs(model)
    for rows in BUCKETS:
        graphs.prepare(rows_of(model, rows))
    for size in (1, AT_ONCE):
        graphs.prepare_decoder(looks=False, shape=(size, 4, 36, 32))
    return graphs


@pytest.fixture
def compiled(model: StableDiffusion, prepared: CudaGraphs, monkeypatch: pytest.MonkeyPatch) -> CudaGraphs:
    monkeypatch.setattr(model, "compiled", prepared)
    return prepared


def rows_of(model: StableDiffusion, count: int, seed: int = 0) -> Rows:
    """Rows of the size that `recipe_of` paints."""
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn((count, 4, 36, 32), generator=generator).to(model.device)
    embeds = model.encode_prompt(["a cat"]).expand(count).embeds
    return Rows(latents, torch.linspace(1, 999, count), embeds)


def agreement_db(ours: Tensor, theirs: Tensor) -> float:
    """The peak signal-to-noise ratio of two results, in decibels, over the range of the second."""
    error = (ours - theirs).square().mean().item()
    span = (theirs.max() - theirs.min()).item()
    return math.inf if error == 0 else 10 * math.log10(span**2 / error)


def paint(
    model: StableDiffusion, recipes: dict[Hashable, Recipe], engine: str = "compiled"
) -> dict[Hashable, Finished]:
    batcher = StepBatcher(model, buckets=BUCKETS)
    for key, recipe in recipes.items():
        batcher.join(key, prompt_to_image(model, recipe), "compiled" if engine == "compiled" else "eager")
    return drive(batcher)


def drive(batcher: StepBatcher) -> dict[Hashable, Finished]:
    finished: dict[Hashable, Finished] = {}
    while len(batcher):
        for key, event in batcher.tick():
            assert not isinstance(event, Failed), event
            if isinstance(event, Finished):
                finished[key] = event
    return finished


@pytest.mark.parametrize("count", BUCKETS)
def test_a_compiled_call_agrees_with_an_eager_one(
    model: StableDiffusion, compiled: CudaGraphs, count: int
) -> None:
    rows = rows_of(model, count, seed=count)
    first, again = compiled.predict(rows), compiled.predict(rows)
    assert first is not None
    assert again is not None
    assert first.dtype == torch.float32
    assert torch.equal(first, again), "equal calls agree bit for bit"
    assert agreement_db(first, model.predict(rows)) >= AGREE_DB
    assert compiled.predict(rows_of(model, 3)) is None, "nothing is ready for three rows"


def test_answers_do_not_change_when_the_graph_is_used_again(
    model: StableDiffusion, compiled: CudaGraphs
) -> None:
    first = compiled.predict(rows_of(model, 2, seed=1))
    assert first is not None
    kept = first.clone()
    compiled.predict(rows_of(model, 2, seed=2))
    compiled.predict(rows_of(model, 4, seed=3))
    assert torch.equal(first, kept)


def test_pictures_agree_and_say_what_they_were_painted_by(
    model: StableDiffusion, compiled: CudaGraphs
) -> None:
    recipe = recipe_of(model)
    assert engine_of(model, recipe) == "compiled"
    assert engine_of(model, recipe, "eager 2") == "eager"
    ours, again = (paint(model, {"it": recipe})["it"] for _ in range(2))
    theirs = paint(model, {"it": recipe}, "eager")["it"]
    assert ours.calls == (Call("compiled", 2),)
    assert theirs.calls == (Call("eager", 2),)
    assert torch.equal(ours.latents, again.latents)
    assert agreement_db(model.decode(ours.latents), model.decode(theirs.latents)) >= AGREE_DB
    assert len(compiled) == len(BUCKETS)


def test_company_does_not_change_a_compiled_picture(model: StableDiffusion, compiled: CudaGraphs) -> None:
    assert len(compiled) == len(BUCKETS)
    recipes: dict[Hashable, Recipe] = {seed: recipe_of(model, seed=seed) for seed in range(4)}
    together = paint(model, recipes)
    for pair in ([0, 1], [2, 3]):
        apart = paint(model, {seed: recipes[seed] for seed in pair})
        for seed in pair:
            assert together[seed].calls == apart[seed].calls == (Call("compiled", 4),)
            assert torch.equal(together[seed].latents, apart[seed].latents)


def some_latents(model: StableDiffusion, count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return list(torch.randn((count, 4, 36, 32), generator=generator).to(model.device).split(1))


@pytest.mark.parametrize("size", [1, AT_ONCE])
def test_a_compiled_decoder_agrees_with_torchs_own(
    model: StableDiffusion, compiled: CudaGraphs, size: int
) -> None:
    latents = torch.cat(some_latents(model, size))
    first, again = compiled.decode(latents), compiled.decode(latents, looks=True)
    assert first is not None
    assert again is not None
    assert first.dtype == torch.float32
    assert torch.equal(first, again), "equal calls agree bit for bit, and here looks are as what is kept"
    assert agreement_db(first, model.decode(latents)) >= AGREE_DB
    assert compiled.decode(latents.repeat(2, 1, 1, 1)) is None, "nothing is ready for twice as many"


def test_a_picture_decoded_with_others_is_had_again_alone(
    model: StableDiffusion, compiled: CudaGraphs
) -> None:
    """A full call, one that is filled up, and single ones: the same pixels by the call that is named."""
    assert len(compiled) == len(BUCKETS)
    latents = some_latents(model, AT_ONCE + 5)
    kept = decode_kept(model, latents) + decode_kept(model, latents[:1])
    assert {decoder for _, decoder in kept} == {Call("compiled", AT_ONCE), Call("compiled", 1)}
    for one, (image, decoder) in zip([*latents, latents[0]], kept, strict=True):
        ((again, same),) = decode_kept(model, [one], decoder)
        assert same == decoder
        assert again.tobytes() == image.tobytes()
    ((own, decoder),) = decode_kept(model, latents[:1], Call("eager", 1))
    assert decoder == Call("eager", 1)
    assert own.tobytes() == to_images(model.decode(latents[0]))[0].tobytes()
    looks = decode_looks(model, latents)
    assert [look.tobytes() for look in looks[:AT_ONCE]] == [image.tobytes() for image, _ in kept[:AT_ONCE]]


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_steps_taken_together_are_those_of_diffusers(model: StableDiffusion, prediction_type: str) -> None:
    check_steps(model, dict(model.folder.scheduler_config) | {"prediction_type": prediction_type})


def test_a_run_that_steps_alone_paints_what_it_paints_with_others(
    model: StableDiffusion, compiled: CudaGraphs
) -> None:
    """In one bucket: alone by diffusers' own steps, with others by steps taken together."""
    assert len(compiled) == len(BUCKETS)
    recipes = [recipe_of(model, seed=seed, num_inference_steps=4 + seed) for seed in range(2)]
    together = StepBatcher(model, buckets=(4,))
    for seed, recipe in enumerate(recipes):
        together.join(seed, prompt_to_image(model, recipe), "compiled")
    painted = drive(together)
    for seed, recipe in enumerate(recipes):
        alone = StepBatcher(model, buckets=(4,))
        alone.join("it", prompt_to_image(model, recipe), "compiled")
        assert torch.equal(drive(alone)["it"].latents, painted[seed].latents)


def test_company_does_not_change_what_begins_from_a_picture(model: StableDiffusion) -> None:
    """By torch's own calls, whose convolutions round by how latents lie in memory."""
    recipe, open_source = from_picture(model, png(picture()))

    def painted(*others: Recipe) -> Tensor:
        batcher = StepBatcher(model, buckets=(4,))
        batcher.join("it", prompt_to_image(model, recipe, open_source=open_source))
        for key, other in enumerate(others):
            batcher.join(key, prompt_to_image(model, other))
        return model.decode(drive(batcher)["it"].latents)

    assert torch.equal(painted(recipe_of(model, seed=1)), painted())


def test_runs_go_over_to_a_graph_as_soon_as_it_is_ready(
    model: StableDiffusion, prepared: CudaGraphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost: the steps before are eager calls, those after compiled ones."""
    graphs = CudaGraphs(model)
    monkeypatch.setattr(model, "compiled", graphs)
    recipe = recipe_of(model)
    batcher = StepBatcher(model, buckets=BUCKETS)
    batcher.join("it", prompt_to_image(model, recipe), "compiled")
    batcher.tick()
    batcher.tick()
    monkeypatch.setattr(model, "compiled", prepared)
    finished = drive(batcher)["it"]
    assert finished.calls == (Call("eager", 2), Call("compiled", 2))
    eager = paint(model, {"it": recipe}, "eager")["it"]
    assert agreement_db(finished.latents, eager.latents) >= AGREE_DB


def test_a_graph_is_recorded_while_another_thread_paints(
    model: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = paint(model, {"it": recipe_of(model)}, "eager")["it"]
    graphs = CudaGraphs(model)
    monkeypatch.setattr(model, "compiled", graphs)
    over = threading.Event()
    errors: list[BaseException] = []

    def compile_beside() -> None:
        try:
            graphs.keep_compiling(over.wait)
        except BaseException as error:  # told to the thread that asks
            errors.append(error)

    beside = threading.Thread(target=compile_beside)
    beside.start()
    painted: list[Finished] = []
    try:
        # Eager pictures go on through compiling and recording; some more follow when a graph is there.
        for _ in range(5000):
            painted.append(paint(model, {"it": recipe_of(model)})["it"])
            decode_kept(model, [painted[-1].latents])
            if errors or any(call.engine == "compiled" for call in painted[-1].calls):
                break
    finally:
        over.set()
        beside.join()
    assert not errors, errors
    assert Call("compiled", 2) in painted[-1].calls, f"after {len(painted)} pictures"
    for one in painted:
        if one.calls == (Call("eager", 2),):
            assert torch.equal(one.latents, alone.latents)
    assert agreement_db(painted[-1].latents, alone.latents) >= AGREE_DB


def test_a_run_that_raises_touches_nobody(model: StableDiffusion, compiled: CudaGraphs) -> None:
    assert len(compiled) == len(BUCKETS)

    def breaking(run: Run) -> Run:
        answer: Tensor | None = None
        for _ in range(3):
            answer = yield run.send(answer)
        raise ArithmeticError("the latents are not finite")

    recipe = recipe_of(model, seed=1)
    batcher = StepBatcher(model, buckets=(4,))
    batcher.join("good", prompt_to_image(model, recipe), "compiled")
    batcher.join("bad", breaking(prompt_to_image(model, recipe_of(model))), "compiled")
    ends: dict[Hashable, Finished | Failed] = {}
    while len(batcher):
        ends |= {key: event for key, event in batcher.tick() if not isinstance(event, Frame)}
    good = ends["good"]
    assert isinstance(ends["bad"], Failed)
    assert isinstance(good, Finished)
    alone = StepBatcher(model, buckets=(4,))
    alone.join("good", prompt_to_image(model, recipe), "compiled")
    assert torch.equal(drive(alone)["good"].latents, good.latents)


def test_when_memory_runs_out_the_bucket_is_halved(model: StableDiffusion, compiled: CudaGraphs) -> None:
    """Real memory, of which this process may have little: a large picture's attention does not fit in it."""
    assert len(compiled) == len(BUCKETS)
    calls = Calls(model, (2, 64))
    large = Rows(
        torch.zeros(64, 4, 256, 256, device=model.device),
        torch.zeros(64),
        model.encode_prompt(["a cat"]).expand(64).embeds,
    )
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    # The rows themselves and a few of a call of two, by far not what sixty-four take.
    room = torch.cuda.memory_reserved() + 350_000_000
    torch.cuda.set_per_process_memory_fraction(min(1.0, room / total))
    try:
        answers, used = calls.predict(large, "compiled")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert answers.shape == large.latents.shape
    assert calls.buckets == (2,)
    assert set(used) == {Call("eager", 2)}


def test_the_sizes_of_call_are_found(model: StableDiffusion) -> None:
    assert fit_buckets(model) == (2, 4, 8, 16, 32, 64)
    assert fit_buckets(model, deterministic=True) == (8,)
