"""Emoji are cut out, laid on paintings and painted over; those that show their style least are left out."""

from __future__ import annotations

import io
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from pipelines.models.find import find_model
from pipelines.training.captions import Facts
from pipelines.training.cli import train_app
from pipelines.training.evaluation.judge import TOY_NETWORK, load_or_train_judge, style_probabilities
from pipelines.training.evaluation.painting import Manner, Painter
from pipelines.training.evaluation.prompts import Wanted
from pipelines.training.laying import Laying
from pipelines.training.pack import (
    FORMATS,
    Entry,
    is_validation,
    load_pixels,
    load_rows,
    prepare_pack,
    read_shards,
)
from pipelines.training.pictures import PictureBank
from pipelines.training.transplants import (
    Transplanting,
    cut_out_things,
    in_strokes,
    name_thing,
    over,
    transplant,
)
from pipelines.training.wordnet import WordNet
from tests.tiny import build_tiny_sd
from tests.toy_pack import write_pack, write_wordnet

WORDS = {"cat": "05", "face": "08", "man": "18", "car": "06", "tree": "20", "palm": "20"}


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pack(tmp_path_factory.mktemp("pack"))


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wordnet(tmp_path_factory.mktemp("dict"), WORDS)


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Painter:
    return Painter(find_model(str(build_tiny_sd(tmp_path_factory.mktemp("tiny")))), torch.device("cpu"), 4)


