"""Pictures that artists bring: kept once, for those who brought them, as long as something needs them."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Generator

import httpx
import numpy as np
import pytest
from PIL import Image

from pipelines.recipe import BadInput
from pipelines.sources import make_source, source_key
from studio.brushing import keep_brushed
from studio.files import DataDir
from studio.provenance import infotext
from studio.settings import Settings
from studio.studio import Studio
from tests.studio.conftest import browser, paint_one, served, wait_for_end
from tests.studio.recipes import recipe_for

OpenStudio = Callable[..., Studio]


def png(size: tuple[int, int] = (80, 64), colour: str = "teal") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def address(open_studio: OpenStudio) -> Generator[str]:
    studio = open_studio(start=False, max_source_bytes=5000, max_source_pixels=10_000)
    with served(studio) as opened:
        yield opened


def bring(client: httpx.Client, content: bytes, kind: str = "image/png") -> httpx.Response:
    return client.post("/sources", content=content, headers={"content-type": kind})


def test_a_picture_is_brought_and_only_its_artist_sees_it(address: str) -> None:
    with browser(address, "Berthe") as berthe, browser(address, "Edgar") as edgar, browser(address) as nobody:
        answer = bring(berthe, png())
        assert answer.json() == {"source": source_key(png()), "width": 80, "height": 64}
        assert bring(berthe, png()).json() == answer.json(), "the same file again is the same source"
        url = f"/sources/{answer.json()['source']}"
        assert berthe.get(url).content == png()
        assert edgar.get(url).status_code == 404
        assert nobody.get(url).status_code == 401
        assert edgar.get("/sources/..%2fsecret").status_code == 404
        assert edgar.get(f"/sources/{'0' * 64}").status_code == 404
        bring(edgar, png())
        assert edgar.get(url).content == png(), "who brings the same file has it as well"


@pytest.mark.parametrize(
    ("content", "kind", "status", "sentence"),
    [
        (b"just words", "image/png", 422, "not a picture that Atelier can open"),
        (b"", "image/png", 422, "empty"),
        (png()[:100], "image/png", 422, "damaged"),
        (png((101, 100)), "image/png", 422, "101x100 pixels"),
        (b"x" * 5001, "application/octet-stream", 413, "too large"),
        (png(), "text/plain", 415, "as it is"),
    ],
)
def test_what_cannot_be_brought_gets_a_sentence(
    address: str, content: bytes, kind: str, status: int, sentence: str
) -> None:
    with browser(address, "Berthe") as berthe:
        answer = bring(berthe, content, kind)
        assert (answer.status_code, sentence in answer.json()["sentence"]) == (status, True), answer.json()


def test_a_picture_is_painted_over_and_over(studio: Studio) -> None:
    berthe, edgar = studio.artists.create("Berthe"), studio.artists.create("Edgar")
    first = paint_one(studio, berthe.id)
    kept = studio.sources.keep_artwork(berthe.id, first.id)
    source = make_source(image=kept.key, strength=0.5)
    job = paint_one(studio, berthe.id, source=source)
    assert (job.state, job.steps) == ("done", 2)
    recipe = studio.gallery.get(job.id, berthe.id).recipe
    assert recipe.source == source
    assert "Denoising strength: 0.5" in infotext(recipe)
    with pytest.raises(BadInput, match="not among yours"):
        studio.submit(edgar.id, [recipe])
    with pytest.raises(LookupError):
        studio.sources.keep_artwork(edgar.id, first.id)
    studio.gallery.hang(first.id, berthe.id, True)
    studio.sources.keep_artwork(edgar.id, first.id)
    (again,) = wait_for_end(studio, edgar.id, studio.submit(edgar.id, [recipe]))
    assert again.state == "done", "a picture on the wall may be begun from"


def test_a_part_is_repainted_and_its_timeline_shows_that_part(studio: Studio) -> None:
    berthe = studio.artists.create("Berthe")
    image, mask = png((150, 120)), png((150, 120), "black")
    with Image.open(io.BytesIO(mask)) as black:
        black.paste("white", (100, 80, 120, 100))
        stream = io.BytesIO()
        black.save(stream, "PNG")
    keys = [studio.sources.keep(berthe.id, content).key for content in (image, stream.getvalue())]
    source = make_source(image=keys[0], mask=keys[1], strength=0.5)
    job = paint_one(studio, berthe.id, source=source)
    assert (job.state, job.timeline_ready) == ("done", True), job.sentence
    with Image.open(studio.gallery.file(job.id, berthe.id)) as whole:
        assert whole.size == (150, 120)
        assert whole.convert("RGB").crop((0, 0, 90, 120)).getcolors() == [(90 * 120, (0, 128, 128))]
    told = studio.timeline(job.id, berthe.id)
    assert told["picture"] == f"/timelines/{job.id}/picture.webp"
    with Image.open(studio.sheet(job.id, berthe.id, "picture")) as part:
        assert part.size == (64, 64)
    assert told["mask"] == f"/timelines/{job.id}/mask.webp"
    with Image.open(studio.sheet(job.id, berthe.id, "mask")) as shown:
        assert shown.size == (64, 64)
        assert 0 < np.asarray(shown.convert("L")).mean() < 128, "a part of the part is outlined"
    content, _ = studio.export(job.id, berthe.id, "webp", "denoised", 12)
    assert content.startswith(b"RIFF")


def test_two_fills_are_brushed_into_one_that_can_be_painted_again(studio: Studio) -> None:
    berthe = studio.artists.create("Berthe")
    stream = io.BytesIO()
    hole = Image.new("L", (150, 120))
    hole.paste(255, (60, 40, 110, 80))
    hole.save(stream, "PNG")
    keys = [studio.sources.keep(berthe.id, content).key for content in (png((150, 120)), stream.getvalue())]
    source = make_source(image=keys[0], mask=keys[1], strength=0.9)
    under, over = (paint_one(studio, berthe.id, source=source, seed=seed) for seed in (1, 2))
    stream = io.BytesIO()
    brushed = Image.new("L", (75, 60))  # as seen small
    brushed.paste(255, (45, 0, 75, 60))
    brushed.save(stream, "PNG")
    kept = keep_brushed(studio, berthe.id, under.id, over.id, stream.getvalue())
    below, above, both = (
        np.asarray(Image.open(studio.gallery.file(one, berthe.id))) for one in (under.id, over.id, kept)
    )
    assert not np.array_equal(below, above)
    assert np.array_equal(both[:, :88], below[:, :88])
    assert np.array_equal(both[:, 92:], above[:, 92:])
    recipe = studio.gallery.get(kept, berthe.id).recipe
    assert recipe.source is not None
    assert len(recipe.source.files) == 4
    # Painted again from its recipe alone, it is the same to the bit.
    (again,) = wait_for_end(studio, berthe.id, studio.submit(berthe.id, [recipe]))
    assert np.array_equal(np.asarray(Image.open(studio.gallery.file(again.id, berthe.id))), both)
    with pytest.raises(BadInput, match="Only a fill can have another brushed over it"):
        keep_brushed(studio, berthe.id, kept, over.id, stream.getvalue())


def test_sources_stay_while_something_needs_them(open_studio: OpenStudio, settings: Settings) -> None:
    data = DataDir(settings.data_dir)
    studio = open_studio()
    berthe = studio.artists.create("Berthe")
    used, waiting, idle, fresh = (
        studio.sources.keep(berthe.id, png(colour=colour)).key for colour in ("red", "green", "blue", "white")
    )
    paint_one(studio, berthe.id, source=make_source(image=used, strength=0.5))
    studio.close()
    late = open_studio(start=False)
    late.submit(berthe.id, [recipe_for(late, source=make_source(image=waiting, strength=1))])
    late.close()
    long_ago = time.time() - 400 * 24 * 3600
    for file in data.sources.iterdir():
        if not file.name.startswith(fresh):
            os.utime(file, (long_ago, long_ago))
    open_studio(start=False)
    left = {file.name for file in data.sources.iterdir() if "." not in file.name}
    assert left == {used, waiting, fresh}
    assert not list(data.sources.glob(f"{idle}*")), "its marks are gone too"


def test_a_source_that_is_gone_fails_with_a_sentence(studio: Studio, settings: Settings) -> None:
    data = DataDir(settings.data_dir)
    berthe = studio.artists.create("Berthe")
    key = studio.sources.keep(berthe.id, png()).key
    data.source(key).unlink()
    job = paint_one(studio, berthe.id, source=make_source(image=key, strength=0.5))
    assert job.state == "failed"
    assert "Bring it once more" in job.sentence
