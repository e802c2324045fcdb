"""What a hand does at the inpainting board, and what is seen on it."""

from __future__ import annotations

import time

from playwright.sync_api import Page, expect

from tests.browser.house import PATIENCE_MS, Visit


def to_inpainting(artist: Visit) -> Page:
    artist.page.locator("#inpainting-button").click()
    expect(artist.page.locator(".inpaint")).to_be_visible()
    return artist.page


def stroke(page: Page, start: tuple[float, float], stop: tuple[float, float]) -> None:
    """Paint from one place of the board to another, given as shares of its sides."""
    box = page.locator(".inpaint-canvas").bounding_box()
    assert box is not None
    (x, y), (right, bottom) = (
        (box["x"] + box["width"] * at[0], box["y"] + box["height"] * at[1]) for at in (start, stop)
    )
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(right, bottom, steps=8)
    page.mouse.up()


def board(page: Page) -> str:
    """What the board shows now, with the pointer out of the way."""
    page.mouse.move(2, 2)
    shown: str = page.evaluate(
        """() => new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(() =>
            resolve(document.querySelector('.inpaint-canvas').toDataURL()))))"""
    )
    return shown


def expect_board(page: Page, shown: str, *, still: bool = True) -> None:
    """Wait until the board shows this, or does no longer: pictures are drawn some time after their words."""
    limit = time.monotonic() + PATIENCE_MS / 1000
    while (board(page) == shown) != still:
        assert time.monotonic() < limit, f"the board never {'showed it' if still else 'changed'}"
        page.wait_for_timeout(50)


def put_away(page: Page) -> None:
    """Wait until the browser's own database has what was painted: whoever asks it comes after who writes."""
    # Twice: what changed while it wrote is written once more, right behind the first who asks.
    page.evaluate(
        """async () => {
            const { take } = await import("/atelier/js/shelf.js");
            await take("inpaint.masks");
            await take("inpaint.masks");
        }"""
    )
