"""Pictures that are followed and a classifier that steers: nothing of them is felt at zero."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pipelines.batching import Finished, StepBatcher
from pipelines.denoising import Frame, Rows, predicted_denoised
from pipelines.heat import style_heat
from pipelines.models.sd import StableDiffusion
from pipelines.palette import make_mix
from pipelines.prompt_to_image import paint, prompt_to_image
from pipelines.recipe import BadInput, Recipe
from pipelines.shared_attention import Shared
from pipelines.sources import open_among, source_key
from pipelines.steering import Steering
from pipelines.style_blending import Shares
from pipelines.styles import METHODS, Method, MixedStyle
from pipelines.timeline import TimelineWriter, read_timeline
from tests.pipelines.test_denoising import recipe_of
from tests.pipelines.test_style_blending import style


def png(colour: str) -> bytes:
    stream = io.BytesIO()
    picture = Image.new("RGB", (80, 60), colour)
    picture.paste("white", (10, 10, 30, 50))
    picture.save(stream, "PNG")
    return stream.getvalue()


RED, BLUE = png("red"), png("blue")
OPEN = open_among([RED, BLUE])


def followed(content: bytes, strength: float) -> dict[str, object]:
    return {"image": source_key(content), "strength": strength}


def mixed(
    model: StableDiffusion,
    *styles: Mapping[str, object],
    references: tuple[dict[str, object], ...] = (),
    steer: float = 0,
    method: str = "conditioning",
    **fields: object,
) -> Recipe:
    mix = make_mix(styles, method, references=references, steer=steer)
    return model.folder.steered(recipe_of(model, **{"prompt": "cat", "mix": mix, **fields}))


def painted(model: StableDiffusion, recipe: Recipe) -> torch.Tensor:
    return paint(model, recipe, open_source=OPEN)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_of_zero_is_felt_whatever_follows_and_steers(
    steered: StableDiffusion, method: Method
) -> None:
    more: dict[str, Any] = {"references": (followed(RED, 0.7),), "steer": 1.0, "method": method}
    alone = painted(steered, mixed(steered, style("ink", 1), **more))
    both = painted(steered, mixed(steered, style("ink", 1), style("oil", 0), **more))
    assert torch.equal(alone, both)
    plain = painted(steered, mixed(steered, style("ink", 1), method=method))
    nothing = mixed(steered, style("ink", 1), references=(followed(RED, 0),), steer=0, method=method)
    assert torch.equal(painted(steered, nothing), plain)
    assert '"steer"' not in nothing.model_dump_json()


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_styles_and_pictures_does_not_matter(steered: StableDiffusion, method: Method) -> None:
    styles = (style("ink", 0.5), style("oil", 0.5))
    references = (followed(RED, 0.3), followed(BLUE, 0.6))
    first, *others = [
        painted(steered, mixed(steered, *one, references=two, steer=2, method=method))
        for one, two in zip(itertools.permutations(styles), itertools.permutations(references), strict=True)
    ]
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=1e-5)


def test_a_picture_costs_a_row_that_all_but_the_unconditional_one_attend_to(tiny: StableDiffusion) -> None:
    recipe = mixed(
        tiny, style("ink", 1), style("oil", 1), method="prediction", references=(followed(RED, 0.5),)
    )
    rows = next(prompt_to_image(tiny, recipe, open_source=OPEN))
    assert isinstance(rows, Rows)
    assert len(rows.latents) == 4
    assert rows.shared == (Shared((1, 2), (3,), (0.5,)),)
    alone = Rows(rows.latents, rows.timestep, rows.prompt_embeds)
    together, apart = tiny.predict(rows), tiny.predict(alone)
    changed = [(mine - its).abs().max().item() for mine, its in zip(together, apart, strict=True)]
    assert max(changed[0], changed[3]) < 1e-5
    assert min(changed[1:3]) > 1e-3
    faint = Rows(rows.latents, rows.timestep, rows.prompt_embeds, shared=(Shared((1, 2), (3,), (0.05,)),))
    nearer = (tiny.predict(faint) - apart).abs().max().item()
    assert 0 < nearer < max(changed) / 3, "less strength, less of the picture"
    # A row that listens to itself alone attends as it always does.
    own = Rows(rows.latents, rows.timestep, rows.prompt_embeds, shared=(Shared((1,), (1,), (1.0,)),))
    torch.testing.assert_close(tiny.predict(own), apart, rtol=0, atol=1e-4)


def test_runs_that_follow_pictures_share_a_call_and_keep_to_their_own(tiny: StableDiffusion) -> None:
    recipes = [
        mixed(tiny, style("ink", 1), references=(followed(RED, 0.8),)),
        mixed(tiny, style("ink", 1)),
        mixed(tiny, references=(followed(BLUE, 0.5), followed(RED, 0.2))),
    ]
    batcher = StepBatcher(tiny, merge=True)
    for key, recipe in enumerate(recipes):
        batcher.join(key, prompt_to_image(tiny, recipe, open_source=OPEN))
    ends: dict[object, torch.Tensor] = {}
    while len(batcher):
        ends |= {key: event.latents for key, event in batcher.tick() if isinstance(event, Finished)}
    for key, recipe in enumerate(recipes):
        torch.testing.assert_close(ends[key], painted(tiny, recipe), rtol=1e-4, atol=1e-4)


def test_a_picture_that_is_gone_gets_a_sentence(tiny: StableDiffusion) -> None:
    with pytest.raises(BadInput, match="not here"):
        paint(tiny, mixed(tiny, references=(followed(png("green"), 1),)), open_source=OPEN)


def test_steering_moves_the_picture_along_the_classifiers_gradient(steered: StableDiffusion) -> None:
    """x_0 by sigma_t² / alpha_t s g, whatever the network predicts; g by finite differences."""
    classifier = steered.style_classifier
    assert classifier is not None
    generator = torch.Generator().manual_seed(3)
    noisy, output = torch.randn((2, 1, 4, 32, 32), generator=generator)
    timestep, sigma = torch.tensor(400), 1.5
    shares = Shares((MixedStyle(name="ink", prompt="ink", weight=1.0),), {})
    steering = Steering(classifier, 2.0, shares)
    moves = [
        predicted_denoised(output + steering.shift(noisy, sigma, timestep, kind, 0.5), noisy, sigma, kind)
        - predicted_denoised(output, noisy, sigma, kind)
        for kind in ("epsilon", "v_prediction", "sample")
    ]
    for move in moves[1:]:
        torch.testing.assert_close(move, moves[0], rtol=1e-3, atol=1e-5)
    alpha_t = 1 / (1 + sigma**2) ** 0.5
    gradient = moves[0] / (2.0 * sigma**2 * alpha_t)

    def likely(latents: torch.Tensor) -> torch.Tensor:
        return classifier(latents, timestep.reshape(1)).log_softmax(1)[0, classifier.styles.index("ink")]

    step = 1e-2 * gradient / gradient.norm()
    rise = likely(noisy + step) - likely(noisy - step)
    assert rise.item() == pytest.approx(2 * (gradient * step).sum().item(), rel=0.02)


def test_steering_asks_for_no_row_and_is_felt(steered: StableDiffusion) -> None:
    recipe = mixed(steered, style("ink", 1), steer=5)
    rows = next(prompt_to_image(steered, recipe))
    assert isinstance(rows, Rows)
    assert len(rows.latents) == 2
    assert not torch.equal(painted(steered, recipe), painted(steered, mixed(steered, style("ink", 1))))
    # What the classifier does not know is not steered to, at moments when nothing else is felt.
    unknown = style("wood", 1)
    ink = style("ink", 1, curve=[0, 0, 0, 1])
    frames: list[torch.Tensor] = []
    for steer in (5, 0):
        recipe = mixed(steered, unknown, ink, steer=steer)
        paint(steered, recipe, lambda frame: frames.append(frame.denoised))
    half = len(frames) // 2
    assert torch.equal(frames[0], frames[half])
    assert not torch.equal(frames[half - 1], frames[-1])


@pytest.mark.parametrize(("method", "names"), [("prediction", ["ink", "oil"]), ("conditioning", list[str]())])
def test_steering_is_one_more_contribution_and_is_kept(
    steered: StableDiffusion, tmp_path: Path, method: Method, names: list[str]
) -> None:
    """What is kept of it, times the scale, is what the outputs of two runs differ by where they part."""
    styles = (style("ink", 1), style("oil", 1))
    first: list[Frame] = []
    for steer in (4, 0):
        recipe = mixed(steered, *styles, steer=steer, method=method)
        writer = TimelineWriter(tmp_path / str(steer), recipe)
        frames: list[Frame] = []
        paint(steered, recipe, frames.append)
        for frame in frames:
            writer.add(frame)
        writer.close()
        first.append(frames[0])
        assert list(frames[0].contributions) == [*names, *(["steering"] if steer else [])]
    difference = (first[0].model_output - first[1].model_output).square().mean(1, keepdim=True).sqrt()
    assert difference.min() > 0
    scale = recipe_of(steered).guidance_scale
    torch.testing.assert_close(scale * first[0].contributions["steering"], difference, rtol=1e-3, atol=1e-5)
    timeline = read_timeline(tmp_path / "4")
    heat = style_heat(timeline, "steering")
    assert heat[0] is not None
    torch.testing.assert_close(heat[0], difference[0, 0] / scale, rtol=1e-2, atol=1e-4)
    norms = [step.contributions["steering"] for step in timeline.steps]
    assert norms[0] == pytest.approx(difference.square().mean().sqrt().item() / scale, rel=1e-3)
    assert len(set(norms)) == len(norms)
    (known, *_) = timeline.known(1, torch.device("cpu"))
    assert list(known.contributions) == [*names, "steering"], "a branch takes it over"
    with pytest.raises(BadInput, match="is not known"):
        style_heat(read_timeline(tmp_path / "0"), "steering")
    with pytest.raises(BadInput, match="cannot be called steering while a classifier steers"):
        mixed(steered, *styles, style("steering", 1), steer=1)


def test_steering_that_cannot_be_gets_a_sentence(tiny: StableDiffusion, steered: StableDiffusion) -> None:
    with pytest.raises(BadInput, match="has no style classifier"):
        mixed(tiny, style("ink", 1), steer=1)
    with pytest.raises(BadInput, match="Steering knows ink, oil: put one of them in the mix"):
        mixed(steered, style("wood", 1), steer=1)
    other = mixed(steered, style("ink", 1), steer=1)
    assert other.mix is not None
    assert other.mix.steer is not None
    steer = other.mix.steer.model_copy(update={"classifier": "0" * 64})
    mix = other.mix.model_copy(update={"steer": steer})
    with pytest.raises(BadInput, match="steered by a style classifier"):
        prompt_to_image(steered, other.model_copy(update={"mix": mix}))
