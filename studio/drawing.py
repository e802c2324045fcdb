"""Timelines whose sheets are still to be drawn: a batch of tiles at a time, when nobody waits for more."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.files import DataDir, remove_folder
from studio.gallery import Gallery
from studio.jobs import Jobs
from studio.sentences import sentence_without_timeline
from studio.storage import Storage
from studio.timelines import write_sheets

if TYPE_CHECKING:
    from pipelines.models.sd import StableDiffusion

log = logging.getLogger(__name__)

_THE_END = object()


@dataclass(eq=False, frozen=True, slots=True)
class _Drawing:
    """The sheets of one timeline that are still to be drawn; it lies in the folder of the job."""

    job_id: str
    artwork_id: str
    sheets: Iterator[None]


class Drawings:
    """The kept timelines that are still to be drawn, the oldest first.

    One thread lines them up and draws; any may ask `is_coming`.
    """

    def __init__(self, jobs: Jobs, gallery: Gallery, storage: Storage, data: DataDir) -> None:
        self._jobs = jobs
        self._gallery = gallery
        self._storage = storage
        self._data = data
        self._line: deque[_Drawing] = deque()
        self._coming: set[str] = set()

    def __len__(self) -> int:
        return len(self._line)

    def take_up(self, model: StableDiffusion) -> None:
        """Line up the timelines of this model that were not drawn when the studio last closed."""
        for artwork_id in self._gallery.without_timeline(model.folder.revision):
            if (self._data.timeline(artwork_id) / "timeline.json").exists():
                self.line_up(model, artwork_id, artwork_id, {})

    def line_up(
        self, model: StableDiffusion, job_id: str, artwork_id: str, previews: Mapping[int, bytes]
    ) -> None:
        """Have the timeline drawn that a job left; `previews` are the WebP tiles that there are, by step."""
        sheets = write_sheets(self._data.timeline(job_id), model, previews)
        self._coming.add(artwork_id)
        self._line.append(_Drawing(job_id, artwork_id, sheets))

    def is_coming(self, artwork_id: str) -> bool:
        """Tell whether a picture's timeline is still to come."""
        return artwork_id in self._coming

    def draw(self) -> None:
        """Decode one more batch of the oldest timeline; finish it when that was the last."""
        drawing = self._line[0]
        job_id, artwork_id = drawing.job_id, drawing.artwork_id
        dropped: list[str] | None = None
        note = ""
        try:
            if next(drawing.sheets, _THE_END) is not _THE_END:
                return
            dropped = self._storage.add(artwork_id, painted_as=job_id if job_id != artwork_id else None)
        except Exception as error:
            note = sentence_without_timeline(error)
            log.exception("the timeline of picture %s could not be drawn", artwork_id)
        self._line.popleft()
        self._coming.discard(artwork_id)
        if dropped:
            note = _made_room(len(dropped))
        self._jobs.settle(job_id, timeline_ready=dropped is not None, note=note)
        if job_id != artwork_id or not self._gallery.has(artwork_id):  # deleted meanwhile
            remove_folder(self._data.timeline(job_id))


def _made_room(count: int) -> str:
    if count == 1:
        return "To make room, your oldest timeline was dropped; its picture stays."
    return f"To make room, your {count} oldest timelines were dropped; their pictures stay."
