"""A recipe takes what an artist types, refuses the rest in a sentence, and survives JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.recipe import (
    MAX_PROMPT_CHARACTERS,
    MAX_SEED,
    SAMPLER_NAMES,
    BadInput,
    Recipe,
    make_recipe,
    read_recipe,
)
from pipelines.samplers import SAMPLERS

GOOD: dict[str, object] = {
    "model": "atelier-v1",
    "model_revision": "ab" * 32,
    "prompt": "a quiet harbour, impressionism",
    "seed": 1,
    "width": 192,
    "height": 192,
    "sampler": "DPM++ 2M",
    "num_inference_steps": 25,
    "guidance_scale": 5.0,
}

BAD: list[tuple[str, object, str]] = [
    ("width", 193, "Width must be a multiple of 8 from 64 to 2048 pixels, not 193 (192 would do)."),
    ("height", "tall", "Height must be a multiple of 8 from 64 to 2048 pixels, not tall."),
    ("height", 10_000, "Height must be a multiple of 8 from 64 to 2048 pixels, not 10000 (2048 would do)."),
    ("width", float("inf"), "Width must be a multiple of 8 from 64 to 2048 pixels, not inf."),
    ("num_inference_steps", 0, "Steps must be a whole number from 1 to 150, not 0."),
    ("num_inference_steps", 2.5, "Steps must be a whole number from 1 to 150, not 2.5."),
    ("num_inference_steps", None, "Steps must be a whole number from 1 to 150, not nothing."),
    ("guidance_scale", -1, "Guidance must be a number from 0 to 30, not -1."),
    ("guidance_scale", "nan", "Guidance must be a number from 0 to 30, not nan."),
    ("seed", 2**64, f"Seed must be a whole number from 0 to {MAX_SEED}, or -1 to draw one, not {2**64}."),
    ("seed", "", f"Seed must be a whole number from 0 to {MAX_SEED}, or -1 to draw one, not nothing."),
    ("prompt", "x" * 10_000, f"The prompt has 10,000 characters; {MAX_PROMPT_CHARACTERS:,} is the most."),
    ("negative_prompt", "x" * 2001, "The negative prompt has 2,001 characters; 2,000 is the most."),
    ("sampler", "Magic", f"There is no sampler called Magic. The samplers are {', '.join(SAMPLER_NAMES)}."),
]


def test_lcm_has_so_many_steps_and_no_more() -> None:
    assert make_recipe(**{**GOOD, "sampler": "LCM", "num_inference_steps": 50}).num_inference_steps == 50
    with pytest.raises(BadInput, match=r"^LCM takes 1 to 50 steps, not 51\.$") as refused:
        make_recipe(**{**GOOD, "sampler": "LCM", "num_inference_steps": 51})
    assert refused.value.field == "num_inference_steps"


@pytest.mark.parametrize(("field", "value", "sentence"), BAD)
def test_bad_input_gets_a_sentence(field: str, value: object, sentence: str) -> None:
    with pytest.raises(BadInput) as refused:
        make_recipe(**{**GOOD, field: value})
    assert str(refused.value) == sentence
    assert refused.value.field == field


def test_what_was_typed_is_taken() -> None:
    recipe = make_recipe(
        **{**GOOD, "seed": " 18446744073709551615 ", "width": "224", "height": 160.0, "guidance_scale": 7}
    )
    assert (recipe.seed, recipe.width, recipe.height, recipe.guidance_scale) == (2**64 - 1, 224, 160, 7.0)
    assert make_recipe(**{**GOOD, "prompt": ""}).prompt == "", "an empty prompt paints whatever comes"


@pytest.mark.parametrize("drawn", [-1, "-1", -1.0])
def test_minus_one_draws_a_seed(drawn: object) -> None:
    seeds = {make_recipe(**{**GOOD, "seed": drawn}).seed for _ in range(8)}
    assert len(seeds) > 1
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_the_samplers_of_a_recipe_are_those_that_exist() -> None:
    for sampler in SAMPLERS:
        assert make_recipe(**{**GOOD, "sampler": sampler}).sampler == sampler


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(ValidationError):
        make_recipe(**GOOD).seed = 2  # pyright: ignore[reportAttributeAccessIssue]


def test_what_was_painted_before_keeps_its_key() -> None:
    key = "0f459478a4e90b3f6999da1485880f576a07d37cfaac61b989d8ccd071ce50c3"
    assert make_recipe(**GOOD).key == key, "new fields are left out of the JSON where they say nothing"


@given(
    prompt=st.text(max_size=200),
    seed=st.integers(0, MAX_SEED),
    width=st.integers(8, 256).map(lambda eighths: eighths * 8),
    guidance_scale=st.floats(0, 30),
    sampler=st.sampled_from(SAMPLER_NAMES),
)
def test_json_round_trip(prompt: str, seed: int, width: int, guidance_scale: float, sampler: str) -> None:
    prompt = prompt.encode("utf-8", "ignore").decode()
    fields = {"prompt": prompt, "seed": seed, "width": width, "guidance_scale": guidance_scale}
    recipe = make_recipe(**{**GOOD, **fields, "sampler": sampler})
    assert read_recipe(recipe.model_dump_json()) == recipe
    assert json.loads(recipe.model_dump_json())["schema_version"] == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("not json", "damaged"),
        ("[1]", "damaged"),
        ('{"schema_version": 2}', "later Atelier"),
        ('{"schema_version": 1}', "cannot be read"),
    ],
)
def test_damaged_recipes_get_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        read_recipe(text)


def test_a_recipe_with_unknown_fields_is_refused() -> None:
    recipe: Recipe = make_recipe(**GOOD)
    raw = {**recipe.model_dump(), "surprise": 1}
    with pytest.raises(BadInput, match="surprise"):
        read_recipe(json.dumps(raw))
