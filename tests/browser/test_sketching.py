"""Live sketches in a real browser: what is written appears, the newest wins, and Paint keeps its seed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from pipelines.models.find import EMBEDDED, find_model
from tests.browser.conftest import check
from tests.browser.house import MODEL, Visit, open_house, visit
from tests.tiny import add_companion, build_tiny_sd


@pytest.fixture(params=["tiny", "embedded"])
def sketcher(request: pytest.FixtureRequest, browser: Browser, tmp_path: Path) -> Iterator[Visit]:
    """An artist in a house of its own, with a model that has a companion."""
    model = MODEL
    if request.param == "tiny":
        model = str(add_companion(build_tiny_sd(tmp_path / "tiny")))
    elif find_model(MODEL or EMBEDDED).companion is None:
        pytest.skip("the embedded model has no companion yet")
    with open_house(tmp_path, model) as house, visit(browser, house) as visiting:
        visiting.enter()
        yield visiting
        check(visiting)


def write(artist: Visit, words: str) -> None:
    """Write on at the end of the prompt, key by key."""
    prompt = artist.field("prompt")
    prompt.press("End")
    prompt.press_sequentially(words, delay=15)


def sketches(artist: Visit) -> list[str]:
    return [url for url in artist.requests if "/sketch?" in url]


def seed_of(words: Locator) -> str:
    found = re.search(r"\d+$", words.inner_text())
    assert found
    return found[0]


def test_what_is_written_is_sketched_and_painted_with_its_seed(sketcher: Visit) -> None:
    page, stage = sketcher.page, sketcher.page.locator("#stage .stage")
    words, picture = page.locator(".sketch-status"), page.locator(".sketch-canvas img").last
    drawn = re.compile(r"^Sketch, seed \d+$")
    write(sketcher, "a boat on a quiet lake")
    expect(words).to_have_text(drawn)
    expect(stage).to_have_attribute("data-sketch", "whole")
    assert len(sketches(sketcher)) <= 4, "not one for every key"
    seed = seed_of(words)

    write(sketcher, ", evening")
    expect(picture).to_have_attribute("alt", "a boat on a quiet lake, evening")
    expect(words).to_have_text(f"Sketch, seed {seed}")
    answer = page.request.get(f"{sketcher.house.url}/jobs/active").json()
    assert answer == {"group": None}, "a sketch is nobody's job"

    # After a reload it is there again, and so is what was written.
    page.reload()
    expect(words).to_have_text(f"Sketch, seed {seed}")
    expect(sketcher.field("prompt")).to_have_value("a boat on a quiet lake, evening")

    # Paint: the same seed, in full; the sketch steps aside.
    sketcher.type_in("num_inference_steps", "3")
    page.locator("#paint").click()
    expect(page.locator("#stage").get_by_role("button", name=f"Seed {seed}")).to_be_visible()
    sketcher.wait_until_finished()
    expect(stage).not_to_have_attribute("data-sketch", re.compile("."))
    expect(sketcher.field("seed")).to_have_value("-1")

    # Another one, and it is kept as it is.
    write(sketcher, ", mist")
    expect(words).to_have_text(drawn)
    assert seed_of(words) != seed, "the next picture has a seed of its own"
    before = words.inner_text()
    page.get_by_role("button", name="Another").click()
    expect(words).not_to_have_text(before)
    expect(words).to_have_text(drawn)
    kept = seed_of(words)
    page.get_by_role("button", name="Keep this sketch").click()
    expect(page.locator("#stage").get_by_role("button", name=f"Seed {kept}")).to_be_visible()
    sketcher.wait_until_finished()
    page.get_by_role("tab", name="Gallery").click()
    expect(page.locator(".frame")).to_have_count(2)
    page.get_by_role("tab", name="Prompt to image").click()

    # What cannot be sketched is said where she looks; with the switch off nothing is asked.
    sketcher.type_in("width", "65")
    expect(page.locator(".live-word")).to_contain_text("Width must be a multiple of 8")
    sketcher.type_in("width", "64")
    expect(page.locator(".live-word")).to_have_text("")
    expect(words).to_have_text(drawn)
    page.get_by_role("switch", name="Live sketch").uncheck(force=True)
    expect(stage).not_to_have_attribute("data-sketch", re.compile("."))
    asked = len(sketches(sketcher))
    write(sketcher, ", rain")
    page.wait_for_timeout(500)
    assert len(sketches(sketcher)) == asked
