"""Masks one above the other, the way back through them, and the picture's edges, in a real browser."""

from __future__ import annotations

import io
import re
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from pipelines.recipe import Recipe, read_recipe
from pipelines.stitching import feathered
from tests.browser.conftest import check
from tests.browser.easel import board, expect_board, put_away, stroke, to_inpainting
from tests.browser.house import Visit, open_house, visit

# Places on the board, as shares of its sides.
STROKES = [((0.4, 0.3), (0.5, 0.3)), ((0.45, 0.5), (0.55, 0.5)), ((0.5, 0.65), (0.6, 0.65))]

ASKEW = ((0.35, 0.25), (0.62, 0.75))


def bring(artist: Visit, painting: Path) -> Page:
    page = to_inpainting(artist)
    page.locator(".inpaint input[type=file]").set_input_files(painting)
    expect(page.locator(".inpaint")).to_have_attribute("data-view", "mask")
    return page


def come_back(artist: Visit) -> Page:
    """Reload the page, as soon as what was painted has been put away."""
    put_away(artist.page)
    artist.page.reload()
    to_inpainting(artist)
    expect(artist.page.locator(".inpaint")).to_have_attribute("data-view", re.compile("mask|filled"))
    return artist.page


def fill(page: Page, steps: int = 4) -> None:
    page.locator("#fill-prompt").fill("a sailing boat, impressionism")
    page.locator("#fill-num_inference_steps").fill(str(steps))
    page.locator(".inpaint-fill").click()
    expect(page.locator(".inpaint-status")).to_have_text(re.compile(r"^Finished"))
    expect(page.locator(".inpaint")).to_have_attribute("data-view", "filled")  # some time after the words


def result(artist: Visit) -> tuple[np.ndarray, Recipe]:
    """The picture that the page offers for download, and its recipe."""
    href = artist.page.locator(".inpaint-actions a").get_attribute("href")
    assert href is not None
    with Image.open(io.BytesIO(artist.page.request.get(artist.house.url + href).body())) as image:
        return np.asarray(image.convert("RGB")), read_recipe(image.info["atelier_recipe"])


def mask_of(artist: Visit, recipe: Recipe) -> np.ndarray:
    """The mask that a fill was painted with, as the studio keeps it."""
    assert recipe.source is not None
    answer = artist.page.request.get(f"{artist.house.url}/sources/{recipe.source.mask}")
    with Image.open(io.BytesIO(answer.body())) as image:
        return np.asarray(image.convert("L"))


def soft(mask: np.ndarray, feather_px: int) -> np.ndarray:
    return feathered(torch.from_numpy(mask / 255).float()[None, None], feather_px)[0, 0].numpy()


def test_every_stroke_is_undone_after_a_reload_and_a_restart(
    browser: Browser, tmp_path: Path, painting: Path, tiny_folder: Path
) -> None:
    first, model = ExitStack(), str(tiny_folder)  # nothing is painted here
    house = first.enter_context(open_house(tmp_path, model))
    with first, visit(browser, house) as artist:
        artist.enter()
        page = bring(artist, painting)
        shown = [board(page)]
        for start, stop in (*STROKES[:2], ASKEW):
            stroke(page, start, stop)
            shown.append(board(page))
        page.keyboard.press("i")
        shown.append(board(page))
        page.get_by_role("button", name="Shrink").click()
        shown.append(board(page))
        assert len(set(shown)) == 6

        page = come_back(artist)
        expect_board(page, shown[5])
        for back in (4, 3, 2):
            page.keyboard.press("Control+z")
            assert board(page) == shown[back]
        port = int(house.url.rpartition(":")[2])
        put_away(page)
        page.goto("about:blank")
        first.close()
        with open_house(tmp_path, model, port):
            page.goto(house.url)
            to_inpainting(artist)
            expect(page.locator(".inpaint")).to_have_attribute("data-view", "mask")
            expect_board(page, shown[2])
            page.keyboard.press("Control+Shift+z")
            assert board(page) == shown[3]
            for back in (2, 1, 0):
                page.keyboard.press("Control+z")
                assert board(page) == shown[back]
            page.keyboard.press("Control+z")
            assert board(page) == shown[0], "there is nothing before the beginning"
            for forth in (1, 2, 3, 4, 5):
                page.keyboard.press("Control+y")
                assert board(page) == shown[forth]
            check(artist)


