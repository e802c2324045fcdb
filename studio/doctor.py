"""What this machine has: versions, device, model, free disk."""

from __future__ import annotations

import importlib
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pipelines.models.find import find_model
from pipelines.recipe import BadInput
from studio.settings import default_data_dir

_PARTS = ("torch", "diffusers", "transformers", "accelerate", "gradio", "safetensors", "Pillow", "SQLAlchemy")
_MIN_FREE_BYTES = 500_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; `ok` is false when Atelier cannot work without it."""

    what: str
    found: str
    ok: bool


def examine(data_dir: Path | None, model: str) -> list[Finding]:
    """Look at everything a studio needs, and keep on when something is missing."""
    return [
        Finding("Python", platform.python_version(), True),
        *(_try(part, lambda part=part: _version(part)) for part in _PARTS),
        _try("device", _device),
        _try("model", lambda: _model(model)),
        _try("disk", lambda: _disk(data_dir or default_data_dir())),
    ]


def _try(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, look(), True)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return Finding(what, " ".join(str(error).split()), False)


def _version(part: str) -> str:
    importlib.import_module({"Pillow": "PIL"}.get(part, part.lower()))
    return version(part)


def _device() -> str:
    from pipelines.models.place import find_placement

    placement = find_placement()
    return f"{placement.device.type}, {str(placement.dtype).removeprefix('torch.')}"


def _model(name: str) -> str:
    folder = find_model(name)
    return f"{folder.name} at revision {folder.revision[:8]}, {folder.width}x{folder.height} pixels"


def _disk(data_dir: Path) -> str:
    existing = next(folder for folder in [data_dir, *data_dir.parents] if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < _MIN_FREE_BYTES:
        raise BadInput(f"{free / 1e9:.1f} GB free for {data_dir}; make room for at least 0.5 GB")
    return f"{free / 1e9:.1f} GB free for {data_dir}"
