"""Evaluation: closed forms by the piece, and the whole command on a toy pack and a toy model."""

from __future__ import annotations

import io
import json
import math
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from pipelines.training.architecture import (
    TOY,
    build_autoencoder,
    build_text_encoder,
    build_unet,
    train_tokenizer,
)
from pipelines.training.cli import train_app
from pipelines.training.distillation import LORA_FILE, add_low_rank, save_low_rank
from pipelines.training.evaluation.judge import agreement, expected_agreement
from pipelines.training.evaluation.metrics import (
    frechet_distance,
    mean_distance,
    nearest_distances,
    precision_recall,
    quantiles,
)
from pipelines.training.evaluation.mixing import WAYS, halves_of, mix_of, plan_pairs_of_styles, spearman
from pipelines.training.evaluation.network import look, two_views
from pipelines.training.evaluation.palette import palette_likeness, palette_words
from pipelines.training.evaluation.prompts import (
    plan_agreement,
    plan_captions,
    plan_pairs,
    plan_subjects,
    read_prompts,
)
from pipelines.training.export import assemble_pipeline, export_model
from pipelines.training.pack import Format, Row, is_validation
from tests.tiny import add_classifier
from tests.toy_pack import write_classifier

HELD_OUT = 12
"""Held-out pictures of the toy pack: enough for two halves and their third neighbours."""

TOY_PROMPTS = """
[agreement]
styles = ["romanticism"]
scenes = [{ text = "ship in a storm", genre = "landscape" }]
palettes = [["navy"]]
others = [{ text = "pear", style = "botanical watercolour", genre = "botanical illustration" }]
[subjects]
painted_styles = ["romanticism"]
rendered_style = "3d render"
names = ["ship", "pear", "cat", "storm", "tree", "house"]
[pairs]
styles = ["romanticism"]
words = [["vessel", "ship"], ["zebra", "cat"]]
[sheet]
prompts = ["ship", "pear", "cat"]
[diversity]
prompts = ["ship"]
"""


def test_frechet_distance_of_known_gaussians() -> None:
    # Points whose mean and covariance are exact: a cross of 4 points in the plane, moved and stretched.
    cross = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert frechet_distance(cross, cross) == pytest.approx(0.0, abs=1e-9)
    moved = cross + torch.tensor([3.0, 4.0])
    assert frechet_distance(cross, moved) == pytest.approx(25.0)
    # Covariance c I against 4 c I: tr(c + 4c - 2 * 2c) = 2 * c, and c is 2 / 3 for these four points.
    assert frechet_distance(cross, 2 * cross) == pytest.approx(4 / 3)


def test_precision_and_recall_of_identical_disjoint_and_nested_sets() -> None:
    points = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    assert precision_recall(points, points) == (1.0, 1.0)
    assert precision_recall(points, points + 100) == (0.0, 0.0)
    # One narrow corner of the real set: all of it is true, most of the real set is missed.
    precision, recall = precision_recall(points, points[:1] + 1e-3 * points[:10])
    assert precision == 1.0
    assert recall < 0.2


def test_distances_and_quantiles() -> None:
    line = torch.arange(5.0)[:, None]
    assert nearest_distances(line + 0.25, line).tolist() == pytest.approx([0.25] * 5)
    assert mean_distance(line[[0, 1, 3]]) == pytest.approx(2.0)
    assert math.isnan(mean_distance(line[:1]))
    assert quantiles(torch.arange(101.0)) == {"median": 50.0, "percentile_5": 5.0}


@pytest.mark.parametrize(
    ("colour", "word"),
    [
        ((250, 250, 248), "white"),
        ((10, 10, 10), "black"),
        ((130, 130, 130), "grey"),
        ((200, 40, 40), "red"),
        ((20, 30, 80), "navy"),
        ((110, 75, 50), "brown"),
        ((235, 225, 190), "cream"),
        ((230, 140, 170), "pink"),
        ((80, 150, 70), "green"),
    ],
)
def test_flat_colour_has_one_palette_word(colour: tuple[int, int, int], word: str) -> None:
    image = torch.tensor(colour, dtype=torch.uint8).expand(20, 30, 3)
    assert palette_words(image.contiguous()) == (word,)


