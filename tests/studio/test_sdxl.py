"""A studio on an SDXL model: several artists, previews, timelines, words and notes, as on any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
from PIL import Image

from pipelines.palette import make_mix
from pipelines.recipe import read_recipe
from studio.studio import Studio
from tests.studio.conftest import paint_one, served, wait_for_end
from tests.studio.recipes import recipe_for
from tests.tiny import build_tiny_sdxl


def test_artists_paint_on_it_and_look_at_their_timelines(
    tmp_path: Path, open_studio: Callable[..., Studio]
) -> None:
    studio = open_studio(model=str(build_tiny_sdxl(tmp_path / "tiny-xl")), start=False)
    berthe, edgar = studio.artists.create("Berthe"), studio.artists.create("Edgar")
    with served(studio) as address:
        mix = make_mix([{"name": "ukiyo-e", "weight": 0.6}, {"name": "baroque", "weight": 0.4}], "slerp")
        hers = studio.submit(
            berthe.id, [recipe_for(studio, "a red cat", mix=mix, seed=seed) for seed in (1, 2)]
        )
        his = studio.submit(edgar.id, [recipe_for(studio, "a red cat", mix=mix, seed=2)])
        first, second = wait_for_end(studio, berthe.id, hers)
        (same,) = wait_for_end(studio, edgar.id, his)
        assert {job.state for job in (first, second, same)} == {"done"}
        with (
            Image.open(studio.gallery.file(second.id, berthe.id)) as one,
            Image.open(studio.gallery.file(same.id, edgar.id)) as other,
        ):
            assert one.tobytes() == other.tobytes()
            assert read_recipe(one.info["atelier_recipe"]) == second.recipe
        timeline = studio.timeline(first.id, berthe.id)
        assert timeline["count"] == first.recipe.num_inference_steps
        long = paint_one(studio, berthe.id, "abcdefghijklmnopqrstuvwxyz")
        assert "“o" in long.notes[0]
        with httpx.Client(cookies={"atelier_artist": studio.artists.cookie(berthe)}, timeout=60) as client:
            url = f"{address}/timelines/{first.id}"
            for path in ("heat/attention.png?word=cat", "heat/guidance.png", "export/webp"):
                assert client.get(f"{url}/{path}").status_code == 200
