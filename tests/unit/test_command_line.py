"""The command line as a person types it: real files, and a real process where that makes a difference."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

import app
from pipelines.recipe import read_recipe
from pipelines.sources import source_key
from pipelines.timeline import read_timeline
from tests.tiny import random_updates, save_ip_adapter

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["--num-inference-steps", "2", "--width", "64", "--height", "64"]


def process(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it as its own process, which begins by importing torch for some seconds."""
    command = [sys.executable, "app.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def atelier(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the same in this process."""
    command = ["app.py", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "argv", command),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as end,
    ):
        app.main()
    assert isinstance(end.value.code, int)
    return subprocess.CompletedProcess(command, end.value.code, out.getvalue(), err.getvalue())


def test_paint_keeps_the_recipe_and_replay_paints_it_again(tiny_folder: Path, tmp_path: Path) -> None:
    first, again, frames = tmp_path / "new" / "a.png", tmp_path / "b.png", tmp_path / "frames"
    done = process("paint", "a cat", "--model", tiny_folder, "--output", first, "--timeline", frames, *QUICK)
    assert done.returncode == 0, done.stderr
    with Image.open(first) as image:
        assert image.size == (64, 64)
        assert set(image.info) >= {"parameters", "atelier_recipe"}
        recipe = read_recipe(image.info["atelier_recipe"])
        assert image.info["parameters"].startswith("a cat\nSteps: 2, Sampler: DPM++ 2M, CFG scale: 7, Seed: ")
        assert image.info["parameters"].endswith(", Calls: eager 2")
    assert recipe.prompt == "a cat"
    assert recipe.seed >= 0, "the seed drawn is the seed kept"
    timeline = read_timeline(frames)
    assert timeline.recipe == recipe
    assert len(timeline.steps) == 2
    done = process("replay", first, "--model", tiny_folder, "--output", again)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.asarray(Image.open(first)), np.asarray(Image.open(again)))


def test_a_picture_is_begun_from_another(tiny_folder: Path, tmp_path: Path) -> None:
    photo, painted, again = tmp_path / "photo.jpg", tmp_path / "a.png", tmp_path / "b.png"
    Image.linear_gradient("L").resize((200, 100)).save(photo)
    options = ["--model", tiny_folder, "--image", photo]
    steps = ["--num-inference-steps", "4", "--strength", "0.5"]
    done = atelier("paint", "a cat", *options, *steps, "--output", painted)
    assert done.returncode == 0, done.stderr
    with Image.open(painted) as image:
        assert image.size == (88, 64), "its own shape, at the model's size"
        assert "Denoising strength: 0.5" in image.info["parameters"]
    done = atelier("replay", painted, *options, "--output", again)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.asarray(Image.open(painted)), np.asarray(Image.open(again)))
    done = atelier("replay", painted, "--model", tiny_folder, "--output", tmp_path / "c.png")
    assert (done.returncode, "Give that very file as --image" in done.stderr) == (2, True)
    done = atelier("paint", "a cat", *options, "--strength", "2", "--output", tmp_path / "c.png")
    assert done.stderr == "Strength must be a number above 0 and up to 1, not 2.\n"


def test_the_companion_paints_in_four_steps(tiny_folder: Path, tmp_path: Path) -> None:
    output, size = tmp_path / "a.png", ["--width", "64", "--height", "64"]
    done = atelier("paint", "a cat", "--model", tiny_folder, "--output", output, "--sampler", "LCM", *size)
    assert done.returncode == 0, done.stderr
    with Image.open(output) as image:
        recipe = read_recipe(image.info["atelier_recipe"])
    assert (recipe.sampler, recipe.num_inference_steps, recipe.guidance_scale) == ("LCM", 4, 1.0)


