"""The palette and mixes: words the model was taught, sentences for what cannot be mixed, keys that stay."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import pytest

from pipelines.palette import STYLES, find_style, make_mix, palette
from pipelines.recipe import BadInput, make_recipe, read_recipe
from pipelines.styles import METHODS, with_fragment
from pipelines.training.wording import STYLE_WORDS
from tests.unit.test_recipe import GOOD

EMBEDDED_STYLES = [
    "impressionism", "post-impressionism", "baroque", "romanticism", "symbolism", "art nouveau", "ukiyo-e",
    "botanical watercolour", "3d render",
]  # fmt: skip


def test_the_models_own_styles_come_first_in_words_it_was_taught() -> None:
    assert [swatch.name for swatch in palette()[:9]] == EMBEDDED_STYLES
    for swatch in palette()[:9]:
        assert swatch.prompt in STYLE_WORDS.get(swatch.name, (swatch.name,))
        assert swatch.period
    for swatch in palette():
        assert swatch.description
        assert (STYLES.parent / "styles" / swatch.thumbnail).is_file()
    assert find_style(" Ukiyo-e ").name == "ukiyo-e"


def test_fragments_follow_the_prompt() -> None:
    assert with_fragment("a quiet harbour", "ukiyo-e") == "a quiet harbour, ukiyo-e"
    assert with_fragment(" ", "ukiyo-e") == "ukiyo-e"
    assert with_fragment("a quiet harbour", "") == "a quiet harbour"


A, B = {"name": "baroque", "weight": 1}, {"name": "ukiyo-e", "weight": "0.5"}
EMPTY = base64.b64encode(bytes(1024)).decode()
BAD: list[tuple[list[Mapping[str, object]], str, str]] = [
    ([], "slerp", "A mix has 1 to 6 styles, not 0."),
    ([A | {"name": f"{i}", "prompt": "ink"} for i in range(7)], "slerp", "A mix has 1 to 6 styles, not 7."),
    ([A | {"weight": 0}, B | {"weight": "0"}], "slerp", "Every weight is zero or below"),
    ([A | {"weight": -1}], "prediction", "Every weight is zero or below"),
    ([A | {"curve": [0, 0]}], "prediction", "Every weight is zero or below"),
    ([A | {"region": EMPTY}], "prediction", "Every weight is zero or below"),
    ([A | {"weight": 1e9}], "slerp", "The weight of baroque must be a number from -100 to 100, not 1e+09."),
    ([A | {"weight": "nan"}], "slerp", "The weight of baroque must be a finite number, not nan."),
    ([A | {"weight": "much"}], "slerp", "The weight of baroque must be a number, not much."),
    ([A | {"weight": None}], "slerp", "The weight of baroque must be a number, not nothing."),
    ([A, A], "slerp", "baroque is in the mix twice"),
    ([A, B | {"weight": -1}], "slerp", "only mixing by prediction can push a picture away"),
    ([A, B | {"weight": -1, "region": EMPTY}], "prediction", "ukiyo-e pushes away"),
    ([A, B], "stirring", "Styles are mixed by conditioning, slerp, prediction, not by stirring."),
    ([A, {"name": "cubism", "weight": 1}], "slerp", "There is no style called cubism. The styles are impr"),
    ([A | {"curve": [1]}], "slerp", "The curve of baroque must have 2 to 65 points, not 1."),
    ([A | {"curve": [1, 1.5]}], "slerp", "The curve of baroque must stay between 0 and 1."),
    ([A | {"region": "???"}], "slerp", "The region of baroque cannot be read"),
    ([A | {"name": "", "prompt": "ink"}], "slerp", "A style has a name of 1 to 40 characters."),
]


@pytest.mark.parametrize(("styles", "method", "sentence"), BAD)
def test_what_cannot_be_mixed_gets_a_sentence(
    styles: list[Mapping[str, object]], method: str, sentence: str
) -> None:
    with pytest.raises(BadInput) as refused:
        make_mix(styles, method)
    assert sentence in str(refused.value)
    assert refused.value.field == "mix"


FOLLOWED = {"image": "a" * 64, "strength": "0.4"}


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"steer": "hard"}, "Steering must be a number, not hard."),
        ({"steer": 11}, "Steering must be a number from 0 to 10, not 11."),
        ({"references": [FOLLOWED | {"strength": 2}]}, "followed from 0, not at all, to 1, not 2."),
        ({"references": [FOLLOWED, FOLLOWED]}, "The same picture is followed twice: give it one strength."),
        ({"references": [FOLLOWED | {"image": letter * 64} for letter in "abcd"]}, "At most 3 pictures"),
    ],
)
def test_what_cannot_be_followed_or_steer_gets_a_sentence(more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput) as refused:
        make_mix([A, B], "slerp", **more)
    assert sentence in str(refused.value)


def test_a_picture_can_be_followed_without_any_style() -> None:
    recipe = make_recipe(**GOOD, mix=make_mix([], "conditioning", references=[FOLLOWED]))
    assert recipe.files == ("a" * 64,)
    assert read_recipe(recipe.model_dump_json()) == recipe
    with pytest.raises(BadInput, match="1 to 6 styles, not 0"):
        make_mix([], "conditioning", references=[FOLLOWED | {"strength": 0}])


@pytest.mark.parametrize("method", METHODS)
def test_a_mix_survives_json(method: str) -> None:
    mix = make_mix([A | {"curve": [1, 0.25, 0]}, B], method, references=[FOLLOWED], steer="0.5")
    recipe = make_recipe(**GOOD, mix=mix)
    assert read_recipe(recipe.model_dump_json()) == recipe
    assert recipe.key != make_recipe(**GOOD).key
    assert [style.weight for style in mix.styles] == [1.0, 0.5]


def test_recipes_of_before_there_were_mixes_keep_their_keys() -> None:
    recipe = make_recipe(**GOOD)
    assert "mix" not in recipe.model_dump_json()
    assert recipe.key == "0f459478a4e90b3f6999da1485880f576a07d37cfaac61b989d8ccd071ce50c3"


def test_a_curve_is_straight_between_its_points() -> None:
    (style,) = make_mix([A | {"weight": 2, "curve": [1, 0, 0.5]}], "prediction").styles
    assert [style.at(progress) for progress in (0, 0.25, 0.5, 0.75, 1)] == [2, 1, 0, 0.5, 1]
