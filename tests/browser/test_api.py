"""The API names, driven by gradio_client as another program would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from safetensors.torch import save_file

from pipelines.models.find import EMBEDDED, find_model
from tests.browser.house import MODEL, House
from tests.tiny import random_updates, save_ip_adapter


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


def test_blend_follows_a_picture(client: Client, tmp_path: Path) -> None:
    Image.radial_gradient("L").convert("RGB").save(tmp_path / "followed.png")
    (tmp_path / "words.png").write_text("no picture")
    followed: Any = {"image": handle_file(tmp_path / "followed.png"), "strength": 0.5}
    plainly: Any = {"styles": {"baroque": 1}, "prompt": "a pier", "seed": 3, "num_inference_steps": 2}
    alone, _recipe = client.predict(**plainly, api_name="/blend")
    path, recipe = client.predict(**plainly, follow=[followed], api_name="/blend")
    assert [one["strength"] for one in recipe["mix"]["references"]] == [0.5]
    with Image.open(Path(alone)) as without, Image.open(Path(path)) as following:
        assert without.tobytes() != following.tobytes()
    with pytest.raises(AppError, match="from 0, not at all, to 1"):
        client.predict(**plainly, follow=[followed | {"strength": 2}], api_name="/blend")
    with pytest.raises(AppError, match="not a picture"):
        client.predict(**plainly, follow=[{"image": handle_file(tmp_path / "words.png")}], api_name="/blend")


def test_blend_adds_a_lora(client: Client, house: House) -> None:
    down, up = random_updates(find_model(MODEL or EMBEDDED).path, rank=2, seed=5)["conv_in"]
    tensors = {"unet.conv_in.lora_A.weight": down, "unet.conv_in.lora_B.weight": up}
    file = house.log.parent / "data" / "loras" / "from a program.safetensors"
    save_file(tensors, file)
    plainly: Any = {"styles": {}, "prompt": "a pier", "seed": 3, "num_inference_steps": 2}
    path, recipe = client.predict(**plainly, loras={"from a program": 1.5}, api_name="/blend")
    (told,) = recipe["mix"]["loras"]
    assert (told["name"], told["weight"], len(told["sha256"])) == ("from a program", 1.5, 64)
    with Image.open(Path(path)) as image:
        assert "LoRAs: from a program 1.5" in image.info["parameters"]
    with pytest.raises(AppError, match="from -2 to 2, not 9"):
        client.predict(**plainly, loras={"from a program": 9}, api_name="/blend")
    file.unlink()  # other visits to this house find it as it was
    with pytest.raises(AppError, match="There is no LoRA called from a program in the studio's loras folder"):
        client.predict(**plainly, loras={"from a program": 1}, api_name="/blend")


def test_blend_follows_a_picture_through_an_ip_adapter(client: Client, house: House, tmp_path: Path) -> None:
    folder = house.log.parent / "data" / "ip_adapters" / "from a program"
    folder.mkdir()
    save_ip_adapter(folder, find_model(MODEL or EMBEDDED).path)
    Image.radial_gradient("L").convert("RGB").save(tmp_path / "followed.png")
    followed: Any = {"image": handle_file(tmp_path / "followed.png"), "strength": 0.5, "ip_adapter": "looks"}
    plainly: Any = {"styles": {}, "prompt": "a pier", "seed": 3, "num_inference_steps": 2}
    path, recipe = client.predict(**plainly, follow=[followed], api_name="/blend")
    (told,) = recipe["mix"]["references"]
    assert (told["ip_adapter"]["name"], len(told["ip_adapter"]["sha256"])) == ("looks", 64)
    with Image.open(Path(path)) as image:
        assert " 0.5 through looks, " in image.info["parameters"]
    shutil.rmtree(folder)  # other visits to this house find it as it was
    with pytest.raises(AppError, match="There is no IP-Adapter called looks in the studio's ip_adapters"):
        client.predict(**plainly, follow=[followed], api_name="/blend")


def test_inpaint_repaints_a_part(client: Client, house: House, tmp_path: Path) -> None:
    before = np.asarray(Image.linear_gradient("L").resize((300, 200)).convert("RGB"))
    hole = np.zeros((200, 300), np.uint8)
    hole[50:90, 100:160] = 255
    Image.fromarray(before).save(tmp_path / "picture.png")
    Image.fromarray(hole).save(tmp_path / "mask.png")
    files: dict[str, Any] = {
        "image": handle_file(tmp_path / "picture.png"),
        "mask_image": handle_file(tmp_path / "mask.png"),
    }
    path, recipe = client.predict(**files, prompt="a boat", num_inference_steps=2, api_name="/inpaint")
    with Image.open(Path(path)) as image:
        after = np.asarray(image.convert("RGB"))
    assert np.array_equal(after[hole == 0], before[hole == 0])
    assert not np.array_equal(after, before)
    assert recipe["source"]["strength"] == 1
    with pytest.raises(AppError, match="Feather must be a whole number of pixels"):
        client.predict(**files, feather_px=-1, api_name="/inpaint")
    private: Any = {"path": str(house.log)}
    with pytest.raises(AppError, match="as files"):
        client.predict(image=private, mask_image=private, api_name="/inpaint")


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
    assert set(offered["named_endpoints"]) == {"/paint", "/blend", "/inpaint", "/timeline"}
    assert offered["unnamed_endpoints"] == {}
