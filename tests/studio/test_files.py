from __future__ import annotations

import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from pipelines.recipe import BadInput
from studio.files import DataDir, Lock, is_full_disk, write_file
from tests.studio.conftest import small_disk


@pytest.fixture
def disk(tmp_path: Path) -> Generator[Path]:
    with small_disk(tmp_path / "disk", size="64k") as folder:
        yield folder


def test_a_full_disk_leaves_nothing_half_written(disk: Path) -> None:
    kept = disk / "kept"
    write_file(kept, b"whole")
    with pytest.raises(OSError, match="No space left") as full:
        write_file(kept, bytes(200_000))
    assert is_full_disk(full.value)
    assert [path.name for path in disk.iterdir()] == ["kept"]
    assert kept.read_bytes() == b"whole"


@pytest.mark.parametrize("where", ["below a file", "/proc"])
def test_an_unwritable_data_directory_is_named(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "data" if where == "below a file" else Path("/proc/atelier")
    with pytest.raises(BadInput, match="--data-dir") as refused:
        DataDir(folder).prepare()
    assert str(folder) in str(refused.value)
    assert refused.value.field == "data_dir"


def test_a_full_disk_at_the_start_is_named(disk: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        (disk / "filler").write_bytes(bytes(100_000))
    with pytest.raises(BadInput, match=r"No space left.*disk with room"):
        DataDir(disk / "a" / "b").prepare()


def test_what_a_crash_left_half_written_is_cleared(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    data.prepare()
    left = data.artworks / ".picture.png.0123.part"
    left.touch()
    data.prepare()
    assert not left.exists()


def test_two_studios_do_not_share_a_data_directory(tmp_path: Path) -> None:
    with Lock(DataDir(tmp_path)), pytest.raises(BadInput, match="Another Atelier"):
        Lock(DataDir(tmp_path))
    with Lock(DataDir(tmp_path)):
        pass


def test_the_page_needs_no_torch() -> None:
    """Torch takes seconds to import; the page is served before it."""
    heavy = ("torch", "diffusers", "transformers", "gradio")
    program = (
        "import sys; import studio.http, studio.serve, studio.studio; "
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    import sys

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
