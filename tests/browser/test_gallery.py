"""The gallery in a real browser: what is mine, what hangs on the wall, and nobody else's."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.house import SMALL, Visit


def go_to_gallery(artist: Visit, room: str) -> None:
    artist.page.get_by_role("tab", name="Gallery").click()
    artist.page.get_by_role("button", name=room).click()


def test_artists_see_their_own_pictures_and_the_wall(artist: Visit, second_artist: Visit) -> None:
    artist.enter("Aino")
    second_artist.enter("Belle")
    secret = '<img src=x onerror="document.title=1"> by the sea'
    artist.paint(secret, num_inference_steps="2", **SMALL)
    artist.wait_until_finished()

    go_to_gallery(artist, "My pictures")
    mine = artist.page.locator(".frame")
    expect(mine).to_have_count(1)
    address = artist.page.locator(".frame img").get_attribute("src") or ""
    go_to_gallery(second_artist, "My pictures")
    expect(second_artist.page.get_by_text("Nothing here yet.")).to_be_visible()
    go_to_gallery(second_artist, "The wall")
    expect(second_artist.page.get_by_label(secret)).to_have_count(0)
    assert second_artist.page.request.get(artist.house.url + address).status == 404

    mine.click()
    expect(artist.page.get_by_role("heading", name=secret)).to_be_visible()
    artist.page.get_by_role("button", name="Hang on the wall").click()
    expect(artist.page.get_by_role("button", name="Take down")).to_be_visible()

    go_to_gallery(second_artist, "My pictures")
    go_to_gallery(second_artist, "The wall")
    hung = second_artist.page.locator('.frame[aria-label*="by Aino"]')
    expect(hung).to_have_count(1)
    assert second_artist.page.request.get(artist.house.url + address).status == 200
    hung.click()
    expect(second_artist.page.get_by_role("dialog").get_by_text("Aino")).to_be_visible()
    expect(second_artist.page.get_by_role("button", name="Delete")).to_have_count(0)
    # Another artist's settings are there to learn from.
    second_artist.page.get_by_role("button", name="Use these settings").click()
    expect(second_artist.field("prompt")).to_have_value(secret)
    expect(second_artist.field("num_inference_steps")).to_have_value("2")

    artist.page.get_by_role("button", name="Delete").click()
    artist.page.get_by_role("button", name="Delete for good?").click()
    expect(artist.page.get_by_text("Nothing here yet.")).to_be_visible()
    assert second_artist.page.request.get(artist.house.url + address).status == 404
    assert artist.page.title() == "Atelier"


def test_detail_opens_the_timeline(artist: Visit) -> None:
    artist.enter("Cleo")
    artist.paint("a tower", num_inference_steps="2", **SMALL)
    artist.wait_until_finished()
    go_to_gallery(artist, "My pictures")
    artist.page.locator(".frame").click()
    artist.page.get_by_role("dialog").get_by_role("button", name="Open timeline").click()
    expect(artist.page.locator(".timeline-prompt")).to_have_text("a tower")
    expect(artist.page.locator(".timeline-place")).to_have_text("The finished picture")
