"""Models that tests share, built or loaded once."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as app.py does, before torch is imported

from pathlib import Path

import pytest
import torch

from pipelines.models.find import ModelFolder, find_model
from pipelines.models.load import load_model
from pipelines.models.place import Placement
from pipelines.models.sd import StableDiffusion
from tests.tiny import add_classifier, add_companion, build_tiny_sd

CPU_FP32 = Placement(torch.device("cpu"), torch.float32, torch.float32)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_companion(build_tiny_sd(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> StableDiffusion:
    return load_model(find_model(str(tiny_folder)), CPU_FP32)


@pytest.fixture(scope="session")
def steered(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusion:
    """A tiny model with a classifier beside it that knows two styles, ink and oil."""
    folder = add_classifier(build_tiny_sd(tmp_path_factory.mktemp("models") / "steered"))
    return load_model(find_model(str(folder)), CPU_FP32)


@pytest.fixture(scope="session")
def tiny_model_folder(tiny_folder: Path) -> ModelFolder:
    return find_model(str(tiny_folder))
