"""A fill laid into its picture the other way: fitted in, or just as the model painted it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pipelines.recipe import BadInput, read_recipe
from pipelines.sources import make_source
from studio.brushing import laid, lay
from studio.gallery import Artwork, NotHers
from studio.jobs import Job
from studio.studio import Studio
from tests.studio.conftest import paint_one, wait_for_end

SIZE = (96, 80)
HOLE = (30, 30, 60, 50)


def paint_fill(studio: Studio, artist_id: str, *, paste_back: bool = True) -> Job:
    """Paint a hole in a picture of a colour run."""
    across = np.linspace(0, 255, SIZE[0], dtype=np.uint8)[None, :, None]
    mask = Image.new("L", SIZE)
    mask.paste(255, HOLE)
    keys: list[str] = []
    for image in (Image.fromarray(np.broadcast_to(across, (SIZE[1], SIZE[0], 3)).copy()), mask):
        stream = io.BytesIO()
        image.save(stream, "PNG")
        keys.append(studio.sources.keep(artist_id, stream.getvalue()).key)
    source = make_source(image=keys[0], mask=keys[1], strength=1, paste_back=paste_back)
    return paint_one(studio, artist_id, source=source)


def pixels(studio: Studio, artwork_id: str, artist_id: str) -> np.ndarray:
    with Image.open(studio.gallery.file(artwork_id, artist_id)) as image:
        return np.asarray(image)


def test_a_fill_is_laid_otherwise_without_painting_a_step(studio: Studio, calls: list[int]) -> None:
    berthe = studio.artists.create("Berthe")
    fitted = paint_fill(studio, berthe.id)
    fresh = pixels(studio, paint_fill(studio, berthe.id, paste_back=False).id, berthe.id)
    studio.gallery.delete(studio.gallery.own(berthe.id, limit=1)[0].id, berthe.id)
    calls.clear()
    group = lay(studio, berthe.id, fitted.id, paste_back=False)
    assert isinstance(group, str)
    (raw,) = wait_for_end(studio, berthe.id, group)
    assert raw.state == "done", raw.sentence
    assert calls == [], "every step was known"
    there, before = pixels(studio, raw.id, berthe.id), pixels(studio, fitted.id, berthe.id)
    assert np.array_equal(there, fresh), "it is what would have been painted without paste-back"
    assert not np.array_equal(there, before)
    assert studio.timeline(raw.id, berthe.id)["count"] == fitted.recipe.num_inference_steps
    assert studio.gallery.calls(raw.id) == studio.gallery.calls(fitted.id) != ""
    with Image.open(studio.gallery.file(raw.id, berthe.id)) as image:
        assert read_recipe(image.info["atelier_recipe"]) == raw.recipe

    # There and back again, nothing is made twice.
    for artwork_id, paste_back, answer in ((fitted.id, False, raw.id), (raw.id, True, fitted.id)):
        known = lay(studio, berthe.id, artwork_id, paste_back=paste_back)
        assert isinstance(known, Artwork)
        assert known.id == answer


def test_without_its_timeline_it_is_painted_again(studio: Studio, calls: list[int]) -> None:
    berthe = studio.artists.create("Berthe")
    fitted = paint_fill(studio, berthe.id)
    studio.gallery.delete(fitted.id, berthe.id)
    recipe = laid(fitted.recipe, paste_back=False)
    assert recipe is not None
    calls.clear()
    (raw,) = wait_for_end(studio, berthe.id, studio.submit(berthe.id, [recipe]))
    assert raw.state == "done", raw.sentence
    assert len(calls) == fitted.recipe.num_inference_steps


def test_only_her_own_fill_is_laid(studio: Studio) -> None:
    berthe, edgar = studio.artists.create("Berthe"), studio.artists.create("Edgar")
    plain = paint_one(studio, berthe.id)
    with pytest.raises(BadInput, match="Only a fill"):
        lay(studio, berthe.id, plain.id, paste_back=False)
    fitted = paint_fill(studio, berthe.id)
    with pytest.raises(NotHers):
        lay(studio, edgar.id, fitted.id, paste_back=False)
    studio.gallery.hang(fitted.id, berthe.id, hung=True)
    with pytest.raises(BadInput, match="bring it yourself"):
        lay(studio, edgar.id, fitted.id, paste_back=False)
