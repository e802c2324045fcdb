"""Where the studio keeps what it keeps, and how it writes a file so that it is whole or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from pipelines.recipe import BadInput

_PART = ".part"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class DataDir:
    """The folders of one studio; every path is built from ids that the index knows."""

    root: Path

    @property
    def index(self) -> Path:
        """The SQLite file that lists artists, jobs and artworks."""
        return self.root / "index.sqlite"

    @property
    def secret(self) -> Path:
        """The key that signs identities, readable by the studio's user only."""
        return self.root / "secret"

    @property
    def log(self) -> Path:
        """The studio's log."""
        return self.root / "atelier.log"

    @property
    def artworks(self) -> Path:
        """One folder for each artist."""
        return self.root / "artworks"

    @property
    def timelines(self) -> Path:
        """One folder for each artwork's frames and sprites."""
        return self.root / "timelines"

    @property
    def sources(self) -> Path:
        """The pictures that artists brought, by content."""
        return self.root / "sources"

    @property
    def loras(self) -> Path:
        """The LoRA files that artists of this studio can use."""
        return self.root / "loras"

    @property
    def ip_adapters(self) -> Path:
        """The IP-Adapters that artists of this studio can follow pictures through."""
        return self.root / "ip_adapters"

    def source(self, key: str) -> Path:
        """The file of one source, named by its SHA-256."""
        return self.sources / key

    def source_mark(self, key: str, artist_id: str) -> Path:
        """An empty file that says who brought a source; it outlives the index."""
        return self.sources / f"{key}.{artist_id}"

    def artist(self, artist_id: str) -> Path:
        """The folder of one artist's pictures."""
        return self.artworks / artist_id

    def picture(self, artist_id: str, artwork_id: str) -> Path:
        """The PNG of one artwork."""
        return self.artist(artist_id) / f"{artwork_id}.png"

    def hung_mark(self, artist_id: str, artwork_id: str) -> Path:
        """An empty file next to a picture that hangs on the wall, so that the index can be rebuilt."""
        return self.artist(artist_id) / f"{artwork_id}.hung"

    def all_presets(self) -> Iterator[Path]:
        """Find the file of every preset of every artist."""
        return self.root.glob("presets/*/*.json")

    def presets(self, artist_id: str) -> Path:
        """The folder of one artist's presets, made with the first of them."""
        return self.root / "presets" / artist_id

    def pin_mark(self, artist_id: str, artwork_id: str) -> Path:
        """An empty file next to a picture whose timeline is never dropped; the index is rebuilt from it."""
        return self.artist(artist_id) / f"{artwork_id}.pinned"

    def timeline(self, artwork_id: str) -> Path:
        """The folder of one artwork's timeline."""
        return self.timelines / artwork_id

    def prepare(self) -> None:
        """Make the folders, prove that they can be written, and clear what a crash left half-written.

        Raises:
            BadInput: naming the folder and what would be right.
        """
        try:
            kept = (self.artworks, self.timelines, self.sources, self.loras, self.ip_adapters)
            for folder in kept:
                folder.mkdir(parents=True, exist_ok=True)
            write_file(self.root / "writable", b"and with room")
            (self.root / "writable").unlink()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise BadInput(
                f"The data directory {self.root} cannot be written ({reason}). Give --data-dir a folder that "
                "you may write, on a disk with room.",
                "data_dir",
            ) from None
        for half_written in self.root.rglob(f".*{_PART}"):
            half_written.unlink(missing_ok=True)


class Lock:
    """Keeps a second studio out of a data directory that one is working in, until it is closed."""

    def __init__(self, data: DataDir) -> None:
        """Take the lock.

        Raises:
            BadInput: another studio holds it.
        """
        self._file: IO[bytes] = (data.root / "lock").open("ab")
        if sys.platform == "win32":
            return  # the port is all that keeps two studios apart there
        import fcntl

        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise BadInput(
                f"Another Atelier works in {data.root}. Close it, or give this one a --data-dir of its own.",
                "data_dir",
            ) from None

    def close(self) -> None:
        """Let the next studio in."""
        self._file.close()

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_file(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that, even after a power cut, it is either whole or as it was before.

    Raises:
        OSError: disk full and the like; nothing is left behind then.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}{_PART}")
    try:
        part.touch(mode=mode, exist_ok=False)
        with part.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename last; a no-op where folders cannot be opened (Windows)."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_folder(folder: Path) -> None:
    """Remove a folder and what is in it; nothing happens when it is not there."""
    shutil.rmtree(folder, ignore_errors=True)


def size_bytes(folder: Path) -> int:
    """Add up the files of a folder; what vanishes meanwhile counts nothing."""
    total = 0
    for file in folder.glob("*"):
        with contextlib.suppress(OSError):
            total += file.stat().st_size
    return total


def is_full_disk(error: BaseException) -> bool:
    """Tell whether an error, or one that led to it, says that the disk has no room.

    SQLite and safetensors pass the operating system's words on without its number.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _FULL:
            return True
        if any(words in str(seen) for words in _FULL_IN_WORDS):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


_FULL_IN_WORDS = (
    "database or disk is full",
    *(os.strerror(number) for number in _FULL),
)
