"""The whole program, as its own process: page, model, signals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from studio.settings import Settings
from tests.studio.conftest import browser, wait_until

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")


@contextmanager
def program(settings: Settings, *options: str) -> Generator[subprocess.Popen[str]]:
    """Start the studio's program; killed at the end if it still runs."""
    command = [sys.executable, "app.py", "--model", settings.model, "--data-dir", str(settings.data_dir)]
    with subprocess.Popen(
        [*command, *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": ""},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.fullmatch(r"Atelier is open at (http://127\.0\.0\.1:\d+)\n", line)
    assert found, f"{line!r} {process.stderr.read() if process.stderr else ''}"
    return found[1]


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_the_program_opens_serves_and_closes(
    settings: Settings, free_port: int, sign: signal.Signals
) -> None:
    """It closes at once, with a page and a stream open."""
    with program(settings, "--port", str(free_port)) as process:
        address = read_address(process)
        assert "Atelier" in httpx.get(address, timeout=60).text
        with (
            browser(address, "Berthe") as berthe,
            berthe.stream("GET", "/gradio_api/heartbeat/x") as open_one,
        ):
            assert open_one.status_code == 200
            wait_until(lambda: berthe.get("/healthz").json()["status"] == "ready")
            process.send_signal(sign)
            code = process.wait(timeout=15)
        assert code in (0, -sign)
        assert process.stdout is not None
        assert process.stdout.read() == ""
    assert "tiny is ready" in (settings.data_dir / "atelier.log").read_text(encoding="utf-8")


def test_a_second_studio_on_the_port_is_refused(settings: Settings, tmp_path: Path, free_port: int) -> None:
    with program(settings, "--port", str(free_port)) as process:
        read_address(process)
        other = settings.model_copy(update={"data_dir": tmp_path / "other"})
        with program(other, "--port", str(free_port)) as second:
            _, words = second.communicate(timeout=60)
            assert second.returncode == 2
            assert f"port {free_port}" in words
            assert words.count("\n") == 1
            assert not other.data_dir.exists()