def test_inpaint_leaves_the_outside_alone(tiny_folder: Path, tmp_path: Path) -> None:
    photo, mask, filled, again = (tmp_path / name for name in ("photo.tif", "mask.png", "a.png", "b.png"))
    before = np.asarray(Image.linear_gradient("L").resize((200, 150)).convert("RGB")).copy()
    before[:, :, 0] = 90
    Image.fromarray(before).save(photo)
    hole = np.zeros((150, 200), np.uint8)
    hole[20:60, 100:140] = 255
    Image.fromarray(hole).save(mask)
    options = ["--model", tiny_folder, "--num-inference-steps", "2"]
    prompt = ["--prompt", "a cat", "--feather", "4"]
    done = atelier("inpaint", photo, "--mask", mask, *prompt, *options, "--output", filled)
    assert done.returncode == 0, done.stderr
    with Image.open(filled) as image:
        after, recipe = np.asarray(image.convert("RGB")), read_recipe(image.info["atelier_recipe"])
    assert recipe.source is not None
    assert (recipe.source.strength, recipe.source.feather_px) == (1, 4)
    near = np.zeros_like(hole, bool)
    near[16:64, 96:144] = True
    assert after.shape == before.shape
    assert np.array_equal(after[~near], before[~near])
    assert not np.array_equal(after[near], before[near])
    files = ["--image", photo, "--image", mask]
    assert atelier("replay", filled, "--model", tiny_folder, *files, "--output", again).returncode == 0
    assert np.array_equal(after, np.asarray(Image.open(again)))
    grow = ["--right", "40", "--style", "ukiyo-e=1"]
    done = atelier("inpaint", photo, *grow, *options, "--output", filled)
    assert done.returncode == 0, done.stderr
    with Image.open(filled) as image:
        wide, recipe = np.asarray(image.convert("RGB")), read_recipe(image.info["atelier_recipe"])
    assert wide.shape == (150, 240, 3)
    assert np.array_equal(wide[:, :200], before)
    assert recipe.mix is not None
    Image.fromarray(hole[:100]).save(mask)
    done = atelier("inpaint", photo, "--mask", mask, *options, "--output", again)
    assert done.stderr == (
        "The mask has 200x100 pixels and the picture 200x150: give a mask of the picture's own size.\n"
    )


def test_a_file_of_prompts_becomes_numbered_pictures(tiny_folder: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat\n\nkraków, światło\n", encoding="utf-8")
    output = tmp_path / "out"
    done = atelier("paint", "--prompts", prompts, "--output", output, "--model", tiny_folder, *QUICK)
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in output.iterdir()) == ["00000.png", "00001.png"]
    with Image.open(output / "00001.png") as image:
        assert read_recipe(image.info["atelier_recipe"]).prompt == "kraków, światło"


def test_blend_keeps_the_mix_and_each_styles_part(tiny_folder: Path, tmp_path: Path) -> None:
    output, frames = tmp_path / "mix.png", tmp_path / "frames"
    shares = ["--style", "Ukiyo-e=0.5", "--style", "baroque=1.5", "--style", "no style=-1"]
    method = ["--method", "prediction"]
    done = atelier(
        "blend", "a cat", *shares, *method, "--model", tiny_folder, "--output", output, "--timeline", frames,
        *QUICK,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with Image.open(output) as image:
        recipe = read_recipe(image.info["atelier_recipe"])
        told = 'Styles: "baroque 75 %, no style -50 %, ukiyo-e 25 %", Style method: prediction, '
        assert told in image.info["parameters"]
    assert recipe.mix is not None
    assert [style.name for style in recipe.mix.styles] == ["ukiyo-e", "baroque", "no style"]
    timeline = read_timeline(frames)
    assert timeline.recipe == recipe
    assert all(set(step.contributions) == {"baroque", "no style", "ukiyo-e"} for step in timeline.steps)


def test_blend_adds_a_lora_and_replay_needs_its_file(tiny_folder: Path, tmp_path: Path) -> None:
    loras, first, again = tmp_path / "loras", tmp_path / "first.png", tmp_path / "again.png"
    loras.mkdir()
    down, up = random_updates(tiny_folder, rank=2, seed=8)["conv_in"]
    lora = {"unet.conv_in.lora_A.weight": down, "unet.conv_in.lora_B.weight": up}
    save_file(lora, loras / "soft ink.safetensors")
    options = ["--model", tiny_folder, *QUICK]
    told = ["--lora", "soft ink=-0.5", "--loras", loras]
    done = atelier("blend", "a cat", *told, *options, "--output", first)
    assert done.returncode == 0, done.stderr
    with Image.open(first) as image:
        recipe = read_recipe(image.info["atelier_recipe"])
        assert "LoRAs: soft ink -0.5, " in image.info["parameters"]
        painted = np.asarray(image.convert("RGB"))
    assert [(lora.name, lora.weight) for lora in recipe.loras] == [("soft ink", -0.5)]
    replay = ["replay", first, "--model", tiny_folder, "--output", again]
    done = atelier(*replay)
    assert done.returncode == 2
    assert done.stderr.startswith("This picture needs the LoRA soft ink (")
    assert not again.exists()
    done = atelier(*replay, "--loras", loras)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.asarray(Image.open(again)), painted)
    done = atelier("blend", "a cat", "--lora", "oil=1", "--loras", loras, *options, "--output", again)
    assert done.stderr == f"There is no LoRA called oil in {loras}. Here are: soft ink.\n"
    done = atelier(*replay, "--loras", tmp_path / "nowhere")
    assert done.stderr.startswith("There is no folder ")


