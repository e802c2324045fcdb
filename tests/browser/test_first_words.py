"""What an artist does in the first instant is kept, whatever is still on its way to the page."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, Route, expect

from tests.browser.easel import put_away, to_inpainting
from tests.browser.house import SMALL, Visit
from tests.browser.test_denoising import settle

WORDS = "a colt in a meadow, impressionism"
NAME = re.compile(r"/artist$")
SERVER = re.compile(r"/component_server/$")
FORM = re.compile(r"/atelier/js/form\.js")
TWO_FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
VIEW = re.compile(r"/sources/[0-9a-f]+/view\.webp$")


@contextmanager
def held_back(page: Page, address: re.Pattern[str]) -> Generator[None]:
    """Hold what is asked at an address back until the end of the block."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route(address, hold)
    yield
    assert held, "nothing was asked there"
    for route in held:
        route.continue_()
    page.unroute(address)


def leave_a_form(artist: Visit) -> str:
    """Have a form that is remembered, by painting from it; tells the height of one that is not."""
    artist.enter("Berthe")
    height = artist.field("height").input_value()
    artist.paint("what was there before", negative_prompt="fog", num_inference_steps="1", seed="7", **SMALL)
    artist.wait_until_finished()
    return height


def written(artist: Visit, *names: str) -> list[str]:
    return [artist.field(name).input_value() for name in names]


def test_words_are_painted_though_the_studio_has_not_taken_the_name_down_yet(artist: Visit) -> None:
    page = artist.page
    page.goto(artist.house.url)
    page.get_by_label("Your name").fill("Berthe")
    with held_back(page, NAME):
        page.get_by_role("button", name="Enter the studio").click()
        wanted = {"prompt": WORDS, "negative_prompt": "fog", "num_inference_steps": "1", "seed": "7"}
        for name, value in wanted.items():
            artist.type_in(name, value)
        assert written(artist, *wanted) == list(wanted.values())
        page.locator("#paint").click()
    artist.wait_until_finished()
    expect(page.locator(".artist-name")).to_have_text("Berthe")
    expect(page.locator("#stage").get_by_role("button", name="Seed 7")).to_be_visible()
    expect(page.locator("#complaint")).to_have_text("")
    assert written(artist, *wanted) == list(wanted.values())


def test_words_are_kept_when_the_name_is_refused(artist: Visit) -> None:
    page = artist.page
    page.goto(artist.house.url)
    page.get_by_label("Your name").fill("x" * 41)
    with held_back(page, NAME):
        page.get_by_role("button", name="Enter the studio").click()
        artist.type_in("prompt", WORDS)
    expect(page.locator("#artist-complaint")).to_contain_text("40")
    artist.complaints.clear()  # the browser itself reports the refusal
    page.get_by_label("Your name").fill("Berthe")
    page.get_by_role("button", name="Enter the studio").click()
    expect(page.locator(".artist-name")).to_have_text("Berthe")
    assert written(artist, "prompt") == [WORDS]


def test_who_writes_is_not_interrupted_by_the_question_for_her_name(artist: Visit) -> None:
    page, dialog = artist.page, artist.page.get_by_role("dialog")
    answered = page.expect_event("requestfinished", lambda request: bool(SERVER.search(request.url)))
    with answered, held_back(page, SERVER):
        page.goto(artist.house.url)
        artist.field("prompt").press_sequentially(WORDS[:10])
    page.evaluate(TWO_FRAMES)
    page.keyboard.type(WORDS[10:])
    assert written(artist, "prompt") == [WORDS]
    expect(dialog).to_have_count(0)
    # She is asked as soon as she leaves the field.
    page.keyboard.press("Tab")
    expect(dialog).to_be_visible()
    page.get_by_label("Your name").fill("Berthe")
    page.keyboard.press("Enter")
    expect(page.locator(".artist-name")).to_have_text("Berthe")
    assert written(artist, "prompt") == [WORDS]


