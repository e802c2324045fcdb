"""Training: captions, formats and weights by the piece, and one toy run from pack to picture."""

from __future__ import annotations

import json
import math
import os
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from pipelines.style_classifier import load_style_classifier
from pipelines.training.architecture import TOY, build_autoencoder
from pipelines.training.arrangement import COLOURS, arrange
from pipelines.training.autoencoder import balance_latents, decode, encode, load_autoencoder
from pipelines.training.captions import (
    Facts,
    clean_title,
    common_words,
    compose_caption,
    telling_words,
    title_tags,
)
from pipelines.training.cli import train_app
from pipelines.training.clock import Budget, learning_rate_scale
from pipelines.training.diffusion import draw_timesteps, min_snr_weight, v_prediction_target
from pipelines.training.distillation import LORA_FILE
from pipelines.training.distributed import see_one_gpu
from pipelines.training.pack import (
    FORMATS,
    STYLE_SHARES,
    Format,
    Row,
    choose_format,
    is_validation,
    picture_weights,
    plan_rows,
    prepare_pack,
    read_shards,
)
from pipelines.training.pictures import PictureBank, to_pixels
from pipelines.training.quality import psnr, ssim
from pipelines.training.style_classifier import CLASSIFIER_FILE, choose_pictures
from tests.toy_pack import toy_fields, write_pack


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pack(tmp_path_factory.mktemp("pack"))


def test_title_is_cleaned_of_what_no_picture_shows() -> None:
    assert (
        clean_title("Landscape with Alphonse Daudet s windmill")
        == "landscape with alphonse daudet's windmill"
    )
    assert clean_title("water lilies 26") == "water lilies"
    assert clean_title("Nihonbashiōdenma-chō, Chūō") == "nihonbashiodenma-cho, chuo"
    assert clean_title("pincian hill rome also known as afternoon") == "pincian hill rome"


def test_telling_words_are_what_a_thing_is_and_not_whose_it_is() -> None:
    common = common_words(["ship in a storm", "ship at sea", "a ship", "the ship of josina"])
    painting = Facts("painting", "baroque", title="the ship of josina", seen=("boats",))
    assert telling_words(painting, common) == ["ship", "seascape", "boats"]
    emoji = Facts("emoji-3d", "3d render", title="mail box on a ship", keywords=("letter", "ship"))
    assert telling_words(emoji, common) == ["ship", "seascape", "mail", "box", "letter"]


def test_tags_are_common_words_and_what_they_hint_at() -> None:
    common = common_words(["ship in a storm", "ship at sea", "a ship", "the ship of josina"])
    assert common == {"ship"}
    assert title_tags("the ship of josina", common) == ["ship", "seascape"]


def test_captions_name_only_facts_and_differ() -> None:
    facts = Facts.from_json(toy_fields(2))
    common = frozenset({"portrait", "man"})
    captions = {compose_caption(facts, common, random.Random(seed)) for seed in range(200)}
    assert len(captions) > 60
    assert all(captions)
    assert any(caption == "romanticism" for caption in captions)
    assert not any("painter 1" in caption for caption in captions)
    assert all(caption == caption.lower() for caption in captions)


def test_caption_names_the_ground_of_an_emoji() -> None:
    facts = Facts.from_json(toy_fields(0))
    assert facts.keywords == ("animal",)
    captions = [compose_caption(facts, frozenset(), random.Random(seed), "olive") for seed in range(80)]
    assert any("on an olive background" in caption for caption in captions)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((222, 160), "224x160"), ((222, 110), "224x160"), ((160, 222), "160x224"), ((222, 200), "192x192")],
)
def test_picture_goes_to_the_format_that_crops_it_least(size: tuple[int, int], expected: str) -> None:
    assert choose_format(*size).name == expected


def test_formats_divide_by_eight_and_hold_about_the_same_area() -> None:
    for shape in FORMATS:
        assert shape.width % 8 == shape.height % 8 == 0
        assert math.isclose(shape.width * shape.height, 192 * 192, rel_tol=0.03)


def test_arrangement_fills_the_format() -> None:
    rng = random.Random(0)
    image = Image.new("RGB", (222, 150), (10, 200, 30))
    arranged, ground = arrange(image, source="painting", width=224, height=160, rng=rng)
    assert (arranged.size, ground) == ((224, 160), "")
    assert np.asarray(arranged).reshape(-1, 3).std(axis=0).max() == 0
    arranged, ground = arrange(
        Image.new("RGBA", (64, 64), (0, 0, 0, 0)), source="emoji-3d", width=160, height=224, rng=rng
    )
    assert arranged.size == (160, 224)
    assert ground in COLOURS
    arranged, ground = arrange(image, source="pomology", width=192, height=192, rng=rng)
    assert np.abs(np.asarray(arranged).astype(int) - [10, 200, 30]).max() <= 1