def test_only_what_visible_masks_cover_is_filled(artist: Visit, painting: Path) -> None:
    artist.enter()
    page = bring(artist, painting)
    masks = page.locator(".inpaint-chip")
    expect(masks).to_have_count(0)
    stroke(page, *STROKES[0])
    one = board(page)
    page.get_by_role("button", name="Add a mask").click()
    expect(masks).to_have_count(2)
    stroke(page, *STROKES[2])
    both = board(page)
    assert both != one

    # Each has a name; which are there, seen and worked on outlives a reload.
    page.get_by_role("button", name="Work on Mask 2").click()
    page.get_by_label("Name of Mask 2").fill("the boat")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="See Mask 1").click()
    hidden = board(page)
    assert hidden not in (one, both)
    page = come_back(artist)
    expect(masks).to_have_count(2)
    expect(page.get_by_role("button", name="Work on the boat")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="See Mask 1")).to_have_attribute("aria-pressed", "false")
    expect_board(page, hidden)
    undo_hiding_and_name(page, seen=both, hidden=hidden)

    # One that was deleted comes back with what it covered.
    page.get_by_role("button", name="Delete the boat").click()
    expect(masks).to_have_count(0)
    assert board(page) == one
    page.keyboard.press("Control+z")
    expect(page.get_by_role("button", name="Work on the boat")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="See Mask 1").click()
    assert board(page) == hidden

    # Only the visible one is painted; every other pixel is the picture's own, to the bit.
    fill(page)
    picture, recipe = result(artist)
    assert recipe.source is not None
    mask = mask_of(artist, recipe)
    height = mask.shape[0]
    assert mask[height // 2 :].any()
    assert not mask[: height // 2].any(), "the hidden mask lies in the upper half"
    with Image.open(painting) as image:
        differs = (picture != np.asarray(image.convert("RGB"))).any(2)
    painted = soft(mask, recipe.source.feather_px) > 0
    assert differs[painted].mean() > 0.8
    assert not differs[~painted].any()

    # Nothing visible covers anything: that is said.
    page.get_by_role("button", name="Back to the mask").click()
    page.get_by_role("button", name="See the boat").click()
    page.locator(".inpaint-fill").click()
    expect(page.locator("#fill-complaint")).to_contain_text("What you painted over is hidden")


def undo_hiding_and_name(page: Page, *, seen: str, hidden: str) -> None:
    """Take back that a mask was hidden and another renamed, and do both again."""
    page.keyboard.press("Control+z")
    assert board(page) == seen
    page.keyboard.press("Control+z")
    expect(page.get_by_role("button", name="Work on Mask 2")).to_be_visible()
    page.keyboard.press("Control+y")
    page.keyboard.press("Control+y")
    expect(page.get_by_role("button", name="Work on the boat")).to_be_visible()
    assert board(page) == hidden


def test_an_edge_is_pulled_and_the_picture_grows(artist: Visit, painting: Path) -> None:
    artist.enter()
    page = bring(artist, painting)
    right, top = (page.locator(f'[data-edge="{side}"]') for side in ("right", "top"))
    bare = board(page)
    box = right.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 100, y, steps=6)
    expect(page.locator(".inpaint-grown")).to_be_visible()
    pulled = int(page.locator("#fill-right").input_value())
    assert pulled > 0
    assert pulled % 8 == 0
    expect(page.locator(".inpaint-grown")).to_have_text(
        re.compile(rf"^\+ {pulled} pixels to the right: {448 + pulled} \S 320$")
    )
    page.mouse.up()
    expect(page.locator(".inpaint-grown")).to_be_hidden()

    # By keys as well; the form follows the edges, and they follow the form.
    top.focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#fill-top")).to_have_value("64")
    expect(top).to_have_attribute("aria-valuenow", "64")
    page.locator("#fill-right").fill("24")
    page.locator("#fill-right").blur()
    expect(right).to_have_attribute("aria-valuenow", "24")
    grown = board(page)

    # Taken back like strokes, also after a reload.
    page = come_back(artist)
    expect_board(page, grown)
    for value in (str(pulled), str(pulled), str(pulled), str(pulled), "0"):
        page.keyboard.press("Control+z")
        expect(page.locator("#fill-right")).to_have_value(value)
    expect(page.locator("#fill-top")).to_have_value("0")
    assert board(page) == bare
    for _ in range(5):
        page.keyboard.press("Control+Shift+z")
    assert board(page) == grown
    fill(page, steps=2)
    picture, _ = result(artist)
    assert picture.shape == (320 + 64, 448 + 24, 3)
    with Image.open(painting) as image:
        assert np.array_equal(picture[64:, :448], np.asarray(image.convert("RGB")))


def test_an_edge_is_pulled_by_touch(artist: Visit, painting: Path) -> None:
    artist.enter()
    page = bring(artist, painting)
    bare, right = board(page), page.locator("#fill-right")
    finger = page.context.new_cdp_session(page)
    box = page.locator('[data-edge="right"]').bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for kind, moved in (("touchStart", 0), ("touchMove", 40), ("touchMove", 90)):
        point = {"x": x + moved, "y": y + moved / 10}
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
    # The fields follow the last touch within a frame or two: what is told agrees with them once they have.
    page.wait_for_function(
        """() => {
          const grown = document.getElementById("fill-right").value;
          const told = document.querySelector(".inpaint-grown").textContent;
          return grown !== "0" && told.includes(`+ ${grown} pixels to the right`);
        }"""
    )
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(page.locator(".inpaint-grown")).to_be_hidden()
    assert board(page) != bare
    page.keyboard.press("Control+z")
    expect(right).to_have_value("0")
    assert board(page) == bare


def test_a_fill_is_seen_and_kept_without_paste_back(artist: Visit, painting: Path) -> None:
    artist.enter()
    page = bring(artist, painting)
    stroke(page, *STROKES[1])
    fill(page)
    fitted_shown, (fitted, _) = board(page), result(artist)
    as_painted = page.get_by_role("button", name="As painted")
    as_painted.click()
    expect(as_painted).to_have_attribute("aria-pressed", "true")
    expect_board(page, fitted_shown, still=False)
    raw, recipe = result(artist)
    assert recipe.source is not None
    assert not recipe.source.paste_back
    outside = soft(mask_of(artist, recipe), recipe.source.feather_px) == 0
    with Image.open(painting) as image:
        before = np.asarray(image.convert("RGB"))
    assert (raw != before)[outside].any(), "around the mask it is as the model painted it"
    assert np.array_equal(fitted[outside], before[outside])
    page.get_by_role("button", name="Fitted in").click()
    expect_board(page, fitted_shown)
    expect(page.get_by_role("button", name="Fitted in")).to_have_attribute("aria-pressed", "true")


def test_a_picture_that_another_took_the_place_of_is_come_back_to(artist: Visit, painting: Path) -> None:
    artist.enter()
    page = bring(artist, painting)
    stroke(page, *STROKES[0])
    stroke(page, *STROKES[1])
    covered = board(page)
    other = painting.with_name("other.png")
    Image.new("RGB", (300, 200), "teal").save(other)
    page.locator(".inpaint input[type=file]").set_input_files(other)
    back = page.get_by_role("button", name="Back to the last picture")
    back.wait_for()
    page.get_by_role("button", name="Another picture").click()
    expect(page.locator(".inpaint")).to_have_attribute("data-view", "empty")
    put_away(page)
    page.reload()
    to_inpainting(artist)
    back.click()
    expect(page.locator(".inpaint")).to_have_attribute("data-view", "mask")
    assert board(page) != covered, "first the teal one, which came last"
    back.click()
    expect_board(page, covered)
    expect(back).to_have_count(0)
    page.keyboard.press("Control+z")
    assert board(page) != covered


def test_the_feather_on_the_board_is_the_studios(artist: Visit, painting: Path) -> None:
    artist.enter()
    page = bring(artist, painting)
    mask = np.zeros((40, 50), np.uint8)
    mask[12:20, 15:31] = 255
    mask[13, 16] = 120
    mask[30:, 44:] = 255
    for feather_px in (0, 1, 5, 8):
        shown = page.evaluate(
            """async ([alpha, feather]) => {
                const { feathered } = await import("/atelier/js/masks.js");
                return [...feathered(new Uint8ClampedArray(alpha), 50, 40, feather)];
            }""",
            [mask.ravel().tolist(), feather_px],
        )
        expected = soft(mask, feather_px) * 255
        assert np.abs(np.array(shown).reshape(mask.shape) - expected).max() <= 2
    stroke(page, *STROKES[1])
    soft_edged = board(page)
    page.locator("#fill-feather_px").fill("40")
    wider = board(page)
    page.locator("#fill-feather_px").fill("0")
    assert len({soft_edged, wider, board(page)}) == 3


def test_what_is_kept_of_the_way_back_is_whole_and_bounded(artist: Visit) -> None:
    artist.enter()
    bytes_ = np.random.default_rng(0).choice([0, 0, 0, 255, 7], 5000).repeat(3).tolist()
    told = artist.page.evaluate(
        """async (bytes) => {
            const { packed, unpacked } = await import("/atelier/js/runs.js");
            const { Past } = await import("/atelier/js/past.js");
            const long = new Uint8ClampedArray(3_000_000).fill(9);
            const noted = (count, size) => {
                const past = new Past();
                for (let at = 0; at < count; at++) past.note({ at, runs: new Uint8Array(size) });
                return past.done.map(({ at }) => at);
            };
            return {
                same: [...unpacked(packed(new Uint8Array(bytes)), bytes.length)],
                long: packed(long).length,
                whole: unpacked(packed(long), long.length).every((one) => one === 9),
                many: noted(300, 10),
                large: noted(20, 1_000_000),
            };
        }""",
        bytes_,
    )
    assert told["same"] == bytes_
    assert told["whole"]
    assert told["long"] < 10
    assert told["many"] == list(range(100, 300)), "200 changes, the newest"
    assert told["large"] == list(range(12, 20)), "8 MB, the newest"
