"""Heat over the picture: where it changed, where the prompt pulled, and what each word was read for."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipelines.attention import Attention, read_looks, tokens_of, word_heat
from pipelines.denoising import Frame, Rows
from pipelines.heat import Heat, change_heat, enlarged, guidance_heat, over_run, within_step
from pipelines.models.find import find_model
from pipelines.models.load import load_model
from pipelines.models.sd import StableDiffusion
from pipelines.palette import make_mix
from pipelines.prompt_to_image import paint, prompt_to_image
from pipelines.recipe import BadInput, Branch, Recipe
from pipelines.sources import OpenSource, no_sources
from pipelines.styles import Mix
from pipelines.timeline import Timeline, TimelineWriter, read_timeline
from tests.conftest import CPU_FP32
from tests.pipelines.test_denoising import recipe_of
from tests.pipelines.test_image_to_image import picture, png
from tests.pipelines.test_inpainting import mask_of, repainted
from tests.tiny import build_tiny_sd

PROMPT = "a red cat"


def kept(tiny: StableDiffusion, folder: Path, recipe: Recipe) -> Timeline:
    writer = TimelineWriter(folder, recipe)
    paint(tiny, recipe, writer.add)
    writer.close()
    return read_timeline(folder)


@pytest.fixture
def timeline(tiny: StableDiffusion, tmp_path: Path) -> Timeline:
    return kept(tiny, tmp_path / "kept", recipe_of(tiny, prompt=PROMPT, num_inference_steps=7))


def test_change_is_that_of_the_predicted_picture(timeline: Timeline) -> None:
    heat = change_heat(timeline)
    assert heat[0] is None
    for step in range(1, 7):
        map_ = heat[step]
        assert map_ is not None
        assert map_.square().mean().sqrt().item() == pytest.approx(timeline.steps[step].change, rel=1e-5)
    (timeline.folder / "frame-003.safetensors").write_bytes(b"damaged")
    assert [map_ is None for map_ in change_heat(timeline)] == [True, False, False, True, True, False, False]


def test_guidance_is_kept_where_there_is_any(
    tiny: StableDiffusion, timeline: Timeline, tmp_path: Path
) -> None:
    assert all(map_ is not None and map_.shape == (36, 32) for map_ in guidance_heat(timeline))
    alone = kept(tiny, tmp_path / "alone", recipe_of(tiny, guidance_scale=1.0, num_inference_steps=2))
    with pytest.raises(BadInput, match="without guidance"):
        guidance_heat(alone)


def test_heat_is_scaled_for_the_eye(timeline: Timeline) -> None:
    for scaled in (over_run(change_heat(timeline)), within_step(change_heat(timeline))):
        tiles = enlarged(scaled, width=64, height=72)
        assert tiles.shape == (7, 72, 64)
        assert tiles.min() >= 0
        assert tiles.max() <= 1
        assert tiles[0].max() == 0
        assert tiles[1:].amax((1, 2)).min() > 0.1
    flat: Heat = [torch.full((4, 4), 0.5)]
    assert enlarged(within_step(flat), width=4, height=4).max() == 0, "nothing stands out of what is alike"


def test_attention_is_the_network_s_own(tiny: StableDiffusion) -> None:
    """Every place shares its attention out among the tokens; watching changes nothing of what is painted."""
    rows = Rows(torch.randn(2, 4, 18, 16), torch.tensor([500, 20]), tiny.encode_prompt([PROMPT, "b"]).embeds)
    before = tiny.predict(rows)
    attention = Attention(tiny)
    seen = attention.see(rows)
    assert seen.shape == (2, 16, 18, 16)
    torch.testing.assert_close(seen.sum(1), torch.ones(2, 18, 16))
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(tiny.predict(rows), before)
    # A row's attention does not depend on its neighbours.
    alone = attention.see(Rows(rows.latents[:1], rows.timestep[:1], rows.prompt_embeds[:1]))
    torch.testing.assert_close(alone[0], seen[0], rtol=1e-4, atol=1e-6)


def test_a_word_is_all_its_tokens_wherever_it_stands(tiny: StableDiffusion) -> None:
    # Every character is a token here, after the one that begins the sequence.
    assert tokens_of(tiny, "a cat, a cat", "cat") == [2, 3, 4, 7, 8, 9]
    assert tokens_of(tiny, "a Cat", "cat") == [2, 3, 4]
    assert tokens_of(tiny, "a cat", "ca") == []
    assert tokens_of(tiny, "abcdefghijklmnopq cat", "cat") == [], "the model does not read that far"


def test_a_kept_run_is_looked_at_again(tiny: StableDiffusion, timeline: Timeline, tmp_path: Path) -> None:
    looks = Attention(tiny).look_again(timeline)
    assert looks.steps == [0, 3, 6]
    file = tmp_path / "attention.safetensors"
    assert read_looks(file) is None
    looks.save(file)
    again = read_looks(file)
    assert again is not None
    assert torch.equal(again.heat, looks.heat)
    red, cat = (word_heat(tiny, timeline, again, word) for word in ("red", "cat"))
    assert len(red) == 7
    first, between, second = (red[step] for step in (0, 1, 3))
    assert first is not None
    assert between is not None
    assert second is not None
    torch.testing.assert_close(between, first + (second - first) / 3)
    assert cat[0] is not None
    assert not torch.equal(first, cat[0])
    with pytest.raises(BadInput, match="no word “dog”"):
        word_heat(tiny, timeline, again, "dog")


def test_a_branch_is_looked_at_under_the_prompt_of_each_step(
    tiny: StableDiffusion, timeline: Timeline, tmp_path: Path
) -> None:
    recipe = recipe_of(
        tiny,
        prompt="a dog",
        num_inference_steps=7,
        branch=Branch(parent=timeline.recipe, step=3),
    )
    branch = kept(tiny, tmp_path / "branch", recipe)
    attention = Attention(tiny)
    looks = attention.look_again(branch)
    parents = attention.look_again(timeline)
    assert torch.equal(looks.heat[0], parents.heat[0])
    dog, cat = (word_heat(tiny, branch, looks, word) for word in ("dog", "cat"))
    assert [map_ is None for map_ in dog] == [True] * 3 + [False] * 4
    assert cat[0] is not None


def asked_and_kept(
    model: StableDiffusion, recipe: Recipe, folder: Path, open_source: OpenSource = no_sources
) -> tuple[list[Rows], Timeline]:
    """Paint and keep a recipe; return what the network was really asked at each step."""
    writer = TimelineWriter(folder, recipe)
    run = prompt_to_image(model, recipe, open_source=open_source)
    asked: list[Rows] = []
    answer: Tensor | None = None
    with suppress(StopIteration):
        while True:
            event = run.send(answer)
            answer = None
            if isinstance(event, Frame):
                writer.add(event)
            else:
                asked.append(event)
                answer = model.predict(event)
    writer.close()
    return asked, read_timeline(folder)


def mix(method: str, **weights: float) -> Mix:
    return make_mix([{"name": name, "weight": weight} for name, weight in weights.items()], method)


@pytest.mark.parametrize(
    ("changes", "shares"),
    [
        ({"mix": mix("conditioning", baroque=3, romanticism=1)}, (1.0,)),
        ({"mix": mix("slerp", baroque=3, romanticism=1), "guidance_scale": 1.0}, (1.0,)),
        ({"mix": mix("prediction", baroque=3, romanticism=1)}, (0.75, 0.25)),
        ({"sampler": "LCM", "num_inference_steps": 4, "guidance_scale": 1.0}, (1.0,)),
    ],
)
def test_it_is_what_the_network_was_asked_that_is_looked_at(
    tiny: StableDiffusion, tmp_path: Path, changes: dict[str, object], shares: tuple[float, ...]
) -> None:
    """Blended words, each style by itself, few-step weights: nothing that was not painted with."""
    recipe = recipe_of(tiny, **{"prompt": PROMPT, "num_inference_steps": 5, **changes})
    asked, timeline = asked_and_kept(tiny, recipe, tmp_path)
    attention = Attention(tiny)
    looks = attention.look_again(timeline)
    for step, heat in zip(looks.steps, looks.heat, strict=True):
        rows = asked[step]
        seen = attention.see(rows)[-len(shares) :, : heat.shape[0]]
        expected = (seen * torch.tensor(shares)[:, None, None, None]).sum(0)
        torch.testing.assert_close(heat.float(), expected, rtol=1e-3, atol=1e-4)


def test_a_branch_with_other_styles_is_looked_at_under_those_of_each_step(
    tiny: StableDiffusion, tmp_path: Path
) -> None:
    parent = recipe_of(tiny, prompt=PROMPT, mix=mix("conditioning", baroque=1), num_inference_steps=7)
    branch = Branch(parent=parent, step=3)
    asked, timeline = asked_and_kept(
        tiny,
        parent.model_copy(update={"mix": mix("conditioning", impressionism=1), "branch": branch}),
        tmp_path,
    )
    attention = Attention(tiny)
    looks = attention.look_again(timeline)
    assert looks.steps == [0, 3, 6]
    for step, heat in zip(looks.steps, looks.heat, strict=True):
        seen = attention.see(asked[step])[1, : heat.shape[0]]
        torch.testing.assert_close(heat.float(), seen, rtol=1e-3, atol=1e-4)


def test_a_network_that_sees_its_hole_is_shown_it_again(tmp_path: Path) -> None:
    model = load_model(find_model(str(build_tiny_sd(tmp_path / "model", in_channels=9))), CPU_FP32)
    recipe, open_source = repainted(model, png(picture()), png(mask_of()), prompt=PROMPT)
    asked, timeline = asked_and_kept(model, recipe, tmp_path / "kept", open_source)
    attention = Attention(model)
    looks = attention.look_again(timeline, open_source)
    for step, heat in zip(looks.steps, looks.heat, strict=True):
        seen = attention.see(asked[step])[1, : heat.shape[0]]
        torch.testing.assert_close(heat.float(), seen, rtol=1e-3, atol=1e-4)
