"""A mix is what its weights say: nothing more for a zero, the same in any order, and never a row too many."""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipelines.conditioning import spherical_mean
from pipelines.denoising import Frame, Rows
from pipelines.models.sd import StableDiffusion
from pipelines.palette import make_mix
from pipelines.prompt_to_image import paint, prompt_to_image
from pipelines.recipe import Branch, Recipe
from pipelines.style_blending import region_map
from pipelines.styles import METHODS, REGION_SIDE, Method, Mix
from pipelines.timeline import TimelineWriter, read_timeline
from tests.pipelines.test_denoising import recipe_of

LEFT = base64.b64encode(bytes([255] * 16 + [0] * 16) * REGION_SIDE).decode()
RIGHT = base64.b64encode(bytes([0] * 16 + [255] * 16) * REGION_SIDE).decode()
NOWHERE = base64.b64encode(bytes(REGION_SIDE**2)).decode()
EVERYWHERE = base64.b64encode(bytes([255]) * REGION_SIDE**2).decode()


def style(name: str, weight: float, **more: object) -> dict[str, object]:
    """A style whose words are few enough for the tiny model to read them all."""
    return {"name": name, "prompt": name, "weight": weight, **more}


def mixed(model: StableDiffusion, method: str, *styles: Mapping[str, object], **fields: object) -> Recipe:
    return recipe_of(model, **{"prompt": "cat", "mix": make_mix(styles, method), **fields})


def rows_of_steps(model: StableDiffusion, recipe: Recipe) -> list[int]:
    """Drive a run and count the rows that each step asks for."""
    run, answer, asked = prompt_to_image(model, recipe), None, list[int]()
    while True:
        try:
            event = run.send(answer)
        except StopIteration:
            return asked
        answer = None
        if isinstance(event, Rows):
            asked.append(len(event.latents))
            answer = model.predict(event)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "nothing",
    [{"weight": 0.0}, {"weight": 1.0, "curve": [0, 0]}, {"weight": 1.0, "region": NOWHERE}],
    ids=["weight", "curve", "region"],
)
def test_a_style_of_no_weight_changes_nothing(
    tiny: StableDiffusion, method: Method, nothing: dict[str, object]
) -> None:
    alone = paint(tiny, recipe_of(tiny, prompt="cat, ink"))
    recipe = mixed(tiny, method, {"name": "oil", "prompt": "oil", **nothing}, style("ink", 1))
    assert torch.equal(paint(tiny, recipe), alone)
    assert rows_of_steps(tiny, recipe) == [2] * 6


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_styles_does_not_matter(tiny: StableDiffusion, method: Method) -> None:
    styles = (style("ink", 0.5), style("oil", 0.3, curve=[1, 0.2]), style("wood", 0.2))
    painted = [paint(tiny, mixed(tiny, method, *order)) for order in itertools.permutations(styles)]
    for other in painted[1:]:
        torch.testing.assert_close(other, painted[0], rtol=0, atol=1e-5)


def test_prediction_makes_one_row_for_each_style_and_one_more(tiny: StableDiffusion) -> None:
    names = ("ink", "oil", "wood", "wax", "clay", "lace")
    for count in range(2, 7):
        mix = [style(name, 1) for name in names[:count]]
        assert rows_of_steps(tiny, mixed(tiny, "prediction", *mix)) == [count + 1] * 6
        assert rows_of_steps(tiny, mixed(tiny, "conditioning", *mix)) == [2] * 6
    # Without guidance and with nothing to push away from, the unconditional row is not needed either.
    two = (style("ink", 1), style("oil", 1))
    assert rows_of_steps(tiny, mixed(tiny, "prediction", *two, guidance_scale=1.0)) == [2] * 6


def test_predictions_are_composed_as_written(tiny: StableDiffusion) -> None:
    """One step by hand: u + s (0.75 (a - u) + 0.25 (b - u)), and a weight below zero pushes away."""
    texts = ("cat, ink", "cat, oil", "cat, wood")
    embeds = {text: tiny.encode_prompt(["dog", text]).embeds.split(1) for text in texts}
    recipe = mixed(
        tiny, "prediction", style("ink", 3), style("oil", 1), style("wood", -2), num_inference_steps=1
    )
    run = prompt_to_image(tiny, recipe)
    rows = next(run)
    assert isinstance(rows, Rows)
    answer = tiny.predict(rows)
    frame = run.send(answer)
    assert isinstance(frame, Frame)
    negative = embeds["cat, ink"][0]
    assert torch.equal(rows.prompt_embeds, torch.cat([negative, *(embeds[text][1] for text in texts)]))
    u, a, b, c = answer.split(1)
    direction = 0.75 * (a - u) + 0.25 * (b - u) - 0.5 * (c - u)
    torch.testing.assert_close(frame.model_output, u + 5 * direction)
    torch.testing.assert_close(frame.guidance_norm, direction.square().mean().sqrt())
    assert list(frame.contributions) == ["ink", "oil", "wood"]
    torch.testing.assert_close(
        frame.contributions["wood"], (0.5 * (c - u)).square().mean(1, keepdim=True).sqrt()
    )


@pytest.mark.parametrize("method", METHODS)
def test_what_stays_as_it_is_is_mixed_once(tiny: StableDiffusion, method: Method) -> None:
    """Steps with equal weights ask with the very same words; a curve mixes them anew."""

    def asked(*curve: float) -> list[int]:
        ink = style("ink", 0.6, **({"curve": curve} if curve else {}))
        run = prompt_to_image(tiny, mixed(tiny, method, ink, style("oil", 0.4), num_inference_steps=4))
        embeds: list[Tensor] = []
        event = next(run)
        while len(embeds) < 4:
            if isinstance(event, Rows):
                embeds.append(event.prompt_embeds)
                event = run.send(tiny.predict(event))
            else:
                event = run.send(None)
        return [next(at for at, other in enumerate(embeds) if own is other) for own in embeds]

    assert asked() == [0, 0, 0, 0]
    changing = asked(1, 0.2)
    assert changing == [0, 1, 2, 3]


