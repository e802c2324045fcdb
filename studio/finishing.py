"""The finisher: turns frames into previews and runs into kept pictures, beside the painter."""

from __future__ import annotations

import base64
import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.exc import DatabaseError

from pipelines.recipe import BadInput, Recipe
from studio.brushing import laid
from studio.drawing import Drawings
from studio.files import DataDir, remove_folder, write_file
from studio.gallery import Gallery
from studio.jobs import Job, Jobs
from studio.sentences import NotFinite, sentence_for, sentence_without_timeline
from studio.sources import Sources
from studio.storage import Storage
from studio.timelines import LAST_STOP, MASK, webp_bytes

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor

    from pipelines.calls import Call
    from pipelines.denoising import Frame, Known
    from pipelines.models.sd import StableDiffusion
    from pipelines.timeline import TimelineWriter

log = logging.getLogger(__name__)

# Sheets wait while pictures are painted, but never for ever: after so many live turns one batch is decoded.
_LIVE_TURNS = 4
_DIFFERS = "This machine paints the picture a little differently: its timeline ends close to it, not in it."


@dataclass(eq=False)
class _Canvas:
    """What is still to be done for one job; only the finisher's thread looks inside `writer` and below."""

    job: Job
    frames: list[Frame] = field(default_factory=list)
    latents: Tensor | None = None
    calls: tuple[Call, ...] = ()
    writer: TimelineWriter | None = None
    untimed: str = ""
    previews: dict[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Turn:
    """What had come of one job when its turn began."""

    canvas: _Canvas
    frames: list[Frame]
    latents: Tensor | None


_T = TypeVar("_T")
_U = TypeVar("_U")
# A picture, and the call of a decoder that it came from.
_Decoded = tuple["Image.Image", "Call"]


class Finisher:
    """One thread that decodes: a preview a step, the finished picture, and then its timeline's sheets.

    What artists wait for goes first: sheets are decoded a batch at a time, mostly when nothing is painted.
    On an accelerator it works on a stream of its own, beside the painter's, and decodes what several artists
    wait to see in one call.
    """

    def __init__(
        self, jobs: Jobs, gallery: Gallery, storage: Storage, sources: Sources, data: DataDir
    ) -> None:
        self._jobs = jobs
        self._sources = sources
        self._gallery = gallery
        self._drawings = Drawings(jobs, gallery, storage, data)
        self._data = data
        self._work = threading.Condition()
        self._waiting: dict[str, _Canvas] = {}
        self._dropped: deque[str] = deque()
        self._soon: dict[Hashable, Callable[[StableDiffusion], None]] = {}
        self._model: StableDiffusion | None = None
        self._stream: Any = None
        self._closing = False
        self._thread = threading.Thread(target=self._finish_forever, name="finisher")

    def start(self, model: StableDiffusion) -> None:
        """Begin to work, with the model that has been loaded."""
        self._model = model
        try:
            self._drawings.take_up(model)
        except DatabaseError:
            log.exception("timelines that an earlier studio left undrawn wait for the next start")
        self._thread.start()

    @property
    def model(self) -> StableDiffusion | None:
        """The model, once it has been loaded."""
        return self._model

    def is_drawing(self, artwork_id: str) -> bool:
        """Tell whether a picture's timeline is still to come."""
        return self._drawings.is_coming(artwork_id)

    def close(self) -> None:
        """Stop after the turn it is in; what is left over is taken up at the next start."""
        with self._work:
            self._closing = True
            self._work.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def known(self, recipe: Recipe, device: torch.device) -> list[Known]:
        """Read the steps that need not be painted again; none when the timeline that has them is gone.

        For a branch these are its parent's up to where it leaves, with a mask all of them, which it follows
        outside it; for a fill all of the same one laid into its picture the other way.
        """
        from pipelines.timeline import read_timeline

        branch = recipe.branch
        before = _laid_otherwise(recipe) if branch is None else branch.parent
        if before is None:
            return []
        best: list[Known] = []
        for artwork_id in self._gallery.painted(before):
            try:
                timeline = read_timeline(self._data.timeline(artwork_id))
            except BadInput as error:
                log.info("a picture is painted from its first step: %s", error)
                continue
            wanted = len(timeline.steps) if branch is None or branch.mask is not None else branch.step
            known = timeline.known(wanted, device)
            if len(known) >= min(wanted, len(timeline.steps)):
                return known
            best = max(best, known, key=len)
        return best

    def calls(self, job: Job) -> str:
        """Tell by which calls the picture was painted that a job paints again; nothing of a new one."""
        if job.repaints:
            return self._gallery.calls(job.repaints)
        other = _laid_otherwise(job.recipe)
        return next(map(self._gallery.calls, self._gallery.painted(other) if other else ()), "")

    # What the painter hands over

    def begin(self, job: Job) -> None:
        """Expect the frames of a job."""
        with self._work:
            self._waiting[job.id] = _Canvas(job)

    def frame(self, job_id: str, frame: Frame) -> None:
        """Take a frame: it is kept in the timeline and shown as a preview."""
        with self._work:
            canvas = self._waiting.get(job_id)
            if canvas is not None:
                canvas.frames.append(frame)
                self._work.notify_all()

    def finished(self, job_id: str, latents: Tensor, calls: tuple[Call, ...] = ()) -> None:
        """Take the final latents, and by which calls they came: they become the picture."""
        with self._work:
            canvas = self._waiting.get(job_id)
            if canvas is not None:
                canvas.latents, canvas.calls = latents, calls
                self._work.notify_all()

    def drop(self, job_id: str) -> None:
        """Forget a job that was cancelled or failed, with what was written for it."""
        with self._work:
            if self._waiting.pop(job_id, None):
                self._dropped.append(job_id)
                self._work.notify_all()

    def soon(self, key: Hashable, work: Callable[[StableDiffusion], None]) -> None:
        """Do some work with the model before anything else; what waits under the same key is passed over."""
        with self._work:
            self._soon[key] = work
            self._work.notify_all()

    # The thread

    def _finish_forever(self) -> None:
        import torch

        live_turns = 0
        model = self._model
        assert model is not None
        if model.device.type == "cuda":
            self._stream = torch.cuda.Stream(model.device)
        own = nullcontext() if self._stream is None else torch.cuda.stream(self._stream)
        with torch.inference_mode(), own:
            while True:
                with self._work:
                    while not (self._closing or self._soon or self._dropped or self._may_turn()):
                        self._work.wait()
                    if self._closing:
                        return
                    work = self._soon.pop(next(iter(self._soon))) if self._soon else None
                    canvases = self._next()
                    draw_sheets = self._may_draw_sheets() or live_turns >= _LIVE_TURNS
                try:
                    self._clear_dropped()
                    if work is not None:
                        self._wait_for_painter()
                        work(model)
                    if canvases:
                        self._live_turn(canvases)
                        live_turns += 1
                    if self._drawings and draw_sheets:
                        self._drawings.draw()
                        live_turns = 0
                except Exception:
                    log.exception("the finisher goes on")

    def _may_turn(self) -> bool:
        return bool(self._next()) or self._may_draw_sheets()

    def _may_draw_sheets(self) -> bool:
        return bool(self._drawings) and not self._waiting

    def _next(self) -> list[_Canvas]:
        """Choose the job that waits longest, and others whose previews can be decoded together with its.

        Each turn moves its jobs to the end of the line.
        """
        from pipelines.decoding import decoded_at_once

        ready = [canvas for canvas in self._waiting.values() if canvas.frames or canvas.latents is not None]
        if not ready or self._model is None:
            return ready[:1]
        recipe = ready[0].job.recipe
        alike = [
            one
            for one in ready
            if (one.job.recipe.width, one.job.recipe.height) == (recipe.width, recipe.height)
        ]
        return alike[: decoded_at_once(self._model.device.type, width=recipe.width, height=recipe.height)]

    def _wait_for_painter(self) -> None:
        """Have what comes next on this thread's stream wait for all that the painter has launched by now."""
        if self._stream is not None:
            import torch

            self._stream.wait_stream(torch.cuda.default_stream(self._stream.device))

    def _clear_dropped(self) -> None:
        """Remove what was written for dropped jobs, here, where nobody writes to it any more."""
        while self._dropped:
            remove_folder(self._data.timeline(self._dropped.popleft()))

    def _live_turn(self, canvases: list[_Canvas]) -> None:
        """Show the newest previews of some jobs, or finish them; a job that raises fails alone.

        On an accelerator nothing that the painter gave is let go of before this thread's stream has read it:
        each part ends with numbers that were waited for.
        """
        turns: list[_Turn] = []
        with self._work:
            for canvas in canvases:
                if self._waiting.pop(canvas.job.id, None) is not None:
                    self._waiting[canvas.job.id] = canvas
                    turns.append(_Turn(canvas, canvas.frames, canvas.latents))
                    canvas.frames = []
        self._wait_for_painter()
        # When decoding is slower than painting only the newest is still of interest.
        previews, pictures = self._previews(turns), self._pictures(turns)
        for turn in turns:
            job_id = turn.canvas.job.id
            try:
                self._keep_frames(turn.canvas, turn.frames, last=turn.latents is not None)
                if turn.frames:
                    self._show(turn.canvas, turn.frames[-1], previews.get(job_id))
                if turn.latents is not None:
                    self._save(turn.canvas, turn.latents, pictures.get(job_id))
            except Exception as error:
                log.exception("job %s failed while it was finished", job_id)
                self.drop(job_id)
                self._clear_dropped()
                self._jobs.fail(job_id, sentence_for(error))

    def _previews(self, turns: list[_Turn]) -> dict[str, Image.Image]:
        """Decode what the jobs' newest frames predict, in one call."""
        from pipelines.decoding import decode_looks

        newest = {turn.canvas.job.id: turn.frames[-1] for turn in turns if turn.frames}
        return self._together(
            newest, lambda model, frames: decode_looks(model, [frame.denoised for frame in frames])
        )

    def _pictures(self, turns: list[_Turn]) -> dict[str, _Decoded]:
        """Decode what has been painted, in one call, but for what may have to be decoded as it was before."""
        from pipelines.decoding import decode_kept

        done = {
            turn.canvas.job.id: turn.latents
            for turn in turns
            if turn.latents is not None and not turn.canvas.job.repaints
            if _laid_otherwise(turn.canvas.job.recipe) is None
        }
        return self._together(done, decode_kept)

    def _together(
        self, waiting: dict[str, _T], decode: Callable[[StableDiffusion, list[_T]], list[_U]]
    ) -> dict[str, _U]:
        """Decode what several jobs wait for: by job; nothing of a single one, or where it fails."""
        assert self._model is not None
        if len(waiting) < 2:
            return {}
        try:
            return dict(zip(waiting, decode(self._model, list(waiting.values())), strict=True))
        except Exception:
            log.exception("what could not be decoded together is decoded one by one")
            return {}

    def _keep_frames(self, canvas: _Canvas, frames: list[Frame], *, last: bool) -> None:
        """Write frames to the timeline; without room for them, the picture goes on without a timeline."""
        from pipelines.timeline import TimelineWriter

        if canvas.untimed:
            return
        folder = self._data.timeline(canvas.job.id)
        try:
            if canvas.writer is None:
                remove_folder(folder)  # of an earlier attempt, before a restart
                canvas.writer = TimelineWriter(folder, canvas.job.recipe)
            numbers = [canvas.writer.add(frame).model_dump(mode="json") for frame in frames]
            if last:
                canvas.writer.close()
            self._jobs.kept(canvas.job.id, numbers)
        except Exception as error:
            log.exception("the timeline of job %s cannot be kept", canvas.job.id)
            canvas.untimed = sentence_without_timeline(error)
            remove_folder(folder)

    def _show(self, canvas: _Canvas, frame: Frame, image: Image.Image | None) -> None:
        from pipelines.decoding import decode_looks

        assert self._model is not None
        preview = webp_bytes(image or decode_looks(self._model, [frame.denoised])[0])
        canvas.previews[frame.step] = preview
        url = f"data:image/webp;base64,{base64.b64encode(preview).decode()}"
        self._jobs.previewed(canvas.job.id, frame.step, url)

    def _save(self, canvas: _Canvas, latents: Tensor, decoded: _Decoded | None) -> None:
        """Decode, keep and list a picture, and line its timeline up for its sheets."""
        from pipelines.calls import calls_in_words, decoder_for, network_calls
        from pipelines.decoding import decode_kept
        from pipelines.stitching import stitch

        assert self._model is not None
        job = canvas.job
        if not bool(latents.isfinite().all()):
            raise NotFinite
        before = self.calls(job)
        network = [*map(str, canvas.calls)] or network_calls(before)  # of steps that were known, as they came
        if decoded is None:
            decoded = decode_kept(self._model, [latents], decoder_for(network, before))[0]
        picture, decoder = decoded
        calls = calls_in_words(network, decoder)
        stitched = stitch(job.recipe, picture, self._sources.open)
        if not self._jobs.claim(job.id):
            self.drop(job.id)
            return
        artwork_id = job.repaints or job.id
        if job.repaints is None:
            self._gallery.keep(job.id, job.artist_id, job.recipe, stitched.whole, calls)
        elif not self._gallery.shows(artwork_id, stitched.whole):
            self._jobs.note(job.id, _DIFFERS)
        if not canvas.untimed:
            folder = self._data.timeline(job.id)
            if job.recipe.source is not None and job.recipe.source.in_part:
                write_file(folder / LAST_STOP, webp_bytes(stitched.part))
                if stitched.mask is not None:
                    write_file(folder / MASK, webp_bytes(stitched.mask))
            self._drawings.line_up(self._model, job.id, artwork_id, canvas.previews)
        with self._work:
            self._waiting.pop(job.id, None)
        self._jobs.done(job.id)
        if canvas.untimed:
            self._jobs.settle(job.id, timeline_ready=False, note=canvas.untimed)


def _laid_otherwise(recipe: Recipe) -> Recipe | None:
    """The recipe of the same fill, fitted into its picture where this one is not, and not where it is."""
    if recipe.source is None or recipe.branch is not None:
        return None
    return laid(recipe, paste_back=not recipe.source.paste_back)
