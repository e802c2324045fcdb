"""IP-Adapters in a studio: told to the page, kept with presets and recipes, missed in a sentence."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.recipe import BadInput
from pipelines.styles import Mix
from studio.components.mixing import mix_from
from studio.files import DataDir
from studio.settings import Settings
from studio.studio import Studio
from tests.studio.conftest import browser, paint_one, served, wait_for_end
from tests.studio.test_loras import pixels
from tests.tiny import save_ip_adapter

OpenStudio = Callable[..., Studio]


@pytest.fixture
def adapter(tiny_folder: Path, settings: Settings) -> Path:
    folder = DataDir(settings.data_dir).ip_adapters
    folder.mkdir(parents=True)
    (folder / "old.bin").write_bytes(b"pickled")
    return save_ip_adapter(folder, tiny_folder)


def bring(studio: Studio, artist: str) -> str:
    stream = io.BytesIO()
    Image.radial_gradient("L").save(stream, "PNG")
    return studio.sources.keep(artist, stream.getvalue()).key


def through_it(studio: Studio, image: str, strength: float) -> Mix:
    reference = {"image": image, "strength": strength, "ip_adapter": {"name": "looks"}}
    return mix_from({"method": "slerp", "styles": [INK], "references": [reference]}, studio.shelves)


INK = {"name": "ink", "prompt": "ink", "weight": 1}


def test_the_page_is_told_what_there_is_and_why_the_rest_cannot_be_used(
    open_studio: OpenStudio, adapter: Path
) -> None:
    with served(open_studio(start=False)) as url, browser(url, "Berthe") as berthe:
        (known, other) = berthe.get("/ip_adapters").json()["ip_adapters"]
        assert (known["name"], known["refusal"], len(known["sha256"])) == ("looks", "", 64)
        assert known["note"].startswith("Takes over what it shows as a whole")
        assert (other["name"], other["sha256"]) == ("old", "")
        assert other["refusal"].startswith("old.bin is a pickle, which can run any program")
        adapter.unlink()
        (left,) = berthe.get("/ip_adapters").json()["ip_adapters"]
        assert left["name"] == "old"


def test_a_picture_that_follows_another_is_painted_kept_and_painted_again(
    open_studio: OpenStudio, adapter: Path
) -> None:
    studio = open_studio()
    berthe = studio.artists.create("Berthe").id
    image = bring(studio, berthe)
    plain = paint_one(studio, berthe, mix=mix_from({"method": "slerp", "styles": [INK]}, studio.shelves))
    none = paint_one(studio, berthe, mix=through_it(studio, image, 0))
    one = paint_one(studio, berthe, mix=through_it(studio, image, 1))
    assert np.array_equal(pixels(studio, plain.id, berthe), pixels(studio, none.id, berthe))
    painted = pixels(studio, one.id, berthe)
    assert not np.array_equal(pixels(studio, plain.id, berthe), painted)
    mix = one.recipe.mix
    assert mix is not None
    kept = studio.presets.save(berthe, "Seen", mix)
    studio.close()
    studio = open_studio()
    (found,) = studio.presets.of(berthe)
    assert found == kept
    again = paint_one(studio, berthe, mix=mix_from(found.mix.model_dump(), studio.shelves))
    assert np.array_equal(pixels(studio, again.id, berthe), painted)
    (job,) = wait_for_end(studio, berthe, studio.repaint(berthe, one.id))
    assert (job.state, job.notes) == ("done", one.notes), "its timeline is painted again, to the same picture"
    adapter.unlink()
    for ask in (
        lambda: studio.submit(berthe, [one.recipe]),
        lambda: studio.repaint(berthe, one.id),
    ):
        with pytest.raises(BadInput, match="put its file into the studio's ip_adapters folder"):
            ask()


def test_another_folder_of_adapters_comes_first(
    open_studio: OpenStudio, adapter: Path, tmp_path: Path, tiny_folder: Path
) -> None:
    assert adapter.exists()
    (tmp_path / "beside").mkdir()
    first = save_ip_adapter(tmp_path / "beside", tiny_folder, kind="plus")
    studio = open_studio(start=False, ip_adapters=tmp_path / "beside")
    (found,) = studio.shelves.ip_adapters.usable()
    assert found.path == first
    unknown = {"image": "a" * 64, "strength": 1, "ip_adapter": {"name": "other"}}
    with pytest.raises(BadInput, match=r"There is no IP-Adapter called other .* Here are: looks\."):
        mix_from({"method": "slerp", "references": [unknown]}, studio.shelves)
