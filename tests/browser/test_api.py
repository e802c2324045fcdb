"""The API names, driven by gradio_client as another program would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from tests.browser.house import House


@pytest.fixture(scope="module")
def client(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    connected = Client(house.url, verbose=False, download_files=tmp_path_factory.mktemp("client"))
    yield connected
    connected.close()


def test_paint_returns_the_png_and_its_recipe(client: Client) -> None:
    path, recipe = client.predict(
        prompt="a red boat", seed=2**64 - 1, num_inference_steps=2, api_name="/paint"
    )
    with Image.open(Path(path)) as image:
        assert image.size == (recipe["width"], recipe["height"])
        chunk = json.loads(image.info["atelier_recipe"])
        assert "Seed: 18446744073709551615" in image.info["parameters"]
    assert chunk == recipe
    assert recipe["seed"] == 2**64 - 1


def test_blend_mixes_styles(client: Client) -> None:
    curved = {"name": "baroque", "weight": 1, "curve": [1, 0]}
    for styles in ({"ukiyo-e": 0.5, "baroque": 1}, [{"name": "ukiyo-e", "weight": 0.5}, curved]):
        _path, recipe = client.predict(
            styles=styles, prompt="a pier", method="prediction", num_inference_steps=2, api_name="/blend"
        )
        assert [style["weight"] for style in recipe["mix"]["styles"]] == [0.5, 1]
    with pytest.raises(AppError, match="There is no style called cubism"):
        client.predict(styles={"cubism": 1}, api_name="/blend")


def test_timeline_is_described(client: Client) -> None:
    path, _recipe = client.predict(prompt="a pier", num_inference_steps=2, api_name="/paint")
    timeline = client.predict(artwork=Path(path).stem, api_name="/timeline")
    assert timeline["recipe"]["prompt"] == "a pier"
    assert [step["step"] for step in timeline["steps"]] == [0, 1]


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("width", 193, "Width must be a multiple of 8"),
        ("num_inference_steps", 0, "Steps must be"),
        ("sampler", "Oil on canvas", "There is no sampler called Oil on canvas"),
        ("seed", 2**64, "Seed must be"),
    ],
)
def test_bad_input_is_refused_with_its_sentence(
    client: Client, field: str, value: int | str, sentence: str
) -> None:
    fields: dict[str, Any] = {field: value}
    with pytest.raises(AppError, match=sentence):
        client.predict(prompt="a boat", api_name="/paint", **fields)


def test_no_other_name_is_offered(client: Client) -> None:
    offered: Any = client.view_api(return_format="dict", print_info=False)
    assert set(offered["named_endpoints"]) == {"/paint", "/blend", "/timeline"}
    assert offered["unnamed_endpoints"] == {}
