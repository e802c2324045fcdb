"""What the whole studio must keep to on two cores: time to the page, time to a picture, memory."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from gradio_client import Client

ROOT = Path(__file__).resolve().parents[2]
PAGE_S, PREVIEW_S, PICTURE_S = 10, 2, 15
PEAK_BYTES = 2_500_000_000
GROWTH_BYTES = 50_000_000


@dataclass(frozen=True)
class RunningStudio:
    url: str
    process: psutil.Process
    page_s: float


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningStudio]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = tmp_path_factory.mktemp("studio")
    url = f"http://127.0.0.1:{port}"
    start = time.perf_counter()
    command = [sys.executable, "app.py", "--port", str(port), "--data-dir", str(data)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: httpx.get(url).is_success)
            page_s = time.perf_counter() - start
            wait_for(lambda: httpx.get(f"{url}/healthz").json()["status"] == "ready")
            yield RunningStudio(url, psutil.Process(process.pid), page_s)
        finally:
            process.terminate()


def wait_for(ready: Any, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if ready():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise TimeoutError


@pytest.mark.alone
def test_the_page_is_served_quickly(studio: RunningStudio) -> None:
    assert studio.page_s < PAGE_S


@pytest.mark.alone
def test_a_default_picture_and_its_first_preview_come_quickly(studio: RunningStudio) -> None:
    """A second picture, as an artist's day has more of: the first also pays for torch's warming up."""
    named = httpx.post(f"{studio.url}/artist", json={"name": "Mika"})
    cookies = dict(named.cookies)
    headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
    client = Client(studio.url, headers=headers, verbose=False)
    client.predict(prompt="a quiet harbour", api_name="/paint")
    start = time.perf_counter()
    painting = client.submit(prompt="seascape, moonlight, romanticism", api_name="/paint")
    with httpx.Client(base_url=studio.url, cookies=cookies) as browser:
        wait_for(lambda: browser.get("/jobs/active").json()["group"])
        group = browser.get("/jobs/active").json()["group"]
        first_preview_s = time_to_first_preview(browser, group, start)
    painting.result()
    picture_s = time.perf_counter() - start
    assert first_preview_s < PREVIEW_S
    assert picture_s < PICTURE_S


def time_to_first_preview(browser: httpx.Client, group: str, start: float) -> float:
    with browser.stream("GET", f"/jobs/{group}/stream", timeout=60) as events:
        for line in events.iter_lines():
            if line.startswith("data:") and json.loads(line.removeprefix("data:")).get("previews"):
                return time.perf_counter() - start
    raise AssertionError("the stream ended without a preview")


def test_memory_is_small_and_flat(studio: RunningStudio) -> None:
    client = Client(studio.url, verbose=False)
    resident: list[int] = []
    for seed in range(10):
        client.predict(prompt="still life with fruit, baroque", seed=seed, api_name="/paint")
        resident.append(studio.process.memory_info().rss)
    peak_kb = next(
        int(line.split()[1])
        for line in Path(f"/proc/{studio.process.pid}/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    assert peak_kb * 1024 < PEAK_BYTES
    # Sheets of the picture before may still be drawn: peaks are compared, and a leak shows in the later ones.
    assert max(resident[5:]) - max(resident[1:5]) < GROWTH_BYTES
