"""Curves, branches and families on the denoising tab, in a real browser."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, expect

from tests.browser.house import Visit
from tests.browser.test_denoising import open_timeline, settle

STEPS = 5
SCRIPT = '<img src=x onerror="document.title=1"> in a storm'


def stop_of(stop: int, panel: Locator) -> tuple[float, float]:
    """Return where a stop is in a panel on the scrubber's axis, in page pixels."""
    box = panel.bounding_box()
    assert box is not None
    return box["x"] + box["width"] * (stop + 0.5) / (STEPS + 1), box["y"] + box["height"] / 2


def timeline_address(artist: Visit) -> str:
    """Return the address of the timeline that was opened last."""
    found = [re.search("/timelines/[0-9a-f]{32}$", url) for url in artist.requests]
    return [match.group() for match in found if match][-1]


def test_curves_share_the_scrubber_and_ask_for_nothing(artist: Visit) -> None:
    open_timeline(artist, STEPS)
    page, place = artist.page, artist.page.locator(".timeline-place")
    panel, mark = page.locator(".curves-panel"), page.locator(".curves-mark")
    curves = page.get_by_role("group", name="Curve").get_by_role("button")
    expect(curves).to_have_count(7)
    told = page.request.get(f"{artist.house.url}{timeline_address(artist)}").json()
    asked = len(artist.requests)

    noise = page.get_by_role("button", name="Noise \N{GREEK SMALL LETTER SIGMA}")
    noise.click()
    expect(page.get_by_role("img", name=re.compile(rf"^Noise .* over {STEPS} steps"))).to_be_visible()
    for stop in (0, 3, STEPS - 1):
        page.mouse.click(*stop_of(stop, panel))
        expect(place).to_have_text(f"Step {stop + 1} of {STEPS}")
        shown = float(noise.locator(".curves-value").inner_text())
        assert abs(shown / told["steps"][stop]["sigma"] - 1) < 0.01
        box = mark.bounding_box()
        assert box is not None
        assert abs(box["x"] + box["width"] / 2 - stop_of(stop, panel)[0]) < 1
    # One click marked it; the mark stays while she looks elsewhere, and leads back.
    flag = page.locator(".curves-flag")
    expect(flag).to_have_text(f"Step {STEPS}")
    page.keyboard.press("Home")
    page.mouse.wheel(0, 40)
    expect(place).to_have_text(f"Step 2 of {STEPS}")
    flag.click(position={"x": 4, "y": 4})
    expect(place).to_have_text(f"Step {STEPS} of {STEPS}")
    page.keyboard.press("m")
    expect(flag).to_be_hidden()
    page.mouse.click(*stop_of(STEPS, panel))
    expect(place).to_have_text("The finished picture")
    expect(flag).to_have_text("Finished")

    # Every other curve follows too; the training schedule has an axis of its own and leads to the same steps.
    page.keyboard.press("Home")
    for curve in curves.all():
        curve.click()
        expect(curve).to_have_attribute("aria-pressed", "true")
        expect(curve.locator(".curves-value")).not_to_have_text("")
    box = mark.bounding_box()
    assert box is not None
    page.keyboard.press("End")
    expect(mark).to_be_hidden()
    page.mouse.click(box["x"] + 5, box["y"] + 5)
    expect(place).to_have_text(f"Step 1 of {STEPS}")

    page.keyboard.press("c")
    expect(panel).to_be_hidden()
    page.keyboard.press("c")
    expect(panel).to_be_visible()
    assert artist.requests[asked:] == []


def test_branches_from_a_step_and_remembers_the_family(artist: Visit) -> None:
    open_timeline(artist, STEPS)
    page, place = artist.page, artist.page.locator(".timeline-place")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    parent = artist.pixels("timeline")
    page.keyboard.press("b")
    panel = page.get_by_role("form", name="Branch")
    expect(panel).to_contain_text("Steps 1 to 2 stay as they are; 3 steps are painted anew.")
    expect(panel).to_contain_text("Nothing is changed yet")
    expect(panel.get_by_label("Prompt", exact=True)).to_have_value("still life with fruit, baroque")

    # Keys are letters while she types; Escape closes the panel and B opens it again.
    panel.get_by_label("Prompt", exact=True).fill("")
    page.keyboard.type("x b c")
    expect(panel.get_by_label("Prompt", exact=True)).to_have_value("x b c")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    page.keyboard.press("b")

    # What cannot be painted is said beside its field, and everything typed stays.
    panel.get_by_label("Prompt", exact=True).fill(SCRIPT)
    guidance = panel.get_by_label("Guidance")
    guidance.fill("a lot")
    panel.get_by_role("button", name="Paint branch").click()
    expect(panel.get_by_role("alert")).to_have_text("Guidance must be a number from 0 to 30, not a lot.")
    expect(guidance).to_have_attribute("aria-invalid", "true")
    expect(guidance).to_be_focused()
    expect(panel.get_by_label("Prompt", exact=True)).to_have_value(SCRIPT)

    guidance.fill("9")
    panel.get_by_role("button", name="Paint branch").click()
    expect(page.locator(".timeline-prompt")).to_have_text(SCRIPT)
    expect(panel).to_be_hidden()
    expect(place).to_have_text(f"Step 3 of {STEPS}")
    assert artist.pixels("timeline") != parent
    expect(page.locator(".timeline-origin")).to_have_text(
        "A branch from step 3 of still life with fruit, baroque"
    )

    family = page.get_by_role("navigation", name="Family")
    expect(family.get_by_role("listitem")).to_have_count(2)
    expect(family.locator("[aria-current]")).to_contain_text("from step 3")
    page.locator(".timeline-origin").get_by_role("button").click()
    expect(page.locator(".timeline-prompt")).to_have_text("still life with fruit, baroque")
    expect(place).to_have_text(f"Step 3 of {STEPS}")
    assert artist.pixels("timeline") == parent
    compare_with(artist, SCRIPT)
    family.get_by_role("button", name=SCRIPT).first.click()
    expect(page.locator(".timeline-prompt")).to_have_text(SCRIPT)
    expect(page.get_by_role("button", name=SCRIPT).first).to_be_visible()
    assert page.title() == "Atelier"


