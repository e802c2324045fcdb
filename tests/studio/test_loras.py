"""LoRAs in a studio: found as their files come, kept with presets and recipes, missed in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from pipelines.palette import make_mix
from pipelines.recipe import BadInput
from pipelines.styles import Mix
from studio.components.mixing import mix_from
from studio.files import DataDir
from studio.settings import Settings
from studio.studio import Studio
from tests.studio.conftest import browser, paint_one, served, wait_for_end
from tests.studio.recipes import recipe_for
from tests.tiny import random_updates

OpenStudio = Callable[..., Studio]


@pytest.fixture
def ink(tiny_folder: Path, settings: Settings) -> Path:
    folder = DataDir(settings.data_dir).loras
    folder.mkdir(parents=True)
    down, up = random_updates(tiny_folder, rank=2, seed=8)["conv_in"]
    tensors = {"unet.conv_in.lora_A.weight": down, "unet.conv_in.lora_B.weight": up}
    save_file(tensors, folder / "ink.safetensors")
    (folder / "old.pt").write_bytes(b"pickled")
    return folder / "ink.safetensors"


def with_ink(studio: Studio, weight: float) -> Mix:
    return mix_from({"method": "slerp", "loras": [{"name": "ink", "weight": weight}]}, studio.shelves)


def pixels(studio: Studio, artwork: str, artist: str) -> np.ndarray:
    with Image.open(studio.gallery.file(artwork, artist)) as image:
        return np.asarray(image.convert("RGB"))


def test_the_page_is_told_what_there_is_and_why_the_rest_cannot_be_used(
    open_studio: OpenStudio, ink: Path
) -> None:
    with served(open_studio(start=False)) as url, browser(url, "Berthe") as berthe:
        (known, other) = berthe.get("/loras").json()["loras"]
        assert (known["name"], known["refusal"], known["note"]) == ("ink", "", "")
        assert (other["name"], other["sha256"]) == ("old", "")
        assert other["refusal"].startswith("old.pt is a pickle, which can run any program")
        ink.unlink()
        (left,) = berthe.get("/loras").json()["loras"]
        assert left["name"] == "old"


def test_a_picture_with_a_lora_is_painted_kept_and_painted_again(open_studio: OpenStudio, ink: Path) -> None:
    studio = open_studio()
    berthe = studio.artists.create("Berthe").id
    plain = paint_one(studio, berthe)
    none = paint_one(studio, berthe, mix=with_ink(studio, 0))
    one = paint_one(studio, berthe, mix=with_ink(studio, 2))
    assert np.array_equal(pixels(studio, plain.id, berthe), pixels(studio, none.id, berthe))
    painted = pixels(studio, one.id, berthe)
    assert not np.array_equal(pixels(studio, plain.id, berthe), painted)
    mix = one.recipe.mix
    assert mix is not None
    kept = studio.presets.save(berthe, "Inked", mix)
    studio.close()
    studio = open_studio()
    (found,) = studio.presets.of(berthe)
    assert found == kept
    assert found.mix.added[0].name == "ink"
    again = paint_one(studio, berthe, mix=mix_from(found.mix.model_dump(), studio.shelves))
    assert np.array_equal(pixels(studio, again.id, berthe), painted)
    (job,) = wait_for_end(studio, berthe, studio.repaint(berthe, one.id))
    assert (job.state, job.notes) == ("done", ()), "its timeline is painted again, to the same picture"
    ink.unlink()
    for ask in (
        lambda: studio.submit(berthe, [one.recipe]),
        lambda: studio.repaint(berthe, one.id),
    ):
        with pytest.raises(BadInput, match="put its file into the studio's loras folder"):
            ask()


def test_a_lora_that_goes_while_its_picture_waits_fails_that_picture_alone(
    open_studio: OpenStudio, ink: Path
) -> None:
    studio = open_studio(start=False)
    berthe = studio.artists.create("Berthe").id
    groups = [
        studio.submit(berthe, [recipe_for(studio, mix=with_ink(studio, 1))]),
        studio.submit(berthe, [recipe_for(studio)]),
    ]
    ink.unlink()
    studio.start()
    (failed,), (done,) = (wait_for_end(studio, berthe, group) for group in groups)
    assert (failed.state, done.state) == ("failed", "done")
    assert "needs the LoRA ink" in failed.sentence


def test_side_by_side_an_artist_asks_for_few_networks_at_once(
    open_studio: OpenStudio, ink: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.denoising import Rows
    from pipelines.models.sd import StableDiffusion

    assert ink.exists()
    asked: list[str] = []
    predict = StableDiffusion.predict

    def noting(model: StableDiffusion, rows: Rows) -> object:
        asked.append(rows.adapter)
        return predict(model, rows)

    monkeypatch.setattr(StableDiffusion, "predict", noting)
    studio = open_studio(runs_per_artist=16)
    berthe = studio.artists.create("Berthe").id
    recipes = [recipe_for(studio, mix=with_ink(studio, weight / 8)) for weight in range(1, 9)]
    jobs = wait_for_end(studio, berthe, studio.submit(berthe, recipes))
    assert {job.state for job in jobs} == {"done"}
    spans = {name: (asked.index(name), len(asked) - asked[::-1].index(name)) for name in asked}
    assert len(spans) == 8
    together = [sum(first <= call < last for first, last in spans.values()) for call in range(len(asked))]
    assert max(together) == 4


def test_another_folder_of_loras_comes_first(
    open_studio: OpenStudio, ink: Path, tmp_path: Path, tiny_folder: Path
) -> None:
    beside = tmp_path / "beside"
    beside.mkdir()
    down, up = random_updates(tiny_folder, rank=1, seed=9)["conv_out"]
    tensors = {"lora_unet_conv_out.lora_down.weight": down, "lora_unet_conv_out.lora_up.weight": up}
    save_file(tensors, beside / "ink.safetensors")
    studio = open_studio(start=False, loras=beside)
    (found,) = studio.shelves.loras.usable()
    assert found.path == beside / "ink.safetensors"
    assert found.path != ink
    with pytest.raises(BadInput, match=r"There is no LoRA called oil .* Here are: ink\."):
        mix_from({"method": "slerp", "loras": [{"name": "oil", "weight": 1}]}, studio.shelves)
    with pytest.raises(BadInput, match="from -2 to 2, not 3"):
        with_ink(studio, 3)
    assert make_mix([], "slerp", loras=with_ink(studio, 1).model_dump()["loras"]) == with_ink(studio, 1)
