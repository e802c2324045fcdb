"""Models that tests share, built or loaded once; tests that time something have the machine to themselves."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

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
_TURNS = Path(tempfile.gettempdir()) / f"atelier-tests-{_RUN}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let a test marked `alone` wait until the other workers rest, and them until it is done."""
    alone = item.get_closest_marker("alone") is not None
    with ExitStack() as turn:
        # Who waits for the machine holds the door: nobody else begins before.
        with _locked("door", fcntl.LOCK_EX):
            turn.enter_context(_locked("room", fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        return (yield)


@contextmanager
def _locked(name: str, how: int) -> Generator[None]:
    with _TURNS.with_suffix(f".{name}").open("w") as file:
        fcntl.flock(file, how)
        yield


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
