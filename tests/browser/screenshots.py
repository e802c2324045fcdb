"""Takes the pictures of the tabs that the README shows: `python -m tests.browser.screenshots`."""

from __future__ import annotations

import io
import re
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from tests.browser.easel import stroke
from tests.browser.house import PATIENCE_MS, ROOT, Visit, find_browser, launch, open_house, visit

SHOTS = ROOT / "assets" / "screenshots"
MAX_BYTES = 750_000


def keep(page: Page, name: str) -> None:
    """Keep a small PNG of the page: 256 colours where the full one would be too large for a repository."""
    path = SHOTS / f"{name}.png"
    with Image.open(io.BytesIO(page.screenshot())) as shot:
        image = shot.convert("RGB")
    image.save(path, optimize=True)
    if path.stat().st_size > MAX_BYTES:
        image.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)


def take(visiting: Visit) -> None:
    """Paint every example, and keep a picture of each tab."""
    page = visiting.page
    visiting.enter("Mika")
    cards = page.locator("#stage .stage-ideas .idea")
    prompts = [card.inner_text().strip() for card in cards.all()]
    for prompt in reversed(prompts):
        page.get_by_role("button", name="Begin from an example").click()
        page.get_by_role("dialog").get_by_role("button", name=prompt).click()
        expect(visiting.field("prompt")).to_have_value(prompt)
        page.locator("#paint").click()
        expect(visiting.status).not_to_have_text("Finished")
        visiting.wait_until_finished()
    page.mouse.move(700, 400)
    page.wait_for_timeout(5000)  # what was said has faded
    keep(page, "prompt_to_image")

    page.locator("#stage").get_by_role("button", name="Open timeline").click()
    place = page.locator(".timeline-place")
    expect(place).to_have_text("The finished picture")
    # The third is dark and quiet: its grain shows well, and its screenshot stays small.
    page.locator(".timeline-others .thumb").nth(2).click()
    expect(page.locator(".timeline-prompt")).to_have_text(prompts[2])
    for _ in range(9):
        page.keyboard.press("ArrowLeft")
    page.get_by_label("Fade from what the model sees").fill("0.12")
    page.mouse.click(700, 90)
    page.wait_for_load_state("networkidle")
    keep(page, "denoising")

    page.get_by_role("tab", name="Gallery").click()
    expect(page.locator(".frame")).to_have_count(len(prompts))
    page.wait_for_load_state("networkidle")
    page.locator(".frame").nth(1).hover()
    page.wait_for_timeout(500)
    keep(page, "gallery")


def take_blending(visiting: Visit) -> None:
    """Paint a strip from one style to another, and keep a picture of the tab."""
    page = visiting.page
    page.get_by_role("tab", name="Style blending").click()
    page.locator("#blend-stage .idea").first.click()
    page.get_by_role("button", name="Strip").click()
    page.locator(".mixing-paint").click()
    finished = page.locator("#blend-stage .stage-status")
    expect(finished).to_have_text("7 pictures finished", timeout=4 * PATIENCE_MS)
    page.mouse.move(700, 90)
    page.wait_for_timeout(5000)  # what was said has faded
    keep(page, "style_blending")


def take_inpainting(visiting: Visit) -> None:
    """Repaint a part of a picture of the gallery, and keep a picture of the fill half compared with it."""
    page = visiting.page
    page.get_by_role("tab", name="Gallery").click()
    page.locator(".frame").filter(has_text="river").first.click()
    page.get_by_role("button", name="Repaint a part").click()
    expect(page.locator(".inpaint")).to_have_attribute("data-view", "mask")
    stroke(page, (0.55, 0.5), (0.75, 0.55))
    stroke(page, (0.55, 0.56), (0.75, 0.6))
    page.locator("#fill-prompt").fill("a sailing boat on the river, impressionism")
    page.locator("#fill-pictures").fill("3")
    page.locator(".inpaint-fill").click()
    expect(page.locator(".inpaint-status")).to_have_text(re.compile("^Finished"), timeout=2 * PATIENCE_MS)
    expect(page.get_by_role("button", name="Brush another in")).to_be_visible(timeout=2 * PATIENCE_MS)
    page.mouse.move(700, 90)
    page.wait_for_timeout(5000)  # what was said has faded
    keep(page, "inpainting")


def main() -> None:
    """Open a studio of its own, and a browser."""
    SHOTS.mkdir(exist_ok=True)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        executable = find_browser(playwright)
        if executable is None:
            raise SystemExit("No Chromium: `apt-get install chromium` or `playwright install chromium`.")
        browser = launch(playwright, executable)
        with open_house(Path(folder)) as house, visit(browser, house) as visiting:
            take(visiting)
            take_blending(visiting)
            take_inpainting(visiting)
        browser.close()


if __name__ == "__main__":
    main()
