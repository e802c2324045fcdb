"""What names weights: their SHA-256, remembered beside the files' sizes and times (no torch at import)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

# Less is read in a fraction of a second.
_REMEMBERED_BYTES = 256 * 2**20
# A file that was written just now may be written again within the same tick of the clock.
_SETTLED_NS = 2 * 10**9


def cache_dir(name: str) -> Path:
    """Where what is made of models for this machine is kept: the user's own cache folder (XDG)."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "atelier" / name


def revision_of(files: Sequence[Path]) -> str:
    """Return the SHA-256 (64 hex digits) over files, one after the other.

    That of large files (seconds, for SDXL's) is kept, and holds as long as they keep their paths, sizes and
    times of change: of their contents and, which nobody can set back, of their entries.
    """
    stats = [file.stat() for file in files]
    told = [
        [str(file.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        for file, stat in zip(files, stats, strict=True)
    ]
    if sum(stat.st_size for stat in stats) < _REMEMBERED_BYTES:
        return _read(files)
    kept = cache_dir("revisions") / hashlib.sha256(json.dumps(told).encode()).hexdigest()
    try:
        revision = kept.read_text(encoding="ascii")
    except (OSError, ValueError):
        revision = ""
    if re.fullmatch("[0-9a-f]{64}", revision):
        return revision
    settled = time.time_ns() - max(stat.st_ctime_ns for stat in stats) > _SETTLED_NS
    revision = _read(files)
    if settled:
        _keep(kept, revision)
    return revision


def _read(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _keep(kept: Path, revision: str) -> None:
    """Write it, whole or not at all; without a place to write to, it is read again at the next start."""
    half = kept.with_name(f"{kept.name}.{os.getpid()}")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        half.write_text(revision, encoding="ascii")
        half.replace(kept)
    except OSError:
        return
