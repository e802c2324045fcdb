"""A real studio, on a tiny random model, for every test."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import uvicorn

from studio.http import create_app
from studio.jobs import Job
from studio.serve import StudioServer, listen
from studio.settings import Settings
from studio.studio import Studio
from tests.studio.recipes import recipe_for
from tests.tiny import add_companion, build_tiny_sd

if TYPE_CHECKING:
    from pipelines.denoising import Rows
    from pipelines.models.sd import StableDiffusion


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_companion(build_tiny_sd(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture
def settings(tiny_folder: Path, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", model=str(tiny_folder), port=0)


@pytest.fixture
def open_studio(settings: Settings) -> Generator[Callable[..., Studio]]:
    """Open studios that are closed at the end of the test, painting unless told otherwise."""
    with ExitStack() as opened:

        def open_one(*, start: bool = True, **changes: object) -> Studio:
            studio = Studio(settings.model_copy(update=changes))
            opened.callback(studio.close)
            if start:
                studio.start()
            return studio

        yield open_one


@pytest.fixture
def studio(open_studio: Callable[..., Studio]) -> Studio:
    return open_studio()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note the rows of every call of the real network."""
    from pipelines.models.sd import StableDiffusion

    noted: list[int] = []
    predict = StableDiffusion.predict

    def noting(model: StableDiffusion, rows: Rows) -> object:
        noted.append(len(rows.latents))
        return predict(model, rows)

    monkeypatch.setattr(StableDiffusion, "predict", noting)
    return noted


def wait_until(condition: Callable[[], bool], timeout_s: float = 150) -> None:
    """Wait for something that other threads bring about."""
    limit = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < limit, "it did not come about in time"
        time.sleep(0.005)


def wait_for_end(studio: Studio, artist_id: str, group: str) -> list[Job]:
    """Wait until every job of a group has settled, timelines included."""
    wait_until(lambda: all(job.settled for job in studio.jobs.of_group(artist_id, group)))
    return studio.jobs.of_group(artist_id, group)


def paint_one(studio: Studio, artist_id: str, prompt: str = "a quiet harbour", **changes: object) -> Job:
    """Paint one picture to its very end."""
    group = studio.submit(artist_id, [recipe_for(studio, prompt, **changes)])
    (job,) = wait_for_end(studio, artist_id, group)
    return job


@contextmanager
def served(studio: Studio) -> Generator[str]:
    """Serve a studio's routes over real HTTP; yields the address."""
    with closing(listen("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(create_app(studio), log_config=None, timeout_graceful_shutdown=2)
        server = StudioServer(config, studio, address)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        wait_until(lambda: server.started)
        try:
            yield address
        finally:
            server.should_exit = True
            thread.join(timeout=20)
            assert not thread.is_alive(), "the server hangs"


@contextmanager
def browser(address: str, name: str = "") -> Generator[httpx.Client]:
    """A browser with cookies of its own, known by a name if one is given."""
    with httpx.Client(base_url=address, timeout=60) as client:
        if name:
            assert client.post("/artist", json={"name": name}).status_code == 200
        yield client


@dataclass(frozen=True)
class Event:
    """One server-sent event."""

    name: str
    data: dict[str, object]


def read_events(response: httpx.Response) -> Generator[Event]:
    """Read a stream of server-sent events as a browser does."""
    name = ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield Event(name, json.loads(line.removeprefix("data: ")))


@contextmanager
def small_disk(folder: Path, *, size: str) -> Generator[Path]:
    """A real disk that is really full after `size`; skips where none can be mounted (no root)."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = (
        shutil.which("mount") and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    )
    if not mounted:
        pytest.skip("a small disk can only be mounted by root on Linux")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def free_port() -> int:
    with closing(listen("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
