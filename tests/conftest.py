"""Models that tests share, built or loaded once; what is timed has the machine to itself."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as app.py does, before torch is imported

from pathlib import Path

import pytest
import torch

from pipelines.models.find import ModelFolder, find_model
from pipelines.models.load import load_model
from pipelines.models.place import Placement
from pipelines.models.sd import StableDiffusion
from tests.tiny import add_classifier, add_companion, build_tiny_sd, build_tiny_sdxl

# One for each run of pytest-xdist, whose workers share it.
_RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", os.getpid())
_DOOR, _ROOM = (
    os.open(Path(tempfile.gettempdir()) / f"atelier-tests-{_RUN}.{name}", os.O_CREAT | os.O_RDWR)
    for name in ("door", "room")
)


def _enter(how: int) -> None:
    """Enter the room: with others, or alone once they have left."""
    # Who waits holds the door, so that nobody else enters before; and is not in the room, so that nobody
    # waits for it in turn.
    fcntl.flock(_ROOM, fcntl.LOCK_UN)
    fcntl.flock(_DOOR, fcntl.LOCK_EX)
    fcntl.flock(_ROOM, how)
    fcntl.flock(_DOOR, fcntl.LOCK_UN)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Let no test begin while another worker times something."""
    _enter(fcntl.LOCK_SH)
    try:
        return (yield)
    finally:
        fcntl.flock(_ROOM, fcntl.LOCK_UN)


@pytest.fixture(scope="session")
def alone() -> Callable[[], AbstractContextManager[None]]:
    """Give what a `with` block has the machine to itself by: it begins once the other tests have ended."""

    @contextmanager
    def alone() -> Generator[None]:
        _enter(fcntl.LOCK_EX)
        try:
            yield
        finally:
            _enter(fcntl.LOCK_SH)

    return alone


CPU_FP32 = Placement(torch.device("cpu"), torch.float32, torch.float32)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_companion(build_tiny_sd(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> StableDiffusion:
    return load_model(find_model(str(tiny_folder)), CPU_FP32)


@pytest.fixture(scope="session")
def tiny_xl(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusion:
    """A tiny model with two text encoders, as SDXL has them."""
    folder = build_tiny_sdxl(tmp_path_factory.mktemp("models") / "tiny-xl")
    return load_model(find_model(str(folder)), CPU_FP32)


@pytest.fixture(scope="session")
def steered(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusion:
    """A tiny model with a classifier beside it that knows two styles, ink and oil."""
    folder = add_classifier(build_tiny_sd(tmp_path_factory.mktemp("models") / "steered"))
    return load_model(find_model(str(folder)), CPU_FP32)


@pytest.fixture(scope="session")
def tiny_model_folder(tiny_folder: Path) -> ModelFolder:
    return find_model(str(tiny_folder))
