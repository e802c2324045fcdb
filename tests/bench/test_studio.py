"""What the whole studio must keep to on two cores: time to the page, time to a picture, memory."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from gradio_client import Client, handle_file
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[2]
PAGE_S, PREVIEW_S, PICTURE_S = 10, 2, 15
PEAK_BYTES = 2_500_000_000
GROWTH_BYTES = 25_000_000
# 1.42 with nothing else on the machine, where 1.5 is the aim; the rest is for machines that are not quiet.
LARGE_RATIO, LARGE_BYTES = 1.8, 1_000_000_000


Alone = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class RunningStudio:
    url: str
    process: psutil.Process
    page_s: float


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, alone: Alone) -> Generator[RunningStudio]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = tmp_path_factory.mktemp("studio")
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "app.py", "--port", str(port), "--data-dir", str(data)]
    with ExitStack() as opened:
        with alone():
            start = time.perf_counter()
            process = opened.enter_context(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL))
            opened.callback(process.terminate)
            wait_for(lambda: httpx.get(url, timeout=60).is_success)
            page_s = time.perf_counter() - start
        wait_for(lambda: httpx.get(f"{url}/healthz").json()["status"] == "ready")
        yield RunningStudio(url, psutil.Process(process.pid), page_s)


def wait_for(ready: Any, within_s: float = 150) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if ready():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise TimeoutError


def test_the_page_is_served_quickly(studio: RunningStudio) -> None:
    assert studio.page_s < PAGE_S


def test_a_default_picture_and_its_first_preview_come_quickly(studio: RunningStudio, alone: Alone) -> None:
    """A second picture, as an artist's day has more of: the first also pays for torch's warming up."""
    named = httpx.post(f"{studio.url}/artist", json={"name": "Mika"})
    cookies = dict(named.cookies)
    headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
    client = Client(studio.url, headers=headers, verbose=False)
    client.predict(prompt="a quiet harbour", api_name="/paint")
    with alone(), httpx.Client(base_url=studio.url, cookies=cookies) as browser:
        first = browser.get("/jobs/active").json()["group"]  # while its timeline is drawn
        start = time.perf_counter()
        painting = client.submit(prompt="seascape, moonlight, romanticism", api_name="/paint")
        wait_for(lambda: browser.get("/jobs/active").json()["group"] not in (None, first))
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
        client.predict(
            prompt="still life with fruit, baroque", seed=seed, num_inference_steps=10, api_name="/paint"
        )
        # The picture's sheets are still drawn: what they take for a while is no leak.
        wait_for(lambda: studio.process.cpu_percent(interval=0.5) < 10)
        resident.append(studio.process.memory_info().rss)
    assert peak_bytes(studio.process) < PEAK_BYTES
    # Peaks are compared, and a leak shows in the later ones.
    assert max(resident[5:]) - max(resident[1:5]) < GROWTH_BYTES, resident


def photo(folder: Path, width: int, height: int) -> tuple[Path, Path]:
    """A photo with grain, and a mask of 60 by 50 pixels in its middle."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    grain = random.integers(-6, 7, (height, width, 1), dtype=np.int16)
    image = folder / f"photo-{width}.jpg"
    Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(image, quality=92)
    mask = Image.new("L", (width, height))
    ImageDraw.Draw(mask).rectangle((width // 2, height // 2, width // 2 + 59, height // 2 + 49), fill=255)
    mask.save(folder / f"mask-{width}.png")
    return image, folder / f"mask-{width}.png"


def peak_bytes(process: psutil.Process) -> int:
    """The most memory it ever had, or since that was last forgotten."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def test_a_detail_of_a_large_photo_costs_little_more(
    studio: RunningStudio, tmp_path: Path, alone: Alone
) -> None:
    client = Client(studio.url, verbose=False)

    def fill(files: tuple[Path, Path], seed: int) -> float:
        begun = time.perf_counter()
        picture, _ = client.predict(
            image=handle_file(files[0]), mask_image=handle_file(files[1]), prompt="a boat", feather_px=8,
            seed=seed, api_name="/inpaint",
        )  # fmt: skip
        took = time.perf_counter() - begun
        with Image.open(picture) as image, Image.open(files[0]) as before:
            assert image.size == before.size
        return took

    small, large = photo(tmp_path, 192, 192), photo(tmp_path, 4000, 3000)
    Path(f"/proc/{studio.process.pid}/clear_refs").write_text("5")  # the peak is counted from now on
    with alone():
        small_s = min(fill(small, seed) for seed in (0, 1))
        small_bytes = peak_bytes(studio.process)
        large_s = min(fill(large, seed) for seed in (0, 1))
    more = peak_bytes(studio.process) - small_bytes
    print(f"a fill in a large photo: {large_s:.2f} s, a small one {small_s:.2f} s, {more / 1e6:.0f} MB more")
    assert large_s < LARGE_RATIO * small_s
    assert more < LARGE_BYTES
