"""A job: a recipe in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipelines.recipe import Recipe, read_recipe
from studio.index import ArtworkRow, JobRow

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
_ENDED: dict[str, JobState] = {"done": "done", "failed": "failed", "cancelled": "cancelled"}


@dataclass(frozen=True, slots=True)
class Job:
    """A recipe in time, at one moment.

    `number` is the order in which jobs came, `ahead` how many of the artist's own pictures come first,
    `step` how many of `steps` positions are behind it (0 of 0 before it begins). `previews` are
    (step, data URL) of the predicted picture, `numbers` what a timeline tells of the steps so far. `artwork`
    is set once it is saved and listed. `settled` says that nothing more will happen to it, the timeline
    included. `repaints` is the picture whose timeline it paints again: such a job makes no other picture.
    `version` grows with every change.
    """

    id: str
    group: str
    index: int
    number: int
    artist_id: str
    recipe: Recipe
    state: JobState = "queued"
    ahead: int = 0
    step: int = 0
    steps: int = 0
    previews: tuple[tuple[int, str], ...] = ()
    numbers: tuple[dict[str, object], ...] = ()
    sentence: str = ""
    notes: tuple[str, ...] = ()
    artwork: str | None = None
    timeline_ready: bool = False
    settled: bool = False
    repaints: str | None = None
    version: int = 0

    @property
    def ended(self) -> bool:
        """Whether it is done, failed or cancelled."""
        return self.state in _ENDED


def job_of(row: JobRow, artwork: ArtworkRow | None = None) -> Job:
    """Read a job that has its row in the index, with the picture that became of it."""
    state = _ENDED.get(row.state, "queued")
    return Job(
        id=row.id,
        group=row.group_id,
        index=row.position,
        number=row.number,
        artist_id=row.artist_id,
        recipe=read_recipe(row.recipe),
        state=state,
        sentence=row.sentence,
        artwork=artwork.id if artwork else None,
        timeline_ready=artwork.has_timeline if artwork else False,
        settled=state != "queued",
        repaints=row.repaints,
    )
