"""Two runs that are not related, step by step: behind a divider, side by side, and what differs."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.house import SMALL, Visit
from tests.browser.test_denoising import open_timeline, settle
from tests.browser.test_layers import STEPS

DOT = "\N{MIDDLE DOT}"


def test_compares_runs_of_other_samplers_and_seeds(artist: Visit) -> None:
    open_timeline(artist, 3)
    page = artist.page
    page.get_by_role("tab", name="Prompt to image").click()
    artist.paint("still life with fruit, baroque", num_inference_steps=str(STEPS), seed="12", **SMALL)
    artist.wait_until_finished()
    page.locator("#stage").get_by_role("button", name="Open timeline").click()
    expect(page.locator(".timeline-recipe")).to_contain_text("seed 12")
    thumbs = page.locator(".timeline-others .thumb")
    expect(thumbs).to_have_count(2)
    settle(artist)

    # Beside itself there is no difference at any step.
    begin = page.get_by_role("button", name="Compare with another timeline")
    begin.click()
    expect(page.get_by_role("heading", name="Compare it with")).to_be_visible()
    thumbs.first.click()
    right, left = page.locator(".compare-right"), page.locator(".compare-name").first
    expect(right).to_have_text(f"Finished {DOT} still life with fruit, baroque")
    page.get_by_role("button", name="Difference").click()
    assert brightest(artist) == 0
    page.get_by_role("slider", name="Steps from noise to picture").focus()
    page.keyboard.press("ArrowLeft")
    assert brightest(artist) == 0
    begin.click()
    expect(right).to_be_hidden()

    begin.click()
    thumbs.last.click()
    expect(right).to_contain_text(f"Step 3 {DOT} 3 steps {DOT} seed")
    settle(artist)
    asked = len(artist.requests)
    assert brightest(artist) > 100
    page.get_by_role("button", name="Side by side", exact=True).click()
    film, other = page.locator("#timeline .film-canvas"), page.locator(".compare-canvas")
    boxes = [film.bounding_box(), other.bounding_box()]
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"]
    assert boxes[0]["width"] == boxes[1]["width"]
    page.get_by_role("slider", name="Steps from noise to picture").focus()
    page.keyboard.press("Home")
    expect(left).to_have_text(f"Step 1 {DOT} {STEPS} steps {DOT} seed 12")
    expect(right).to_contain_text(f"Step 1 {DOT} 3 steps")
    page.get_by_role("button", name="Wipe").click()
    expect(page.get_by_role("slider", name="Divider between the two pictures")).to_be_visible()
    assert artist.requests[asked:] == []
    page.keyboard.press("Escape")
    expect(right).to_be_hidden()


def brightest(artist: Visit) -> int:
    """Return the brightest value on the canvas of what differs, from 0 to 255."""
    found: int = artist.page.evaluate(_BRIGHTEST)
    return found


# A canvas is read in the frame after the one it was drawn in.
_BRIGHTEST = """() => new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(() => {
    const shown = document.querySelector(".compare-canvas");
    const copy = new OffscreenCanvas(shown.width, shown.height).getContext("2d");
    copy.drawImage(shown, 0, 0);
    const { data } = copy.getImageData(0, 0, shown.width, shown.height);
    resolve(data.reduce((most, value, place) => place % 4 === 3 ? most : Math.max(most, value), 0));
})))"""
