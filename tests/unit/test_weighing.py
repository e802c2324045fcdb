"""Words that weigh more or less: what is a mark, what is left of a prompt, and where it stood."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from pipelines.weighing import too_heavy, weigh


def test_a_mark_goes_and_its_words_weigh() -> None:
    read = weigh("a (red cat:1.4), baroque")
    assert read.text == "a red cat, baroque"
    assert read.weights == (1.0,) * 2 + (1.4,) * 7 + (1.0,) * 9
    assert read.typed(2, 9) == (3, 10)
    assert read.typed(11, 18) == (17, 24)
    assert read.typed(0, 0) == (0, 0)
    assert (read.weight(2, 5), read.weight(11, 18), read.weight(0, 0)) == (1.4, 1.0, 1.0)


@pytest.mark.parametrize(
    ("prompt", "text", "weight"),
    [
        ("(cat:0)", "cat", 0.0),
        ("(cat: 2.)", "cat", 2.0),
        ("(cat:.5 )", "cat", 0.5),
        ("(cat:3)", "cat", 3.0),
        ("((cat:1.5))", "(cat)", 1.0),
    ],
)
def test_marks_are_read_as_artists_write_them(prompt: str, text: str, weight: float) -> None:
    assert weigh(prompt).text == text
    assert weigh(prompt).weights[0] == weight


@pytest.mark.parametrize(
    "prompt",
    ["", "(a cat)", "((cat))", "a cat :1.4", "(cat:)", "(cat:-1)", "(cat:x)", "(:1.4)", "a(b", ":)"],
)
def test_what_is_no_mark_stays(prompt: str) -> None:
    read = weigh(prompt)
    assert read.text == prompt
    assert set(read.weights) <= {1.0}
    assert too_heavy(prompt) == []


def test_what_is_too_heavy_stays_and_is_told() -> None:
    verse = "the gate (Matthew 7:13), (light:1.2)"
    assert weigh(verse).text == "the gate (Matthew 7:13), light"
    assert too_heavy(verse) == ["(Matthew 7:13)"]


@given(some.text(alphabet="ab (:)1.4", max_size=40))
def test_every_character_is_where_it_was(prompt: str) -> None:
    read = weigh(prompt)
    assert len(read.text) == len(read.weights) == len(read.places)
    assert all(prompt[place] == character for place, character in zip(read.places, read.text, strict=True))
    assert list(read.places) == sorted(set(read.places))
    assert all(0 <= weight <= 3 for weight in read.weights)
