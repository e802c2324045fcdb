"""The inpainting tab in a real browser: bring a picture, mask it by hand, fill, compare, come back, go on."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect

from pipelines.recipe import read_recipe
from tests.browser.easel import board, expect_board, put_away, stroke, to_inpainting
from tests.browser.house import Visit
from tests.unit.test_picture_files import png_header


def pinch(page: Page) -> None:
    """Spread two fingers on the board."""
    box = page.locator(".inpaint-canvas").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch = page.context.new_cdp_session(page)
    for kind, apart in (("touchStart", 40), ("touchMove", 80), ("touchMove", 120), ("touchEnd", 0)):
        points = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}] if apart else []
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def test_a_mask_is_painted_by_hand_and_survives_a_reload(artist: Visit, painting: Path) -> None:
    artist.enter()
    page = to_inpainting(artist)
    desk = page.locator(".inpaint")
    page.locator(".inpaint input[type=file]").set_input_files(painting)
    expect(desk).to_have_attribute("data-view", "mask")
    bare = board(page)

    # The mask: brush, eraser, undo, and what is done to all of it.
    stroke(page, (0.45, 0.5), (0.55, 0.5))
    covered = board(page)
    assert covered != bare
    page.keyboard.press("e")
    stroke(page, (0.5, 0.4), (0.5, 0.6))
    assert board(page) not in (covered, bare)
    page.keyboard.press("Control+z")
    assert board(page) == covered
    page.get_by_role("button", name="Grow").click()
    grown = board(page)
    assert grown != covered
    page.keyboard.press("Control+z")
    page.keyboard.press("i")
    page.keyboard.press("i")
    assert board(page) == covered

    # Nearer by fingers or keys and back; nothing is painted by it.
    for nearer in (lambda: pinch(page), lambda: page.keyboard.press("+")):
        nearer()
        assert board(page) != covered
        page.keyboard.press("0")
        assert board(page) == covered

    # It is still there after a reload, to the pixel.
    page.locator("#fill-prompt").fill("a sailing boat, impressionism")
    put_away(page)
    page.reload()
    to_inpainting(artist)
    expect(desk).to_have_attribute("data-view", "mask")
    expect_board(page, covered)
    expect(page.locator("#fill-prompt")).to_have_value("a sailing boat, impressionism")


def test_fills_are_compared_kept_and_painted_on_from(artist: Visit, painting: Path) -> None:
    artist.enter()
    page = to_inpainting(artist)
    desk, status = page.locator(".inpaint"), page.locator(".inpaint-status")
    page.locator(".inpaint input[type=file]").set_input_files(painting)
    expect(desk).to_have_attribute("data-view", "mask")
    stroke(page, (0.45, 0.5), (0.55, 0.5))
    covered = board(page)

    # Two fills, watched in their place.
    page.locator("#fill-prompt").fill("a sailing boat, impressionism")
    page.locator("#fill-num_inference_steps").fill("6")
    page.locator("#fill-pictures").fill("2")
    page.locator(".inpaint-fill").click()
    expect(status).to_have_text(re.compile(r"^Finished"))
    expect(page.locator(".inpaint-thumb")).to_have_count(2)
    expect(desk).to_have_attribute("data-view", "filled")
    filled = board(page)
    assert filled != covered
    page.locator(".inpaint-wipe").fill("1")
    before_alone = board(page)
    page.locator(".inpaint-wipe").fill("0.5")
    assert len({before_alone, board(page), filled}) == 3, "before and after are laid over each other"
    page.locator(".inpaint-wipe").fill("0")
    assert board(page) == filled

    # What is kept is the picture, to the bit, wherever the mask and its feather are not.
    href = page.locator(".inpaint-actions a").get_attribute("href")
    assert href is not None
    answer = page.request.get(artist.house.url + href)
    with Image.open(io.BytesIO(answer.body())) as after, Image.open(painting) as before:
        differs = (np.asarray(after.convert("RGB")) != np.asarray(before)).any(2)
    assert differs.any()
    assert 0 < differs.mean() < 0.2

    # The other fill is brushed into this one, and left again.
    page.get_by_role("button", name="Brush another in").click()
    expect(desk).to_have_attribute("data-view", "weaving")
    under = board(page)
    stroke(page, (0.42, 0.5), (0.58, 0.5))
    assert board(page) != under
    page.get_by_role("button", name="Leave it").click()
    expect(desk).to_have_attribute("data-view", "filled")
    expect_board(page, filled)

    # A reload in between changes nothing, and she paints on from the fill and takes it back.
    page.reload()
    to_inpainting(artist)
    expect(status).to_have_text(re.compile(r"^Finished"))
    expect_board(page, filled)
    page.get_by_role("button", name="Brush another in").click()
    expect(desk).to_have_attribute("data-view", "weaving")
    stroke(page, (0.42, 0.5), (0.58, 0.5))
    page.get_by_role("button", name="Keep both as one").click()
    expect(desk).to_have_attribute("data-view", "mask")
    stroke(page, (0.3, 0.3), (0.4, 0.3))
    page.get_by_role("button", name="Take the last fill back").click()
    expect(page.get_by_role("button", name="Take the last fill back")).to_have_count(0)
    expect_board(page, covered)


def test_what_is_pressed_is_done_whatever_comes_meanwhile(artist: Visit, painting: Path) -> None:
    artist.enter()
    page = to_inpainting(artist)
    status, timeline = page.locator(".inpaint-status"), page.get_by_role("button", name="Open timeline")
    page.locator(".inpaint input[type=file]").set_input_files(painting)
    expect(page.locator(".inpaint")).to_have_attribute("data-view", "mask")
    stroke(page, (0.45, 0.5), (0.55, 0.5))
    page.locator("#fill-num_inference_steps").fill("40")
    page.locator("#fill-pictures").fill("2")
    page.locator(".inpaint-fill").click()

    # A small picture that changes under the pointer.
    second = page.get_by_role("button", name="Fill 2")
    expect(second.locator("img")).to_be_visible()
    second.hover()
    page.mouse.down()
    pressed_on = second.locator("img").get_attribute("src") or ""
    expect(second.locator("img")).not_to_have_attribute("src", pressed_on)
    page.mouse.up()
    expect(second).to_have_attribute("aria-pressed", "true")

    # A button beside one that its timeline, when it is there, changes.
    expect(status).to_have_text(re.compile(r"^Finished"))
    brush = page.get_by_role("button", name="Brush another in")
    brush.hover()
    page.mouse.down()
    expect(timeline).to_be_enabled()
    page.mouse.up()
    expect(page.locator(".inpaint")).to_have_attribute("data-view", "weaving")


def test_what_cannot_be_done_is_said_and_nothing_is_lost(artist: Visit, painting: Path) -> None:
    artist.enter()
    page = to_inpainting(artist)
    complaint = page.locator("#fill-complaint")
    words = painting.with_name("words.png")
    words.write_text("These are words.")
    page.locator(".inpaint input[type=file]").set_input_files(words)
    expect(complaint).to_contain_text("not a picture that Atelier can open")
    artist.complaints.clear()  # the browser itself reports the refusal; it is no fault of the page
    page.locator(".inpaint input[type=file]").set_input_files(painting)
    expect(page.locator(".inpaint")).to_have_attribute("data-view", "mask")
    page.locator("#fill-prompt").fill("a boat")
    page.locator(".inpaint-fill").click()
    expect(complaint).to_have_text("Paint over what should change first.")
    stroke(page, (0.45, 0.5), (0.55, 0.5))
    page.locator("#fill-num_inference_steps").fill("0")
    page.locator(".inpaint-fill").click()
    expect(complaint).to_contain_text("Steps must be a whole number from 1 to 150, not 0")
    expect(page.locator("#fill-prompt")).to_have_value("a boat")
    expect(page.locator(".inpaint")).to_have_attribute("data-view", "mask")

    # Nor is the picture with its mask lost to one that cannot be opened.
    cut, huge = painting.with_name("cut.png"), painting.with_name("huge.png")
    cut.write_bytes(painting.read_bytes()[:5000])
    huge.write_bytes(png_header(20_000, 20_000))
    for file, sentence in ((cut, "damaged and cannot be opened"), (huge, "64 million pixels is the most")):
        page.locator(".inpaint input[type=file]").set_input_files(file)
        expect(complaint).to_contain_text(sentence)
    expect(page.locator(".inpaint")).to_have_attribute("data-view", "mask")
    covered = board(page)
    page.get_by_role("button", name="Clear").click()
    assert board(page) != covered
    artist.complaints.clear()


def test_a_picture_of_the_gallery_is_opened(artist: Visit) -> None:
    artist.enter()
    artist.paint("a boat", num_inference_steps="2")
    artist.wait_until_finished()
    artist.page.locator("#stage").get_by_role("button", name="Repaint a part").click()
    expect(artist.page.locator(".inpaint")).to_have_attribute("data-view", "mask")
    expect(artist.page.locator(".inpaint-canvas")).to_be_visible()


def test_a_picture_grows_in_a_style(artist: Visit, painting: Path) -> None:
    artist.enter()
    page = to_inpainting(artist)
    page.locator(".inpaint input[type=file]").set_input_files(painting)
    expect(page.locator(".inpaint")).to_have_attribute("data-view", "mask")
    stroke(page, (0.45, 0.5), (0.55, 0.5))
    covered = board(page)
    page.locator("#fill-right").fill("32")
    grown = board(page)
    assert grown != covered
    page.locator("#fill-right").fill("0")
    assert board(page) == covered, "the mask is where it was on the picture"
    page.locator("#fill-right").fill("5000")
    page.locator("#fill-style").select_option("palette ukiyo-e")
    page.locator("#fill-prompt").fill("a boat")
    page.locator("#fill-num_inference_steps").fill("2")
    page.locator(".inpaint-fill").click()
    expect(page.locator("#fill-complaint")).to_contain_text(
        "from 0 to 4096 on each of its four sides, not by 5000"
    )
    page.locator("#fill-right").fill("32")
    page.get_by_role("button", name="Clear").click()
    bare = board(page)

    # It survives a reload, and then only what it grows by is painted.
    put_away(page)
    page.reload()
    to_inpainting(artist)
    expect(page.locator(".inpaint")).to_have_attribute("data-view", "mask")
    expect_board(page, bare)
    expect(page.locator("#fill-style")).to_have_value("palette ukiyo-e")
    page.locator(".inpaint-fill").click()
    expect(page.locator(".inpaint-status")).to_have_text(re.compile(r"^Finished"))
    href = page.locator(".inpaint-actions a").get_attribute("href")
    assert href is not None
    answer = page.request.get(artist.house.url + href)
    with Image.open(io.BytesIO(answer.body())) as after, Image.open(painting) as before:
        assert after.size == (before.width + 32, before.height)
        assert np.array_equal(np.asarray(after.convert("RGB"))[:, : before.width], np.asarray(before))
        recipe = read_recipe(after.info["atelier_recipe"])
    assert recipe.mix is not None
    assert [style.name for style in recipe.mix.styles] == ["ukiyo-e"]
    page.get_by_role("button", name="Paint on from this").click()
    expect(page.locator("#fill-right")).to_have_value("0")
