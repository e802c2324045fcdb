"""A style's words are taught to say it louder, on a toy model."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel
from typer.testing import CliRunner

from pipelines.training.architecture import load_tokenizer
from pipelines.training.captions import Facts
from pipelines.training.cli import train_app
from pipelines.training.diffusion import NoisePrediction
from pipelines.training.emphasis import EmphasisStep, EmphasisTraining
from pipelines.training.pack import load_rows
from pipelines.training.saying import EMPHASES, say_styles_twice, say_things_again, ways_to_say
from tests.toy_pack import write_pack, write_wordnet


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a toy run leaves; its pack is in `data` beside."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "data").mkdir()
    write_pack(folder / "data")
    made = ["all", "--data", f"{folder / 'data'}", "--output", f"{folder / 'made'}", "--max-steps", "1"]
    result = CliRunner().invoke(train_app, [*made, "--size", "toy", "--workers", "1"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return folder / "made"


def test_a_caption_is_put_into_a_style_and_says_it_once_and_twice(made: Path) -> None:
    rows = [row for of_shape in load_rows(made / "pack").values() for row in of_shape]
    tokenizer = load_tokenizer(made / "model" / "tokenizer")
    told = say_styles_twice(rows, tokenizer, 200, random.Random(0)).said
    assert len({one.once for one in told}) > 20
    styles: set[str] = set()
    for one in told:
        style = next(
            style
            for style in sorted(EMPHASES, key=len, reverse=True)
            for way in ways_to_say(style)
            if one.again == one.once.replace(way, f"{way}, {style}", 1)
        )
        styles.add(style)
        assert one.share == EMPHASES[style]
    assert styles == set(EMPHASES)
    boats = [replace(row, captions=["a boat"]) for row in rows]
    with pytest.raises(ValueError, match="names a style that is taught"):
        say_styles_twice(boats, tokenizer, 2, random.Random(0))


def test_a_thing_that_few_pictures_show_is_said_three_times(made: Path) -> None:
    tokenizer = load_tokenizer(made / "model" / "tokenizer")
    facts = [Facts("painting", "baroque", title="a cat and an owl")] * 30
    facts += [Facts("emoji-3d", "3d render", title="cat and owl")] * 30
    known = {"cat": 9, "owl": 4, "river": 700, "town": 20}
    lesson = say_things_again(facts, known, tokenizer, 600, seed=0)
    assert 450 < len(lesson.said) < 600, "all but those where it is said by another word"
    for one in lesson.said:
        thing = "cat" if "cat" in one.once else "owl"
        assert one.again == one.once.replace(thing, f"{thing}, {thing}, {thing}", 1)
    things = Counter((("cat" in one.once), ("3d" in one.once)) for one in lesson.said)
    assert min(things[thing, rendered] for thing in (True, False) for rendered in (True, False)) > 50
    assert things[True, True] + things[True, False] > 0.55 * things.total(), "the better known oftener"
    said = {int(token) for thing in ("cat", "owl") for token in tokenizer(thing).input_ids[1:-1]}
    assert lesson.tokens == sorted(said)
    with pytest.raises(ValueError, match="by few enough to want it"):
        say_things_again(facts, {"river": 700, "town": 20}, tokenizer, 2, seed=0)


def test_a_style_learns_to_say_as_much_as_twice_and_other_words_stay(made: Path) -> None:
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_pretrained(str(made / "model" / "unet"), dtype=torch.float32)
    text_encoder = CLIPTextModel.from_pretrained(str(made / "model" / "text_encoder"), dtype=torch.float32)
    assert isinstance(unet, UNet2DConditionModel)
    # A U-Net of one step hardly listens to words: what it is told is made louder, so that there is a change.
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if "attn2.to_out" in name or "add_embedding" in name or name.startswith("conv_out"):
                weight.normal_(0, 0.3)
    tokenizer = load_tokenizer(made / "model" / "tokenizer")
    rows = [row for of_shape in load_rows(made / "pack").values() for row in of_shape]
    model = NoisePrediction(text_encoder, unet, autocast=False).eval()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    training = EmphasisTraining(batch_size=8, path_steps=2, learning_rate=5e-3, warmup_steps=2)
    lesson = say_styles_twice(rows, tokenizer, 8, random.Random(0))
    step = EmphasisStep(model, tokenizer, lesson, training)
    errors = [step(number, number / 60)["loss"].item() for number in range(60)]
    assert 0.8**2 <= errors[0] <= 1.3**2, "a style said once is about a whole change away from said twice"
    assert sum(errors[-10:]) < 0.8 * sum(errors[:10])
    learning = lesson.tokens
    for name, weight in model.state_dict().items():
        if name.endswith("token_embedding.weight"):
            moved = (weight != before[name]).any(1)
            assert set(torch.nonzero(moved).flatten().tolist()) <= set(learning)
            assert moved.any()
        else:
            assert torch.equal(weight, before[name]), name
    # The toy's tokens are pieces of words, some of which styles share: a text of others.
    others = [token for token in range(len(tokenizer)) if token not in learning]
    ids = torch.tensor([others[:8]])
    assert torch.equal(model.read(ids), step.before.read(ids))


def test_a_toy_model_is_taught_and_taken_up_again(made: Path, tmp_path: Path) -> None:
    run = ["emphasise", "--data", f"{made.parent / 'data'}", "--output", f"{tmp_path}", "--size", "toy"]
    run += ["--model", f"{made / 'model'}", "--workers", "1", "--share", "1.2"]
    for steps in ("2", "4"):
        result = CliRunner().invoke(
            train_app, [*run, "--max-steps", steps, "--resume"], catch_exceptions=False
        )
        assert result.exit_code == 0, result.output
    taught = CLIPTextModel.from_pretrained(str(tmp_path / "model" / "text_encoder"))
    told = CLIPTextModel.from_pretrained(str(made / "model" / "text_encoder"))
    assert not torch.equal(
        taught.get_input_embeddings().weight,  # pyright: ignore[reportArgumentType]
        told.get_input_embeddings().weight,  # pyright: ignore[reportArgumentType]
    )
    assert (tmp_path / "model" / "unet" / "config.json").exists()


def test_things_are_taught_as_far_as_wordnet_knows_them(made: Path, tmp_path: Path) -> None:
    net = write_wordnet(tmp_path)
    run = ["emphasise", "--data", f"{made.parent / 'data'}", "--output", f"{tmp_path}", "--size", "toy"]
    run += ["--model", f"{made / 'model'}", "--workers", "1", "--wordnet", f"{net}", "--max-steps", "2"]
    result = CliRunner().invoke(train_app, run, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    weights = [
        CLIPTextModel.from_pretrained(str(folder / "model" / "text_encoder"))
        .get_input_embeddings()
        .weight.detach()  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
        for folder in (made, tmp_path)
    ]
    moved = torch.nonzero((weights[0] != weights[1]).any(1)).flatten().tolist()
    ids = load_tokenizer(made / "model" / "tokenizer")("harbour man").input_ids
    assert moved
    assert set(moved) <= set(ids[1:-1])
    for index in net.glob("index.noun"):
        index.write_text("")
    result = CliRunner().invoke(train_app, run)
    assert result.exit_code == 2
    assert "no thing is shown by enough pictures" in " ".join(result.output.split())
