"""Every job there is, as everybody sees them; the ones that have not ended also survive a restart."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.exc import DatabaseError

from pipelines.recipe import MAX_PICTURES, BadInput, Recipe
from studio.gallery import NotHers
from studio.index import ArtistRow, ArtworkRow, JobRow, StudioIndex, now
from studio.job import Job, JobState, job_of
from studio.sentences import refusing_when_full
from studio.watching import Watch

log = logging.getLogger(__name__)

# A group of more pictures than these is asked for in bulk: a sheet, a grid, a long series.
_WATCHED_AT_MOST = 4


class Jobs:
    """Every job that is alive, the index behind it, and who watches.

    Threads change jobs here and nowhere else. A job has one end: whoever comes second, a cancelling artist
    or the picture being saved, changes nothing.
    """

    def __init__(self, index: StudioIndex, *, keep_live_s: float = 60) -> None:
        self._index = index
        self._keep_live_s = keep_live_s
        self._changed = threading.Condition()
        self._jobs: dict[str, Job] = {}
        self._saving: set[str] = set()
        self._settled_at: dict[str, float] = {}
        self._unwritten: set[str] = set()
        self._watches: dict[Watch, str] = {}
        self._news = 0
        self._closed = False

    # What artists ask for

    def add(self, artist_id: str, recipes: Sequence[Recipe], *, repaints: str | None = None) -> str:
        """Queue the pictures of one request, or the timeline of a picture (`repaints`) to be painted again.

        Returns:
            The id of their group.

        Raises:
            BadInput: none or too many pictures, an unknown artist, or no room to note them.
        """
        if not 1 <= len(recipes) <= MAX_PICTURES:
            raise BadInput(f"Pictures must be 1 to {MAX_PICTURES} at once, not {len(recipes)}.", "pictures")
        group = uuid.uuid4().hex
        rows = [
            JobRow(
                id=uuid.uuid4().hex,
                group_id=group,
                position=position,
                artist_id=artist_id,
                state="queued",
                created=now(),
                recipe=recipe.model_dump_json(),
                repaints=repaints,
            )
            for position, recipe in enumerate(recipes)
        ]
        with refusing_when_full(), self._index.session.begin() as session:
            if session.get(ArtistRow, artist_id) is None:
                raise BadInput("Atelier does not know this artist. Please give your name again.", "name")
            session.add_all(rows)
        with self._changed:
            for row in rows:
                self._jobs[row.id] = job_of(row)
            self._tell({group})
        return group

    def cancel(self, artist_id: str, group: str) -> None:
        """Cancel every picture of a group that has not ended; one being painted stops within a step.

        Raises:
            NotHers: she has no such group.
        """
        for job in self.of_group(artist_id, group):
            self.end(job.id, "cancelled")

    def of_group(self, artist_id: str, group: str) -> list[Job]:
        """List the jobs of an artist's group, alive or from the index.

        Raises:
            NotHers: she has no such group.
        """
        jobs = self.live(group) or self._stored(group)
        if not jobs or jobs[0].artist_id != artist_id:
            raise NotHers("group of pictures")
        return jobs

    def live(self, group: str) -> list[Job]:
        """List the jobs of a group that are still in memory, in their order; empty when none is."""
        with self._changed:
            jobs = [job for job in self._jobs.values() if job.group == group]
            return [self._with_ahead(job) for job in sorted(jobs, key=lambda job: job.index)]

    def active(self, artist_id: str) -> str | None:
        """Find an artist's newest group that is painted, or whose timelines are still being drawn."""
        with self._changed:
            jobs = [job for job in self._jobs.values() if job.artist_id == artist_id and not job.settled]
            return max(jobs, key=lambda job: job.number).group if jobs else None

    def get(self, job_id: str) -> Job | None:
        """Find a job that is still in memory."""
        with self._changed:
            return self._jobs.get(job_id)

    def in_state(self, state: JobState) -> list[Job]:
        """List the jobs in one state, oldest first."""
        with self._changed:
            return sorted((j for j in self._jobs.values() if j.state == state), key=lambda j: j.number)

    def queued(self) -> list[Job]:
        """List the queued jobs in the order of painting: what was asked for singly, then what in bulk."""
        bulk = self.bulk
        return sorted(self.in_state("queued"), key=lambda job: (job.group in bulk, job.number))

    @property
    def bulk(self) -> set[str]:
        """The groups of so many pictures that nobody watches each of them."""
        with self._changed:
            return self._bulk()

    def _bulk(self) -> set[str]:
        unfinished = Counter(job.group for job in self._jobs.values() if not job.ended)
        return {group for group, count in unfinished.items() if count > _WATCHED_AT_MOST}

    def repainting(self, artwork_id: str) -> str | None:
        """Find the group in which a picture's timeline is being painted again."""
        with self._changed:
            jobs = (job for job in self._jobs.values() if job.repaints == artwork_id and not job.settled)
            return next((job.group for job in jobs), None)

    def counts(self) -> dict[str, int]:
        """Count the queued and the running jobs."""
        return {"queued": len(self.in_state("queued")), "running": len(self.in_state("running"))}

    def _with_ahead(self, job: Job) -> Job:
        if job.state != "queued":
            return job
        bulk = self._bulk()
        hers = (j for j in self._jobs.values() if j.artist_id == job.artist_id and not j.ended)
        place = (job.group in bulk, job.number)
        first = (j.state == "running" or (j.group in bulk, j.number) < place for j in hers)
        return replace(job, ahead=sum(first))

    def _stored(self, group: str) -> list[Job]:
        query = (
            select(JobRow, ArtworkRow)
            .outerjoin(ArtworkRow, ArtworkRow.id == func.coalesce(JobRow.repaints, JobRow.id))
            .where(JobRow.group_id == group)
            .order_by(JobRow.position)
        )
        with self._index.session() as session:
            return [job_of(row, artwork) for row, artwork in session.execute(query)]

    # What the painter and the finisher report

    def restore(self) -> int:
        """Queue again, under their own ids, the jobs that had not ended when the studio stopped."""
        unfinished = select(JobRow.group_id).where(JobRow.state == "queued")
        with self._index.session() as session:
            groups = session.scalars(unfinished.distinct()).all()
        jobs = [job for group in groups for job in self._stored(group)]
        with self._changed:
            for job in jobs:
                self._jobs[job.id] = job
                if job.settled:
                    self._settled_at[job.id] = time.monotonic()
            self._tell(set(groups))
        return sum(job.state == "queued" for job in jobs)

    def start(self, job_id: str, notes: Sequence[str]) -> bool:
        """Note that a job is being painted; False when it was cancelled meanwhile."""
        return self._change(job_id, lambda job: replace(job, state="running", notes=tuple(notes)))

    def stepped(self, job_id: str, step: int, steps: int) -> None:
        """Note how far a job has come."""
        self._change(job_id, lambda job: replace(job, step=step, steps=steps))

    def kept(self, job_id: str, numbers: Sequence[dict[str, object]]) -> None:
        """Add what the timeline tells of further steps."""
        self._change(job_id, lambda job: replace(job, numbers=(*job.numbers, *numbers)))

    def previewed(self, job_id: str, step: int, url: str) -> None:
        """Add a preview."""
        self._change(job_id, lambda job: replace(job, previews=(*job.previews, (step, url))))

    def note(self, job_id: str, note: str) -> None:
        """Add something that the artist should know of a job."""
        self._change(job_id, lambda job: replace(job, notes=(*job.notes, note)))

    def claim(self, job_id: str) -> bool:
        """Take a job to its end: it can no longer be cancelled. False when it was cancelled already."""
        with self._changed:
            job = self._jobs.get(job_id)
            if job is None or job.ended:
                return False
            self._saving.add(job_id)
            return True

    def done(self, job_id: str) -> None:
        """Note that a claimed job's picture is saved and listed.

        That wrote the job's row as well; the row of one that only paints a timeline again is written once
        that is there, so that a restart in between paints it.
        """
        with self._changed:
            self._saving.discard(job_id)
        self._change(job_id, lambda job: replace(job, state="done", artwork=job.repaints or job.id))

    def fail(self, job_id: str, sentence: str) -> None:
        """End a job with the sentence that says why."""
        with self._changed:
            self._saving.discard(job_id)
        self.end(job_id, "failed", sentence)

    def end(self, job_id: str, state: Literal["failed", "cancelled"], sentence: str = "") -> None:
        """End a job without a picture, unless it has ended or is being saved."""
        with self._changed:
            if job_id in self._saving:
                return
            ended = self._change(
                job_id, lambda job: replace(job, state=state, sentence=sentence, settled=True)
            )
            if ended:
                self._settled_at[job_id] = time.monotonic()
                self._unwritten.add(job_id)
        self.write_ends()

    def settle(self, job_id: str, *, timeline_ready: bool, note: str = "") -> None:
        """Note that a done job's timeline is there, or why it never will be."""
        with self._changed:
            job = self._jobs.get(job_id)
            if job is None:
                return
            notes = (*job.notes, note) if note else job.notes
            self._put(replace(job, timeline_ready=timeline_ready, notes=notes, settled=True))
            self._settled_at[job_id] = time.monotonic()
            if job.repaints is not None:
                self._unwritten.add(job_id)

    def write_ends(self) -> None:
        """Write ended jobs to the index; those that find the disk full are written at a later call."""
        with self._changed:
            ended = [self._jobs[job_id] for job_id in self._unwritten]
        if not ended:
            return
        try:
            with self._index.session.begin() as session:
                for job in ended:
                    row = session.scalar(select(JobRow).where(JobRow.id == job.id))
                    if row is not None:
                        row.state, row.sentence = job.state, job.sentence
        except DatabaseError as error:
            log.error("The ends of %d jobs wait to be written: %s", len(ended), error.orig)
            return
        with self._changed:
            self._unwritten.difference_update(job.id for job in ended)

    def forget_settled(self) -> None:
        """Let go of groups that settled a while ago; they are read from the index from then on."""
        limit = time.monotonic() - self._keep_live_s
        with self._changed:
            kept = {
                job.group
                for job in self._jobs.values()
                if job.id in self._unwritten or self._settled_at.get(job.id, limit) >= limit
            }
            for job in [job for job in self._jobs.values() if job.group not in kept]:
                del self._jobs[job.id]
                self._settled_at.pop(job.id, None)

    def nudge(self) -> None:
        """Wake the threads that wait: there is work for them that is no job."""
        with self._changed:
            self._tell(set())

    @property
    def news(self) -> int:
        """How many changes there have been."""
        return self._news

    def wait(self, news: int, timeout_s: float) -> None:
        """Wait until there are more changes than `news`, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._news > news, timeout_s)

    def _change(self, job_id: str, change: Callable[[Job], Job]) -> bool:
        """Change a job that has not ended; False when it has."""
        with self._changed:
            job = self._jobs.get(job_id)
            if job is None or job.ended:
                return False
            self._put(change(job))
            return True

    def _put(self, job: Job) -> None:
        changed = [job]
        if job.ended and not self._jobs[job.id].ended:
            # Her queued pictures have one less ahead of them now.
            hers = (other for other in self._jobs.values() if other.artist_id == job.artist_id)
            changed += [other for other in hers if other.state == "queued" and other.id != job.id]
        for other in changed:
            self._jobs[other.id] = replace(other, version=other.version + 1)
        self._tell({other.group for other in changed})

    def _tell(self, groups: set[str]) -> None:
        """Wake the threads that wait, and whoever watches one of these groups."""
        self._news += 1
        self._changed.notify_all()
        for watch, group in self._watches.items():
            if group in groups:
                watch.wake()

    # Who watches

    @contextmanager
    def watch(self, group: str) -> Generator[Watch]:
        """Watch every change of a group, from a coroutine."""
        watch = Watch()
        with self._changed:
            self._watches[watch] = group
        try:
            yield watch
        finally:
            with self._changed:
                del self._watches[watch]

    @property
    def in_memory(self) -> int:
        """How many jobs have not been let go of yet."""
        with self._changed:
            return len(self._jobs)

    @property
    def watched(self) -> int:
        """How many coroutines watch."""
        with self._changed:
            return len(self._watches)

    @property
    def closed(self) -> bool:
        """Whether the studio is closing: streams end, jobs stay queued for the next start."""
        return self._closed

    def close(self) -> None:
        """Wake everybody who waits, for good."""
        with self._changed:
            self._closed = True
            self._tell(set(self._watches.values()))
