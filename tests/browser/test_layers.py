"""Heat over the film in a real browser: asked for once, then scrubbed at full speed without a request."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.house import Visit
from tests.browser.test_denoising import open_timeline

STEPS = 6


def test_heat_is_laid_over_the_picture_and_fades(artist: Visit) -> None:
    open_timeline(artist, STEPS)
    page = artist.page
    words, strength = page.locator(".heat-words"), page.get_by_label("Strength of the heat")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    plain = artist.pixels("timeline")
    expect(strength).to_be_disabled()

    change = page.get_by_role("button", name="Change", exact=True).and_(page.locator(".heat-choice"))
    shown = {"nothing": plain}
    for name, choice in {
        "change": change,
        "pull": page.locator("[data-heat=guidance]"),
        "fruit": page.locator(".timeline-prompt .word", has_text="fruit"),
        "baroque": page.locator(".timeline-prompt .word", has_text="baroque"),
    }.items():
        with page.expect_response(re.compile("/heat/")) as answer:
            choice.click()
        assert answer.value.ok
        expect(choice).to_have_attribute("aria-pressed", "true")
        expect(words).to_have_text(re.compile("^Bright where the"))
        shown[name] = artist.pixels("timeline")
    assert len(set(shown.values())) == 5

    asked = len(artist.requests)
    change.click()
    assert artist.pixels("timeline") == shown["change"]
    page.keyboard.press("End")
    expect(words).to_have_text("Bright where the picture moved most on the whole way.")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    strength.fill("0.4")
    assert artist.pixels("timeline") not in shown.values()
    strength.fill("0")
    assert artist.pixels("timeline") == plain
    strength.fill("0.85")
    page.locator(".timeline-strip").focus()
    page.keyboard.press("h")
    expect(change).to_have_attribute("aria-pressed", "false")
    assert artist.pixels("timeline") == plain
    page.keyboard.press("h")
    assert artist.pixels("timeline") == shown["change"]
    assert artist.requests[asked:] == []

    # A word can be asked about by keys, and what cannot be answered is said where she looks.
    page.route("**/heat/attention.png?word=still", lambda route: route.abort())
    word = page.locator(".timeline-prompt .word", has_text="still")
    word.focus()
    page.keyboard.press("Enter")
    expect(words).to_have_class(re.compile("heat-problem"))
    expect(words).not_to_have_text("")
    assert artist.complaints.pop().startswith("Failed to load resource")
