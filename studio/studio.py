"""The studio: everything behind the page, assembled once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pipelines.models.find import find_model
from pipelines.models.ip_adapter_files import IPAdapterShelf
from pipelines.models.lora_files import LoraShelf
from pipelines.models.shelves import Shelves
from pipelines.recipe import MAX_SEED, BadInput, Recipe, make_recipe
from studio.artists import Artists
from studio.dissolving import describe_dissolving
from studio.export import Export, check_export, read_reel
from studio.files import DataDir, Lock, remove_folder
from studio.finishing import Finisher
from studio.gallery import Artwork, Gallery, NotHers
from studio.jobs import Job, Jobs
from studio.layers import Layers
from studio.opening import describe_timeline, open_timeline, whole_layers
from studio.presets import Presets
from studio.queue import JobQueue, ModelState
from studio.rebuild import open_index
from studio.sentences import refusing_when_full
from studio.settings import Settings
from studio.sketches import Sketch, Sketches
from studio.sources import Sources
from studio.storage import Storage
from studio.timelines import LAST_STOP, LAYERS, MASK, Layer

if TYPE_CHECKING:
    from pipelines.models.sd import StableDiffusion

log = logging.getLogger(__name__)

_HEARTBEAT_S = 15.0


class Studio:
    """A studio on one data directory with one model; nothing is painted before `start`.

    Use it as a context manager, or `start` and `close` it.
    """

    def __init__(self, settings: Settings) -> None:
        """Open the data directory and find the model, without loading it.

        Raises:
            BadInput: the data directory cannot be written or is in use, or there is no such model.
        """
        self.settings = settings
        self.folder = find_model(settings.model)
        self._data = DataDir(settings.data_dir.expanduser().absolute())
        self._data.prepare()
        with ExitStack() as opened, refusing_when_full():
            self._lock = opened.enter_context(Lock(self._data))
            self._index = open_index(self._data, settings.database_url)
            opened.callback(self._index.close)
            self.artists = Artists(self._index, self._data)
            self.gallery = Gallery(self._index, self._data)
            self.sources = Sources(
                self._index,
                self._data,
                self.gallery,
                max_bytes=settings.max_source_bytes,
                max_pixels=settings.max_source_pixels,
            )
            self.presets = Presets(self._data)
            self.shelves = Shelves(
                LoraShelf(
                    tuple(filter(None, (settings.loras, self._data.loras))),
                    self.folder,
                    "the studio's loras folder",
                ),
                IPAdapterShelf(
                    tuple(filter(None, (settings.ip_adapters, self._data.ip_adapters))),
                    self.folder,
                    "the studio's ip_adapters folder",
                ),
            )
            self.jobs = Jobs(self._index, keep_live_s=settings.keep_live_s)
            self.storage = Storage(self._index, self._data, budget_bytes=settings.timeline_budget_bytes)
            self._finisher = Finisher(self.jobs, self.gallery, self.storage, self.sources, self._data)
            self._layers = Layers(self.ready_model, self.sources.open)
            self.sketches = Sketches(self._finisher, self.jobs.nudge)
            self.queue = JobQueue(
                self.jobs,
                self._finisher,
                self.sources,
                self.sketches,
                self.shelves,
                self.folder,
                runs_per_artist=settings.runs_per_artist,
                deterministic=settings.deterministic,
            )
            self.artists.guest()
            again = self.jobs.restore()
            self._sweep()
            self.storage.take_stock()
            opened.pop_all()  # all went well: from here on `close` lets go of it
        if again:
            log.info("%d pictures are queued again", again)

    @property
    def model_state(self) -> ModelState:
        """How far the model is."""
        return self.queue.model_state

    def ready_model(self) -> StableDiffusion:
        """Return the model.

        Raises:
            BadInput: it is still being loaded, or cannot be.
        """
        if self._finisher.model is None:
            raise BadInput(self.model_state.sentence, "model")
        return self._finisher.model

    def start(self) -> None:
        """Begin to load the model, then to paint."""
        self.queue.start()

    def close(self) -> None:
        """Stop painting between two steps; unfinished jobs come again at the next start."""
        self.sketches.close()
        self.jobs.close()
        self.queue.close()
        self._finisher.close()
        self.jobs.write_ends()
        self._index.close()
        self._lock.close()

    def __enter__(self) -> Studio:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def submit(self, artist_id: str, recipes: Sequence[Recipe]) -> str:
        """Queue pictures, also while the model is still loading.

        Returns:
            The id of their group.

        Raises:
            BadInput: none or too many pictures, a sampler this model does not follow, a source she did not
                bring, a LoRA or an IP-Adapter that is not here, an unknown artist, or a full disk.
        """
        for recipe in recipes:
            self.folder.check_sampler(recipe.sampler)
            self.sources.check(recipe, artist_id)
            self.shelves.check(recipe)
        return self.jobs.add(artist_id, recipes)

    def sketch(self, artist_id: str, wake: Callable[[], None], **fields: object) -> Sketch:
        """Begin a sketch of a recipe's fields, at the pace of the model's companion.

        Raises:
            BadInput: with the sentence for the artist; also where the model has no companion.
        """
        folder = self.folder
        if folder.companion is None:
            raise BadInput(f"{folder.name} has no few-step weights beside it to sketch with.", "model")
        pace = folder.companion.pace.model_dump()
        recipe = make_recipe(model=folder.name, model_revision=folder.revision, **pace, **fields)
        return self.sketches.ask(artist_id, recipe, wake)

    def cancel(self, artist_id: str, group: str) -> None:
        """Cancel what has not ended of an artist's group.

        Raises:
            NotHers: she has no such group.
        """
        self.jobs.cancel(artist_id, group)

    async def finished(self, artist_id: str, group: str) -> list[Job]:
        """Wait until every picture of a group is done, failed or cancelled.

        Returns:
            The jobs as they are then; earlier when the studio closes.

        Raises:
            NotHers: she has no such group.
        """
        with self.jobs.watch(group) as watch:
            while True:
                watch.clear()
                jobs = self.jobs.of_group(artist_id, group)
                if self.jobs.closed or all(job.ended for job in jobs):
                    return jobs
                await watch.wait(_HEARTBEAT_S)

    def timeline(self, artwork_id: str, artist_id: str) -> dict[str, object]:
        """Describe the timeline of a picture that an artist may see, as `GET /timelines/{id}` does.

        Raises:
            NotHers: there is no such picture for her.
            BadInput: the picture's timeline is gone, with what became of it, or is still being drawn.
        """
        artwork = self.gallery.get(artwork_id, artist_id)
        self._check_drawn(artwork)
        try:
            told = describe_timeline(self._data.timeline(artwork_id), artwork_id)
        except BadInput:
            if artwork.has_timeline:
                self.storage.lose(artwork_id)
            raise
        if not artwork.has_timeline and not told["gone"]:
            self.storage.add(artwork_id)  # it was put back by hand, or never listed
        return told | {"mine": artwork.artist_id == artist_id, "pinned": artwork.pinned}

    def repaint(self, artist_id: str, artwork_id: str) -> str:
        """Paint the timeline of one of her own pictures again, from its recipe; the picture stays as it is.

        Returns:
            The id of the group to follow: of the one that paints it already, if there is one.

        Raises:
            NotHers: it is not hers.
            BadInput: it was painted with other weights, what it needs is not here, or the disk is full.
        """
        artwork = self.gallery.get(artwork_id, artist_id)
        if artwork.artist_id != artist_id:
            raise NotHers
        self._check_drawn(artwork)
        if group := self.jobs.repainting(artwork_id):
            return group
        recipe = artwork.recipe
        if recipe.model_revision != self.folder.revision:
            raise BadInput(
                f"It was painted with {recipe.model} ({recipe.model_revision[:8]}), and this studio has "
                f"{self.folder.name} ({self.folder.revision[:8]}): only that one paints it again.",
                "model",
            )
        self.shelves.check(recipe)
        return self.jobs.add(artist_id, [recipe], repaints=artwork_id)

    def sheet(self, artwork_id: str, artist_id: str, layer: str) -> Path:
        """Find one layer's sheet of tiles of a timeline that an artist may see.

        Raises:
            NotHers: there is no such picture for her.
            BadInput: the picture has no timeline, not yet, or no such layer.
        """
        self._check_drawn(self.gallery.get(artwork_id, artist_id))
        if f"{layer}.webp" == LAST_STOP:
            return self._last_stop(artwork_id, artist_id)
        mask = self._data.timeline(artwork_id) / MASK
        if f"{layer}.webp" == MASK and mask.exists():
            return mask
        if layer not in LAYERS:
            raise BadInput(f"A timeline has the layers {' and '.join(LAYERS)}, not {layer}.", "layer")
        folder = self._data.timeline(artwork_id)
        if layer not in whole_layers(folder):
            open_timeline(folder)
            raise BadInput("These pictures of the timeline are missing or damaged.", "timeline")
        return folder / f"{layer}.webp"

    def heat(self, artwork_id: str, artist_id: str, kind: str, word: str) -> bytes:
        """Draw the heat over a timeline that an artist may see, as a PNG (`Layers.draw`).

        Raises:
            NotHers: there is no such picture for her.
            BadInput: the picture has no timeline or it is damaged, or there is no such heat.
        """
        self._check_drawn(self.gallery.get(artwork_id, artist_id))
        return self._layers.draw(self._data.timeline(artwork_id), kind, word)

    def dissolving(self, key: str, artist_id: str, seed: int) -> dict[str, object]:
        """Describe how a picture that an artist brought dissolves (`describe_dissolving`).

        Raises:
            NotHers: she did not bring it.
            BadInput: the seed is out of range, or the model is not ready.
        """
        content = self.sources.file(key, artist_id).read_bytes()
        if not 0 <= seed <= MAX_SEED:
            raise BadInput(f"Seed must be a whole number from 0 to {MAX_SEED}, not {seed}.", "seed")
        return describe_dissolving(self.ready_model(), content, seed=seed)

    def export(
        self, artwork_id: str, artist_id: str, kind: str, layer: str, fps: int
    ) -> tuple[bytes, Export]:
        """Write the timeline of a picture that an artist may see as a file to take away.

        Raises:
            NotHers: there is no such picture for her.
            BadInput: no such kind, layer or speed, or the timeline is not there or damaged.
        """
        way = check_export(kind, fps)
        self.sheet(artwork_id, artist_id, layer)
        folder, picture = self._data.timeline(artwork_id), self._last_stop(artwork_id, artist_id)
        chosen: Layer = "latents" if layer == "latents" else "denoised"
        return way.write(read_reel(folder, artwork_id, picture, chosen), fps), way

    def _last_stop(self, artwork_id: str, artist_id: str) -> Path:
        """Find the finished picture of a timeline: of one that was repainted in part, that part."""
        part = self._data.timeline(artwork_id) / LAST_STOP
        return part if part.exists() else self.gallery.file(artwork_id, artist_id)

    def is_drawing(self, artwork: Artwork) -> bool:
        """Tell whether the timeline of a picture is still to come."""
        job = self.jobs.get(artwork.id)
        coming = self._finisher.is_drawing(artwork.id) or (job is not None and not job.settled)
        return coming and not artwork.has_timeline

    def _check_drawn(self, artwork: Artwork) -> None:
        if self.is_drawing(artwork):
            raise BadInput("The timeline of this picture is still being drawn.", "timeline")

    def _sweep(self) -> None:
        """Remove timelines and sources that belong to no picture and to no job that will be painted again."""
        self.sources.sweep()
        for folder in self._data.timelines.iterdir():
            if not self.gallery.has(folder.name) and self.jobs.get(folder.name) is None:
                remove_folder(folder)
