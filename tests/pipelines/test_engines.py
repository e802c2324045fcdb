"""The engines behind one batch: what is worked out when, which of them answers, and what is said of it."""

from __future__ import annotations

from collections.abc import Hashable

import pytest
import torch
from torch import Tensor, nn

from pipelines.batching import Finished, StepBatcher
from pipelines.calls import Call, Calls, calls_in_words, engine_of
from pipelines.denoising import Frame, Rows
from pipelines.models.cuda_graphs import compile_call, cuda_graphs_are_for
from pipelines.models.sd import StableDiffusion
from pipelines.prompt_to_image import paint, prompt_to_image
from tests.pipelines.test_denoising import recipe_of
from tests.pipelines.test_references import RED, followed, mixed
from tests.pipelines.test_style_blending import style


class OnlyTwoRows:
    """The model's own network, on the CPU, standing where graphs of two rows would be ready."""

    def __init__(self, model: StableDiffusion) -> None:
        self._model = model

    def predict(self, rows: Rows) -> Tensor | None:
        return self._model.predict(rows) if len(rows.latents) == 2 else None

    def decode(self, latents: Tensor, *, looks: bool = False) -> None:
        del latents, looks


@pytest.fixture
def two_rows_ready(tiny: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny, "compiled", OnlyTwoRows(tiny))


def test_nothing_that_only_watchers_want_is_worked_out_while_painting(tiny: StableDiffusion) -> None:
    batcher = StepBatcher(tiny, merge=True)
    batcher.join("it", prompt_to_image(tiny, recipe_of(tiny)))
    frames: list[Frame] = []
    for _ in range(3):
        frames += [event for _, event in batcher.tick() if isinstance(event, Frame)]
    assert len(frames) == 3
    for frame in frames:
        assert "denoised" not in vars(frame)
        assert not vars(frame.pull).keys() & {"guidance_norm", "guidance_heat", "contributions"}
        assert frame.denoised is frame.denoised, "it is worked out once"
        assert frame.guidance_norm.item() > 0


@pytest.mark.usefixtures("two_rows_ready")
def test_calls_without_a_graph_are_eager_and_say_so(tiny: StableDiffusion) -> None:
    recipe = recipe_of(tiny, num_inference_steps=3)
    engine = engine_of(tiny, recipe)
    assert engine == "compiled"
    batcher = StepBatcher(tiny, merge=True, buckets=(2, 4))
    batcher.join("first", prompt_to_image(tiny, recipe), engine)
    batcher.tick()
    batcher.join("second", prompt_to_image(tiny, recipe_of(tiny, num_inference_steps=1)), engine)
    ends: dict[Hashable, Finished] = {}
    while len(batcher):
        ends |= {key: event for key, event in batcher.tick() if isinstance(event, Finished)}
    assert calls_in_words(ends["first"].calls) == "compiled 2 + eager 4"
    assert calls_in_words(ends["second"].calls) == "eager 4"
    torch.testing.assert_close(ends["first"].latents, paint(tiny, recipe), rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("two_rows_ready")
def test_a_picture_is_painted_again_by_the_engine_it_names(tiny: StableDiffusion) -> None:
    recipe = recipe_of(tiny)
    assert engine_of(tiny, recipe, "eager 2") == "eager"
    assert engine_of(tiny, recipe, "compiled 2") == "compiled"
    assert engine_of(tiny, recipe, "eager 4 + compiled 2") == "compiled"
    follows = mixed(tiny, style("ink", 1), references=(followed(RED, 0.4),))
    assert engine_of(tiny, follows) == "eager", "only there rows share attention"


def test_without_compiled_calls_a_picture_that_names_them_is_painted_all_the_same(
    tiny: StableDiffusion,
) -> None:
    assert not cuda_graphs_are_for(tiny)
    assert engine_of(tiny, recipe_of(tiny), "compiled 2") == "eager"
    rows = Rows(torch.zeros(2, 4, 8, 8), torch.tensor([1, 2]), tiny.encode_prompt(["", "a cat"]).embeds)
    _, calls = Calls(tiny).predict(rows, "compiled")
    assert calls == [Call("eager", 2)] * 2


def test_the_compiler_is_given_the_same_network(tiny: StableDiffusion) -> None:
    """Traced as for a GPU, its attention fused, run by torch itself; the model's own stays as it was."""
    rows = Rows(torch.randn(2, 4, 8, 8), torch.tensor([1.0, 500.0]), tiny.encode_prompt(["", "a cat"]).embeds)
    before = tiny.predict(rows)
    unet = tiny.unet_on_same_weights()
    with torch.inference_mode(False), torch.no_grad():
        given = {name: tensor.clone() for name, tensor in tiny.unet_arguments(rows).items()}
        ours: Tensor = compile_call(unet, backend="eager")(**given, return_dict=False)[0]
    torch.testing.assert_close(ours, before, rtol=1e-5, atol=1e-5)
    assert torch.equal(tiny.predict(rows), before)
    large = {
        id(module.weight)
        for module in unet.modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1)
    }
    own = {parameter.data_ptr() for parameter in tiny.unet_on_same_weights().parameters()}
    for parameter in unet.parameters():
        if id(parameter) in large:
            assert parameter.is_contiguous(memory_format=torch.channels_last), "as the compiler wants it"
        elif parameter.ndim == 4:
            assert parameter.data_ptr() in own, "no other weight twice"


def test_prompts_are_remembered_and_forgotten(tiny: StableDiffusion) -> None:
    first = tiny.encode_prompt(["", "a cat"])
    assert tiny.encode_prompt(("", "a cat")) is first
    assert tiny.encode_prompt(["a cat", ""]) is not first
    for number in range(40):
        tiny.encode_prompt([f"cat {number}"])
    again = tiny.encode_prompt(["", "a cat"])
    assert again is not first
    assert again.equals(first)


def test_the_prompts_of_a_run_are_joined_once(tiny: StableDiffusion) -> None:
    run = prompt_to_image(tiny, recipe_of(tiny))
    asked: list[Rows] = []
    answer: Tensor | None = None
    for _ in range(4):
        event = run.send(answer)
        answer = None
        if not isinstance(event, Frame):
            asked.append(event)
            answer = tiny.predict(event)
    assert asked[0].prompt_embeds is asked[1].prompt_embeds
