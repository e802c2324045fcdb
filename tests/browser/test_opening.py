"""Opening a stored timeline: quick, and without leaving anything behind in the page."""

from __future__ import annotations

import statistics

import psutil
from playwright.sync_api import Page, expect

from tests.browser.house import PATIENCE_MS, Visit
from tests.browser.test_denoising import settle

OPENINGS = 30
OPEN_S = 1.0
GROWTH_BYTES = 25_000_000
LONG, SHORT = "a long walk by the sea", "a short walk"

# Clicks a thumbnail, and tells the seconds until its timeline is on the easel and has been drawn.
_OPEN = """async ([id, prompt]) => {
    const frame = () => new Promise(requestAnimationFrame);
    const begun = performance.now();
    document.querySelector(`.timeline-others [data-id="${id}"]`).click();
    while (document.querySelector(".timeline-prompt").textContent !== prompt) await frame();
    await frame();
    return (performance.now() - begun) / 1000;
}"""


def page_bytes(page: Page) -> int:
    """Measure what the page's process holds, bitmaps included, once it has cleared up."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    page.wait_for_timeout(300)
    session.detach()
    renderers = [
        child.memory_info().rss
        for child in psutil.Process().children(recursive=True)
        if "--type=renderer" in child.cmdline()
    ]
    return max(renderers)


def test_a_stored_timeline_opens_at_once_and_leaves_no_memory_behind(artist: Visit) -> None:
    artist.enter("Ivy")
    for prompt, steps in ((LONG, 50), (SHORT, 2)):
        artist.paint(prompt, num_inference_steps=str(steps), seed="1", guidance_scale="1")
        artist.wait_until_finished(3 * PATIENCE_MS)
    page = artist.page
    page.get_by_role("tab", name="Denoising").click()
    thumbs = page.locator(".timeline-others [data-id]")
    expect(thumbs).to_have_count(2)
    expect(page.locator(".timeline-prompt")).to_have_text(SHORT)
    settle(artist)
    short, long = (thumb.get_attribute("data-id") for thumb in thumbs.all())
    seconds: list[float] = []
    held: list[int] = []
    for opening in range(OPENINGS // 2):
        seconds.append(page.evaluate(_OPEN, [long, LONG]))
        page.evaluate(_OPEN, [short, SHORT])
        if opening in (4, OPENINGS // 2 - 1):
            settle(artist)
            held.append(page_bytes(page))
    print(
        f"opening 50 steps: median {statistics.median(seconds):.3f} s, longest {max(seconds):.3f} s; "
        f"page {held[0] / 1e6:.0f} MB after 10 openings, {held[1] / 1e6:.0f} MB after {OPENINGS}"
    )
    assert statistics.median(seconds) < OPEN_S
    assert held[1] - held[0] < GROWTH_BYTES
