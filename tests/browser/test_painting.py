"""The first tab in a real browser: write, paint, watch, cancel, come back."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.house import PATIENCE_MS, SMALL, House, Visit, visit
from tests.browser.test_denoising import settle

SCREEN = "#stage .film-canvas"


def test_paints_with_live_previews(artist: Visit) -> None:
    artist.enter()
    artist.type_in("prompt", "seascape, moonlight, romanticism")
    artist.type_in("num_inference_steps", "10")
    artist.page.keyboard.press("Control+Enter")

    previews: set[str] = set()
    steps: set[str] = set()
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while (said := artist.status.inner_text()) != "Finished":
        assert time.monotonic() < deadline, said
        if said.startswith("Step"):
            steps.add(said)
            shown = artist.pixels("stage")
            if artist.status.inner_text() == said:  # or it may be the finished picture by now
                previews.add(shown)
        time.sleep(0.05)
    assert len(previews) >= 3
    assert steps <= {f"Step {step} of 10" for step in range(11)}

    artist.wait_until_finished()
    assert artist.pixels("stage") not in previews
    # The drawn seed is shown, and one click takes it over.
    seed = artist.page.get_by_role("button", name=re.compile(r"^Seed \d+$"))
    drawn = seed.inner_text().removeprefix("Seed ")
    expect(artist.field("seed")).to_have_value("-1")
    seed.click()
    expect(artist.field("seed")).to_have_value(drawn)
    # What came may be scrubbed on the stage already; previews that were left out come with the timeline.
    settle(artist)
    finished = artist.pixels("stage")
    asked = len(artist.requests)
    artist.page.keyboard.press("Home")
    assert artist.pixels("stage") != finished
    artist.page.keyboard.press("End")
    assert artist.pixels("stage") == finished
    assert len(artist.requests) == asked


def test_same_seed_gives_same_picture(artist: Visit) -> None:
    artist.enter()
    seed = str(2**64 - 1)  # one that a number in JavaScript cannot hold
    shown: list[str] = []
    for _ in range(2):
        artist.paint("a boat", seed=seed, num_inference_steps="3", **SMALL)
        artist.wait_until_finished()
        shown.append(artist.pixels("stage"))
        expect(artist.page.get_by_role("button", name=f"Seed {seed}")).to_be_visible()
    assert shown[0] == shown[1]


def test_reload_in_mid_run_comes_back_and_finishes(artist: Visit) -> None:
    artist.enter()
    artist.paint("cherry blossoms by the river, ukiyo-e", num_inference_steps="24")
    expect(artist.status).to_have_text(re.compile(r"^Step [2-9] of 24"))
    artist.page.reload()
    # On a busy machine the picture may be done before the page is there again.
    expect(artist.status).to_have_text(re.compile(r"^(Step \d+ of 24|Finished)"))
    # The form is as she left it.
    expect(artist.field("prompt")).to_have_value("cherry blossoms by the river, ukiyo-e")
    expect(artist.field("num_inference_steps")).to_have_value("24")
    artist.wait_until_finished()


@pytest.mark.parametrize("how", ["button", "key"])
def test_cancel_and_start_another(artist: Visit, how: str) -> None:
    artist.enter()
    artist.paint("a long walk", num_inference_steps="100")
    expect(artist.status).to_have_text(re.compile(r"^Step \d+ of 100"))
    if how == "button":
        artist.page.locator("#stage").get_by_role("button", name="Cancel").click()
    else:
        artist.page.keyboard.press("Escape")
    expect(artist.status).to_have_text("Cancelled")
    expect(artist.page.locator("#stage").get_by_role("button", name="Cancel")).to_have_count(0)
    artist.paint("a short walk", num_inference_steps="2", **SMALL)
    artist.wait_until_finished()


def test_several_pictures_on_a_contact_sheet(artist: Visit) -> None:
    artist.enter()
    artist.paint("two boats", seed="7", pictures="2", num_inference_steps="3", **SMALL)
    expect(artist.page.locator("#stage .sheet-cell")).to_have_count(2)
    expect(artist.status).to_have_text("2 pictures finished")
    artist.page.locator("#stage .sheet-cell").nth(1).click()
    expect(artist.page.get_by_role("button", name="Seed 8")).to_be_visible()
    expect(artist.page.locator(SCREEN)).to_be_visible()
    artist.page.get_by_role("button", name="All pictures").click()
    expect(artist.page.locator("#stage .sheet-cell").first).to_be_visible()


BAD_INPUT = {
    "width": ("193", "Width must be a multiple of 8"),
    "num_inference_steps": ("0", "Steps must be a whole number from 1 to 150, not 0"),
    "guidance_scale": ("-1", "Guidance must be a number from 0 to 30, not -1"),
    "seed": (str(2**64), f"Seed must be a whole number from 0 to {2**64 - 1}"),
    "pictures": ("17", "Pictures must be a whole number from 1 to 16, not 17"),
    "prompt": ("a" * 10_000, "The prompt has 10,000 characters"),
}


def test_bad_input_is_answered_beside_its_field(artist: Visit) -> None:
    artist.enter()
    artist.type_in("prompt", "a careful prompt")
    complaint = artist.page.locator("#complaint")
    for name, (value, sentence) in BAD_INPUT.items():
        field = artist.field(name)
        good = field.input_value()
        field.fill(value)
        artist.page.locator("#paint").click()
        expect(complaint).to_contain_text(sentence)
        expect(complaint).to_be_in_viewport()
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(artist.page.locator("[aria-invalid]")).to_have_count(1)
        # The form keeps what was typed, there and everywhere else.
        expect(field).to_have_value(value)
        if name != "prompt":
            expect(artist.field("prompt")).to_have_value("a careful prompt")
        expect(artist.page.locator("#stage .stage")).to_have_attribute("data-view", "blank")
        field.fill(good)


def test_examples_fill_the_form(artist: Visit) -> None:
    artist.enter()
    card = artist.page.locator("#stage .stage-ideas .idea").first
    prompt = card.inner_text().strip()
    card.click()
    expect(artist.field("prompt")).to_have_value(prompt)


def test_format_and_size_follow_each_other(artist: Visit) -> None:
    artist.enter()
    artist.page.get_by_label("Landscape").check(force=True)
    expect(artist.field("width")).not_to_have_value(artist.field("height").input_value())
    artist.type_in("width", "200")
    expect(artist.page.locator("#field-format input:checked")).to_have_count(0)


def test_name_is_asked_once_and_may_be_changed(artist: Visit) -> None:
    page = artist.page
    page.goto(artist.house.url)
    page.get_by_label("Your name").fill("x" * 41)
    page.get_by_role("button", name="Enter the studio").click()
    expect(page.locator("#artist-complaint")).to_contain_text("40")
    # The browser itself reports the refusal; it is no fault of the page.
    artist.complaints.clear()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.get_by_label("Your name").fill("<b>Mika</b>")
    page.keyboard.press("Enter")
    expect(page.locator(".artist-name")).to_have_text("<b>Mika</b>")
    page.reload()
    expect(page.locator(".artist-name")).to_have_text("<b>Mika</b>")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.locator(".artist").click()
    page.get_by_label("Your name").fill("Aino")
    page.get_by_role("button", name="Sign", exact=True).click()
    expect(page.locator(".artist-name")).to_have_text("Aino")


def test_looks_the_same_where_light_is_preferred(browser: Browser, house: House) -> None:
    grounds: list[str] = []
    for light in (False, True):
        with visit(browser, house, light=light) as visiting:
            visiting.enter()
            colours: list[str] = visiting.page.evaluate(
                "['body', '#paint', '#field-prompt textarea'].map(name => {"
                " const style = getComputedStyle(document.querySelector(name));"
                " return style.backgroundColor + style.color; })"
            )
            grounds.append(" ".join(colours))
    assert grounds[0] == grounds[1]
