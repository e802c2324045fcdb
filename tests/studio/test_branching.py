"""A branch in the studio: only what remains is painted, and the family is remembered."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from pipelines.recipe import Branch, Recipe, make_recipe
from studio.gallery import NotHers
from studio.jobs import Job
from studio.studio import Studio
from tests.studio.conftest import paint_one, wait_for_end

OpenStudio = Callable[..., Studio]
STEPS = 6


def branched(parent: Job, step: int, **changes: object) -> Recipe:
    return make_recipe(
        **{**dict(parent.recipe), **changes, "branch": Branch(parent=parent.recipe, step=step)}
    )


def paint_branch(studio: Studio, artist_id: str, recipe: Recipe) -> Job:
    (job,) = wait_for_end(studio, artist_id, studio.submit(artist_id, [recipe]))
    assert job.state == "done", job.sentence
    return job


def pixels(studio: Studio, job: Job) -> np.ndarray:
    with Image.open(studio.gallery.file(job.id, job.artist_id)) as image:
        return np.asarray(image)


def test_only_the_remaining_steps_are_painted(studio: Studio, calls: list[int]) -> None:
    berthe = studio.artists.create("Berthe")
    parent = paint_one(studio, berthe.id, num_inference_steps=STEPS)
    calls.clear()
    same = paint_branch(studio, berthe.id, branched(parent, 4))
    assert len(calls) == STEPS - 4
    assert np.array_equal(pixels(studio, same), pixels(studio, parent))
    child = paint_branch(studio, berthe.id, branched(parent, 2, prompt="a storm"))
    assert not np.array_equal(pixels(studio, child), pixels(studio, parent))
    timeline = studio.timeline(child.id, berthe.id)
    assert timeline["count"] == STEPS, "a branch can be scrubbed from the first noise on"


def test_a_branch_outlives_the_picture_it_left(studio: Studio, calls: list[int]) -> None:
    berthe = studio.artists.create("Berthe")
    parent = paint_one(studio, berthe.id, num_inference_steps=STEPS)
    recipe = branched(parent, 3, prompt="a storm")
    child = paint_branch(studio, berthe.id, recipe)
    studio.gallery.delete(parent.id, berthe.id)
    calls.clear()
    again = paint_branch(studio, berthe.id, recipe)
    assert len(calls) == STEPS, "the parent's steps are painted again"
    assert np.array_equal(pixels(studio, again), pixels(studio, child))


def test_a_damaged_timeline_costs_time_and_nothing_else(studio: Studio, calls: list[int]) -> None:
    berthe = studio.artists.create("Berthe")
    parent = paint_one(studio, berthe.id, num_inference_steps=STEPS)
    frame = studio.settings.data_dir / "timelines" / parent.id / "frame-001.safetensors"
    frame.write_bytes(b"damaged")
    calls.clear()
    same = paint_branch(studio, berthe.id, branched(parent, 4))
    assert len(calls) == STEPS - 1, "what comes before the damage is still of use"
    assert np.array_equal(pixels(studio, same), pixels(studio, parent))


def test_a_step_the_parent_never_had_fails_with_a_sentence(studio: Studio) -> None:
    berthe = studio.artists.create("Berthe")
    parent = paint_one(studio, berthe.id, num_inference_steps=STEPS)
    group = studio.submit(berthe.id, [branched(parent, STEPS)])
    (job,) = wait_for_end(studio, berthe.id, group)
    assert (job.state, job.sentence) == (
        "failed",
        "The picture it leaves has steps 0 to 5. There is no step 6.",
    )


def test_a_family_is_known_and_survives_a_rebuild(open_studio: OpenStudio) -> None:
    studio = open_studio()
    berthe, edgar = studio.artists.create("Berthe"), studio.artists.create("Edgar")
    parent = paint_one(studio, berthe.id, num_inference_steps=STEPS)
    child = paint_branch(studio, berthe.id, branched(parent, 2, prompt="a storm"))
    grandchild = paint_branch(studio, berthe.id, branched(child, 4, prompt="a calm"))
    paint_one(studio, berthe.id, "somebody else")
    family = [parent.id, child.id, grandchild.id]
    assert [artwork.id for artwork in studio.gallery.family(child.id, berthe.id)] == family
    with pytest.raises(NotHers):
        studio.gallery.family(child.id, edgar.id)
    studio.gallery.hang(grandchild.id, berthe.id, True)
    assert [a.id for a in studio.gallery.family(grandchild.id, edgar.id)] == [grandchild.id]
    studio.close()
    for file in studio.settings.data_dir.glob("index.sqlite*"):
        file.unlink()
    again = open_studio()
    assert {artwork.id for artwork in again.gallery.family(parent.id, berthe.id)} == set(family)
