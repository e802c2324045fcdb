"""Strips, triangles and grids: every cell a recipe of its own, and a sentence for what cannot be laid out."""

from __future__ import annotations

import pytest

from pipelines.palette import make_mix
from pipelines.recipe import BadInput, Recipe, make_recipe, read_recipe
from pipelines.series import grid, read_axis, strip, triangle
from tests.unit.test_recipe import GOOD


def mixed(*names: str) -> Recipe:
    styles = [{"name": name, "weight": 1} for name in names]
    return make_recipe(**GOOD, mix=make_mix(styles, "prediction"))


def weights(recipe: Recipe) -> list[float]:
    assert recipe.mix is not None
    return [style.weight for style in recipe.mix.styles]


def test_a_strip_has_seven_stops_from_one_style_to_the_other() -> None:
    cells = strip(mixed("baroque", "ukiyo-e"))
    assert [weights(cell.recipe) for cell in cells] == [[(6 - i) / 6, i / 6] for i in range(7)]
    assert [cell.label for cell in cells][::3] == ["baroque", "50 : 50", "ukiyo-e"]
    assert [(cell.row, cell.column) for cell in cells] == [(0, i) for i in range(7)]
    assert len({cell.recipe.key for cell in cells}) == 7
    assert all(read_recipe(cell.recipe.model_dump_json()) == cell.recipe for cell in cells)


def test_every_stop_follows_and_steers_as_the_recipe_does() -> None:
    styles = [{"name": name, "weight": 1} for name in ("baroque", "ukiyo-e")]
    followed = {"image": "a" * 64, "strength": 0.4}
    recipe = make_recipe(**GOOD, mix=make_mix(styles, "slerp", references=[followed], steer=2))
    for cell in strip(recipe):
        assert cell.recipe.mix is not None
        assert (cell.recipe.files, cell.recipe.mix.steer) == (recipe.files, recipe.mix and recipe.mix.steer)


def test_a_triangle_has_fifteen_points_and_a_style_at_each_corner() -> None:
    cells = triangle(mixed("baroque", "ukiyo-e", "symbolism"))
    assert len(cells) == 15
    assert all(sum(weights(cell.recipe)) == 1 for cell in cells)
    corners = {cell.label: (cell.row, cell.column) for cell in cells if ":" not in cell.label}
    assert corners == {"baroque": (0, 2), "ukiyo-e": (4, 0), "symbolism": (4, 4)}


def test_a_grid_varies_two_things() -> None:
    recipe = mixed("baroque", "ukiyo-e")
    across, down = read_axis("weight", "0, 0.5, 1", "ukiyo-e"), read_axis("guidance_scale", "2, 5")
    cells = grid(recipe, across, down)
    assert [(cell.row, cell.column) for cell in cells] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert weights(cells[4].recipe) == [1, 0.5]
    assert cells[4].recipe.guidance_scale == 5
    assert cells[4].label == "ukiyo-e 0.5 · guidance 5"
    seeds = grid(recipe, read_axis("seed", "7,8"), read_axis("sampler", "Euler"))
    assert [(cell.recipe.seed, cell.recipe.sampler) for cell in seeds] == [(7, "Euler"), (8, "Euler")]
    words = grid(recipe, read_axis("prompt", "harbour, wood"), read_axis("num_inference_steps", "4"))
    assert words[1].recipe.prompt == "a quiet wood, impressionism"


@pytest.mark.parametrize(
    ("across", "sentence"),
    [
        (("seed", ""), "A grid of 0 by 1 is 0 pictures"),
        (("seed", ",".join(map(str, range(17)))), "A grid of 17 by 1 is 17 pictures; it may have 1 to 16."),
        (("prompt", "castle, sea"), "“castle” is not in it"),
        (("weight", "1, 2", "symbolism"), "symbolism is not in the mix"),
        (("weight", "1, much", "ukiyo-e"), "The weight of ukiyo-e must be a number, not much."),
        (("guidance_scale", "3, 99"), "Guidance must be a number from 0 to 30, not 99."),
        (("colour", "red"), "A grid varies weight, lora, guidance_scale,"),
    ],
)
def test_what_cannot_be_laid_out_gets_a_sentence(across: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(BadInput) as refused:
        grid(mixed("baroque", "ukiyo-e"), read_axis(*across), read_axis("seed", "1"))
    assert sentence in str(refused.value)


def test_strips_and_triangles_ask_for_their_number_of_styles() -> None:
    with pytest.raises(BadInput, match="the mix has 3, choose 2"):
        strip(mixed("baroque", "ukiyo-e", "symbolism"))
    with pytest.raises(BadInput, match="the mix has 1, choose 3"):
        triangle(mixed("baroque"))


def test_a_grid_varies_the_weight_of_a_lora_and_draws_seeds_once() -> None:
    lora = {"name": "ink", "sha256": "a" * 64, "weight": 1}
    recipe = make_recipe(**GOOD, mix=make_mix([], "conditioning", loras=[lora]))
    cells = grid(recipe, read_axis("lora", "-1, 0", "ink"), read_axis("seed", "-1, -1"))
    assert [cell.label.partition(" · ")[0] for cell in cells] == ["ink -1", "ink 0"] * 2
    assert [[lora.weight for lora in cell.recipe.loras] for cell in cells] == [[-1], [], [-1], []]
    seeds = [cell.recipe.seed for cell in cells]
    assert seeds[0] == seeds[1] != seeds[2] == seeds[3]
    for name, value, sentence in (("oil", "1", "oil is not in the mix"), ("ink", "3", "from -2 to 2, not 3")):
        with pytest.raises(BadInput, match=sentence):
            grid(recipe, read_axis("lora", value, name), read_axis("seed", "1"))