def test_blend_follows_a_picture_through_an_ip_adapter(tiny_folder: Path, tmp_path: Path) -> None:
    adapters, photo = tmp_path / "adapters", tmp_path / "a=b.png"
    first, again = tmp_path / "first.png", tmp_path / "again.png"
    adapters.mkdir()
    save_ip_adapter(adapters, tiny_folder, name="soft look")
    Image.radial_gradient("L").save(photo)
    options = ["--follow", f"{photo}=0.6", "--ip-adapters", adapters, "--model", tiny_folder, *QUICK]
    done = atelier("blend", "a cat", "--ip-adapter", "soft look", *options, "--output", first)
    assert done.returncode == 0, done.stderr
    with Image.open(first) as image:
        recipe = read_recipe(image.info["atelier_recipe"])
        told = f"Style references: {source_key(photo.read_bytes())[:8]} 0.6 through soft look, "
        assert told in image.info["parameters"]
        painted = np.asarray(image.convert("RGB"))
    assert [adapter.name for adapter in recipe.ip_adapters] == ["soft look"]
    replay = ["replay", first, "--image", photo, "--model", tiny_folder, "--output", again]
    done = atelier(*replay)
    assert done.returncode == 2
    assert done.stderr.startswith("This picture needs the IP-Adapter soft look (")
    assert not again.exists()
    done = atelier(*replay, "--ip-adapters", adapters)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.asarray(Image.open(again)), painted)
    done = atelier("blend", "a cat", *options, "--output", again)
    assert done.returncode == 0, done.stderr
    assert not np.array_equal(np.asarray(Image.open(again)), painted), "by shared attention"
    done = atelier("blend", "a cat", "--ip-adapter", "other", *options, "--output", again)
    assert done.stderr == f"There is no IP-Adapter called other in {adapters}. Here are: soft look.\n"
    done = atelier("blend", "a cat", "--ip-adapter", "soft look", "--style", "ukiyo-e=1", "--output", again)
    assert done.stderr == ("An IP-Adapter needs a picture to look at: give --follow FILE=STRENGTH, too.\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--width", "193"], "Width must be a multiple of 8 from 64 to 2048 pixels, not 193 (192 would do)."),
        (["--num-inference-steps", "0"], "Steps must be a whole number from 1 to 150, not 0."),
        (["--guidance-scale", "-1"], "Guidance must be a number from 0 to 30, not -1."),
        (["--seed", str(2**64)], f"or -1 to draw one, not {2**64}."),
        (["--sampler", "Magic"], "There is no sampler called Magic. The samplers are DPM++ 2M,"),
        (["--model", "nowhere"], "There is no model called nowhere"),
        (["--seed"], "requires an argument"),
        (["--no-such-option"], "No such option"),
        (["--image", "README.md"], "This file is not a picture that Atelier can open."),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    output = tmp_path / "new" / "out.png"
    done = atelier("paint", "a cat", "--output", output, *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not output.parent.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["paint", "--output", "x.png"], "Give either a prompt"),
        (["paint", "a", "--output", "x.jpg"], "--output is a PNG file, such as x.png, not x.jpg."),
        (["paint", "a", "--output", "/proc/nowhere/x.png"], "Nothing can be written to /proc/nowhere"),
        (["paint", "--prompts", "missing.txt", "--output", "out"], "missing.txt cannot be read"),
        (["paint", "x" * 10_000, "--output", "x.png"], "The prompt has 10,000 characters"),
        (
            ["blend", "a", "--style", "cubism=1", "--output", "x.png"],
            "There is no style called cubism. The s",
        ),
        (
            ["blend", "a", "--style", "baroque", "--output", "x.png"],
            "Give a style as NAME=WEIGHT, such as bar",
        ),
        (["blend", "a", "--style", "baroque=0", "--output", "x.png"], "Every weight is zero or below"),
        (
            ["inpaint", "assets/screenshots/gallery.png", "--output", "x.png"],
            "Give --mask FILE, white where it is repainted, or let it grow, as by --right 64.",
        ),
        (["replay", "README.md", "--output", "x.png"], "README.md is not a PNG"),
        (["replay", "missing.png", "--output", "x.png"], "There is no file missing.png"),
        (["--data-dir", "/proc/nowhere"], "/proc/nowhere"),
        (["serve", "--port", "0"], "greater than or equal to 1"),
    ],
)
def test_every_command_refuses_in_a_sentence(arguments: list[str], sentence: str) -> None:
    done = atelier(*arguments)
    assert done.returncode == 2, done
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (ROOT / "x.png").exists()


