"""Heat over a timeline: drawn when asked for, as private as the picture, kept where it was costly."""

from __future__ import annotations

import io
from collections.abc import Callable

import httpx
from PIL import Image

from pipelines.palette import make_mix
from pipelines.timeline import read_timeline
from studio.layers import heat_sheet
from studio.studio import Studio
from studio.timelines import LAYERS, MAX_SHEET_SIDE_PX, sheet_for
from tests.studio.conftest import browser, paint_one, served

STEPS = 5
NO_STYLE = (
    "Where baroque pulled is not known for this picture: it is not among the styles that were mixed by their "
    "predictions."
)
NO_WORD = "The prompt of this picture has no word “{}” that the model reads."


def test_heat_has_a_tile_for_every_step_and_one_for_the_whole(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio(start=False)
    berthe = studio.artists.create("Berthe")
    with served(studio) as address, browser(address, "Edgar") as edgar:
        job = paint_one(studio, berthe.id, "a red cat", num_inference_steps=STEPS)
        folder = studio.settings.data_dir / "timelines" / job.id
        url = f"{address}/timelines/{job.id}/heat"
        assert edgar.get(f"{url}/change.png").status_code == 404
        with httpx.Client(cookies={"atelier_artist": studio.artists.cookie(berthe)}, timeout=60) as hers:
            tiles = {
                kind: tiles_of(hers.get(f"{url}/{kind}.png?word=cat"), studio, job.id)
                for kind in ("change", "guidance", "attention")
            }
            # The last of five steps is not looked at again: it is shown as the one before.
            assert [len(set(found)) for found in tiles.values()] == [STEPS + 1, STEPS + 1, STEPS]
            assert set(tiles["change"][0]) == {0}, "before the first step there is nothing to compare it with"
            for path, sentence in {
                "speed.png": "Heat is known of change, guidance, style, attention, not of speed.",
                "style.png?word=baroque": NO_STYLE,
                "attention.png?word=dog": NO_WORD.format("dog"),
                "attention.png": NO_WORD.format(""),
            }.items():
                refused = hers.get(f"{url}/{path}")
                assert (refused.status_code, refused.json()["sentence"]) == (422, sentence)

            # What was seen is kept: another word needs no frame any more.
            (folder / "frame-000.safetensors").unlink()
            red = tiles_of(hers.get(f"{url}/attention.png?word=red"), studio, job.id)
            assert red != tiles["attention"]
            (folder / "attention.safetensors").write_bytes(b"damaged")
            refused = hers.get(f"{url}/attention.png?word=red")
            assert (refused.status_code, "Step 0 of this timeline is gone" in refused.text) == (422, True)


def test_the_longest_run_there_can_be_has_every_step(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio()
    berthe = studio.artists.create("Berthe")
    job = paint_one(studio, berthe.id, "a cat", num_inference_steps=150, guidance_scale=1.0)
    told = studio.timeline(job.id, berthe.id)
    assert (told["count"], told["gone"]) == (150, [])
    folder = studio.settings.data_dir / "timelines" / job.id
    sheet = sheet_for(150, width=job.recipe.width, height=job.recipe.height)
    for layer in LAYERS:
        with Image.open(folder / f"{layer}.webp") as image:
            assert image.size == sheet.size
    # The largest pictures there can be still make a sheet that browsers and WebP take.
    assert max(sheet_for(299, width=2048, height=2048).size) <= MAX_SHEET_SIDE_PX


def test_each_style_of_a_mix_has_its_heat_on_one_scale(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio(start=False)
    weights = {"baroque": 9, "ukiyo-e": 1}
    mix = make_mix([{"name": name, "weight": weight} for name, weight in weights.items()], "prediction")
    with served(studio) as address:
        guest = studio.artists.guest()
        job = paint_one(studio, guest.id, "cat", num_inference_steps=STEPS, mix=mix)
        with httpx.Client(base_url=f"{address}/timelines/{job.id}/heat", timeout=60) as anyone:
            much, little = (
                tiles_of(anyone.get(f"/style.png?word={name}"), studio, job.id) for name in weights
            )
    for more, less in zip(much, little, strict=True):
        assert sum(more) > sum(less) > 0


def tiles_of(answer: httpx.Response, studio: Studio, artwork_id: str) -> list[bytes]:
    """Cut a heat sheet as the page does."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    sheet = heat_sheet(read_timeline(studio.settings.data_dir / "timelines" / artwork_id))
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.size == sheet.size
        places = [sheet.place(tile) for tile in range(sheet.count)]
        size = (sheet.tile_width, sheet.tile_height)
        return [image.crop((x, y, x + size[0], y + size[1])).tobytes() for x, y in places]