def test_emoji_stand_in_the_middle_of_a_ground_and_little_varied() -> None:
    emoji = Image.new("RGBA", (64, 64), (255, 0, 255, 255))
    for seed in range(20):
        for shape in FORMATS:
            arranged, ground = arrange(
                emoji, source="emoji-3d", width=shape.width, height=shape.height, rng=random.Random(seed)
            )
            pixels = np.asarray(arranged).astype(int)
            shown = np.abs(pixels - [255, 0, 255]).max(2) < 8
            down, across = (np.flatnonzero(shown.any(axis)) for axis in (1, 0))
            for found, whole in ((down, shape.height), (across, shape.width)):
                assert 0.79 < len(found) / min(shape.width, shape.height) < 0.88
                assert abs(found.mean() + 0.5 - whole / 2) < 0.06 * whole
            assert np.abs(pixels[0, 0] - COLOURS[ground]).max() < 100, "a shade of the colour it is named by"


def test_held_out_pictures_are_planned_once_and_never_drawn(pack: Path) -> None:
    entries = read_shards(pack)
    held_out = [entry for entry in entries if is_validation(entry.key)]
    assert 0 < len(held_out) < 8
    weights = picture_weights(entries)
    assert not weights.keys() & {entry.key for entry in held_out}
    assert all(len(plan_rows(entry)) == 1 for entry in held_out)
    assert math.isclose(sum(weights.values()), 1.0)
    emoji = sum(weights[entry.key] for entry in entries if entry.key in weights and int(entry.key) % 4 == 0)
    present = {str(entry.fields["style"]) for entry in entries if entry.key in weights}
    assert math.isclose(emoji, STYLE_SHARES["3d render"] / sum(STYLE_SHARES[style] for style in present))


def test_folder_without_shards_is_refused_in_a_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        train_app, ["all", "--data", str(tmp_path), "--output", str(tmp_path / "out"), "--max-steps", "1"]
    )
    assert result.exit_code == 2
    assert "no .tar shard in" in result.output


def test_run_without_a_limit_is_refused_in_a_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(train_app, ["all", "--data", str(tmp_path), "--output", str(tmp_path)])
    assert result.exit_code == 2
    assert "--minutes" in result.output


def test_timesteps_are_drawn_as_often_as_they_weigh() -> None:
    weights = torch.tensor([0.0, 1.0, 3.0, 0.0, 4.0])
    drawn = draw_timesteps(weights, 800, torch.Generator().manual_seed(0))
    assert torch.bincount(drawn, minlength=5).tolist() == [0, 100, 300, 0, 400]
    # The mean of what is drawn, times the mean weight, is the weighted mean of all.
    errors = torch.tensor([7.0, 2.0, 5.0, 1.0, 3.0])
    assert torch.isclose(weights.mean() * errors[drawn].mean(), (weights * errors).mean(), rtol=1e-4)


def test_v_prediction_is_undone_by_its_own_equation() -> None:
    latents, noise = torch.randn(3, 8, 4, 4), torch.randn(3, 8, 4, 4)
    alpha_bar = torch.tensor([0.9, 0.5, 0.001])
    noisy, target = v_prediction_target(latents, noise, alpha_bar)
    signal, spread = alpha_bar.sqrt().view(-1, 1, 1, 1), (1 - alpha_bar).sqrt().view(-1, 1, 1, 1)
    torch.testing.assert_close(signal * noisy - spread * target, latents)


def test_min_snr_weight_follows_the_paper_and_its_floor() -> None:
    alpha_bar = torch.tensor([0.5, 0.99])
    expected = torch.tensor([1.0 / 2.0, 5.0 / 100.0])
    torch.testing.assert_close(min_snr_weight(alpha_bar, 5.0), expected)
    assert min_snr_weight(torch.tensor([0.001]), 5.0, 0.1).item() > 0.1


def test_learning_rate_warms_up_holds_and_ends_annealed() -> None:
    assert learning_rate_scale(0.0, 0, warmup_steps=10) == pytest.approx(0.1)
    assert learning_rate_scale(0.5, 100, warmup_steps=10) == 1.0
    assert learning_rate_scale(1.0, 100, warmup_steps=10) == pytest.approx(0.01)
    budget = Budget(minutes=None, max_steps=4)
    assert [budget.progress(step) for step in range(5)] == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_quality_of_a_picture_with_itself() -> None:
    pixels = torch.rand(2, 3, 32, 32) * 2 - 1
    assert psnr(pixels, pixels).min() > 90
    torch.testing.assert_close(ssim(pixels, pixels), torch.ones(2))
    assert psnr(torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.2)).item() == pytest.approx(
        20.0, abs=0.01
    )


