"""The forward process in a real browser: a picture dissolves under her hand, and the model brings it back."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, expect

from tests.browser.house import Visit
from tests.browser.test_denoising import open_timeline, settle

STEPS = 20  # of the model's default settings


def test_a_picture_dissolves_and_is_brought_back(artist: Visit, tmp_path: Path) -> None:
    open_timeline(artist, 3)
    page, place = artist.page, artist.page.locator(".timeline-place")
    panel = page.get_by_role("form", name="Forward process")
    page.get_by_role("button", name="this one").click()
    expect(panel).to_be_visible()
    expect(place).to_have_text("The picture itself")
    expect(panel.get_by_role("button", name="Bring it back")).to_be_disabled()
    settle(artist)
    asked = len(artist.requests)

    # Playing walks into the grain; both ways of dissolving differ, and nothing is asked of the server.
    page.get_by_label("Speed").select_option("4")
    page.get_by_role("button", name="Play").click()
    expect(place).to_have_text(f"Step 1 of {STEPS}")
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    expect(page.locator(".timeline-noise-value")).to_have_text("100.0 %")
    strip = page.get_by_role("slider", name="Steps from noise to picture")
    strip.focus()
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    in_pixels = artist.pixels("timeline")
    page.get_by_role("button", name="In latents").click()
    artist.expect_pixels("timeline", in_pixels, still=False)
    check_formula(artist)
    assert artist.requests[asked:] == []
    bring_back(artist, panel)
    bring_a_file(artist, panel, tmp_path)


def check_formula(artist: Visit) -> None:
    """Read this step's numbers out of the formula: they are those of the curves, and follow the scrubber."""
    page = artist.page
    page.get_by_text("The formula, with the numbers of this step").click()
    with_numbers = page.locator(".timeline-formula math").nth(1)
    share = float(page.locator("[data-curve=share] .curves-value").inner_text())
    expect(with_numbers.locator("mn").filter(has_text=".")).to_have_count(2)
    numbers = [float(text) for text in with_numbers.locator("mn").all_text_contents() if "." in text]
    assert abs(numbers[0] ** 2 - share) < 1e-2
    assert abs(numbers[1] ** 2 - (1 - share)) < 1e-2
    before = with_numbers.text_content()
    assert before is not None
    page.get_by_role("slider", name="Steps from noise to picture").press("ArrowRight")
    expect(with_numbers).not_to_have_text(before)


def bring_back(artist: Visit, panel: Locator) -> None:
    """Let the model take over three steps before the end; what is wrong is said, what is typed stays."""
    page = artist.page
    page.get_by_role("slider", name="Steps from noise to picture").focus()
    page.keyboard.press("End")
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    expect(panel).to_contain_text(f"The model takes over at step {STEPS - 2} of {STEPS}: 15 % of the way")
    panel.get_by_label("Guidance").fill("much")
    panel.get_by_role("button", name="Bring it back").click()
    expect(panel.get_by_role("alert")).to_have_text("Guidance must be a number from 0 to 30, not much.")
    panel.get_by_label("Guidance").fill("3")
    panel.get_by_label("Prompt").fill("winter")
    panel.get_by_role("button", name="Bring it back").click()
    expect(page.locator(".timeline-recipe")).to_contain_text("begun from a picture, strength 0.15")
    expect(page.locator(".timeline-prompt")).to_have_text("winter")
    expect(panel).to_be_hidden()
    expect(page.get_by_role("button", name="What is there")).to_be_visible()


def bring_a_file(artist: Visit, panel: Locator, tmp_path: Path) -> None:
    """Any picture can be brought; what is none says so, and Escape goes back."""
    page = artist.page
    file = tmp_path / "brought.png"
    Image.linear_gradient("L").convert("RGB").save(file)
    expect(page.get_by_role("button", name="this one")).to_be_visible()
    page.get_by_label("A picture to dissolve").set_input_files(file)
    expect(panel).to_be_visible()
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(page.locator(".timeline-prompt")).to_have_text("winter")
    (tmp_path / "words.png").write_text("not a picture")
    page.get_by_label("A picture to dissolve").set_input_files(tmp_path / "words.png")
    expect(page.locator("#said")).to_contain_text("This file is not a picture")
    assert re.search("422", artist.complaints.pop())
