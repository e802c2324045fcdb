"""Timelines in a real browser: watched while they are painted, pinned, lost and painted again."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.house import PATIENCE_MS, SMALL, Visit
from tests.browser.test_denoising import settle

STEPS = 24


def timelines_of(artist: Visit) -> Path:
    return artist.house.log.parent / "data" / "timelines"


def test_frames_arrive_while_the_run_goes_on_and_stay_a_timeline(artist: Visit) -> None:
    artist.enter("Frida")
    artist.paint("a lighthouse, oil painting", num_inference_steps=str(STEPS), seed="5")
    page = artist.page
    page.locator("#stage").get_by_role("button", name="Watch every step").click()
    desk, place = page.locator(".timeline"), page.locator(".timeline-place")
    live = page.locator(".live-words")
    expect(desk).to_have_attribute("data-state", "live")
    # The scrubber grows, and stays at the newest step until it is moved.
    expect(place).to_have_text(re.compile(rf"^Step ([5-9]|1\d) of {STEPS}$"), timeout=2 * PATIENCE_MS)
    expect(live).to_have_text(re.compile(rf"^Being painted, step \d+ of {STEPS}$"))
    expect(page.locator(".timeline-prompt")).to_have_text("a lighthouse, oil painting")
    # What has come can be scrubbed, with its numbers and its curves, while the rest is painted.
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(place).to_have_text(f"Step 3 of {STEPS}")
    expect(page.locator(".timeline-sigma-value")).to_have_text(re.compile(r"^\d"))
    expect(page.locator(".curves-mark")).to_be_visible()
    box = page.locator(".timeline .film-canvas").bounding_box()
    assert desk.get_attribute("data-state") == "live", "the run was over too soon to see it"
    expect(desk).to_have_attribute("data-state", "open")
    # Nothing jumps when it is done: the same stop, the same place, and now with all layers.
    expect(place).to_have_text(f"Step 3 of {STEPS}")
    assert page.locator(".timeline .film-canvas").bounding_box() == box
    shown = artist.pixels("timeline")
    page.keyboard.press("x")
    artist.expect_pixels("timeline", shown, still=False)
    page.keyboard.press("x")
    page.keyboard.press("End")
    expect(place).to_have_text("The finished picture")
    expect(page.get_by_role("button", name="Branch from here")).to_be_enabled()


def test_a_timeline_is_watched_while_it_is_drawn(artist: Visit) -> None:
    artist.enter("Leonora")
    artist.paint("a red poppy", num_inference_steps="30", guidance_scale="1", **SMALL)
    expect(artist.status).to_have_text("Finished")
    page = artist.page
    page.get_by_role("tab", name="Denoising").click()
    expect(page.locator(".timeline")).to_have_attribute("data-state", re.compile("live|open"))
    assert not any(page.evaluate(_CANCEL_WHILE_DRAWN)), "its picture is painted: there is nothing to cancel"
    expect(page.locator(".timeline")).to_have_attribute("data-state", "open")
    expect(page.locator(".timeline-prompt")).to_have_text("a red poppy")
    expect(page.locator(".timeline-place")).to_have_text("The finished picture")


# Tells of every frame until the timeline is open whether Cancel was offered for a picture that was painted.
_CANCEL_WHILE_DRAWN = """async () => {
    const desk = document.querySelector(".timeline"), offered = [];
    while (desk.dataset.state !== "open") {
        const [words, cancel] = desk.querySelectorAll(".timeline-live > *");
        if (words?.textContent.startsWith("Painted")) offered.push(!cancel.hidden);
        await new Promise(requestAnimationFrame);
    }
    return offered;
}"""


def test_a_timeline_is_pinned_lost_and_painted_again(artist: Visit) -> None:
    artist.enter("Georgia")
    artist.paint("a red poppy", num_inference_steps="4", seed="8", **SMALL)
    artist.wait_until_finished()
    page = artist.page
    page.locator("#stage").get_by_role("button", name="Open timeline").click()
    place, gone = page.locator(".timeline-place"), page.locator(".timeline-gone")
    expect(place).to_have_text("The finished picture")
    expect(page.locator(".timeline-usage")).to_have_text(re.compile(r"^1 timeline[\d.]+ kB of 4 GB$"))
    finished = artist.pixels("timeline")

    page.get_by_role("button", name="Pin timeline").click()
    expect(page.locator(".timeline-usage")).to_contain_text("1 pinned")
    page.get_by_role("tab", name="Gallery").click()
    expect(page.locator(".frame-pinned")).to_be_visible()
    page.locator(".frame").click()
    page.get_by_role("dialog").get_by_role("button", name="Unpin timeline").click()
    expect(page.locator(".frame-pinned")).to_have_count(0)
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Denoising").click()
    expect(page.get_by_role("button", name="Pin timeline")).to_be_visible()

    thumb = page.locator(".timeline-others .thumb")
    folder = timelines_of(artist) / (thumb.get_attribute("data-id") or "none")
    (folder / "latents.webp").unlink()
    thumb.click()
    expect(gone).to_contain_text("The pictures of what is there are missing or damaged.")
    shown = artist.pixels("timeline")
    page.keyboard.press("Home")
    expect(place).to_have_text("Step 1 of 4")
    assert artist.pixels("timeline") != shown, "what is left can be looked at"

    shutil.rmtree(folder)
    thumb.click()
    expect(gone).to_contain_text("There is no timeline of this picture here. The picture is kept.")
    expect(page.locator(".timeline-strip")).to_be_hidden()
    # The browser itself reports that the server refused; it is no fault of the page.
    assert all("422" in complaint for complaint in artist.complaints)
    artist.complaints.clear()
    page.get_by_role("button", name="Paint it again").click()
    expect(gone).to_be_hidden()
    expect(page.locator(".timeline")).to_have_attribute("data-state", "open")
    expect(place).to_have_text("The finished picture")
    page.keyboard.press("End")
    assert artist.pixels("timeline") == finished
    page.get_by_role("tab", name="Gallery").click()
    expect(page.locator(".frame")).to_have_count(1)


def test_the_pictures_of_a_group_are_scrubbed_together(artist: Visit) -> None:
    artist.enter("Hilma")
    artist.paint("a spiral, abstract", seed="3", pictures="2", num_inference_steps="3", **SMALL)
    page = artist.page
    expect(artist.status).to_have_text("2 pictures finished")
    together = page.locator("#stage").get_by_role("button", name="Open timelines side by side")
    together.click()
    cells, place = page.locator(".ensemble-cell"), page.locator(".timeline-place")
    expect(cells).to_have_count(2)
    expect(place).to_have_text("The finished picture")
    expect(page.locator(".timeline .film-canvas")).not_to_be_visible()
    expect(page.locator(".ensemble")).to_have_attribute("aria-busy", "false")
    settle(artist)

    def shown() -> list[str]:
        pixels: list[str] = page.evaluate(_CELLS)
        return pixels

    asked = len(artist.requests)
    finished = shown()
    page.keyboard.press("Home")
    expect(place).to_have_text("Step 1 of 3")
    first = shown()
    assert len({*finished, *first}) == 4, "both move, and are not the same picture"
    cells.nth(1).hover()
    page.mouse.wheel(0, 40)
    expect(place).to_have_text("Step 2 of 3")
    page.keyboard.press("End")
    assert shown() == finished
    assert artist.requests[asked:] == []
    page.keyboard.press("Home")
    cells.nth(1).click()
    expect(page.locator(".ensemble")).to_be_hidden()
    expect(page.locator(".timeline-recipe")).to_contain_text("seed 4")
    expect(place).to_have_text("Step 1 of 3")
    page.get_by_role("button", name="All pictures of this group").click()
    expect(cells).to_have_count(2)
    expect(cells.nth(1)).to_have_attribute("aria-current", "true")
    # The same from the stage again, when one of them is on the film already.
    cells.nth(0).click()
    expect(page.locator(".ensemble")).to_be_hidden()
    expect(page.locator(".timeline-recipe")).to_contain_text("seed 3")
    page.get_by_role("tab", name="Prompt to image").click()
    together.click()
    expect(cells).to_have_count(2)
    expect(cells.nth(0)).to_have_attribute("aria-current", "true")


# A canvas is read in the frame after the one it was drawn in.
_CELLS = """() => new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(() =>
    resolve([...document.querySelectorAll(".ensemble-cell canvas")].map(canvas => canvas.toDataURL())))))"""
