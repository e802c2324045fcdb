"""The painter: one thread that owns the model and advances everybody's pictures together."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipelines.models.find import ModelFolder
from pipelines.models.shelves import Shelves
from pipelines.recipe import BadInput, Recipe
from studio.finishing import Finisher
from studio.jobs import Job, Jobs
from studio.sentences import sentence_for
from studio.sketches import Sketch, Sketches
from studio.sources import Sources
from studio.turns import Turns, Waiting

if TYPE_CHECKING:
    from pipelines.batching import StepBatcher
    from pipelines.models.sd import StableDiffusion

log = logging.getLogger(__name__)

# Side by side, pictures of one artist cost each other their time on a CPU and hardly any on an accelerator,
# up to about this many pictures together.
_RUNS_ON_CPU = 1
_RUNS_ON_ACCELERATOR = 16
_ROWS_TOGETHER = 64
# Networks with LoRAs that artists' second and further pictures may ask for; each takes memory of its own.
_MERGED_TOGETHER = 4
_IDLE_S = 2.0
# A minute's compiling is not waited for when the studio closes.
_CLOSING_S = 5.0


@dataclass(frozen=True, slots=True)
class ModelState:
    """How far the model is; `sentence` says it to artists, device and dtype are known once it is ready."""

    state: Literal["loading", "ready", "failed"]
    sentence: str
    device: str | None = None
    dtype: str | None = None


class JobQueue:
    """Admits queued jobs fairly and paints them.

    Every artist with waiting work has a picture in the works, so nobody waits for another's; of one artist's,
    up to `runs_per_artist` are painted side by side (0: the device decides) while what memory holds in one
    call is not exceeded, what she asked for singly before what she asked for in bulk, then oldest first.
    Pictures join and leave between steps, and take their steps in turns that are fair (`Turns`). The thread
    never dies: what raises fails with a sentence, and it goes on.
    """

    def __init__(
        self,
        jobs: Jobs,
        finisher: Finisher,
        sources: Sources,
        sketches: Sketches,
        shelves: Shelves,
        folder: ModelFolder,
        *,
        runs_per_artist: int,
        deterministic: bool,
    ) -> None:
        self._jobs = jobs
        self._finisher = finisher
        self._sketches = sketches
        self._sources = sources
        self._shelves = shelves
        self._folder = folder
        self._runs_per_artist = runs_per_artist
        self._deterministic = deterministic
        self._buckets: tuple[int, ...] = ()
        self._painting: dict[str, Job] = {}
        self._turns = Turns()
        self._tidied_at = 0.0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._paint_forever, name="painter")
        self._hastening = threading.Thread(target=self._hasten, name="hastening", daemon=True)
        self.model_state = ModelState("loading", f"The model {folder.name} is being loaded.")

    def start(self) -> None:
        """Begin to load the model, then to paint."""
        self._thread.start()

    def close(self) -> None:
        """Stop between two steps; what is not finished is painted at the next start."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._hastening.is_alive():
            self._hastening.join(_CLOSING_S)

    def _paint_forever(self) -> None:
        model = self._load()
        if model is None:
            while not self._closing.is_set():
                news = self._jobs.news
                for job in self._jobs.in_state("queued"):
                    self._jobs.fail(job.id, self.model_state.sentence)
                self._sketches.fail_all(self.model_state.sentence)
                self._tidy()
                self._jobs.wait(news, _IDLE_S)
            return
        while not self._closing.is_set():
            try:
                self._paint(model)
            except Exception as error:
                # Not one run's mistake but the painter's: whoever was being painted learns of it.
                log.exception("the painter goes on")
                for job_id in self._painting:
                    self._fail(job_id, error)
                self._painting.clear()
                self._sketches.fail_all(sentence_for(error))

    def _load(self) -> StableDiffusion | None:
        try:
            from pipelines.models.cuda_graphs import CudaGraphs, cuda_graphs_are_for
            from pipelines.models.load import load_model
            from pipelines.models.openvino_cpu import openvino_is_for

            model = load_model(self._folder)
            model.find_on(self._shelves)
            if model.device.type != "cpu":
                from pipelines.calls import fit_buckets

                self._buckets = fit_buckets(model, deterministic=self._deterministic)
                log.info("calls have at most %d rows", self._buckets[-1])
            hastened = not self._deterministic and (cuda_graphs_are_for(model) or openvino_is_for(model))
            if hastened and cuda_graphs_are_for(model):
                model.compiled = CudaGraphs(model)
            self._finisher.start(model)
        except Exception as error:
            log.exception("the model %s could not be loaded", self._folder.path)
            reason = str(error) if isinstance(error, BadInput) else sentence_for(error)
            self.model_state = ModelState("failed", f"The model {self._folder.name} cannot paint. {reason}")
            return None
        device, dtype = model.device.type, str(model.dtype).removeprefix("torch.")
        if not self._runs_per_artist:
            self._runs_per_artist = _RUNS_ON_CPU if device == "cpu" else _RUNS_ON_ACCELERATOR
        self.model_state = ModelState("ready", f"{self._folder.name} is ready.", device, dtype)
        log.info("%s is ready on %s in %s", self._folder.name, device, dtype)
        if hastened:
            self._hastening.start()
        return model

    def _hasten(self) -> None:
        """Prepare the faster engine beside the painter.

        With CUDA graphs pictures go over to it as calls are compiled; with OpenVINO, those that begin later.
        """
        from pipelines.models.openvino_cpu import prepare_openvino

        model = self._finisher.model
        assert model is not None
        try:
            if model.compiled is not None:
                model.compiled.keep_compiling(self._closing.wait)
                return
            model.openvino = prepare_openvino(model, self._closing.wait)
        except Exception:
            log.exception("the studio goes on without a faster engine")
            return
        log.info("pictures are painted with OpenVINO from now on")

    def _paint(self, model: StableDiffusion) -> None:
        """Paint until the studio closes; runs live and die in here."""
        import torch

        from pipelines.batching import Failed, Finished, StepBatcher

        batcher = StepBatcher(model, buckets=self._buckets)
        with torch.inference_mode():
            while not self._closing.is_set():
                news = self._jobs.news
                self._tidy()
                self._release_ended(batcher)
                self._admit(model, batcher)
                self._sketches.join(model, batcher)
                if len(batcher) == 0:
                    self._jobs.wait(news, _IDLE_S)
                    continue
                for key, event in batcher.tick(self._resting(batcher)):
                    if isinstance(key, Sketch):
                        self._sketches.came(key, event)
                        continue
                    job_id = str(key)
                    match event:
                        case Finished(latents, calls):
                            self._finisher.finished(job_id, latents, calls)
                            del self._painting[job_id]
                        case Failed(error):
                            log.error("job %s failed", job_id, exc_info=error)
                            self._fail(job_id, error)
                            del self._painting[job_id]
                        case frame:
                            self._jobs.stepped(job_id, frame.step + 1, frame.steps)
                            self._finisher.frame(job_id, frame)

    def _resting(self, batcher: StepBatcher) -> set[str]:
        """Choose the pictures that rest: those of artists whose sketch is drawn, and whose turn it is not."""
        artists = self._sketches.artists
        bulk = self._jobs.bulk
        waiting = [
            Waiting(job.id, job.artist_id, batcher.rows_of(job.id), job.group in bulk)
            for job in self._painting.values()
            if job.artist_id not in artists
        ]
        chosen = self._turns.choose(waiting, batcher.rows_at_once) if waiting else set[str]()
        return self._painting.keys() - chosen

    def _release_ended(self, batcher: StepBatcher) -> None:
        """Let go of runs whose job was cancelled or failed since the last step."""
        for job_id in list(self._painting):
            job = self._jobs.get(job_id)
            if job is None or job.ended:
                batcher.leave(job_id)
                self._finisher.drop(job_id)
                del self._painting[job_id]

    def _admit(self, model: StableDiffusion, batcher: StepBatcher) -> None:
        runs = Counter(job.artist_id for job in self._painting.values())
        room = batcher.rows_at_once or _ROWS_TOGETHER
        taken = sum(batcher.rows_of(job_id) for job_id in self._painting)
        merged = {job.recipe.loras for job in self._painting.values()} - {()}
        for job in self._jobs.queued():
            hers = runs[job.artist_id]
            loras = job.recipe.loras
            has_weights = not loras or loras in merged or len(merged) < _MERGED_TOGETHER
            has_room = hers < self._runs_per_artist and taken < room and has_weights
            if (hers == 0 or has_room) and self._begin(model, batcher, job):
                self._painting[job.id] = job
                runs[job.artist_id] += 1
                merged |= {loras} - {()}
                taken += batcher.rows_of(job.id)

    def _begin(self, model: StableDiffusion, batcher: StepBatcher, job: Job) -> bool:
        from pipelines.calls import engine_of
        from pipelines.prompt_to_image import prompt_to_image
        from pipelines.remarks import remarks

        try:
            self._check_model(job.recipe)
            notes = remarks(model, job.recipe)
            known = self._finisher.known(job.recipe, model.device)
            run = prompt_to_image(model, job.recipe, known, self._sources.open)
            engine = engine_of(model, job.recipe, self._finisher.calls(job))
        except Exception as error:
            if not isinstance(error, BadInput):
                log.exception("job %s could not begin", job.id)
            self._fail(job.id, error)
            return False
        if not self._jobs.start(job.id, notes):
            run.close()
            return False
        self._finisher.begin(job)
        batcher.join(job.id, run, engine)
        return True

    def _check_model(self, recipe: Recipe) -> None:
        """Refuse a recipe that was made for other weights, as before a restart with another model."""
        if recipe.model_revision != self._folder.revision:
            raise BadInput(
                f"This picture was asked of {recipe.model} ({recipe.model_revision[:8]}); this studio has "
                f"{self._folder.name} ({self._folder.revision[:8]}). Ask for it again.",
                "model",
            )

    def _fail(self, job_id: str, error: Exception) -> None:
        self._finisher.drop(job_id)
        self._jobs.fail(job_id, sentence_for(error))

    def _tidy(self) -> None:
        """Now and then, write what could not be written and let go of what is over."""
        if time.monotonic() - self._tidied_at >= _IDLE_S:
            self._jobs.write_ends()
            self._jobs.forget_settled()
            self._tidied_at = time.monotonic()
