"""A real studio in its own process and a real browser that writes down what it asks for."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Playwright,
    Request,
    expect,
)

ROOT = Path(__file__).resolve().parents[2]
MODEL = os.environ.get("ATELIER_BROWSER_MODEL", "")  # empty: the embedded one
PATIENCE_MS = 150_000
SMALL = {"width": "96", "height": "96"}  # painted in a quarter of the time, where its size is no matter
FOLLOWED = re.compile("/jobs/[0-9a-f]+/stream$")  # what a stage asks for that follows pictures


@dataclass(frozen=True)
class House:
    """A running studio and its log."""

    url: str
    log: Path


@contextmanager
def open_house(folder: Path, model: str = MODEL, port: int = 0) -> Generator[House]:
    """Start `python app.py` with its data in `folder`, on a free port if none is given, and stop it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "app.py", "--port", str(port), "--data-dir", str(folder / "data")]
    if model:
        command += ["--model", model]
    log = folder / "studio.log"
    with log.open("wb") as told, subprocess.Popen(command, cwd=ROOT, stdout=told, stderr=told) as process:
        begun = time.monotonic()
        try:
            while not _answers(url):
                if process.poll() is not None or time.monotonic() - begun > PATIENCE_MS / 1000:
                    raise RuntimeError(f"the studio did not open:\n{log.read_text()}")
                time.sleep(0.05)
            yield House(url, log)
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_MS / 1000)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def _answers(url: str) -> bool:
    try:
        # While a model is loaded on a busy machine, a page takes its time.
        with urllib.request.urlopen(url, timeout=PATIENCE_MS / 1000) as answer:
            return answer.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def find_browser(playwright: Playwright) -> str | None:
    """Find a Chromium: the system's, or the one Playwright installed."""
    installed = Path(playwright.chromium.executable_path)
    return (
        shutil.which("chromium")
        or shutil.which("google-chrome")
        or (str(installed) if installed.exists() else None)
    )


def launch(playwright: Playwright, executable: str) -> Browser:
    """Start it quietly: no call home, no GPU, no sandbox (containers have none)."""
    # A busy machine is slow, and a wait that ends well costs nothing.
    expect.set_options(timeout=PATIENCE_MS)
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    return playwright.chromium.launch(executable_path=executable, args=flags)


@dataclass
class Visit:
    """One artist's page, with everything it asked for and complained about."""

    page: Page
    house: House
    requests: list[str] = field(default_factory=list[str])
    on_their_way: set[Request] = field(default_factory=set[Request])
    complaints: list[str] = field(default_factory=list[str])

    def listen(self) -> None:
        """Begin to write down requests, console errors and uncaught errors."""

        def heard(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                self.complaints.append(message.text)

        def asked(request: Request) -> None:
            self.requests.append(request.url)
            if request.resource_type != "eventsource":  # which stays open
                self.on_their_way.add(request)

        def answered(request: Request) -> None:
            self.on_their_way.discard(request)

        self.page.on("request", asked)
        self.page.on("requestfinished", answered)
        self.page.on("requestfailed", answered)
        self.page.on("console", heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.set_default_timeout(PATIENCE_MS)

    def enter(self, name: str = "Mika") -> None:
        """Open the page and give a name, as on a first visit."""
        self.page.goto(self.house.url)
        self.page.get_by_label("Your name").fill(name)
        self.page.get_by_role("button", name="Enter the studio").click()
        expect(self.page.locator(".artist-name")).to_have_text(name)

    def type_in(self, field_name: str, value: str) -> None:
        """Type into a field of the form, by its name in a recipe."""
        self.field(field_name).fill(value)

    def field(self, field_name: str) -> Locator:
        """Find a field of the form, by its name in a recipe."""
        return self.page.locator(f"#field-{field_name}").locator("textarea, input").first

    def paint(self, prompt: str, **fields: str) -> None:
        """Fill in the form and press Paint, until the stage follows what is painted."""
        self.type_in("prompt", prompt)
        for name, value in fields.items():
            self.type_in(name, value)
        with self.page.expect_request(FOLLOWED):
            self.page.locator("#paint").click()

    @property
    def status(self) -> Locator:
        """The line under the stage that says how far the picture is."""
        return self.page.locator("#stage .stage-status")

    def wait_until_finished(self, timeout_ms: float = PATIENCE_MS) -> None:
        """Wait for the picture on the stage and its timeline."""
        expect(self.status).to_have_text("Finished", timeout=timeout_ms)
        strip = self.page.locator("#stage .film-strip")
        expect(strip).to_have_attribute("aria-valuetext", "The finished picture", timeout=timeout_ms)
        drawn = self.page.locator("#stage").get_by_role("button", name="Open timeline")
        expect(drawn).to_be_enabled(timeout=timeout_ms)

    def pixels(self, tab: str) -> str:
        """Return what the canvas of a tab ("stage" or "timeline") shows now, as a data URL."""
        shown: str = self.page.evaluate(_PIXELS, f"#{tab} .film-canvas")
        return shown

    def expect_pixels(self, tab: str, shown: str, *, still: bool = True) -> None:
        """Wait until the canvas of a tab shows this, or does no longer."""
        limit = time.monotonic() + PATIENCE_MS / 1000
        while (self.pixels(tab) == shown) != still:
            assert time.monotonic() < limit, f"it never {'showed it' if still else 'changed'}"


# A canvas is read in the frame after the one it was drawn in.
_PIXELS = """selector => new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(() =>
    resolve(document.querySelector(selector).toDataURL()))))"""


@contextmanager
def visit(browser: Browser, house: House, *, light: bool = False) -> Generator[Visit]:
    """Open a browser window of its own: another visit is another artist."""
    context: BrowserContext = browser.new_context(
        viewport={"width": 1440, "height": 900}, color_scheme="light" if light else "dark"
    )
    try:
        visiting = Visit(context.new_page(), house)
        visiting.listen()
        yield visiting
    finally:
        context.close()
