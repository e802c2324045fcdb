"""Reward tuning: the trajectory against diffusers, the critics' loss by the piece, and a toy model tuned."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer
from typer.testing import CliRunner

from pipelines.training.architecture import build_scheduler, load_tokenizer
from pipelines.training.captions import Facts
from pipelines.training.cli import train_app
from pipelines.training.commissions import Commission, commission_wishes
from pipelines.training.critics import Schooling, gather_critics, weigh_subjects
from pipelines.training.crowds import Crowd, Neighbourhood
from pipelines.training.diffusion import NoisePrediction
from pipelines.training.evaluation.judge import TOY_NETWORK, Judge, doubts, labels_of, load_judge
from pipelines.training.evaluation.metrics import frechet_distance
from pipelines.training.evaluation.network import glance
from pipelines.training.evaluation.palette import WORDS, log_palette_shares, palette_words
from pipelines.training.evaluation.subjects import SubjectRanks
from pipelines.training.grain import Grain, detail
from pipelines.training.latent_bank import load_frozen_autoencoder, tokenize
from pipelines.training.pack import FORMATS
from pipelines.training.pictures import PictureBank, to_images, to_pixels
from pipelines.training.ranking import Critics, Wish
from pipelines.training.reward import RewardLoss, RewardTraining, Trajectory
from pipelines.training.verdicts import AIMS, Weights, ask_critics, displeasure, freeze
from pipelines.training.wordnet import WordNet
from tests.toy_pack import write_classifier, write_pack, write_wordnet

SHAPE = FORMATS[-1]
SUBJECTS = ("cat", "harbour")
WISH = Wish(Facts("painting", "romanticism", palette=("red",)), "romanticism, red tones", SHAPE)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a toy pack, a classifier, WordNet and a toy model in it."""
    folder = tmp_path_factory.mktemp("run")
    for name in ("data", "dict"):
        (folder / name).mkdir()
    write_pack(folder / "data")
    write_wordnet(folder / "dict")
    write_classifier(folder / "colours.pt2")
    made = ["all", "--data", f"{folder / 'data'}", "--output", f"{folder / 'made'}", "--max-steps", "1"]
    result = CliRunner().invoke(train_app, [*made, "--size", "toy", "--workers", "1"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def critics(run: Path) -> Critics:
    found = gather_critics(
        _bank(run),
        run / "data",
        run / "made",
        run / "colours.pt2",
        Schooling(toy=True, judge_steps=1, finetuning_steps=1),
        limit=None,
        say=lambda _: None,
    )
    freeze(found)
    return found


def test_a_trajectory_is_ddim_and_its_picture_is_linear_in_every_output() -> None:
    alphas = build_scheduler().alphas_cumprod
    trajectory = Trajectory(alphas, 5)
    config = {**build_scheduler().config, "timestep_spacing": "trailing", "set_alpha_to_one": True}
    reference: Any = DDIMScheduler.from_config(config)
    reference.set_timesteps(5)
    assert reference.timesteps.tolist() == trajectory.timesteps.tolist()
    torch.manual_seed(0)
    start, outputs = torch.randn(1, 2, 4, 4), torch.randn(5, 1, 2, 4, 4)
    ours = theirs = start
    for number, (timestep, output) in enumerate(zip(reference.timesteps, outputs, strict=True)):
        ours = trajectory.step(ours, output, number)
        theirs = reference.step(output, timestep, theirs).prev_sample
    torch.testing.assert_close(ours, theirs)
    changed = outputs.clone()
    changed[1] += 1
    other = start
    for number, output in enumerate(changed):
        other = trajectory.step(other, output, number)
    torch.testing.assert_close(other - ours, torch.full_like(ours, float(trajectory.shares[1])))


def test_soft_shares_of_colours_agree_with_the_rule() -> None:
    torch.manual_seed(0)
    pixels = torch.rand(6, 3, 1, 1) * 2 - 1 + 0.2 * torch.randn(6, 3, 64, 64)
    shares = log_palette_shares(pixels).exp()
    torch.testing.assert_close(shares.sum(1), torch.ones(6))
    words = list(WORDS)
    for share, image in zip(shares, to_images(pixels), strict=True):
        assert words[int(share.argmax())] == palette_words(image)[0]


def test_a_crowd_s_loss_is_its_frechet_distance_and_has_its_gradient() -> None:
    torch.manual_seed(0)
    real = torch.randn(400, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64) + 1
    made = (real[:100] * 0.7 + torch.randn(100, 6, dtype=torch.float64) + 0.5).requires_grad_()
    crowd = Crowd(real, width=6, decay=0.0)
    loss = crowd.distance(made)
    expected = frechet_distance(crowd.see(made.detach()), crowd.see(real))
    assert loss.item() == pytest.approx(expected, rel=0.05)  # a variance of 100 is over 99 there
    loss.backward()
    assert made.grad is not None
    slope = made.grad.square().sum().item()
    moved = crowd.distance(made.detach() - 1e-3 * made.grad).item()
    assert (loss.item() - moved) / 1e-3 == pytest.approx(slope, rel=0.01)


def test_a_crowd_remembers_the_pictures_before() -> None:
    torch.manual_seed(0)
    real = torch.randn(2000, 3)
    narrow, whole = (Crowd(real, width=3, decay=decay) for decay in (0.0, 0.99))
    parts = real[real[:, 0].argsort()].split(200)
    alone, together = ([crowd.distance(part).item() for part in parts] for crowd in (narrow, whole))
    assert alone[-1] > 1
    assert together[-1] < 0.1


def test_a_crowd_is_too_near_where_it_is_nearer_than_held_out_pictures_level_by_level() -> None:
    training = torch.zeros(3, 1)
    neighbourhood = Neighbourhood(training, torch.tensor([[1.0], [-2.0], [3.0], [4.0], [5.0]]))
    as_usual = torch.tensor([[-5.0], [4.0], [3.0], [2.2], [1.4]])
    assert neighbourhood.nearness(as_usual).item() == pytest.approx(0, abs=1e-6)
    made = torch.tensor([[9.0], [0.5], [3.5]], requires_grad=True)
    told = neighbourhood.nearness(made)
    nearest = 1 + 4 * 0.5 / 3  # a sixth of the held-out ones lie nearer
    assert told.item() == pytest.approx((nearest - 0.5) / 3 / 3)
    told.backward()
    assert made.grad is not None
    assert made.grad.flatten().tolist() == pytest.approx([0, -1 / 9, 0])


def test_detail_is_told_by_its_fineness() -> None:
    flat = torch.zeros(1, 3, 64, 64)
    mesh, broad = flat.clone(), flat.clone()
    mesh[..., ::2] = 0.2
    broad[..., torch.arange(64) % 12 < 6] = 0.2
    smooth, fine, coarse = (detail(pixels)[0] for pixels in (flat, mesh, broad))
    assert (fine > smooth).all()
    assert fine[0] > coarse[0], "the mesh is finer"
    assert fine[2] < coarse[2], "and nothing else"


def test_a_mesh_over_pictures_is_more_grain_than_real_ones_have(run: Path, critics: Critics) -> None:
    bank, styles = _bank(run), critics.judge.styles
    grain = Grain(bank, styles)
    rows = [n for n, row in enumerate(bank.rows[SHAPE]) if not row.validation]
    pixels = to_pixels(bank.pixels[SHAPE][rows])
    labels = labels_of(styles, [bank.rows[SHAPE][n].style for n in rows])
    real = grain.excess(pixels, labels).item()
    assert grain.excess(torch.zeros_like(pixels), labels).item() == 0, "smoother than life counts nothing"
    meshed = pixels.clone().requires_grad_()
    excess = grain.excess(meshed + 0.2 * torch.eye(2).repeat(SHAPE.height // 2, SHAPE.width // 2), labels)
    assert excess.item() > real + 1
    excess.backward()
    assert meshed.grad is not None
    assert meshed.grad.abs().max() > 0


def test_pixels_that_follow_the_critics_please_them(critics: Critics) -> None:
    wishes = [WISH, Wish(Facts("emoji-3d", "3d render", genre="icon"), "cat face, 3d render", SHAPE)]
    asked = ask_critics(critics, SUBJECTS, wishes)
    words = list(WORDS)
    assert [words[int(index)] for index in asked.colours[0].nonzero()] == ["red"]
    assert asked.genres.tolist() == [-1, critics.judge.genres.index("icon")]
    assert asked.styles.tolist() == [critics.judge.styles.index(one) for one in ("romanticism", "3d render")]
    assert asked.words.tolist() == [[0, 0], [1, 0]]
    generator = torch.Generator().manual_seed(0)
    pixels = torch.zeros(2, 3, SHAPE.height, SHAPE.width, requires_grad=True)
    optimizer = torch.optim.Adam([pixels], 0.05)
    told: list[dict[str, float]] = []
    for _ in range(40):
        parts = displeasure(critics, pixels, asked, Weights(), generator)
        torch.stack(list(parts.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        told.append({name: value.item() for name, value in parts.items()})
    assert sum(told[-1].values()) < sum(told[0].values())
    assert told[-1]["palette"] < 0.2 * told[0]["palette"]
    assert "red" in palette_words(to_images(pixels.detach())[0])
    networks = (critics.judge, critics.encoder)
    assert all(weight.grad is None for network in networks for weight in nn.Module.parameters(network))


def test_a_subject_is_missed_among_those_of_its_style_alone(critics: Critics) -> None:
    wishes = [WISH, Wish(Facts("emoji-3d", "3d render", genre="icon"), "cat, 3d render", SHAPE)]
    asked, generator = ask_critics(critics, SUBJECTS, wishes), torch.Generator().manual_seed(0)
    pixels = torch.rand(2, 3, SHAPE.height, SHAPE.width, generator=generator) * 2 - 1
    told = displeasure(critics, pixels, asked, Weights(subject=2.0), generator.manual_seed(3))["subject"]
    cat = critics.encoder(glance(pixels, generator.manual_seed(3)))[1]
    queries = SubjectRanks(critics.encoder, critics.tokenizer, SUBJECTS, critics.device).queries("3d render")
    sure = (Weights().likeness * queries @ cat).log_softmax(0)[0].clamp(max=-0.3)
    torch.testing.assert_close(told, -2 * sure)  # the other picture's wish names no subject
    swapped = ask_critics(critics, SUBJECTS[::-1], wishes)
    again = displeasure(critics, pixels, swapped, Weights(subject=2.0), generator.manual_seed(3))["subject"]
    torch.testing.assert_close(again, told)
    alone = displeasure(critics, pixels, asked, Weights(rivals=0), generator.manual_seed(3))["subject"]
    torch.testing.assert_close(alone, torch.tensor(0.3), msg="without rivals it is seen, as far as counts")


def test_gradients_are_those_of_what_the_critics_say(run: Path, critics: Critics) -> None:
    """Without guidance and in one step nothing is held fixed: the slope along the gradient is its length."""
    once = RewardTraining(
        batch_size=2, path_steps=1, traced=1, guidance=(1.0, 1.0), reward=1.0, decoded_at_once=1
    )
    loss, tokenizer = _toy_loss(run / "made" / "model", once)
    unet = loss.model.unet
    wishes = _wishes(run, critics, tokenizer, once, loss.generator)

    def told() -> float:
        loss.generator.manual_seed(3)
        return sum(value.item() for value in loss.backward(wishes, 0).values())

    told()
    gradients = [weight.grad.clone() for weight in unet.parameters() if weight.grad is not None]
    length = torch.cat([gradient.flatten() for gradient in gradients]).norm().item()
    moved: list[float] = []
    for turn in (1, -2):
        for weight, gradient in zip(unet.parameters(), gradients, strict=True):
            weight.data += turn * 1e-3 / length * gradient
        moved.append(told())
    assert (moved[0] - moved[1]) / 2e-3 == pytest.approx(length, rel=0.03)


def test_only_the_composing_steps_are_tuned(run: Path, critics: Critics) -> None:
    def gradients(composing: float, seed: int) -> torch.Tensor:
        training = RewardTraining(
            batch_size=1, path_steps=3, traced=1, composing=composing, guidance=(2.0, 2.0), reward=1.0
        )
        loss, tokenizer = _toy_loss(run / "made" / "model", training)
        wishes = _wishes(run, critics, tokenizer, training, loss.generator)
        torch.manual_seed(seed)  # decides which steps are traced, the loss's own generator all else
        loss.generator.manual_seed(3)
        loss.backward(wishes, 0)
        return torch.cat(
            [weight.grad.flatten() for weight in loss.model.unet.parameters() if weight.grad is not None]
        )

    assert len({gradients(1.0, seed).norm().item() for seed in range(4)}) > 1
    assert len({gradients(0.3, seed).norm().item() for seed in range(4)}) == 1, "always the first of three"


def test_a_toy_model_is_tuned_and_all_but_its_u_net_stays(run: Path, tmp_path: Path) -> None:
    refused = CliRunner().invoke(train_app, _reward(run, tmp_path))
    assert refused.exit_code == 2
    assert "--minutes" in refused.output
    lines = _tune(run, tmp_path, "--max-steps", "3", "--weight", "1", "--learning-rate", "0.01")
    assert len([line for line in lines if line.get("gradient", 0) > 0]) == 3
    assert [line["nearness"] >= 0 for line in lines if "crowd" in line] == [True]
    assert ["grain" in line for line in lines if "style" in line] == [True, True]
    assert list((tmp_path / "sheets").glob("reward-*.png"))
    for part, same in (("vae", True), ("text_encoder", True), ("unet", False)):
        before, after = (_weights(folder / part) for folder in (run / "made" / "model", tmp_path / "model"))
        assert all(torch.equal(before[name], after[name]) for name in before) == same, part


def test_an_aim_says_what_the_critics_insist_on(run: Path, tmp_path: Path) -> None:
    told = {
        aim: _tune(run, tmp_path / aim, "--max-steps", "1", "--batch-size", "12", "--aim", aim)[0]
        for aim in ("styles", "subjects")
    }
    # Critics that learnt for one step doubt the style of every wish much alike: what counts is its weight.
    meant = AIMS["styles"].weights.style / AIMS["subjects"].weights.style
    assert meant == 2
    assert told["styles"]["style"] / told["subjects"]["style"] == pytest.approx(meant, rel=0.3)


def test_what_is_learnt_beside_can_have_more_renders_and_other_pictures(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "made" / "pack", tmp_path / "own" / "black")
    for pixels in (tmp_path / "own" / "black").glob("*.npy"):
        np.save(pixels, np.zeros_like(np.load(pixels)))
    few, many, black = (
        _tune(run, tmp_path / name, "--max-steps", "1", "--batch-size", "12", "--rendered-share", *options)[0]
        for name, *options in (("0", "0"), ("1", "0.95"), ("2", "0", "--own", f"{tmp_path / 'own'}"))
    )
    assert few["style"] == pytest.approx(many["style"], rel=0.01), "the wishes are the same,"
    assert few["style"] == pytest.approx(black["style"], rel=0.01)
    assert few["loss"] != pytest.approx(many["loss"], rel=0.01), "the pack's pictures are not"
    assert few["loss"] != pytest.approx(black["loss"], rel=0.01)


def test_kinds_of_subjects_are_wished_for_by_their_shares_and_words_by_the_root_of_their_pictures() -> None:
    files = {"horse": "05", "cat": "05", "man": "18", "bridge": "06", "sea": "17", "storm": "19"}
    net = WordNet()
    for word, file in files.items():
        sense = ("n", word)
        net.senses[word], net.names[sense], net.files[sense] = [sense], [word], file
    weights = weigh_subjects({"horse": 16, "cat": 4, "man": 900, "bridge": 9, "sea": 9, "storm": 1}, net)
    assert weights["horse"] == pytest.approx(2 * weights["cat"])
    assert weights["horse"] + weights["cat"] == pytest.approx(0.2), "animals are wished for that often,"
    assert weights["man"] == pytest.approx(0.15), "however many people the pack shows"
    assert weights["bridge"] == pytest.approx(0.3)
    assert weights["sea"] == pytest.approx(3 * weights["storm"]), "all other kinds are one"
    assert weights["sea"] + weights["storm"] == pytest.approx(0.2)


def test_a_judge_looks_on_while_a_companion_is_distilled(run: Path, critics: Critics, tmp_path: Path) -> None:
    judge = run / "made" / "critics" / "judge.safetensors"
    again = load_judge(judge, torch.device("cpu"))
    assert again.genres == critics.judge.genres
    shutil.copytree(run / "made" / "pack", tmp_path / "pack")
    command = ["distill", "--data", f"{run / 'data'}", "--output", f"{tmp_path}", "--size", "toy"]
    command += ["--model", f"{run / 'made' / 'model'}", "--judge", f"{judge}", "--workers", "1"]
    result = CliRunner().invoke(train_app, [*command, "--max-steps", "2"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert all(line["judged"] > 0 for line in log if "loss" in line)


def test_a_judge_s_doubts_are_of_what_was_asked_for_alone() -> None:
    judge = Judge(TOY_NETWORK, ["baroque", "romanticism"], ["landscape", "portrait"]).eval()
    with torch.no_grad():
        judge.style_head.bias.add_(torch.tensor([5.0, 0.0]))
    pixels = torch.zeros(2, 3, 32, 32)

    def doubt(style: str, genre: str) -> list[float]:
        labels = (labels_of(judge.styles, ["", style]), labels_of(judge.genres, ["", genre]))
        return [one.item() for one in doubts(judge, pixels, *labels, -0.3)]

    assert doubt("baroque", "")[0] == pytest.approx(0.3), "surer than sure enough"
    assert doubt("romanticism", "")[0] > 2
    assert doubt("", "") == [0.0, 0.0]
    assert doubt("", "portrait")[1] > 0.3


def _wishes(
    run: Path,
    critics: Critics,
    tokenizer: CLIPTokenizer,
    training: RewardTraining,
    generator: torch.Generator,
) -> Commission:
    """One wish, of a grain that real pictures have."""
    return commission_wishes(
        critics,
        Grain(_bank(run), critics.judge.styles),
        SUBJECTS,
        [WISH],
        tokenizer,
        guidance=training.guidance,
        weights=training.weights,
        generator=generator,
    )


def _reward(run: Path, output: Path) -> list[str]:
    """The command that tunes the toy model, without saying how long."""
    common = ["--data", f"{run / 'data'}", "--output", f"{output}", "--model", f"{run / 'made' / 'model'}"]
    common += ["--classifier", f"{run / 'colours.pt2'}", "--wordnet", f"{run / 'dict'}", "--size", "toy"]
    return ["reward", *common, "--workers", "1", "--wishes", "12", "--judge-steps", "1",
            "--finetuning-steps", "1"]  # fmt: skip


def _tune(run: Path, output: Path, *options: str) -> list[dict[str, Any]]:
    """Tune the toy model; what the log says of it."""
    shutil.copytree(run / "made" / "pack", output / "pack")
    result = CliRunner().invoke(train_app, [*_reward(run, output), *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def _bank(run: Path) -> PictureBank:
    return PictureBank(run / "made" / "pack", torch.device("cpu"), seed=0)


def _toy_loss(folder: Path, training: RewardTraining) -> tuple[RewardLoss, CLIPTokenizer]:
    """A toy model's, which is read anew, and its tokenizer."""
    tokenizer = load_tokenizer(folder / "tokenizer")
    text_encoder = CLIPTextModel.from_pretrained(str(folder / "text_encoder"), dtype=torch.float32)
    unet: Any = UNet2DConditionModel.from_pretrained(str(folder / "unet"), dtype=torch.float32)
    loss = RewardLoss(
        NoisePrediction(text_encoder, unet, autocast=False),
        load_frozen_autoencoder(folder, torch.device("cpu")),
        tokenize(tokenizer, [""])[0],
        training,
        torch.Generator(),
    )
    return loss, tokenizer


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.glob("*.safetensors")
    return load_file(file)
