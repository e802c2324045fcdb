"""Sketches: few-step pictures of what an artist is writing, shown while she writes and never kept."""

from __future__ import annotations

import base64
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from pipelines.recipe import Recipe
from studio.finishing import Finisher
from studio.sentences import NotFinite, sentence_for
from studio.timelines import webp_bytes

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.batching import Failed, Finished, StepBatcher
    from pipelines.denoising import Frame
    from pipelines.models.sd import StableDiffusion

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Look:
    """A sketch at one moment; `image` is a data URL of what it shows, empty before there is anything."""

    state: Literal["queued", "drawing", "done", "failed", "gone"] = "queued"
    step: int = 0
    steps: int = 0
    image: str = ""
    sentence: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state not in ("queued", "drawing")


@dataclass(eq=False)
class Sketch:
    """One sketch; `wake` is called, from any thread, whenever `look` is another one."""

    artist_id: str
    recipe: Recipe
    wake: Callable[[], None]
    look: Look = field(default_factory=Look)


class Sketches:
    """Everybody's sketches, one an artist: a newer one takes the place of the one before.

    They are drawn by the painter among the pictures and decoded by the finisher. While an artist's sketch is
    drawn her own pictures rest: nobody else waits longer for a step than without it. One that is let go of
    leaves before the next step and costs nothing more.
    """

    def __init__(self, finisher: Finisher, nudge: Callable[[], None]) -> None:
        """Take who decodes, and what wakes the painter."""
        self._finisher = finisher
        self._nudge = nudge
        self._lock = threading.Lock()
        self._newest: dict[str, Sketch] = {}
        self._drawn: set[Sketch] = set()  # runs in the batch; only the painter's thread looks at it
        self._closed = False

    def ask(self, artist_id: str, recipe: Recipe, wake: Callable[[], None]) -> Sketch:
        """Line up a sketch; the artist's earlier one is let go of."""
        sketch = Sketch(artist_id, recipe, wake)
        with self._lock:
            before = self._newest.get(artist_id)
            if not self._closed:
                self._newest[artist_id] = sketch
        if before is not None:
            self.let_go(before)
        if self._closed:
            self.let_go(sketch)
        self._nudge()
        return sketch

    def let_go(self, sketch: Sketch) -> None:
        """Give a sketch up, unless it has ended: it is neither drawn nor decoded further."""
        self._change(sketch, lambda look: replace(look, state="gone"))

    def close(self) -> None:
        """Let go of all sketches, for good."""
        with self._lock:
            self._closed = True
            sketches = list(self._newest.values())
        for sketch in sketches:
            self.let_go(sketch)

    def fail_all(self, sentence: str) -> None:
        """End every sketch with the sentence that says why."""
        with self._lock:
            sketches = list(self._newest.values())
        self._drawn.clear()
        for sketch in sketches:
            self._change(sketch, lambda look: replace(look, state="failed", sentence=sentence))

    # What the painter does between two steps

    @property
    def artists(self) -> set[str]:
        """Whose sketches are being drawn."""
        return {sketch.artist_id for sketch in list(self._drawn)}

    def join(self, model: StableDiffusion, batcher: StepBatcher) -> None:
        """Let the runs of new sketches into the batch and those of ended ones out of it."""
        from pipelines.calls import engine_of
        from pipelines.prompt_to_image import prompt_to_image

        for sketch in [sketch for sketch in self._drawn if sketch.look.ended]:
            batcher.leave(sketch)
            self._drawn.discard(sketch)
        with self._lock:
            queued = [sketch for sketch in self._newest.values() if sketch.look.state == "queued"]
        for sketch in queued:
            try:
                run, engine = prompt_to_image(model, sketch.recipe), engine_of(model, sketch.recipe)
            except Exception as error:
                self._fail(sketch, error)
                continue
            self._drawn.add(sketch)  # before it is told that it is
            if self._change(sketch, lambda look: replace(look, state="drawing")):
                batcher.join(sketch, run, engine)
            else:
                self._drawn.discard(sketch)

    def came(self, sketch: Sketch, event: Frame | Finished | Failed) -> None:
        """Take what a sketch's run came to: each step is shown, as fast as the finisher can."""
        from pipelines.batching import Failed, Finished

        match event:
            case Failed(error):
                self._drawn.discard(sketch)
                self._fail(sketch, error)
            case Finished(latents):
                self._drawn.discard(sketch)
                self._show(sketch, lambda: latents, {"state": "done"})
            case frame:
                steps = {"step": frame.step + 1, "steps": frame.steps}
                self._show(sketch, lambda: frame.denoised, steps)

    def _show(self, sketch: Sketch, look: Callable[[], Tensor], come_to: Mapping[str, object]) -> None:
        """Have latents worked out and decoded; what of the same sketch is older by then is passed over."""

        def decode(model: StableDiffusion) -> None:
            from pipelines.decoding import decode_looks

            if sketch.look.ended:
                return
            try:
                latents = look()
                if not bool(latents.isfinite().all()):
                    raise NotFinite
                content = webp_bytes(decode_looks(model, [latents])[0])
            except Exception as error:
                self._fail(sketch, error)
                return
            url = f"data:image/webp;base64,{base64.b64encode(content).decode()}"
            self._change(sketch, lambda look: replace(look, image=url, **come_to))

        self._finisher.soon(sketch, decode)

    def _fail(self, sketch: Sketch, error: Exception) -> None:
        log.info("a sketch failed: %s", error)
        self._change(sketch, lambda look: replace(look, state="failed", sentence=sentence_for(error)))

    def _change(self, sketch: Sketch, change: Callable[[Look], Look]) -> bool:
        """Change a sketch that has not ended; False when it has."""
        with self._lock:
            if sketch.look.ended:
                return False
            sketch.look = change(sketch.look)
            if sketch.look.ended and self._newest.get(sketch.artist_id) is sketch:
                del self._newest[sketch.artist_id]
        sketch.wake()
        return True
