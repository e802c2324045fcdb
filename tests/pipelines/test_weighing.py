"""A word that weighs more says more: exactly, on tiny models; and the embedded one shows it."""

from __future__ import annotations

import pytest
import torch

from pipelines.attention import tokens_of
from pipelines.models.find import EMBEDDED, find_model
from pipelines.models.load import load_model
from pipelines.models.sd import StableDiffusion
from pipelines.prompt_to_image import paint
from pipelines.remarks import remarks
from tests.pipelines.test_denoising import recipe_of


def test_what_a_word_says_is_multiplied(tiny: StableDiffusion) -> None:
    plain, weighed = tiny.encode_prompt(["a cat b", "a (cat:1.5) b"]).embeds
    spans = tiny.token_spans("a cat b")
    cat = torch.tensor(
        [2 <= start < stop <= 5 for start, stop in spans] + [False] * (len(plain) - len(spans))
    )
    assert cat.any()
    assert torch.equal(weighed[cat], 1.5 * plain[cat])
    assert torch.equal(weighed[~cat], plain[~cat])


def test_what_weighs_one_is_what_it_was_to_the_bit(tiny: StableDiffusion) -> None:
    plain = tiny.encode_prompt(["a cat (b)"])
    assert tiny.encode_prompt(["a (cat:1) (b)"]).equals(plain)
    assert tiny.encode_prompt(["a (cat:1.0) (b)"]).equals(plain)


def test_both_encoders_of_sdxl_weigh_and_the_pooled_vector_stays(tiny_xl: StableDiffusion) -> None:
    plain, weighed = tiny_xl.encode_prompt(["cat", "(cat:2)"]).split()
    assert torch.equal(weighed.embeds[0, 1], 2 * plain.embeds[0, 1])
    assert torch.equal(weighed.embeds[0, 0], plain.embeds[0, 0])
    assert plain.pooled is not None
    assert weighed.pooled is not None
    assert torch.equal(weighed.pooled, plain.pooled)


def test_places_are_those_of_the_prompt_as_it_was_typed(tiny: StableDiffusion) -> None:
    prompt = "a (cat:1.5) b"
    assert [prompt[start:stop] for start, stop in tiny.token_spans(prompt) if stop] == [
        "a cat b"[start:stop] for start, stop in tiny.token_spans("a cat b") if stop
    ]
    assert tokens_of(tiny, prompt, "cat") == tokens_of(tiny, "a cat b", "cat") != []
    assert tokens_of(tiny, prompt, "1") == []
    assert tiny.unread("(" + "a" * 14 + ":1.5) (Tail:0.5)") == "Tail:0.5)"


def test_a_weight_that_is_none_is_told(tiny: StableDiffusion) -> None:
    assert remarks(tiny, recipe_of(tiny, prompt="a (cat:1.5)")) == []
    recipe = recipe_of(tiny, prompt="(a:9)", negative_prompt="(b:4)")
    assert remarks(tiny, recipe) == [
        "The model reads (a:9) and (b:4) as written: a word weighs from 0 to 3, as in (cat:1.4)."
    ]


@pytest.fixture(scope="module")
def embedded() -> StableDiffusion:
    return load_model(find_model(EMBEDDED))


def test_the_embedded_model_paints_redder_what_is_redder(embedded: StableDiffusion) -> None:
    size = {"width": 192, "height": 192, "num_inference_steps": 8}

    def redness(weight: str) -> float:
        prompt = f"sea, impressionism, (red tones:{weight})"
        recipe = recipe_of(embedded, prompt=prompt, negative_prompt="", seed=3, **size)
        pixels = embedded.decode(paint(embedded, recipe))[0]
        return (pixels[0] - pixels[2]).mean().item()

    none, once, twice = redness("0"), redness("1"), redness("2")
    assert none + 0.3 < once < twice - 0.02
