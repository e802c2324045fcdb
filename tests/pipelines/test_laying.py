"""Emoji are laid on paintings, and told of as what they are in the style of where they lie."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.training.laying import Laying, bank_with_things, lay_on, paint_in
from pipelines.training.pack import load_pixels, load_rows, prepare_pack
from pipelines.training.pictures import PictureBank
from tests.toy_pack import write_pack


def test_a_thing_lies_within_its_ground_and_leaves_the_rest() -> None:
    ground, thing = Image.new("RGB", (96, 64), (0, 90, 0)), Image.new("RGBA", (20, 10), (200, 0, 0, 255))
    places = set()
    for seed in range(20):
        laid = np.asarray(lay_on(ground, thing, Laying(side=(0.5, 0.75)), random.Random(seed)))
        red = (laid == (200, 0, 0)).all(2)
        assert ((laid == (0, 90, 0)).all(2) | red).all()
        down, across = np.nonzero(red)
        width, height = int(np.ptp(across)) + 1, int(np.ptp(down)) + 1
        assert 32 <= width <= 48
        assert width == pytest.approx(2 * height, abs=1)
        assert red.sum() == width * height, "none of it is cut off"
        places.add((int(across.min()), int(down.min())))
    assert len(places) > 10


def test_painted_in_it_is_nearer_to_the_ground_and_on_its_canvas_and_the_rest_stays() -> None:
    rng = np.random.default_rng(0)
    rough = np.full((64, 96, 3), (30, 100, 60)) + rng.integers(-25, 26, (64, 96, 1))
    ground = Image.fromarray(rough.astype(np.uint8))
    thing = Image.new("RGBA", (20, 10), (220, 40, 40, 255))
    laying = Laying(side=(0.9, 0.9), toned=(0.5, 0.5), canvas=(1.0, 1.0))
    plain = Laying(side=(0.9, 0.9), blur_px=0.0)
    for seed in range(8):
        painted = np.asarray(paint_in(ground, thing, laying, random.Random(seed))).astype(float)
        changed = (painted != np.asarray(ground)).any(2)
        down, across = np.nonzero(changed)
        box = np.s_[down.min() + 7 : down.max() - 6, across.min() + 7 : across.max() - 6]
        assert 0.15 < changed.mean() < 0.4, "beside the thing all is as it was"
        red, green, _ = painted[box].mean((0, 1))
        assert 150 < red < 200, "red, and nearer to the ground"
        assert 40 < green < 80
        assert painted[box].std((0, 1)).min() > 8, "the canvas is seen through"
    still = np.asarray(lay_on(ground, thing, plain, random.Random(0)))
    assert (still == (220, 40, 40)).all(2).mean() > 0.1, "laid on it, it stays as it was"


def test_things_lie_on_paintings_of_places_in_their_styles(tmp_path: Path) -> None:
    pack = write_pack(tmp_path)
    prepare_pack(pack, tmp_path / "pack")
    bank = PictureBank(tmp_path / "pack", torch.device("cpu"), seed=0)
    emoji = {row.key: row for rows in bank.rows.values() for row in rows if row.source == "emoji-3d"}
    both = bank_with_things(bank, pack, tmp_path, seed=1, limit=None)

    laid = load_rows(tmp_path / "laid")
    rows = [row for ones in laid.values() for row in ones]
    assert {row.key for row in rows} == {key for key, row in emoji.items() if not row.validation}
    assert {row.style for row in rows} == {"romanticism"}, "there are places in no other"
    assert all(row.words == emoji[row.key].words for row in rows)
    assert all("cat face" in text and "romanticism" in text for row in rows for text in row.captions)
    weight = {shape: both.weights[shape].sum().item() for shape in both.rows}
    own = {shape: sum(row.weight for row in ones) for shape, ones in laid.items()}
    drawn = sum(share - bank.weights[shape].sum().item() for shape, share in weight.items())
    assert drawn / sum(weight.values()) == pytest.approx(0.25)
    assert sum(own.values()) == pytest.approx(1.0)

    for shape, ones in laid.items():
        pictures = load_pixels(tmp_path / "laid", shape)
        assert pictures.shape == (len(ones), shape.height, shape.width, 3)
        assert len({picture.tobytes() for picture in pictures}) == len(ones), "each is another"
    times = [path.stat().st_mtime_ns for path in sorted((tmp_path / "laid").iterdir())]
    again = bank_with_things(bank, pack, tmp_path, seed=1, limit=None)
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "laid").iterdir())] == times
    assert all(torch.equal(again.pixels[shape], both.pixels[shape]) for shape in both.pixels)
    (tmp_path / "laid" / "laid.txt").write_text("otherwise")
    bank_with_things(bank, pack, tmp_path, seed=1, limit=None)
    anew = [path.stat().st_mtime_ns for path in sorted((tmp_path / "laid").iterdir())]
    assert all(one > before for one, before in zip(anew, times, strict=True)), "laid in another way"


def test_without_places_there_is_the_pack_alone(tmp_path: Path) -> None:
    pack = write_pack(tmp_path)
    prepare_pack(pack, tmp_path / "pack", limit=2)
    bank = PictureBank(tmp_path / "pack", torch.device("cpu"), seed=0)
    both = bank_with_things(bank, pack, tmp_path, seed=1, limit=2)
    assert {shape: len(rows) for shape, rows in both.rows.items()} == {
        shape: len(rows) for shape, rows in bank.rows.items()
    }
