"""A timeline leaves the studio as a file, in the layer that is looked at."""

from __future__ import annotations

from pathlib import Path

import av
from PIL import Image
from playwright.sync_api import expect

from tests.browser.house import Visit
from tests.browser.test_denoising import open_timeline


def take_away(artist: Visit, name: str, folder: Path) -> Path:
    with artist.page.expect_download() as download:
        artist.page.locator(".timeline-takeaway").get_by_role("link", name=name).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_a_timeline_is_taken_away_as_it_is_looked_at(artist: Visit, tmp_path: Path) -> None:
    open_timeline(artist, 4)
    video = take_away(artist, "Video", tmp_path)
    with av.open(str(video), mode="r") as container:
        assert sum(1 for _ in container.decode(container.streams.video[0])) > 4
    predicted = take_away(artist, "Filmstrip", tmp_path).read_bytes()
    artist.page.keyboard.press("x")
    expect(artist.page.get_by_role("button", name="What is there")).to_have_attribute("aria-pressed", "true")
    noisy = take_away(artist, "Filmstrip", tmp_path)
    assert noisy.read_bytes() != predicted
    with Image.open(noisy) as strip:
        assert strip.width > strip.height