def test_a_curve_hands_over_from_one_style_to_another(tiny: StableDiffusion) -> None:
    early, late = style("ink", 1, curve=[1, 1, 0, 0]), style("oil", 1, curve=[0, 0, 1, 1])
    recipe = mixed(tiny, "prediction", early, late)
    # Six steps: at 0, 0.2, 0.4, 0.6, 0.8 and 1 of the run; both are felt at 0.4 and 0.6.
    assert rows_of_steps(tiny, recipe) == [2, 2, 3, 3, 2, 2]
    frames: list[Frame] = []
    paint(tiny, recipe, frames.append)
    first: list[Frame] = []
    paint(tiny, recipe_of(tiny, prompt="cat, ink"), first.append)
    assert torch.equal(frames[1].denoised, first[1].denoised)
    assert not torch.equal(frames[2].denoised, first[2].denoised)
    # Where every curve is at zero the prompt paints alone.
    silent = mixed(tiny, "prediction", style("ink", 1, curve=[0, 1]), num_inference_steps=2)
    paint(tiny, silent, first.append)
    alone: list[Frame] = []
    paint(tiny, recipe_of(tiny, prompt="cat", num_inference_steps=2), alone.append)
    assert torch.equal(first[-2].denoised, alone[0].denoised)


def test_regions_keep_to_their_places(tiny: StableDiffusion) -> None:
    recipe = mixed(
        tiny, "prediction", style("ink", 1, region=LEFT), style("oil", 1, region=RIGHT), num_inference_steps=1
    )
    run = prompt_to_image(tiny, recipe)
    rows = next(run)
    assert isinstance(rows, Rows)
    answer = tiny.predict(rows)
    frame = run.send(answer)
    assert isinstance(frame, Frame)
    width = answer.shape[-1]
    unconditional, ink, oil = answer[:1], answer[-2:-1], answer[-1:]
    wholly_left, wholly_right = slice(0, width // 2 - 2), slice(width // 2 + 2, width)
    for part, own in ((wholly_left, ink), (wholly_right, oil)):
        expected = unconditional + 5 * (own - unconditional)
        torch.testing.assert_close(frame.model_output[..., part], expected[..., part], rtol=1e-4, atol=1e-4)
    alone = paint(tiny, recipe_of(tiny, prompt="cat, ink"))
    everywhere = mixed(tiny, "prediction", style("ink", 1, region=EVERYWHERE), style("oil", 1))
    assert torch.equal(paint(tiny, everywhere), alone), "what covers everything leaves nothing of the ground"


def test_a_region_has_soft_borders() -> None:
    shares = region_map(LEFT, 24, 28)[0, 0, 12]
    assert shares[0] == 1
    assert shares[-1] == 0
    assert torch.equal(shares, shares.sort(descending=True).values)
    assert ((shares > 0) & (shares < 1)).any()


def test_spherical_mean_is_slerp_for_two_and_has_no_first() -> None:
    a, b, c = torch.randn((3, 1, 5, 32), generator=torch.Generator().manual_seed(1)).double()
    share = 0.3
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=-1)[..., None]
    angle = cosine.acos()
    on_sphere: Tensor = (
        ((1 - share) * angle).sin() * a / a.norm(dim=-1, keepdim=True)
        + (share * angle).sin() * b / b.norm(dim=-1, keepdim=True)
    ) / angle.sin()
    lengths = (1 - share) * a.norm(dim=-1, keepdim=True) + share * b.norm(dim=-1, keepdim=True)
    found = spherical_mean([a.float(), b.float()], [1 - share, share])
    torch.testing.assert_close(found, (on_sphere * lengths).float(), rtol=1e-5, atol=1e-5)
    one = spherical_mean([a, b, c], [0.5, 0.3, 0.2])
    other = spherical_mean([c, a, b], [0.2, 0.5, 0.3])
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert math.isclose(spherical_mean([a, a], [0.5, 0.5]).sub(a).abs().max().item(), 0, abs_tol=1e-5)


def test_contributions_are_kept_and_a_branch_takes_them_over(tiny: StableDiffusion, tmp_path: Path) -> None:
    recipe = mixed(tiny, "prediction", style("ink", 1, curve=[1, 0]), style("oil", 1))
    writer = TimelineWriter(tmp_path, recipe)
    paint(tiny, recipe, writer.add)
    writer.close()
    timeline = read_timeline(tmp_path)
    assert isinstance(timeline.recipe.mix, Mix)
    ink = [step.contributions.get("ink", 0) for step in timeline.steps]
    assert ink[-1] == 0 < ink[0]
    heat = timeline.frame(0).contributions
    assert heat is not None
    assert heat.shape == (2, 36, 32)
    assert heat[0].float().square().mean().sqrt().item() == pytest.approx(ink[0], rel=1e-2)
    branch = recipe.model_copy(update={"prompt": "dog", "branch": Branch(parent=recipe, step=3)})
    frames: list[Frame] = []
    taken_over = paint(tiny, branch, frames.append, timeline.known(3, torch.device("cpu")))
    assert torch.equal(taken_over, paint(tiny, branch))
    assert list(frames[0].contributions) == ["ink", "oil"]