def test_words_are_kept_when_the_form_comes_back_after_a_reload(artist: Visit) -> None:
    height = leave_a_form(artist)
    with held_back(artist.page, FORM):
        artist.page.reload(wait_until="commit")
        artist.type_in("prompt", WORDS)
        artist.type_in("width", "104")
    # What she left alone is as it was; a size is one thing.
    expect(artist.field("negative_prompt")).to_have_value("fog")
    names = ("prompt", "width", "height", "seed", "num_inference_steps")
    assert written(artist, *names) == [WORDS, "104", height, "7", "1"]
    artist.page.reload()
    expect(artist.field("prompt")).to_have_value(WORDS)
    assert written(artist, *names) == [WORDS, "104", height, "7", "1"]


def test_an_example_is_kept_when_the_form_comes_back_after_a_reload(artist: Visit) -> None:
    leave_a_form(artist)
    page = artist.page
    page.evaluate("localStorage.removeItem('atelier.group')")  # the stage is empty, with what to begin from
    with held_back(page, FORM):
        page.reload(wait_until="commit")
        card = page.locator("#stage .stage-ideas .idea").first
        prompt = card.inner_text().strip()
        card.click()
    expect(artist.field("negative_prompt")).to_have_value("fog")
    assert written(artist, "prompt") == [prompt]


def test_a_new_picture_comes_upon_the_inpainting_desk_as_it_was_left(
    artist: Visit, painting: Path, tmp_path: Path
) -> None:
    artist.enter("Berthe")
    page, desk = to_inpainting(artist), artist.page.locator(".inpaint")
    files, words, left = (
        page.locator(".inpaint input[type=file]"),
        page.locator("#fill-prompt"),
        page.locator("#fill-left"),
    )
    files.set_input_files(painting)
    expect(desk).to_have_attribute("data-view", "mask")
    put_away(page)
    before = lying(page)
    turned = tmp_path / "turned.png"
    with Image.open(painting) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(turned)
    with held_back(page, re.compile(f"/sources/{before}/view")):
        page.reload(wait_until="commit")
        to_inpainting(artist)
        words.fill(WORDS)
        left.fill("16")
        with page.expect_event("requestfinished", lambda request: request.url.endswith("/sources")):
            files.set_input_files(turned)
    back = page.get_by_role("button", name="Back to the last picture")
    expect(back).to_be_visible()
    expect(left).to_have_value("0")
    assert lying(page) != before
    back.click()
    expect(left).to_have_value("16")
    assert lying(page) == before
    expect(words).to_have_value(WORDS)


def test_the_inpainting_desk_outlives_two_reloads_in_a_row(artist: Visit, painting: Path) -> None:
    artist.enter("Berthe")
    page, desk = to_inpainting(artist), artist.page.locator(".inpaint")
    page.locator(".inpaint input[type=file]").set_input_files(painting)
    expect(desk).to_have_attribute("data-view", "mask")
    put_away(page)
    with held_back(page, VIEW):
        page.reload(wait_until="commit")
        to_inpainting(artist)
        page.locator("#fill-prompt").fill(WORDS)
        page.reload(wait_until="commit")
        to_inpainting(artist)
    expect(desk).to_have_attribute("data-view", "mask")
    expect(page.locator("#fill-prompt")).to_have_value(WORDS)


def test_a_picture_that_dissolves_is_not_put_away_by_the_newest_timeline(
    artist: Visit, painting: Path
) -> None:
    leave_a_form(artist)
    page, desk, words = artist.page, artist.page.locator(".timeline"), artist.page.locator("#forward-prompt")
    with held_back(page, SERVER):
        page.get_by_role("tab", name="Denoising").click()
        page.get_by_label("A picture to dissolve").set_input_files(painting)
        expect(desk).to_have_attribute("data-mode", "forward")
        words.fill(WORDS)
    expect(page.locator(".timeline-others [data-id]")).to_have_count(1)
    settle(artist)
    expect(desk).to_have_attribute("data-mode", "forward")
    expect(words).to_have_value(WORDS)


def lying(page: Page) -> str:
    """Tell the key of the picture on the inpainting desk, as the browser remembers it."""
    key: str = page.evaluate("JSON.parse(localStorage.getItem('atelier.inpaint')).source.source")
    return key
