"""A picture dissolves for whoever brought it, and the model brings it back from the step she chose."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import httpx
import pytest
from PIL import Image

from pipelines.recipe import BadInput
from studio.components.dissolving import brought_back
from studio.components.script import Message
from studio.studio import Studio
from tests.studio.conftest import browser, paint_one, served


def test_a_picture_dissolves_for_her_who_brought_it(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio(start=False)
    berthe = studio.artists.create("Berthe")
    with served(studio) as address, browser(address, "Edgar") as edgar:
        job = paint_one(studio, berthe.id, num_inference_steps=1)
        assert edgar.post(f"/sources/from/{job.id}").status_code == 404
        with httpx.Client(cookies={"atelier_artist": studio.artists.cookie(berthe)}, timeout=60) as hers:
            source = hers.post(f"{address}/sources/from/{job.id}").json()["source"]
            url = f"{address}/sources/{source}/dissolving"
            assert edgar.get(url, params={"seed": 1}).status_code == 404
            refused = hers.get(url, params={"seed": -1})
            assert (refused.status_code, "Seed must be a whole number" in refused.text) == (422, True)
            told: dict[str, Any] = hers.get(url, params={"seed": 5}).json()
            assert told == hers.get(url, params={"seed": 5}).json()
            other: dict[str, Any] = hers.get(url, params={"seed": 6}).json()
    steps = studio.folder.defaults.num_inference_steps
    assert [step["step"] for step in told["steps"]] == list(range(told["count"])) == list(range(steps))
    assert all(before["sigma"] > after["sigma"] for before, after in pairwise(told["steps"]))
    assert told["layers"]["latents"] != other["layers"]["latents"]
    with opened(told["picture"]) as picture:
        assert picture.size == (told["recipe"]["width"], told["recipe"]["height"])
    rows = -(-told["count"] // told["columns"])
    for layer in ("denoised", "latents"):
        with opened(told["layers"][layer]) as sheet:
            assert sheet.size == (told["columns"] * told["tile"]["width"], rows * told["tile"]["height"])


def opened(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def test_the_step_is_the_strength(studio: Studio) -> None:
    message: Message = {"source": "0" * 64, "prompt": "a cat", "guidance_scale": "3", "seed": "7"}
    message |= {"width": 64, "height": 64}
    steps = studio.folder.defaults.num_inference_steps
    for step in range(steps):
        recipe = brought_back(studio.folder, message | {"step": step})
        assert recipe.source is not None
        assert recipe.source.first_step(recipe.num_inference_steps) == step
    with pytest.raises(BadInput, match="Go to a step with some grain"):
        brought_back(studio.folder, message | {"step": steps})
    with pytest.raises(BadInput, match="Guidance must be a number"):
        brought_back(studio.folder, message | {"step": 1, "guidance_scale": "much"})
