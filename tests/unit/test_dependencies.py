"""Dependencies point one way: app, then studio, then pipelines; and the page does not wait for torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PIPELINES_ALONE = """
import importlib, pkgutil, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("gradio", "studio"):
            raise ImportError(f"pipelines must not import {name}")

sys.meta_path.insert(0, Block())
import pipelines
names = [m.name for m in pkgutil.walk_packages(pipelines.__path__, "pipelines.") if "__main__" not in m.name]
for name in names:
    importlib.import_module(name)
print(len(names))
"""

NO_TORCH_YET = """
import sys
import {module}
heavy = [name for name in ("torch", "diffusers", "transformers", "accelerate") if name in sys.modules]
assert not heavy, f"{module} imports {{heavy}}"
"""


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_pipelines_import_neither_gradio_nor_studio() -> None:
    assert int(python(PIPELINES_ALONE)) >= 12


@pytest.mark.parametrize(
    "module",
    ["app", "pipelines.recipe", "pipelines.models.find", "studio.studio", "studio.http", "studio.page"],
)
def test_a_page_can_be_served_before_torch_is_imported(module: str) -> None:
    python(NO_TORCH_YET.format(module=module))
