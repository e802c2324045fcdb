"""What timelines take on the disk: a budget for each artist, the oldest unpinned ones dropped first.

Never a picture: what is dropped can be painted again from its recipe.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from pipelines.recipe import BadInput
from studio.files import DataDir, remove_folder, size_bytes, write_file
from studio.gallery import own_row
from studio.index import ArtworkRow, StudioIndex
from studio.sentences import refusing_when_full
from studio.timelines import DROPPED, is_complete


@dataclass(frozen=True, slots=True)
class Usage:
    """What an artist's timelines take, and how many there are; `pinned_bytes` is the part that stays."""

    timelines: int
    pinned: int
    used_bytes: int
    pinned_bytes: int
    budget_bytes: int


class Storage:
    """The timelines of one studio, as room on its disk.

    What decides, pins and age, is also in the files, so that a rebuilt index drops the same ones: a pin is an
    empty file beside the picture, the age that of `timeline.json`.
    """

    def __init__(self, index: StudioIndex, data: DataDir, *, budget_bytes: int) -> None:
        self._index = index
        self._data = data
        self._budget_bytes = budget_bytes

    def usage(self, artist_id: str) -> Usage:
        """Tell what an artist uses."""
        with self._index.session() as session:
            return self._usage(_timelines_of(session, artist_id))

    def _usage(self, rows: list[ArtworkRow]) -> Usage:
        pinned = [row for row in rows if row.pinned]
        return Usage(
            timelines=len(rows),
            pinned=len(pinned),
            used_bytes=sum(row.timeline_bytes for row in rows),
            pinned_bytes=sum(row.timeline_bytes for row in pinned),
            budget_bytes=self._budget_bytes,
        )

    def pin(self, artwork_id: str, artist_id: str, pinned: bool) -> None:
        """Pin the timeline of one of her own pictures, so that it is never dropped, or let go of it.

        Raises:
            NotHers: it is not hers.
            BadInput: there is no timeline to pin, the pinned ones fill her budget, or the disk is full.
        """
        mark = self._data.pin_mark(artist_id, artwork_id)
        with refusing_when_full(), self._index.session.begin() as session:
            row = own_row(session, artwork_id, artist_id)
            if pinned and not row.pinned:
                if not row.has_timeline:
                    raise BadInput("This picture has no timeline to pin.", "timeline")
                held = self._usage(_timelines_of(session, artist_id)).pinned_bytes
                if held + row.timeline_bytes > self._budget_bytes:
                    raise BadInput(
                        f"Your pinned timelines already fill your room of {in_words(self._budget_bytes)}: "
                        "unpin one first.",
                        "timeline",
                    )
                write_file(mark, b"")
            elif not pinned:
                mark.unlink(missing_ok=True)
            row.pinned = pinned

    def add(self, artwork_id: str, *, painted_as: str | None = None) -> list[str] | None:
        """List a finished timeline and make room for it: the artist's oldest unpinned ones are dropped.

        The new one itself always stays, so that she can look at what she has just painted.

        Args:
            artwork_id: the picture's id.
            painted_as: the id of the job that painted it again, if one did: its folder takes the place.

        Returns:
            The ids of the pictures whose timelines were dropped, or None when the picture is gone.
        """
        folder = self._data.timeline(artwork_id)
        with self._index.session.begin() as session:
            row = session.get(ArtworkRow, artwork_id)
            if row is None:
                return None
            if painted_as is not None:
                remove_folder(folder)
                self._data.timeline(painted_as).rename(folder)
            _measure(row, folder)
            artist_id = row.artist_id
        return self._make_room(artist_id, newest=artwork_id)

    def _make_room(self, artist_id: str, *, newest: str) -> list[str]:
        with self._index.session.begin() as session:
            rows = _timelines_of(session, artist_id)
            excess = self._usage(rows).used_bytes - self._budget_bytes
            dropped: list[str] = []
            for row in rows:
                if excess <= 0:
                    break
                if row.pinned or row.id == newest:
                    continue
                # The mark first: whatever happens from here on, a dropped timeline is known as one.
                folder = self._data.timeline(row.id)
                folder.mkdir(exist_ok=True)
                write_file(folder / DROPPED, b"")
                excess -= row.timeline_bytes
                _forget(row)
                dropped.append(row.id)
        for artwork_id in dropped:
            _empty(self._data.timeline(artwork_id))
        return dropped

    def lose(self, artwork_id: str) -> None:
        """Note that a timeline turned out to be gone."""
        with self._index.session.begin() as session:
            row = session.get(ArtworkRow, artwork_id)
            if row is not None:
                _forget(row)

    def take_stock(self) -> None:
        """Finish what was being dropped when the studio stopped, and measure what was never measured."""
        for mark in self._data.timelines.glob(f"*/{DROPPED}"):
            self.lose(mark.parent.name)
            _empty(mark.parent)
        unmeasured = select(ArtworkRow).where(ArtworkRow.has_timeline, ArtworkRow.timeline_drawn.is_(None))
        with self._index.session.begin() as session:
            for row in session.scalars(unmeasured):
                _measure(row, self._data.timeline(row.id))


def _timelines_of(session: Session, artist_id: str) -> list[ArtworkRow]:
    """List an artist's pictures that have a timeline, the oldest timeline first."""
    query = select(ArtworkRow).where(ArtworkRow.artist_id == artist_id, ArtworkRow.has_timeline)
    return list(session.scalars(query.order_by(ArtworkRow.timeline_drawn, ArtworkRow.id)))


def _measure(row: ArtworkRow, folder: Path) -> None:
    row.has_timeline = is_complete(folder)
    row.timeline_bytes = size_bytes(folder) if row.has_timeline else 0
    row.timeline_drawn = drawn_at(folder) if row.has_timeline else None


def _forget(row: ArtworkRow) -> None:
    row.has_timeline, row.timeline_bytes, row.timeline_drawn = False, 0, None


def _empty(folder: Path) -> None:
    """Remove all of a dropped timeline but the mark that says so."""
    for file in folder.glob("*"):
        if file.name != DROPPED:
            file.unlink(missing_ok=True)


def drawn_at(folder: Path) -> datetime:
    """Tell when a timeline was painted, in UTC: its numbers are written last, and never again."""
    return datetime.fromtimestamp((folder / "timeline.json").stat().st_mtime, UTC)


def in_words(size: int) -> str:
    """Write a size as people read it, in decimal units."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"