def emoji(key: str, title: str, source: str = "emoji-3d", size: int = 20) -> Entry:
    """Tell of an emoji of which all but the middle, twice as wide as it is high, is clear."""
    image = Image.new("RGBA", (40, 40))
    image.paste((200, 0, 0, 255), (10, 15, 10 + size, 15 + (size + 1) // 2))
    stream = io.BytesIO()
    image.save(stream, "png")
    return Entry(key, stream.getvalue(), {"source": source, "title": title, "style": "3d render"})


def test_things_are_cut_out_by_the_words_of_their_titles(wordnet: Path) -> None:
    kept, held_out = (
        next(key for key in map(str, range(1000)) if is_validation(key) == held_out)
        for held_out in (False, True)
    )
    cutouts = cut_out_things(
        [
            emoji(kept, "cat face"),
            emoji(kept, "man in a car"),
            emoji(kept, "man"),
            emoji(held_out, "cat"),
            emoji(kept, "a car", source="painting"),
            emoji(kept, "tree"),
            emoji(kept, "palm"),
            *[emoji(kept, "a cat and trees by a tree", source="painting")] * 40,
            *[emoji(kept, "palm", source="painting")] * 39,
        ],
        WordNet.read(wordnet),
    )
    assert {word: len(some) for word, some in cutouts.items()} == {"cat": 1, "car": 1, "palm": 1}
    assert cutouts["cat"][0].size == (20, 10), "what is clear around it is gone"


def test_a_thing_is_cut_out_of_the_emoji_that_shows_it_whole(wordnet: Path) -> None:
    keys = [key for key in map(str, range(1000)) if not is_validation(key)]
    titles = (
        "cat face",
        "cat",
        "black cat",
        "car with eyes",
        "racing car",
        "fast car",
        "car carrier",
        "palm oil",
    )
    cutouts = cut_out_things(
        [
            emoji(key, title, size=size)
            for size, (key, title) in enumerate(zip(keys, titles, strict=False), 1)
        ],
        WordNet.read(wordnet),
    )
    widths = {word: [one.width for one in some] for word, some in cutouts.items()}
    assert widths == {"cat": [2], "car": [5, 6], "palm": [8]}, "cat, racing car and fast car, palm oil"


def test_every_caption_names_the_thing_and_most_the_style_in_other_words() -> None:
    rng, facts = random.Random(0), Facts("painting", "romanticism", title="ant")
    captions = [name_thing(facts, frozenset(("ant",)), rng) for _ in range(300)]
    assert all(re.search(r"\bant\b", caption) for caption in captions), "it is in romanticism by its letters"
    assert sum("romantic" in caption for caption in captions) > 200
    assert len(set(captions)) > 5


def test_painted_over_a_picture_is_the_less_itself_the_farther_it_is_noised(painter: Painter) -> None:
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    grounds = [
        Image.fromarray(np.stack([np.broadcast_to(ramp + shift, (64, 64))] * 3, 2)) for shift in range(6)
    ]
    wanted = [Wanted("a cat", seed, FORMATS[-1]) for seed in range(6)]
    manner = Manner("DDIM", 10, 2.0)

    def painted(strength: float) -> torch.Tensor:
        return torch.stack(painter.paint_over(wanted, grounds, manner, strength)).float()

    whole, barely, half = painted(1.0), painted(0.1), painted(0.5)
    assert whole.shape == (6, 64, 64, 3)
    assert torch.equal(painted(0.5), half)
    # Of one seed each; a tiny network's autoencoder is no measure of the picture itself.
    assert (half - whole).abs().mean() < (barely - whole).abs().mean()


def test_those_that_a_judge_takes_for_their_style_are_kept(
    pack: Path, wordnet: Path, painter: Painter, tmp_path: Path
) -> None:
    prepare_pack(pack, tmp_path / "pack")
    bank = PictureBank(tmp_path / "pack", torch.device("cpu"), seed=0)
    torch.manual_seed(0)
    judge = load_or_train_judge(bank, tmp_path / "judge.safetensors", size=TOY_NETWORK, steps=3, say=print)
    cutouts = cut_out_things(read_shards(pack), WordNet.read(wordnet))

    def kept(drop: float) -> dict[bytes, float]:
        folder = tmp_path / f"own-{drop}"
        transplanting = Transplanting(drop=drop, painted_at_once=3)
        count = transplant(
            over(painter, Manner("DDIM", 4, 2.0), transplanting), judge, cutouts, bank, 8, folder,
            common=frozenset(), transplanting=transplanting, seed=1, say=print,
        )  # fmt: skip
        rows = load_rows(folder)
        assert sum(map(len, rows.values())) == count
        for row in (row for some in rows.values() for row in some):
            assert (row.source, row.style, row.words[0]) == ("own", "romanticism", "cat")
            assert all("cat" in caption for caption in row.captions), "of a style alone it is no picture"
        images = [torch.from_numpy(np.array(one)) for shape in rows for one in load_pixels(folder, shape)]
        sure = style_probabilities(judge, images, bank.device)[:, judge.styles.index("romanticism")]
        return dict(zip((one.numpy().tobytes() for one in images), sure.tolist(), strict=True))

    every, best = kept(0.0), kept(0.5)
    assert (len(every), len(best)) == (8, 4)
    assert sorted(best.values()) == pytest.approx(sorted(every.values())[4:])
    assert best.keys() < every.keys()
    with pytest.raises(ValueError, match="no 3D render of a thing"):
        transplant(
            in_strokes(Laying()), judge, {}, bank, 8, tmp_path / "none",
            common=frozenset(), transplanting=Transplanting(), seed=1, say=print,
        )  # fmt: skip


def test_the_command_leaves_a_folder_to_be_learnt_from(pack: Path, wordnet: Path, tmp_path: Path) -> None:
    model = build_tiny_sd(tmp_path / "tiny")
    arguments = ["transplant", "--data", str(pack), "--output", str(tmp_path / "run"),
                 "--count", "5", "--workers", "1"]  # fmt: skip
    by_model = ["--model", str(model), "--steps", "4", "--size", "toy", "--judge-steps", "1"]
    for name, painted, kept in (("first", by_model, 3), ("strokes", [], 5)):
        told = CliRunner().invoke(
            train_app,
            [*arguments, "--wordnet", str(wordnet), "--name", name, *painted],
            catch_exceptions=False,
        )
        assert told.exit_code == 0, told.output
        own = tmp_path / "run" / "own" / name
        assert told.stdout.strip() == f"{own}: {kept} pictures"
        bank = PictureBank(tmp_path / "run" / "pack", torch.device("cpu"), seed=0, own=[own])
        assert sum(row.source == "own" for rows in bank.rows.values() for row in rows) == kept
    refused = CliRunner().invoke(train_app, [*arguments, "--wordnet", str(pack), "--name", "none"])
    assert refused.exit_code == 2
    assert "index.noun" in refused.output or "data.noun" in refused.output


@pytest.mark.parametrize(
    ("option", "value"),
    [("--guidance-scale", "4"), ("--steps", "24"), ("--size", "v1"), ("--judge-steps", "3000")],
)
def test_strokes_refuse_what_only_a_model_heeds(
    option: str, value: str, pack: Path, wordnet: Path, tmp_path: Path
) -> None:
    told = CliRunner().invoke(
        train_app,
        ["transplant", "--data", str(pack), "--output", str(tmp_path / "run"), "--wordnet", str(wordnet),
         "--name", "strokes", option, value],
    )  # fmt: skip
    assert told.exit_code == 2
    assert told.output.strip() == (
        f"error: {option} is for a model that paints over: name it with --model, or leave {option} out"
    )
    assert not (tmp_path / "run").exists()
