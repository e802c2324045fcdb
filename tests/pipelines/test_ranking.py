"""Seeing and ranking: a probe by the piece, and both commands on a toy pack with a toy classifier."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from pipelines.training.architecture import ATELIER_V1, train_tokenizer
from pipelines.training.captions import Facts, compose_caption
from pipelines.training.cli import train_app
from pipelines.training.evaluation.dual_encoder import build_dual_encoder
from pipelines.training.evaluation.judge import TOY_NETWORK, Judge
from pipelines.training.evaluation.metrics import nearer_than_rivals
from pipelines.training.evaluation.network import learnt_from
from pipelines.training.pack import (
    FORMATS,
    RENDERED,
    load_rows,
    picture_hash,
    prepare_pack,
    read_seen,
    read_shards,
)
from pipelines.training.pictures import PictureBank
from pipelines.training.ranking import (
    Critics,
    Ranking,
    TooAlike,
    Wish,
    plan_wishes,
    score,
    without_poorest,
)
from pipelines.training.seeing import SeerTraining, fit_probe
from tests.toy_pack import write_classifier, write_pack, write_wordnet


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pack(tmp_path_factory.mktemp("pack"))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifier(tmp_path_factory.mktemp("classifier") / "colours.pt2")


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wordnet(tmp_path_factory.mktemp("dict"))


def test_a_probe_learns_which_answers_go_with_which_words() -> None:
    torch.manual_seed(0)
    answers = torch.randn(600, 5)
    labels = torch.stack([answers[:, 0] > 0.5, answers[:, 3] < 0], dim=1).float()
    probe = fit_probe(answers, labels, SeerTraining(width=32, epochs=40, batch_size=50))
    fresh = torch.tensor([[2.0, 0, 0, 2, 0], [-2, 0, 0, -2, 0]])
    surprise = probe(fresh) - probe.get_buffer("prior")
    assert (surprise > 0).tolist() == [[True, False], [False, True]]


def test_seen_words_are_told_beside_the_title_s() -> None:
    facts = Facts("painting", "baroque", title="saskia", seen=("flowers", "portrait"))
    captions = [compose_caption(facts, frozenset(), random.Random(seed)) for seed in range(100)]
    assert any("flowers" in caption for caption in captions)
    assert any("saskia" in caption for caption in captions)


def test_shipped_list_of_seen_words_can_be_read() -> None:
    seen = read_seen()
    assert len(seen) > 4000
    assert all(len(key) == 12 and 1 <= len(words) <= 3 for key, words in seen.items())
    assert Counter(word for words in seen.values() for word in words)["river"] > 50


def test_rivals_are_other_words() -> None:
    own = torch.eye(4)[:, None].expand(4, 3, 4)
    assert nearer_than_rivals(own + 0.1, own, seed=0).all()
    assert not nearer_than_rivals(own, torch.zeros_like(own), seed=0).any(), "as near to every word"


def test_wishes_ask_for_styles_in_their_shares_and_for_subjects_of_other_styles() -> None:
    facts = [
        Facts("painting", "baroque", title="a ship", genre="landscape", palette=("navy",)),
        Facts("emoji-3d", "3d render", title="cat", genre="icon"),
        Facts("pomology", "botanical watercolour", title="pear", genre="botanical illustration"),
    ]
    wishes = plan_wishes(facts, frozenset({"ship"}), {"tree": 1.0, "cat": 3.0}, 400, seed=3)
    assert wishes == plan_wishes(facts, frozenset({"ship"}), {"tree": 1.0, "cat": 3.0}, 400, seed=3)
    styles = Counter(wish.facts.style for wish in wishes)
    assert styles["baroque"] > styles["botanical watercolour"] > 20
    words = Counter(wish.facts.style for wish in wishes if wish.facts.title in ("tree", "cat"))
    assert words["3d render"] > 0.3 * words.total(), "a subject is a 3D render every fourth time at least"
    known = {"tree": 1.0, "cat": 1.0, "baroque": 9.0}
    others = plan_wishes(facts, frozenset({"ship", "cat"}), known, 400, seed=3)
    assert not any(wish.facts.title == "baroque" for wish in others), "a style is no subject"
    assert not any(wish.facts == Facts("emoji-3d", "3d render", title="tree") for wish in others)
    assert any(wish.facts.title == "tree" for wish in others), "painted, since no render is told by it"
    assert {wish.shape for wish in wishes} == set(FORMATS)
    assert any(wish.facts.title == "cat" and wish.facts.style == "baroque" for wish in wishes)
    assert not any(wish.facts.genre == "landscape" and wish.facts.style == "3d render" for wish in wishes)
    titles = Counter(wish.facts.title for wish in wishes)
    assert titles["cat"] > 2 * titles["tree"] > 20
    assert all(wish.caption for wish in wishes)


def test_every_style_of_paintings_is_wished_for_alike_in_every_genre() -> None:
    facts = [Facts("painting", "baroque", title="a ship", genre="landscape")] * 20
    facts += [Facts("painting", "ukiyo-e", title="a bridge", genre="cityscape")]
    facts += [Facts("emoji-3d", "3d render", title="cat", genre="icon")]
    wishes = plan_wishes(facts, frozenset({"ship"}), {"tree": 1.0}, 600, seed=3, word_share=0.0)
    asked = Counter((wish.facts.style, wish.facts.genre) for wish in wishes)
    assert 150 < asked["ukiyo-e", "landscape"] < 300, "of what one picture in twenty has, as much"
    assert asked["baroque", "landscape"] < 1.5 * asked["ukiyo-e", "landscape"]
    assert not any(wish.facts.title == "tree" for wish in wishes)
    assert len(plan_wishes(facts, frozenset({"ship"}), {}, 50, seed=3)) == 50, "whole scenes, without a word"


def test_the_poorest_of_each_style_and_every_copy_are_left_out() -> None:
    picture = torch.zeros(1, 1, 3, dtype=torch.uint8)

    def scored(style: str, scores: list[float]) -> list[tuple[Wish, torch.Tensor, float]]:
        return [(Wish(Facts("painting", style), style, FORMATS[0]), picture, score) for score in scores]

    ranked = scored("baroque", [1.0, -5.0, 3.0, 2.0]) + scored("ukiyo-e", [-9.0, -8.0])
    kept = [score for _, _, score in without_poorest(ranked, 0.25)]
    assert kept == [3.0, 2.0, 1.0, -8.0, -9.0]
    assert without_poorest(scored("baroque", [-math.inf]), 0.0) == [], "too like a training picture"


def test_a_picture_is_ranked_by_how_surely_its_title_is_told_from_all_titles() -> None:
    torch.manual_seed(0)
    device = torch.device("cpu")
    tokenizer = train_tokenizer(["a cat", "a dog", "baroque"], replace(ATELIER_V1, max_tokens=32))
    encoder = build_dual_encoder(TOY_NETWORK, tokenizer, None, device).eval()
    critics = Critics(Judge(TOY_NETWORK, ["baroque"], ["icon"]).eval(), encoder, tokenizer, device)
    wishes = [
        Wish(Facts("painting", "baroque", title=title), "baroque", FORMATS[0]) for title in ("cat", "dog", "")
    ]
    picture = torch.randint(256, (192, 192, 3), dtype=torch.uint8)
    far = TooAlike(torch.zeros(1, TOY_NETWORK.features), -1.0)
    without, with_titles = (
        score(critics, far, wishes, [picture] * 3, Ranking(subject_weight=weight, sure_enough=0.0))
        for weight in (0.0, 1.0)
    )
    cat, dog, untitled = (with_titles - without).tolist()
    assert math.exp(cat) + math.exp(dog) == pytest.approx(1, abs=1e-5)
    assert cat != pytest.approx(dog, abs=1e-4)
    assert untitled == 0


def test_own_pictures_are_drawn_in_their_share_beside_the_pack(pack: Path, tmp_path: Path) -> None:
    prepare_pack(pack, tmp_path / "pack")
    shape = FORMATS[-1]
    own = tmp_path / "own" / "a"
    own.mkdir(parents=True)
    np.save(own / f"pixels-{shape.name}.npy", np.zeros((2, shape.height, shape.width, 3), np.uint8))
    row = vars(load_rows(tmp_path / "pack")[shape][0]) | {"key": "own", "validation": False, "weight": 0.5}
    (own / f"rows-{shape.name}.json").write_text(json.dumps([row, row]))
    bank = PictureBank(tmp_path / "pack", torch.device("cpu"), 0, own=(own,), own_share=0.25)
    plain = PictureBank(tmp_path / "pack", torch.device("cpu"), 0)
    total = sum(float(weights.sum()) for weights in bank.weights.values())
    mine = float(bank.weights[shape][-2:].sum())
    assert mine / total == pytest.approx(0.25)
    assert len(bank.pixels[shape]) == len(plain.pixels[shape]) + 2 == len(bank.rows[shape])
    assert (bank.training, bank.validation) == (plain.training, plain.validation)
    assert len(learnt_from(bank)) == len(learnt_from(plain)), "judged by the pack is by it alone"


def test_renders_are_drawn_in_their_share_and_all_else_as_it_was(pack: Path, tmp_path: Path) -> None:
    prepare_pack(pack, tmp_path / "pack")
    plain, more = (
        PictureBank(tmp_path / "pack", torch.device("cpu"), 0, rendered_share=share) for share in (None, 0.6)
    )

    def weights(bank: PictureBank) -> dict[str, torch.Tensor]:
        found: dict[str, list[float]] = {}
        for row in (row for rows in bank.rows.values() for row in rows):
            found.setdefault(row.style, []).append(row.weight)
        drawn = sum(float(one.sum()) for one in bank.weights.values())
        return {style: torch.tensor(ones) / drawn for style, ones in found.items()}

    before, after = weights(plain), weights(more)
    assert float(after[RENDERED].sum()) == pytest.approx(0.6)
    assert float(before[RENDERED].sum()) < 0.5
    for style in before.keys() - {RENDERED}:
        other = (1 - 0.6) / (1 - float(before[RENDERED].sum()))
        assert torch.allclose(after[style], other * before[style])
    assert more.validation == plain.validation


def test_toy_model_sees_ranks_and_trains_on_its_own(
    pack: Path, classifier: Path, wordnet: Path, tmp_path: Path
) -> None:
    runner = CliRunner()
    data, run = ["--data", str(pack)], tmp_path / "run"
    looked = runner.invoke(
        train_app,
        ["see", *data, "--output", str(tmp_path / "seer"), "--classifier", str(classifier),
         "--wordnet", str(wordnet)],
        catch_exceptions=False,
    )  # fmt: skip
    assert looked.exit_code == 0, looked.output
    seen = read_seen(tmp_path / "seer" / "seen.tsv")
    entries = {picture_hash(entry.image): entry for entry in read_shards(pack)}
    assert seen
    for key, words in seen.items():
        assert entries[key].fields["source"] == "painting"
        assert not set(words) - {"harbour", "man"}
        assert not any(word in str(entries[key].fields["title"]).split() for word in words)

    toy = ["--size", "toy", "--workers", "1"]
    trained = runner.invoke(
        train_app, ["all", *data, "--output", str(run), "--max-steps", "1", *toy], catch_exceptions=False
    )
    assert trained.exit_code == 0, trained.output
    for name, words in (("first", ["--wordnet", str(wordnet)]), ("genres", [])):
        ranked = runner.invoke(
            train_app,
            ["rank", *data, "--output", str(run), "--model", str(run / "model"), *words,
             "--classifier", str(classifier), "--name", name, "--wishes", "6", "--candidates", "2",
             "--steps", "1", "--judge-steps", "1", "--finetuning-steps", "1", "--batch-size", "6", *toy],
            catch_exceptions=False,
        )  # fmt: skip
        assert ranked.exit_code == 0, ranked.output
        rows = [row for rows in load_rows(run / "own" / name).values() for row in rows]
        assert 1 <= len(rows) <= 6
        assert all(row.source == "own" and len(row.captions) == 10 for row in rows)
        assert sum(row.weight for row in rows) == pytest.approx(1)

    further = ["--initial", str(run / "model"), "--own", str(run / "own"), "--max-steps", "1", *toy]
    further += ["--rendered-share", "0.5"]
    losses: list[float] = []
    for floor in (["--snr-floor", "40"], ["--snr-floor", "0.4"], []):
        output = tmp_path / "further" / "-".join(floor)
        result = runner.invoke(
            train_app, ["diffusion", *data, "--output", str(output), *further, *floor], catch_exceptions=False
        )
        assert result.exit_code == 0, result.output
        losses.append(json.loads((output / "log.jsonl").read_text().splitlines()[0])["loss"])
    assert losses[0] != losses[1] == losses[2], "other timesteps are drawn"
    anchored = ["autoencoder", *data, "--output", str(tmp_path / "sharper"), "--anchored", "--max-steps", "2"]
    refused = runner.invoke(train_app, [*anchored, *toy])
    assert refused.exit_code == 2
    assert "--initial" in refused.output
    result = runner.invoke(
        train_app, [*anchored, "--initial", str(run / "model"), *toy], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    before, after = (
        json.loads((folder / "vae" / "config.json").read_text())["scaling_factor"]
        for folder in (run, tmp_path / "sharper")
    )
    assert after == pytest.approx(before)
