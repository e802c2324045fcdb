"""How a studio was started."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from pipelines.models.find import EMBEDDED
from pipelines.picture_files import BOMB_PIXELS, MAX_BYTES, MAX_PIXELS


def default_data_dir() -> Path:
    """Where pictures are kept when nothing else is said: the user's own data folder (XDG)."""
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(home) / "atelier"


class Settings(BaseModel):
    """One studio's settings; frozen once it is started.

    `model` is a name or a path; `database_url` an SQLAlchemy URL, or empty for `index.sqlite` in the data
    directory; `runs_per_artist` how many of her pictures are painted side by side, or 0 to let the device
    decide; `deterministic` keeps to one size of call and to torch's own, so that a seed is the same whoever
    else is painting; `keep_live_s` how long a finished group keeps its previews in memory;
    `timeline_budget_bytes` what the timelines of one artist may take on the disk before her oldest unpinned
    ones are dropped;
    `loras` and `ip_adapters` are folders of such files beside those in the data directory;
    `max_source_bytes` and `max_source_pixels` how large a picture may be that an artist brings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=7860, ge=0, le=65535)
    data_dir: Path = Field(default_factory=default_data_dir)
    model: str = EMBEDDED
    loras: Path | None = None
    ip_adapters: Path | None = None
    database_url: str = ""
    runs_per_artist: int = Field(default=0, ge=0)
    deterministic: bool = False
    keep_live_s: float = Field(default=60, ge=0)
    max_source_bytes: int = Field(default=MAX_BYTES, gt=0)
    max_source_pixels: int = Field(default=MAX_PIXELS, gt=0, le=BOMB_PIXELS)
    timeline_budget_bytes: int = Field(default=4_000_000_000, ge=0)