@pytest.mark.parametrize(("given", "rank", "left"), [(None, "2", "2"), ("4,6", "1", "6"), ("4,6", "0", "4")])
def test_each_process_of_a_launch_sees_one_gpu(
    given: str | None, rank: str, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    see_one_gpu()
    assert "CUDA_VISIBLE_DEVICES" not in os.environ, "started alone: all of them"
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    monkeypatch.setenv("LOCAL_RANK", rank)
    see_one_gpu()
    assert os.environ.pop("CUDA_VISIBLE_DEVICES") == left
    assert os.environ["LOCAL_RANK"] == "0"


def test_toy_training_resumes_exports_and_paints(pack: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    where = ["--data", str(pack), "--output", str(tmp_path / "run"), "--size", "toy", "--workers", "1"]
    result = runner.invoke(train_app, ["all", *where, "--max-steps", "4"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    result = runner.invoke(
        train_app, ["diffusion", *where, "--max-steps", "6", "--resume"], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output

    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [line for line in log if "loss" in line]
    assert all(math.isfinite(line["loss"]) for line in losses)
    assert [line["step"] for line in losses if line["stage"] == "autoencoder"] == [1, 2, 3, 4]
    assert [line["step"] for line in losses if line["stage"] == "diffusion"] == [1, 2, 3, 4, 5, 6]
    assert any("psnr_db" in line for line in log)
    assert any(math.isfinite(line["validation_loss"]) for line in log if "validation_loss" in line)
    with Image.open(tmp_path / "run" / "sheets" / "diffusion-000006.png") as sheet:
        assert sheet.height == sum(shape.height for shape in FORMATS)

    model = tmp_path / "model"
    arguments = ["export", "--output", str(tmp_path / "run"), "--model", str(model)]
    assert runner.invoke(train_app, [*arguments, "--size", "toy"], catch_exceptions=False).exit_code == 0
    refused = runner.invoke(train_app, arguments, catch_exceptions=False)
    assert refused.exit_code == 2
    assert "--size" in refused.output
    assert "_name_or_path" not in json.loads((model / "vae" / "config.json").read_text())

    further = ["diffusion", *where, "--initial", str(model), "--max-steps", "1"]
    further[further.index(str(tmp_path / "run"))] = str(tmp_path / "further")
    missing = runner.invoke(train_app, [*further[:-4], "--max-steps", "1"], catch_exceptions=False)
    assert missing.exit_code == 2
    assert "no autoencoder in" in missing.output
    assert runner.invoke(train_app, further, catch_exceptions=False).exit_code == 0

    pipeline = StableDiffusionPipeline.from_pretrained(str(model), dtype=torch.float32)
    assert isinstance(pipeline, StableDiffusionPipeline)
    pipeline.set_progress_bar_config(disable=True)
    shape = Format(64, 48)
    painted = pipeline(
        "a ship, romanticism", width=shape.width, height=shape.height, num_inference_steps=2,
        generator=torch.Generator().manual_seed(0), return_dict=False,
    )[0]  # fmt: skip
    assert painted[0].size == (64, 48)


def test_toy_distillation_writes_a_lora_that_diffusers_would_fuse(pack: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    where = ["--data", str(pack), "--output", str(tmp_path), "--size", "toy", "--workers", "1"]
    trained = runner.invoke(train_app, ["all", *where, "--max-steps", "2"], catch_exceptions=False)
    assert trained.exit_code == 0, trained.output
    model = tmp_path / "model"
    result = runner.invoke(
        train_app, ["distill", *where, "--model", str(model), "--max-steps", "3"], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in log if line["stage"] == "distillation" and "loss" in line]
    assert len(losses) == 3
    assert all(math.isfinite(loss) for loss in losses)
    assert (tmp_path / "sheets" / "distillation-000003.png").exists()

    lora = load_file(tmp_path / LORA_FILE)
    weights = load_file(model / "unet" / "diffusion_pytorch_model.safetensors")
    layers = {name.removesuffix(".lora_A.weight") for name in lora if name.endswith(".lora_A.weight")}
    wide = {name for name, weight in weights.items() if name.endswith(".weight") and weight.ndim > 1}
    assert {f"unet.{name.removesuffix('.weight')}" for name in wide} == layers
    changed = 0
    for layer in layers:
        down, up = lora[f"{layer}.lora_A.weight"].float(), lora[f"{layer}.lora_B.weight"].float()
        base = weights[f"{layer.removeprefix('unet.')}.weight"]
        assert (up.flatten(1) @ down.flatten(1)).view_as(base).isfinite().all()
        changed += bool(up.abs().max() > 0)
    assert changed > len(layers) / 2


def test_toy_style_classifier_is_trained_taken_up_again_and_loaded(pack: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    where = ["--data", str(pack), "--output", str(tmp_path), "--size", "toy", "--workers", "1"]
    trained = runner.invoke(train_app, ["autoencoder", *where, "--max-steps", "1"], catch_exceptions=False)
    assert trained.exit_code == 0, trained.output
    for steps, more in (("2", []), ("3", ["--resume"])):
        command = ["style-classifier", *where, "--model", str(tmp_path), "--max-steps", steps, *more]
        result = runner.invoke(train_app, command, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    assert re.search(r"timestep 800: \d+\.\d% right", result.output)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    told = [line for line in log if line["stage"] == "style classifier" and "loss" in line]
    assert [line["step"] for line in told] == [1, 2, 3]
    assert all(math.isfinite(line["loss"]) for line in told)
    styles = sorted({str(entry.fields["style"]) for entry in read_shards(pack)})
    classifier = load_style_classifier(tmp_path / CLASSIFIER_FILE, styles, torch.device("cpu"))
    noisy = torch.randn(2, classifier.stem.in_channels, 20, 28)
    assert classifier(noisy, torch.tensor([10, 900])).shape == (2, len(styles))


def test_a_limit_on_each_style_leaves_formats_and_held_out_pictures_alone() -> None:
    rows: dict[Format, list[Row]] = {
        shape: [
            Row(f"{place}-{number // 2}", "painting", "baroque", "", "", number % 10 == 0, 1.0, [])
            for number in range(80)
        ]
        for place, shape in enumerate(FORMATS)
    }
    chosen = choose_pictures(rows, 30)
    assert len({one.row.key for one in chosen}) == len(chosen), "one arrangement of each picture"
    assert sum(one.row.validation for one in chosen) == 24
    taken = Counter(one.shape for one in chosen if not one.row.validation)
    assert sum(taken.values()) == 30
    assert min(taken[shape] for shape in FORMATS) > 4


def test_latents_are_balanced_without_a_change_to_what_they_decode_to(pack: Path, tmp_path: Path) -> None:
    prepare_pack(pack, tmp_path)
    bank = PictureBank(tmp_path, torch.device("cpu"), seed=0)
    torch.manual_seed(0)
    vae = build_autoencoder(TOY).eval()
    pixels = torch.rand(2, 3, 32, 32) * 2 - 1
    before = decode(vae, encode(vae, pixels))
    scale = balance_latents(vae, bank, TOY.coarse_channels, 0.5)
    torch.testing.assert_close(decode(vae, encode(vae, pixels)), before, rtol=1e-4, atol=1e-5)
    shape = next(iter(bank.pixels))
    coarse, fine = (scale * encode(vae, to_pixels(bank.pixels[shape][:64]))).split([4, 4], dim=1)
    assert coarse.std().item() == pytest.approx(1.0, abs=0.15)
    assert fine.std().item() == pytest.approx(0.5, abs=0.1)


def test_an_autoencoder_with_fewer_channels_is_trained_on_from(pack: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    earlier = build_autoencoder(replace(TOY, latent_channels=4))
    earlier.save_pretrained(str(tmp_path / "earlier" / "vae"))
    where = ["--data", str(pack), "--output", str(tmp_path), "--size", "toy", "--workers", "1"]
    command = ["autoencoder", *where, "--initial", str(tmp_path / "earlier"), "--max-steps", "1"]
    assert CliRunner().invoke(train_app, command, catch_exceptions=False).exit_code == 0
    trained = load_autoencoder(tmp_path / "vae")
    assert trained.config["latent_channels"] == TOY.latent_channels
    known, now = earlier.state_dict(), trained.state_dict()
    kept = "decoder.up_blocks.0.resnets.0.conv1.weight"
    # One step of a warming learning rate leaves a weight near where it was; a new one would be far away.
    torch.testing.assert_close(now[kept], known[kept], rtol=0, atol=1e-3)
    assert now["decoder.conv_in.weight"].shape != known["decoder.conv_in.weight"].shape
