"""Browser tests need a Chromium: skipped with one line without it, or failed where one is required."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from tests.browser.house import ROOT, House, Visit, find_browser, launch, open_house, visit

_NO_BROWSER = "no Chromium: get one with `apt-get install chromium` or `playwright install chromium`"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        executable = find_browser(playwright)
        if executable is None:
            if os.environ.get("ATELIER_REQUIRE_BROWSER") == "1":
                pytest.fail(_NO_BROWSER)
            pytest.skip(_NO_BROWSER)
        started = launch(playwright, executable)
        yield started
        started.close()


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[House]:
    del browser  # where there is none, no studio needs to be opened
    with open_house(tmp_path_factory.mktemp("house")) as opened:
        yield opened


@pytest.fixture
def artist(browser: Browser, house: House) -> Iterator[Visit]:
    """One artist at the page; afterwards, nothing may have gone wrong or left the machine."""
    with visit(browser, house) as visiting:
        yield visiting
        check(visiting)


@pytest.fixture
def second_artist(browser: Browser, house: House) -> Iterator[Visit]:
    with visit(browser, house) as visiting:
        yield visiting
        check(visiting)


@pytest.fixture
def painting(tmp_path: Path) -> Path:
    file = tmp_path / "painting.png"
    with Image.open(sorted((ROOT / "assets" / "examples").glob("*.webp"))[0]) as image:
        image.convert("RGB").resize((448, 320), Image.Resampling.BICUBIC).save(file)
    return file


def check(visiting: Visit) -> None:
    assert visiting.complaints == []
    own = (visiting.house.url, "data:", f"blob:{visiting.house.url}")
    assert [url for url in visiting.requests if not url.startswith(own)] == []
