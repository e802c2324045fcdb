"""A faster engine is prepared beside the painter; whatever becomes of it, nobody's picture is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from PIL import Image
from torch import Tensor

from pipelines import decoding
from pipelines.denoising import Rows
from pipelines.models.cuda_graphs import compile_decoder
from pipelines.models.sd import StableDiffusion
from studio.studio import Studio
from tests.studio.conftest import paint_one, wait_for_end, wait_until
from tests.studio.recipes import recipe_for

OpenStudio = Callable[..., Studio]


class ReadyWhenTold:
    """The model's own network, on the CPU, in the place of graphs that take a while to be recorded."""

    def __init__(self, model: StableDiffusion, ready: threading.Event, *, fails: bool = False) -> None:
        self._model, self._ready, self._fails = model, ready, fails
        with torch.inference_mode(False), torch.no_grad():
            self._decode = compile_decoder(model, looks=False, backend="eager")

    def keep_compiling(self, is_over: Callable[[float], bool]) -> None:
        if self._fails:
            raise RuntimeError("the compiler has no compiler")
        while not is_over(0.01):
            pass

    def predict(self, rows: Rows) -> Tensor | None:
        return self._model.predict(rows) if self._ready.is_set() else None

    def decode(self, latents: Tensor, *, looks: bool = False) -> Tensor | None:
        del looks
        with torch.inference_mode(False), torch.no_grad():
            return self._decode(latents.clone()) if self._ready.is_set() else None


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Have studios believe that graphs can be recorded here; they are ready once this is set."""
    ready = threading.Event()

    def graphs(model: StableDiffusion) -> ReadyWhenTold:
        return ReadyWhenTold(model, ready)

    monkeypatch.setattr("pipelines.models.cuda_graphs.CudaGraphs", graphs)

    def yes(_: object) -> bool:
        return True

    monkeypatch.setattr("pipelines.models.cuda_graphs.cuda_graphs_are_for", yes)
    return ready


def test_a_picture_goes_over_to_the_faster_engine_midway(
    open_studio: OpenStudio, ready: threading.Event
) -> None:
    studio = open_studio()
    berthe = studio.artists.create("Berthe")
    before = paint_one(studio, berthe.id, seed=3)
    group = studio.submit(berthe.id, [recipe_for(studio, seed=3, num_inference_steps=40)])
    wait_until(lambda: studio.jobs.live(group)[0].step > 2)
    ready.set()
    (midway,) = wait_for_end(studio, berthe.id, group)
    after = paint_one(studio, berthe.id, seed=3)
    calls = [studio.gallery.calls(job.id) for job in (before, midway, after)]
    decoder = "decoder compiled 1"
    assert calls == ["eager 2", f"eager 2 + compiled 2 + {decoder}", f"compiled 2 + {decoder}"]
    for job in (before, after):
        again = studio.repaint(berthe.id, job.id)
        (repainted,) = wait_for_end(studio, berthe.id, again)
        assert repainted.state == "done"
        assert not repainted.notes, "by its own engine and decoder, to the same pixels"


def test_deterministic_studios_keep_to_one_engine(open_studio: OpenStudio, ready: threading.Event) -> None:
    ready.set()
    studio = open_studio(deterministic=True)
    job = paint_one(studio, studio.artists.create("Berthe").id)
    assert studio.gallery.calls(job.id) == "eager 2"


def test_the_studio_goes_on_without_an_engine_that_fails(
    open_studio: OpenStudio,
    monkeypatch: pytest.MonkeyPatch,
    ready: threading.Event,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def failing(model: StableDiffusion) -> ReadyWhenTold:
        return ReadyWhenTold(model, ready, fails=True)

    monkeypatch.setattr("pipelines.models.cuda_graphs.CudaGraphs", failing)
    studio = open_studio()
    job = paint_one(studio, studio.artists.create("Berthe").id)
    assert job.state == "done"
    assert studio.gallery.calls(job.id) == "eager 2"
    assert sum("without a faster engine" in record.message for record in caplog.records) == 1


def test_previews_of_several_artists_are_decoded_in_one_call(
    open_studio: OpenStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on an accelerator; the pictures that are kept are decoded alone."""

    def eight(*_: object, **__: object) -> int:
        return 8

    monkeypatch.setattr(decoding, "decoded_at_once", eight)
    studio = open_studio()
    alone = paint_one(studio, studio.artists.create("Berthe").id, seed=1)
    decoded: list[int] = []
    preview = StableDiffusion.preview

    def noted(model: StableDiffusion, latents: Tensor) -> Tensor:
        decoded.append(len(latents))
        return preview(model, latents)

    monkeypatch.setattr(StableDiffusion, "preview", noted)
    artists = [studio.artists.create(name).id for name in ("Edgar", "Mary", "Claude")]
    groups = [studio.submit(artist, [recipe_for(studio, seed=1)]) for artist in artists]
    pixels: set[bytes] = set()
    for artist, group in zip(artists, groups, strict=True):
        (job,) = wait_for_end(studio, artist, group)
        assert job.state == "done"
        assert job.previews
        with Image.open(studio.gallery.file(job.id, artist)) as image:
            pixels.add(image.tobytes())
    with Image.open(studio.gallery.file(alone.id, alone.artist_id)) as image:
        assert pixels == {image.tobytes()}
    assert max(decoded) > 1, "some were waiting together"


def test_pictures_that_are_decoded_together_can_be_had_again(
    open_studio: OpenStudio, ready: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on an accelerator: whoever ends at the same time shares a call, and it is named."""

    def two(*_: object, **__: object) -> int:
        return 2

    monkeypatch.setattr(decoding, "decoded_at_once", two)
    ready.set()
    studio = open_studio()
    artists = [studio.artists.create(name).id for name in ("Edgar", "Mary", "Claude", "Berthe")]
    groups = [studio.submit(artist, [recipe_for(studio, seed=1)]) for artist in artists]
    for artist, group in zip(artists, groups, strict=True):
        (job,) = wait_for_end(studio, artist, group)
        network, _, decoder = studio.gallery.calls(job.id).partition(" + decoder ")
        assert network == "compiled 2"
        assert decoder in ("compiled 1", "compiled 2")
        (again,) = wait_for_end(studio, artist, studio.repaint(artist, job.id))
        assert again.state == "done"
        assert not again.notes, "to the same pixels"
