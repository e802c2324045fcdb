"""What the timeline is told of branches: the recipe of a new one, and the tree of a family."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest

from pipelines.recipe import BadInput, Branch, Recipe, make_recipe
from studio.components.branching import branch_of, branching_samplers, describe_family, pace_of
from studio.components.script import Message
from studio.gallery import NotHers
from studio.studio import Studio
from tests.studio.conftest import paint_one, wait_for_end
from tests.studio.recipes import recipe_for

OpenStudio = Callable[..., Studio]
STEPS = 4


def test_a_branch_is_its_parent_but_for_what_was_changed(studio: Studio) -> None:
    parent = a_recipe(studio)
    message: dict[str, object] = {"step": 2, "prompt": "a storm", "guidance_scale": "3.5", "seed": "-1"}
    child = branch_of(parent, message | {"width": "64"}, studio.shelves)
    assert child.branch == Branch(parent=parent, step=2)
    assert (child.prompt, child.guidance_scale, child.sampler) == ("a storm", 3.5, parent.sampler)
    assert child.seed >= 0
    assert child.width == parent.width, "a branch keeps its parent's canvas"
    assert branch_of(parent, {"step": 0, "seed": str(parent.seed)}, studio.shelves).seed == parent.seed


def test_a_branch_may_have_other_styles_and_a_mask(studio: Studio) -> None:
    mixed = branch_of(
        a_recipe(studio),
        {"step": 1, "mix": {"method": "slerp", "styles": [{"name": "baroque", "weight": 2}]}},
        studio.shelves,
    )
    assert mixed.mix is not None
    assert [(style.name, style.weight) for style in mixed.mix.styles] == [("baroque", 2.0)]
    region = base64.b64encode(bytes([0, 255] * 512)).decode()
    part = branch_of(mixed, {"step": 2, "mask": region}, studio.shelves)
    assert part.branch is not None
    assert (part.mix, part.branch.mask) == (mixed.mix, region)
    assert branch_of(mixed, {"step": 2, "mix": None}, studio.shelves).mix is None
    for wrong, field in (({"mix": {"method": "slerp", "styles": []}}, "mix"), ({"mask": "AAAA"}, "mask")):
        with pytest.raises(BadInput) as refused:
            branch_of(mixed, {"step": 1, **wrong}, studio.shelves)
        assert refused.value.field == field


@pytest.mark.parametrize("step", [None, -1, "2", 1.5])
def test_a_branch_without_a_step_is_refused_in_a_sentence(studio: Studio, step: object) -> None:
    with pytest.raises(BadInput, match="Choose the step"):
        branch_of(a_recipe(studio), {"step": step}, studio.shelves)


def test_samplers_that_cannot_take_over_are_not_offered(studio: Studio) -> None:
    offered = branching_samplers(studio.folder)
    assert "PNDM" not in offered
    assert {"DPM++ 2M", "Euler a", "DDIM"} <= set(offered)


def test_pictures_asked_for_together_are_known_as_companions(open_studio: OpenStudio) -> None:
    studio = open_studio()
    berthe, edgar = studio.artists.create("Berthe"), studio.artists.create("Edgar")
    paint_one(studio, berthe.id, seed=9)
    group = studio.submit(berthe.id, [recipe_for(studio, seed=seed) for seed in range(3)])
    ids = [job.id for job in wait_for_end(studio, berthe.id, group)]
    assert [artwork.id for artwork in studio.gallery.companions(ids[1], berthe.id)] == ids
    with pytest.raises(NotHers):
        studio.gallery.companions(ids[1], edgar.id)
    studio.gallery.hang(ids[2], berthe.id, True)
    assert [artwork.id for artwork in studio.gallery.companions(ids[2], edgar.id)] == ids[2:]
    studio.close()
    (studio.settings.data_dir / "index.sqlite").unlink()
    studio = open_studio(start=False)
    assert [artwork.id for artwork in studio.gallery.companions(ids[1], berthe.id)] == ids[1:2]


def test_a_family_stays_one_tree_when_a_parent_is_gone(studio: Studio) -> None:
    berthe = studio.artists.create("Berthe")
    first = paint_one(studio, berthe.id, num_inference_steps=STEPS)
    ids = [first.id]
    recipe = first.recipe
    for step, prompt in ((1, "a storm"), (2, "a calm")):
        recipe = branch_of(recipe, {"step": step, "prompt": prompt}, studio.shelves)
        (job,) = wait_for_end(studio, berthe.id, studio.submit(berthe.id, [recipe]))
        ids.append(job.id)
    family = describe_family(studio.gallery.family(ids[0], berthe.id), berthe.id)
    assert [(m["id"], m["parent"], m["step"], m["ancestor"]) for m in family] == [
        (ids[0], None, None, None),
        (ids[1], ids[0], 1, ids[0]),
        (ids[2], ids[1], 2, ids[1]),
    ]
    studio.gallery.delete(ids[1], berthe.id)
    family = describe_family(studio.gallery.family(ids[2], berthe.id), berthe.id)
    assert [(m["id"], m["parent"], m["ancestor"]) for m in family] == [
        (ids[0], None, None),
        (ids[2], None, ids[0]),
    ]


def a_recipe(studio: Studio) -> Recipe:
    folder = studio.folder
    return make_recipe(
        model=folder.name,
        model_revision=folder.revision,
        prompt="a calm sea",
        seed=7,
        width=folder.width,
        height=folder.height,
        sampler="DPM++ 2M",
        num_inference_steps=STEPS,
        guidance_scale=5.0,
    )


def test_a_branch_goes_on_at_the_pace_of_its_weights(studio: Studio) -> None:
    """The full model goes on from a sketch with all its steps, and the companion with its few."""
    folder = studio.folder
    full = a_recipe(studio)
    assert pace_of(folder, full, {"prompt": "a dog", "sampler": "Euler"}) == {}
    few: Message = {"num_inference_steps": 4, "guidance_scale": 1.0}
    typed: Message = {"step": 1, "sampler": "LCM", "guidance_scale": f"{full.guidance_scale:g}"}
    assert pace_of(folder, full, typed) == few
    sketch = branch_of(full, typed | few, studio.shelves)
    assert (sketch.num_inference_steps, sketch.guidance_scale) == (4, 1.0)
    back = pace_of(folder, sketch, {"sampler": "DPM++ 2M", "guidance_scale": "9"})
    assert back == {"num_inference_steps": folder.defaults.num_inference_steps}