def test_a_refusal_is_all_that_the_process_says() -> None:
    done = process("paint", "a", "--output", "x.png", "--width", "193")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("Width must be a multiple of 8 from 64 to 2048 pixels, not 193 (192 would do).\n")


def test_doctor_finds_what_is_needed_and_what_is_missing(tiny_folder: Path, tmp_path: Path) -> None:
    done = atelier("doctor", "--model", tiny_folder, "--data-dir", tmp_path)
    assert done.returncode == 0, done.stdout
    for what in ("torch", "gradio", "device", "model", "disk"):
        assert f"ok   {what}: " in done.stdout
    done = atelier("doctor", "--model", "nowhere", "--data-dir", tmp_path)
    assert done.returncode == 1
    assert "FAIL model: There is no model called nowhere" in done.stdout


def test_bench_refuses_an_architecture_that_it_cannot_build(tmp_path: Path) -> None:
    done = atelier("bench", "--architecture", "sd9", "--output", tmp_path / "bench.json")
    assert done.returncode == 2
    assert done.stderr == "There is no architecture sd9; these can be built: sd15, sdxl.\n"
    assert not any(tmp_path.iterdir())


def test_bench_writes_its_rows(tiny_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    options = ("--model", tiny_folder, "--rounds", "1", "--artists", "3", "--strip")
    done = atelier("bench", *options, "--output", output)
    assert done.returncode == 0, done.stderr
    rows = json.loads(output.read_text())
    assert [row["name"] for row in rows][:2] == ["picture", "picture, timeline kept"]
    *rows, together, strip = rows
    (few_steps,) = (row for row in rows if row["name"] == "picture, few steps")
    assert few_steps["ratio"] < 0.6, "four calls of one row against twenty-five of two"
    assert together.pop("tick_s") > 0
    assert 0 < together.pop("first_preview_s") < together["ours_s"] * 3
    assert together.pop("joiner_ticks") == 1, "who joins others steps with them"
    assert together.pop("joiner_preview_s") > 0
    assert (together["name"], together["artists"]) == ("together", 3)
    assert (strip["name"], strip["artists"]) == ("strip of seven, over the seven in line", 7)
    assert strip["plain_rounds"] == 4
    assert together["plain_rounds"] == rows[0]["plain_rounds"] == 1 + 3
    assert together["plain_s"] == rows[0]["plain_s"], "one figure for the whole run"
    for row in [*rows, few_steps, together]:
        spread = {"plain_rounds", "plain_least_s", "plain_most_s"}
        assert set(row) == {"name", "model", "device", "artists", "ours_s", "plain_s", "ratio"} | spread
        assert row["ratio"] == pytest.approx(row["ours_s"] / row["plain_s"])
        assert 0 < row["plain_least_s"] <= row["plain_s"] <= row["plain_most_s"]
    assert "Keeping the timeline costs" in done.stdout
