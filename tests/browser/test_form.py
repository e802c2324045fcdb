"""The form's part that needs no browser: examples, and the seeds of several pictures."""

from __future__ import annotations

import pytest

from pipelines.models.find import EMBEDDED, ModelFolder, find_model
from pipelines.recipe import MAX_SEED, BadInput, Recipe
from studio.tabs.examples import EXAMPLES, read_examples
from studio.tabs.prompt_to_image import recipe_for, recipes_from
from tests.browser.house import MODEL


@pytest.fixture(scope="module")
def folder() -> ModelFolder:
    return find_model(MODEL or EMBEDDED)


def recipe(folder: ModelFolder, **fields: object) -> Recipe:
    size = {"width": folder.width, "height": folder.height}
    return recipe_for(folder, **{**folder.defaults.model_dump(), **size, "seed": 1, **fields})


def test_examples_can_be_painted(folder: ModelFolder) -> None:
    examples = read_examples(folder)
    assert len(examples) >= 4
    for example in examples:
        image = example.pop("image")
        assert recipe(folder, **example).prompt == example["prompt"]
        assert image is None or (EXAMPLES.parent / "examples" / str(image)).is_file()


def test_pictures_have_seeds_in_a_row(folder: ModelFolder) -> None:
    assert [one.seed for one in recipes_from(recipe(folder, seed=7), 3.0)] == [7, 8, 9]


@pytest.mark.parametrize("pictures", [0, 17, 1.5, None, "two", float("nan")])
def test_unpaintable_numbers_of_pictures_are_refused(folder: ModelFolder, pictures: object) -> None:
    with pytest.raises(BadInput, match="Pictures must be a whole number from 1 to 16") as refusal:
        recipes_from(recipe(folder), pictures)
    assert refusal.value.field == "pictures"


def test_seeds_do_not_pass_the_last_one(folder: ModelFolder) -> None:
    assert len(recipes_from(recipe(folder, seed=MAX_SEED), 1)) == 1
    with pytest.raises(BadInput, match="would pass the last seed"):
        recipes_from(recipe(folder, seed=MAX_SEED), 2)


def test_sampler_that_the_model_cannot_follow_is_refused(folder: ModelFolder) -> None:
    with pytest.raises(BadInput, match="no sampler called"):
        recipe(folder, sampler="Oil on canvas")