def test_palette_names_what_covers_enough_in_order() -> None:
    image = torch.zeros(100, 100, 3, dtype=torch.uint8)
    image[:, 50:80] = torch.tensor((200, 40, 40), dtype=torch.uint8)
    image[:, 80:90] = torch.tensor((250, 250, 248), dtype=torch.uint8)
    image[:, 90:] = torch.tensor((56, 83, 166), dtype=torch.uint8)
    assert palette_words(image) == ("black", "red")
    assert palette_likeness(("black", "red"), ("red", "white")) == pytest.approx(1 / 3)
    assert palette_likeness((), ()) == 1.0


def test_agreement_counts_only_what_was_asked_for() -> None:
    assert agreement(["a", "b", "c"], ["a", "a", ""]) == 0.5
    assert math.isnan(agreement(["a"], [""]))
    # The judge knows every a and half of the b; the prompts ask for three b to one a.
    judged, truth = ["a", "b", "a"], ["a", "b", "b"]
    assert expected_agreement(judged, truth, ["a", "b", "b", "b", "unknown"]) == pytest.approx(2.5 / 4)


def test_spearman_of_rising_falling_and_equal_values() -> None:
    assert spearman([0.1, 0.2, 0.9, 3.0]) == pytest.approx(1)
    assert spearman([3, 2, 1]) == pytest.approx(-1)
    assert spearman([2, 2, 2]) == 0
    # Ranks 0, 1.5, 1.5, 3 against 0, 1, 2, 3.
    assert spearman([1, 5, 5, 9]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)


def test_mixes_give_a_style_the_weight_that_is_measured() -> None:
    (pair,) = plan_pairs_of_styles(["a pier"], ["baroque", "ukiyo-e"], 1)
    for way in WAYS:
        alone, shared, without = (mix_of(pair, way, weight) for weight in (1.0, 0.5, 0.0))
        assert [style.name for style in alone.felt] == [pair.one]
        assert {style.name for style in shared.felt} == {"baroque", "ukiyo-e"}
        assert [style.name for style in without.felt] == [pair.other]
    assert [style.at(progress) for style in mix_of(pair, "time", 0.5).styles for progress in (0, 1)] == [
        1,
        0,
        0,
        1,
    ]
    assert all(style.region for style in halves_of(pair).styles)


def test_views_are_the_two_ends_and_looks_keep_their_order() -> None:
    wide = torch.full((1, 3, 160, 224), -1.0)
    wide[..., 200:] = 1
    left, right = two_views(wide)
    assert left.shape == (1, 3, 160, 160)
    assert left.max() == -1
    assert right.max() == 1
    images = [
        torch.full((*size, 3), level, dtype=torch.uint8)
        for level, size in ((0, (8, 8)), (51, (8, 16)), (102, (8, 8)))
    ]
    seen = look(lambda pixels: pixels.mean((1, 2, 3))[:, None], images, torch.device("cpu"))
    torch.testing.assert_close(seen.flatten(), torch.tensor([-1.0, -0.6, -0.2]))


def test_shipped_prompts_are_what_the_issue_asks_for() -> None:
    prompts = read_prompts()
    assert len(set(prompts.subjects.names)) == 50
    assert len(set(prompts.pairs.words)) == 30
    wanted = plan_agreement(prompts.agreement, 500)
    assert wanted == plan_agreement(prompts.agreement, 500)
    assert wanted[:40] == plan_agreement(prompts.agreement, 40)
    assert len({one.seed for one in wanted}) == len(wanted) == 500
    assert sum(bool(one.palette) for one in wanted) == 250
    assert all(one.style in one.prompt for one in wanted)
    assert {one.style for one in wanted} >= {"ukiyo-e", "3d render", "botanical watercolour"}
    subjects = plan_subjects(prompts.subjects, 2)
    assert len(subjects) == 200
    assert all(("3d render" in one.prompt) == (index >= 100) for index, one in enumerate(subjects))
    pairs = plan_pairs(prompts.pairs, 2)
    assert [one.subject for one in pairs[:6]] == ["canine", "canine", "dog", "dog", "dog", "dog"]
    assert [one.seed for one in pairs[:6]] == [0, 1, 0, 1, 1000, 1001]


