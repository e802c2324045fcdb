"""The denoising tab in a real browser: the whole timeline by keys and mouse, without asking the server."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.house import SMALL, Visit


def open_timeline(artist: Visit, steps: int, **fields: str) -> None:
    artist.enter()
    artist.paint("still life with fruit, baroque", num_inference_steps=str(steps), **SMALL | fields)
    artist.wait_until_finished()
    artist.page.locator("#stage").get_by_role("button", name="Open timeline").click()
    expect(artist.page.locator(".timeline-place")).to_have_text("The finished picture")
    settle(artist)


def settle(artist: Visit) -> None:
    """Wait until thumbnails of other pictures, and whatever else was on its way, have come."""
    asked = -1
    while asked != len(artist.requests) or artist.on_their_way:
        asked = len(artist.requests)
        artist.page.wait_for_timeout(250)


def test_scrubs_with_keys_and_mouse_without_any_request(artist: Visit) -> None:
    open_timeline(artist, 6)
    page, place = artist.page, artist.page.locator(".timeline-place")
    strip = page.get_by_role("slider", name="Steps from noise to picture")
    asked = len(artist.requests)

    shown = [artist.pixels("timeline")]
    for step in range(6, 0, -1):
        page.keyboard.press("ArrowLeft")
        expect(place).to_have_text(f"Step {step} of 6")
        shown.append(artist.pixels("timeline"))
    assert len(set(shown)) == 7
    expect(strip).to_have_attribute("aria-valuenow", "1")
    page.keyboard.press("End")
    assert artist.pixels("timeline") == shown[0]
    page.keyboard.press("Home")
    assert artist.pixels("timeline") == shown[-1]

    box = strip.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.click(box["x"] + box["width"] * 3.5 / 7, middle)
    expect(place).to_have_text("Step 4 of 6")
    page.mouse.move(box["x"] + box["width"] * 3.5 / 7, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 1.5 / 7, middle, steps=8)
    page.mouse.up()
    expect(place).to_have_text("Step 2 of 6")
    assert artist.pixels("timeline") == shown[5]
    page.mouse.wheel(0, 40)
    expect(place).to_have_text("Step 3 of 6")

    # The same step as the noisy picture it began with, and back.
    predicted = artist.pixels("timeline")
    page.keyboard.press("x")
    expect(page.get_by_role("button", name="What is there")).to_have_attribute("aria-pressed", "true")
    artist.expect_pixels("timeline", predicted, still=False)
    page.get_by_role("button", name="What it sees").click()
    artist.expect_pixels("timeline", predicted)

    assert artist.requests[asked:] == []


def test_plays_to_the_end_and_tells_the_numbers(artist: Visit) -> None:
    open_timeline(artist, 3)
    page = artist.page
    asked = len(artist.requests)
    page.keyboard.press("Home")
    noise = page.locator(".timeline-noise-value")
    first = float(noise.inner_text().removesuffix(" %"))
    assert first > 50
    page.get_by_label("Speed").select_option("4")
    page.get_by_role("button", name="Play").click()
    expect(page.locator(".timeline-place")).to_have_text("The finished picture")
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    expect(noise).to_have_text("0 %")
    assert artist.requests[asked:] == []


def test_loops_at_a_chosen_speed_and_is_scrubbed_by_touch(artist: Visit) -> None:
    open_timeline(artist, 3)
    page, place = artist.page, artist.page.locator(".timeline-place")
    page.get_by_role("button", name="Loop").click()
    seconds: dict[str, list[float]] = {}
    for speed in ("0.5", "4"):
        page.keyboard.press("Home")
        page.get_by_label("Speed").select_option(speed)
        page.get_by_role("button", name="Play").click()
        # A busy machine holds single walks up, or has one half over before it is seen.
        seconds[speed] = [page.evaluate(_SECOND_WALK) for _ in range(3)]
        page.get_by_role("button", name="Pause").click()
    assert min(seconds["4"]) < max(seconds["0.5"]) / 2
    page.keyboard.press("End")

    # A finger on the strip, and one on the picture itself; the page does not scroll under it.
    finger = page.context.new_cdp_session(page)
    for part in (".timeline .film-strip", ".timeline .film-canvas"):
        box = page.locator(part).bounding_box()
        assert box is not None
        at = {"y": box["y"] + box["height"] / 2}
        for kind, stop in (("touchStart", 3), ("touchMove", 2), ("touchMove", 1), ("touchEnd", 1)):
            x = box["x"] + box["width"] * (stop + 0.5) / 4
            points = [] if kind == "touchEnd" else [{"x": x, **at}]
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
            expect(place).to_have_text("The finished picture" if stop == 3 else f"Step {stop + 1} of 3")
    finger.detach()


# Waits for the end and for the beginning after it, and tells the seconds from there to the end.
_SECOND_WALK = """async () => {
    const until = async words => {
        while (!document.querySelector(".timeline-place").textContent.startsWith(words))
            await new Promise(requestAnimationFrame);
    };
    await until("The finished picture");
    await until("Step");
    const begun = performance.now();
    await until("The finished picture");
    return (performance.now() - begun) / 1000;
}"""


def test_keys_leave_text_fields_alone(artist: Visit) -> None:
    open_timeline(artist, 3)
    page = artist.page
    page.get_by_role("tab", name="Prompt to image").click()
    prompt = artist.field("prompt")
    prompt.fill("")
    prompt.press_sequentially("x and space")
    page.keyboard.press("Home")
    page.keyboard.type("a")
    expect(prompt).to_have_value("ax and space")
    expect(page.get_by_role("slider", name="Steps of this picture so far")).to_have_attribute(
        "aria-valuenow", "4"
    )