def test_branches_with_other_styles_and_only_where_it_is_painted(artist: Visit) -> None:
    open_timeline(artist, STEPS, seed="8")
    page = artist.page
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("b")
    panel = page.get_by_role("form", name="Branch")
    panel.get_by_text("Styles none").click()
    panel.get_by_role("button", name="ukiyo-e", exact=True).click()
    expect(panel.locator(".branch-styles-now")).to_have_text("ukiyo-e")
    expect(panel).not_to_contain_text("Nothing is changed yet")
    panel.get_by_role("button", name="Only where I paint").click()
    panel.get_by_role("button", name="Paint branch").click()
    expect(panel.get_by_role("alert")).to_have_text(
        "The mask of the branch covers nothing: paint where it may change."
    )
    box = page.locator(".only-canvas").bounding_box()
    assert box is not None
    left, middle = box["x"] + box["width"] / 8, box["y"] + box["height"] / 2
    page.mouse.move(left, middle)
    page.mouse.down()
    page.mouse.move(left, middle + box["height"] / 5, steps=5)
    page.mouse.up()
    panel.get_by_role("button", name="Paint branch").click()
    origin = page.locator(".timeline-origin")
    expect(origin).to_contain_text("A branch, of a part only, from step 2")
    expect(page.locator(".only")).to_be_hidden()
    told = page.request.get(f"{artist.house.url}{timeline_address(artist)}").json()
    assert [style["name"] for style in told["recipe"]["mix"]["styles"]] == ["ukiyo-e"]
    # Before it left, its parent painted: nothing was asked of the style.
    page.keyboard.press("Home")
    expect(page.locator(".pull-number")).to_have_text("0 %")
    page.keyboard.press("End")
    expect(page.locator(".pull-number")).to_have_text("")
    page.get_by_role("navigation", name="Family").get_by_role("button", name="Compare with").click()
    page.get_by_role("button", name="Difference").click()
    painted, kept = page.evaluate(_HALVES)
    assert painted > 20 * max(kept, 0.05), "beyond the decoder's reach the two are one picture"


# The mean of what differs at the left, where it was painted, and in the right half of the picture.
_HALVES = """() => new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(() => {
    const shown = document.querySelector("#timeline .compare-canvas");
    const { width, height } = shown;
    const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(shown, 0, 0);
    const mean = (from, to) => {
        const { data } = copy.getImageData(from * width, 0, (to - from) * width, height);
        const colours = data.filter((_, place) => place % 4 !== 3);
        return colours.reduce((sum, value) => sum + value, 0) / colours.length;
    };
    resolve([mean(0, 0.25), mean(0.5, 1)]);
})))"""


def compare_with(artist: Visit, other: str) -> None:
    """Lay another member of the family over the picture: the steps they share are the same on both sides."""
    page = artist.page
    strip = page.get_by_role("slider", name="Steps from noise to picture")
    page.get_by_role("button", name=f"Compare with {other}").click()
    divider = page.get_by_role("slider", name="Divider between the two pictures")
    expect(divider).to_be_focused()
    expect(page.locator(".compare-right")).to_have_text(f"Step 3 \N{MIDDLE DOT} {other}")
    settle(artist)
    asked = len(artist.requests)
    after = difference(artist)
    strip.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".compare-right")).to_have_text(f"Step 2 \N{MIDDLE DOT} {other}")
    # The sheets are WebP: the same tile beside other tiles differs by a trace.
    assert difference(artist) < after / 4
    page.keyboard.press("End")
    expect(page.locator(".compare-right")).to_have_text(f"Finished \N{MIDDLE DOT} {other}")
    assert difference(artist) > 1

    box, picture = divider.bounding_box(), page.locator("#timeline .film-canvas").bounding_box()
    assert box is not None
    assert picture is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(picture["x"] + picture["width"] / 4, box["y"] + 40, steps=4)
    page.mouse.up()
    expect(divider).to_have_attribute("aria-valuenow", "25")
    divider.focus()
    page.keyboard.press("ArrowRight")
    expect(divider).to_have_attribute("aria-valuenow", "27")
    expect(page.locator(".timeline-place")).to_have_text("The finished picture")
    assert artist.requests[asked:] == []
    page.keyboard.press("Escape")
    expect(divider).to_be_hidden()


def difference(artist: Visit) -> float:
    """Return the mean difference (0 to 255) between the film and the picture laid over it."""
    found: float = artist.page.evaluate(_DIFFERENCE)
    return found


# Canvases are read in the frame after the one they were drawn in.
_DIFFERENCE = """() => new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(() => {
    const [film, other] = ["film", "compare"].map(name => {
        const shown = document.querySelector(`#timeline .${name}-canvas`);
        const copy = new OffscreenCanvas(shown.width, shown.height);
        const context = copy.getContext("2d", { willReadFrequently: true });
        context.drawImage(shown, 0, 0);
        return context.getImageData(0, 0, copy.width, copy.height).data;
    });
    resolve(film.reduce((sum, value, place) => sum + Math.abs(value - other[place]), 0) / film.length);
})))"""