def test_captions_of_held_out_pictures_are_used_evenly() -> None:
    rows = [
        (Format(192, 192), Row("k", "painting", "baroque", "", "", True, 0.0, [f"{name}{i}" for i in "012"]))
        for name in "ab"
    ]
    assert [one.prompt for one in plan_captions(rows, 5)] == ["a0", "b0", "a1", "b1", "a2"]


KINDS: tuple[dict[str, object], ...] = (
    {"source": "emoji-3d", "style": "3d render", "title": "cat face", "genre": "icon"},
    {"source": "pomology", "style": "botanical watercolour", "title": "pear", "palette": ["cream"],
     "genre": "botanical illustration"},
    {"source": "painting", "style": "romanticism", "title": "ship in a storm", "palette": ["navy"],
     "genre": "landscape"},
)  # fmt: skip
GROUNDS = ((200, 60, 60, 255), (235, 225, 190, 255), (25, 35, 80, 255))


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of three kinds of small pictures, with as many held out as training."""
    folder = tmp_path_factory.mktemp("pack")
    keys = [f"{number:06d}" for number in range(2000)]
    chosen = [key for key in keys if is_validation(key)][:HELD_OUT]
    chosen += [key for key in keys if not is_validation(key)][:HELD_OUT]
    with tarfile.open(folder / "art-000.tar", "w") as tar:
        for index, key in enumerate(chosen):
            noise = np.random.default_rng(index).integers(-20, 20, (8, 8, 4))
            pixels = np.clip(np.array(GROUNDS[index % 3]) + noise, 0, 255).astype(np.uint8)
            stream = io.BytesIO()
            image = Image.fromarray(pixels).resize((64, 64 if index % 2 else 48), Image.Resampling.BICUBIC)
            image.convert("RGBA" if index % 3 == 0 else "RGB").save(stream, "webp")
            fields = KINDS[index % 3] | {"width": image.width, "height": image.height}
            for suffix, content in (("json", json.dumps(fields).encode()), ("webp", stream.getvalue())):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy model with random weights."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["ship in a storm, romanticism", "pear, botanical watercolour"] * 4, TOY)
    pipeline = assemble_pipeline(
        build_autoencoder(TOY), build_text_encoder(TOY, tokenizer), tokenizer, build_unet(TOY)
    )
    folder = tmp_path_factory.mktemp("model") / "toy"
    export_model(pipeline, folder)
    return folder


def test_whole_evaluation_writes_finite_figures_and_keeps_its_judges(
    pack: Path, model: Path, tmp_path: Path
) -> None:
    prompts = tmp_path / "prompts.toml"
    prompts.write_text(TOY_PROMPTS)
    output = tmp_path / "run"
    arguments = ["evaluate", "--data", str(pack), "--output", str(output), "--model", str(model),
                 "--size", "toy", "--pictures", "12", "--prompts", "4", "--subject-seeds", "1",
                 "--pair-seeds", "2", "--diversity-seeds", "2", "--mixed-prompts", "2", "--mixed-seeds", "2",
                 "--judge-steps", "3", "--finetuning-steps", "1", "--steps", "2",
                 "--batch-size", "6", "--workers", "1", "--prompts-file", str(prompts)]  # fmt: skip
    runner = CliRunner()
    result = runner.invoke(train_app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "| frechet | ratio |" in result.output
    assert "training the judge" in result.output
    report = json.loads((output / "evaluation.json").read_text())
    assert (report["model"], len(report["revision"])) == ("toy", 64)
    figures = report["results"]
    assert {"autoencoder", "style", "genre", "palette", "frechet", "memorisation", "subjects", "word pairs",
            "diversity", "mixing", "held-out captions"} == figures.keys()  # fmt: skip
    missing = {
        f"{section}: {name}"
        for section, values in figures.items()
        for name, value in values.items()
        if value is None
    }
    # Three steps of training may leave a judge that is never right, and a ratio to nothing is not measured.
    assert all("ratio" in name for name in missing), missing
    assert figures["palette"]["rule and pack labels, Jaccard"] > 0.9
    assert figures["word pairs"]["words in no caption"] == 1
    assert figures["word pairs"]["trials"] == 4
    assert figures["subjects"]["real held-out, pictures and subjects"] > 0
    assert figures["subjects"]["subjects that are in no 3d render learnt from"] == 5, "there are only cats"
    assert 0 <= figures["subjects"]["3d renders learnt from, in top 5"] <= 1 / 6
    shown = 1 - figures["subjects"]["subjects that are in no painting learnt from"] / 6
    assert figures["subjects"]["paintings learnt from, in top 5"] <= shown + 1e-9
    assert figures["mixing"]["prompts"] == 2
    assert all(abs(figures["mixing"][f"{way}, Spearman of the mean"]) <= 1 for way in WAYS)

    again = runner.invoke(train_app, arguments, catch_exceptions=False)
    assert again.exit_code == 0
    assert "training the judge" not in again.output
    repeated = json.loads((output / "evaluation.json").read_text())["results"]
    assert repeated == figures

    some = runner.invoke(train_app, [*arguments, "--only", "palettes,pairs"])
    assert some.exit_code == 2
    assert "agreement" in some.output
    assert runner.invoke(train_app, [*arguments, "--only", "pairs,companion"]).exit_code == 0
    few = json.loads((output / "evaluation.json").read_text())["results"]
    assert few == {"word pairs": figures["word pairs"]}, "this model has no companion"

    through = ["--only", "subjects", "--classifier", str(write_classifier(tmp_path / "colours.pt2"))]
    seen = runner.invoke(train_app, [*arguments, *through], catch_exceptions=False)
    assert "training the dual encoder" in seen.output, "the other one saw from scratch"
    assert "the dual encoder sees through colours.pt2" in seen.output


def test_a_companion_is_measured_in_its_own_steps(pack: Path, model: Path, tmp_path: Path) -> None:
    paired = shutil.copytree(model, tmp_path / "paired")
    save_low_rank(add_low_rank(build_unet(TOY), 2), paired / LORA_FILE, 2)
    settings = {"companion": {"lora": LORA_FILE.as_posix(), "num_inference_steps": 2, "guidance_scale": 1.0}}
    (paired / "atelier.json").write_text(json.dumps(settings))
    arguments = ["evaluate", "--data", str(pack), "--output", str(tmp_path / "run"), "--model", str(paired),
                 "--size", "toy", "--prompts", "4", "--judge-steps", "2", "--only", "companion"]  # fmt: skip
    result = CliRunner().invoke(train_app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "training the dual encoder" not in result.output, "nothing of this asks it"
    figures = json.loads((tmp_path / "run" / "evaluation.json").read_text())["results"]
    assert figures.keys() == {"companion, style", "companion, genre", "companion, palette"}


def test_sheet_paints_each_prompt_from_its_own_seed(model: Path, tmp_path: Path) -> None:
    prompts, target = tmp_path / "prompts.toml", tmp_path / "sheet.png"
    prompts.write_text(TOY_PROMPTS)
    where = ["--model", str(model), "--prompts-file", str(prompts)]
    result = CliRunner().invoke(train_app, ["sheet", "--output", str(target), *where])
    assert result.exit_code == 0, result.output
    assert "3 pictures" in result.output
    with Image.open(target) as sheet:
        assert sheet.size == (3 * 192, 192)
        ship, cat = sheet.crop((0, 0, 192, 192)), sheet.crop((384, 0, 576, 192))
    assert ship.tobytes() != cat.tobytes()
    assert len(read_prompts().sheet.prompts) == 64


def test_evaluation_refuses_in_a_sentence_what_it_cannot_find(pack: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    where = ["--output", str(tmp_path / "run")]
    unknown = runner.invoke(train_app, ["evaluate", "--data", str(pack), *where, "--model", "none-such"])
    assert unknown.exit_code == 2
    assert "There is no model called none-such" in unknown.output
    empty = runner.invoke(train_app, ["evaluate", "--data", str(tmp_path), *where])
    assert empty.exit_code == 2
    assert "no .tar shard in" in empty.output
    sampler = runner.invoke(train_app, ["evaluate", "--data", str(pack), *where, "--sampler", "Oil"])
    assert sampler.exit_code == 2
    assert "There is no sampler Oil" in sampler.output
    assert not (tmp_path / "run").exists()


def test_fillings_are_compared_with_naive_ones(pack: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    arguments = ["evaluate-filling", "--data", str(pack), "--output", str(output), "--model", str(model),
                 "--size", "toy", "--pictures", "2", "--judge-steps", "2", "--steps", "2",
                 "--workers", "1"]  # fmt: skip
    result = CliRunner().invoke(train_app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "| filled by | seam | feather | colours | style |" in result.output
    figures = json.loads((output / "filling.json").read_text())
    untouched = figures["untouched"]
    assert (untouched["seam"], untouched["feather"]) == (1, 1)
    assert untouched["colours"] == pytest.approx(0, abs=1e-3)
    assert untouched["style"] == pytest.approx(0, abs=1e-5)
    # Pasted as they are, fills end at the border; a fitted one goes over into what it meets.
    assert figures["Atelier"]["seam"] < figures["latents pasted, no blending"]["seam"]
    assert figures["mean colour"]["feather"] == 1
    assert (output / "sheets" / "filling.png").exists()


def test_fillings_are_judged_by_the_model_s_own_classifier(pack: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    arguments = ["evaluate-filling", "--data", str(pack), "--output", str(output), "--judge", "own",
                 "--pictures", "2", "--steps", "2", "--workers", "1"]  # fmt: skip
    refused = CliRunner().invoke(train_app, [*arguments, "--model", str(model)])
    assert refused.exit_code == 2
    assert "toy has no style classifier beside it" in refused.output
    judging = add_classifier(shutil.copytree(model, tmp_path / "judging"), channels=TOY.latent_channels)
    result = CliRunner().invoke(train_app, [*arguments, "--model", str(judging)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert not (output / "judge.safetensors").exists(), "none is trained"
    figures = json.loads((output / "filling.json").read_text())
    assert figures["untouched"]["style"] == pytest.approx(0, abs=1e-5)
    assert 0 < figures["mean colour"]["style"] <= 1
    assert figures["judge"]["right about"] == 0, "it knows ink and oil only"


def test_mixes_are_judged_by_the_model_s_own_classifier(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    arguments = ["evaluate-mixing", "--output", str(output), "--prompts", "2", "--seeds", "2", "--steps", "2"]
    refused = CliRunner().invoke(train_app, [*arguments, "--model", str(model)])
    assert refused.exit_code == 2
    assert "toy has no style classifier beside it" in refused.output
    judging = add_classifier(shutil.copytree(model, tmp_path / "judging"), channels=TOY.latent_channels)
    result = CliRunner().invoke(train_app, [*arguments, "--model", str(judging)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    figures = json.loads((output / "mixing.json").read_text())
    assert (figures["prompts"], figures["seeds"]) == (2, 2)
    for way in WAYS:
        assert all(-1 <= value <= 1 for name, value in figures.items() if name.startswith(way))
    assert 0 <= figures["region, right style in the right half"] <= 1
