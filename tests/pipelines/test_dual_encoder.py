"""The dual encoder: its loss by the piece; trained on a toy pack, by itself and through a toy classifier."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from pipelines.training.architecture import ATELIER_V1, train_tokenizer
from pipelines.training.evaluation.dual_encoder import (
    QUERIES,
    DualEncoder,
    Finetuning,
    Texts,
    contrastive_loss,
    load_or_train_dual_encoder,
)
from pipelines.training.evaluation.judge import TOY_NETWORK
from pipelines.training.evaluation.subjects import TOP, SubjectRanks, rank_real_pictures
from pipelines.training.latent_bank import tokenize
from pipelines.training.pack import Format, prepare_pack
from pipelines.training.pictures import PictureBank
from pipelines.training.seeing import SIDE_PX, classify, load_classifier
from tests.toy_pack import write_classifier, write_pack


def test_contrastive_loss_takes_equal_captions_for_one() -> None:
    vectors = torch.eye(4)[[0, 0, 1]]
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]).bool()
    loss = contrastive_loss(100 * vectors, vectors, same)
    # Two equal captions share the probability: the entropy that remains is log 2 for two of three rows.
    assert loss.item() == pytest.approx(2 / 3 * math.log(2), abs=1e-4)


def test_contrastive_loss_reads_its_rows_for_pictures_and_its_columns_for_texts() -> None:
    pictures, texts = torch.eye(2), torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    # "cat" is right of both pictures, "black cat" of the second alone.
    right = torch.tensor([[1, 0], [1, 1]]).bool()
    loss = contrastive_loss(100 * pictures, texts, right)
    # Of two that fit alike, both right, log 2 remains: for the second picture, and for the first text.
    assert loss.item() == pytest.approx(math.log(2) / 2, abs=1e-4)


def test_a_text_is_right_of_every_picture_that_it_could_have_been_drawn_for(tmp_path: Path) -> None:
    prepare_pack(write_pack(tmp_path), tmp_path / "prepared")
    bank = PictureBank(tmp_path / "prepared", torch.device("cpu"), seed=0)
    rows = [row for rows in bank.rows.values() for row in rows]
    tokenizer = train_tokenizer([text for row in rows for text in row.captions], ATELIER_V1)
    texts = Texts(bank, tokenizer)
    shape = Format(192, 192)
    drawn, ids, right = texts.draw(shape, 200)

    said: list[set[str]] = []
    for index in drawn.tolist():
        row = bank.rows[shape][index]
        words = [query.format(word, row.style) for word in row.words for query in QUERIES]
        said.append({*row.captions, *words})
        assert row.words
    read = {tuple(tokenize(tokenizer, [text])[0].tolist()): text for text in set[str]().union(*said)}
    told = [read[tuple(tokens)] for tokens in ids.tolist()]
    assert right.diagonal().all()
    assert right.tolist() == [[text in own for text in told] for own in said]
    words = {query.format(word, row.style) for row in rows for word in row.words for query in QUERIES}
    assert not any(bank.rows[shape][index].validation for index in drawn.tolist())
    assert 0.8 < sum(text in words for text in told) / len(told) < 1.0, "most are a word alone, not all"


def test_a_word_is_drawn_as_the_root_of_what_its_pictures_weigh(tmp_path: Path) -> None:
    prepare_pack(write_pack(tmp_path), tmp_path / "prepared")
    bank = PictureBank(tmp_path / "prepared", torch.device("cpu"), seed=0)
    rows = [row for rows in bank.rows.values() for row in rows]
    tokenizer = train_tokenizer([text for row in rows for text in row.captions], ATELIER_V1)
    texts, shape = Texts(bank, tokenizer), Format(192, 192)
    said = {query.format(word, row.style): word for row in rows for word in row.words for query in QUERIES}
    read = {tuple(tokenize(tokenizer, [text])[0].tolist()): word for text, word in said.items()}
    _, ids, _ = texts.draw(shape, 20_000)
    told = Counter(read[key] for tokens in ids.tolist() if (key := tuple(tokens)) in read)

    met: Counter[str] = Counter()
    for row in bank.rows[shape]:
        met.update({word: row.weight for word in row.words if row.weight})
    assert max(met.values()) / min(met.values()) > 2, "some are rarer"
    assert told.keys() == met.keys()
    roots = {word: weight**0.5 for word, weight in met.items()}
    for word, root in roots.items():
        expected = root / sum(roots.values())
        assert told[word] / told.total() == pytest.approx(expected, rel=0.1)


class Narrow(SubjectRanks):
    """Ranks that are right of a rendered cat and of a romantic man alone."""

    right = (("cat", "3d render"), ("man", "romanticism"))

    def __init__(self) -> None:
        self.names = ("cat", "man", "pear")

    def ranks(
        self, images: Sequence[torch.Tensor], subjects: Sequence[str], styles: Sequence[str]
    ) -> torch.Tensor:
        assert 0 < len(images) <= 12, "no more of one subject"
        told = zip(subjects, styles, strict=True)
        return torch.tensor([0 if one in self.right else TOP for one in told])


def test_real_pictures_are_ranked_held_out_ones_and_those_learnt_from(tmp_path: Path) -> None:
    prepare_pack(write_pack(tmp_path), tmp_path / "prepared")
    bank = PictureBank(tmp_path / "prepared", torch.device("cpu"), seed=0)
    shape = Format(192, 192)
    kept = [bank.rows[shape][index] for index in bank.validation[shape]]
    for name in ("cat", "pear", "man"):
        index = next(index for index, row in enumerate(bank.rows[shape]) if name in row.words)
        bank.validation[shape].append(index)
        kept.append(bank.rows[shape][index])
    kept += [row for rows in bank.rows.values() for row in rows if row.validation and row not in kept]
    shown = [
        (name, row.style)
        for row in kept
        for name in Narrow().names
        if any(name in re.findall("[a-z]+", caption) for caption in row.captions)
    ]
    right = [one for one in shown if one in Narrow.right]
    assert {*right} == {*Narrow.right} < {*shown}

    told = rank_real_pictures(Narrow(), bank, ("romanticism", "baroque"))
    assert told["real held-out, pictures and subjects"] == len(shown)
    assert told["real held-out, in top 5"] == pytest.approx(len(right) / len(shown))
    assert told["3d renders learnt from, in top 5"] == pytest.approx(1 / 3), "no render shows the others"
    assert told["subjects that are in no 3d render learnt from"] == 2
    assert told["paintings learnt from, in top 5"] == pytest.approx(1 / 3), "no painting shows the others"
    assert told["subjects that are in no painting learnt from"] == 2
    told = rank_real_pictures(Narrow(), bank, ("baroque",))
    assert told["paintings learnt from, in top 5"] == 0
    assert told["subjects that are in no painting learnt from"] == 3, "there is none in this style"


def test_sees_through_a_classifier_that_it_does_not_keep(tmp_path: Path) -> None:
    prepare_pack(write_pack(tmp_path), tmp_path / "prepared")
    bank = PictureBank(tmp_path / "prepared", torch.device("cpu"), seed=0)
    classifier = write_classifier(tmp_path / "colours.pt2")
    torch.manual_seed(0)
    said: list[str] = []

    def encoder_through(path: Path | None, steps: int = 60) -> DualEncoder:
        encoder, _ = load_or_train_dual_encoder(
            bank, tmp_path, size=TOY_NETWORK, steps=steps, say=said.append, classifier=path
        )
        return encoder

    encoder = encoder_through(classifier)
    losses = [float(line.rpartition(" ")[2]) for line in said[1:]]
    assert losses[-1] < losses[0]
    assert not any(name.startswith("backbone") for name in encoder.state_dict())

    pixels = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0)) * 2 - 1
    vectors = encoder(pixels.requires_grad_())
    vectors[0, 0].backward()
    assert pixels.grad is not None
    assert pixels.grad[0].abs().max() > 0, "what it sees can be told to a picture"
    assert pixels.grad[1].abs().max() == 0, "and each picture is seen by itself"

    told = len(said)
    assert torch.equal(encoder_through(classifier)(pixels), vectors)
    assert len(said) == told, "it was there"
    assert any(name.startswith("backbone") for name in encoder_through(None, 1).state_dict())
    assert len(said) > told, "one without the classifier is another"


def test_a_classifier_is_taught_along_where_it_is_finetuned(tmp_path: Path) -> None:
    prepare_pack(write_pack(tmp_path), tmp_path / "prepared")
    bank = PictureBank(tmp_path / "prepared", torch.device("cpu"), seed=0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 5, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    )
    shapes = ({0: torch.export.Dim("batch")},)
    example = (torch.zeros(2, 3, SIDE_PX, SIDE_PX),)
    program = torch.export.export(network.eval(), example, dynamic_shapes=shapes)
    classifier = tmp_path / "small.pt2"
    torch.export.save(program, classifier)
    said: list[str] = []
    loaded: list[PictureBank] = []

    def things() -> PictureBank:
        loaded.append(bank)
        return bank

    def encoder_after(steps: int) -> DualEncoder:
        torch.manual_seed(0)
        encoder, _ = load_or_train_dual_encoder(
            bank, tmp_path, size=TOY_NETWORK, steps=20, say=said.append, classifier=classifier,
            finetuning=Finetuning(steps, things) if steps else None,
        )  # fmt: skip
        return encoder

    def answers(encoder: DualEncoder, pixels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return encoder.backbone(pixels)

    pixels = torch.rand(3, 3, 40, 40, generator=torch.Generator().manual_seed(0)) * 2 - 1
    before = classify(load_classifier(classifier, torch.device("cpu")), pixels)
    assert torch.equal(answers(encoder_after(0), pixels), before)
    assert not loaded
    taught = encoder_after(20)
    assert len(loaded) == 1
    losses = [float(line.rpartition(" ")[2]) for line in said if "loss" in line]
    assert losses[-1] < losses[-5], "it learns on"
    assert not torch.allclose(answers(taught, pixels), before, atol=1e-3)
    own = {name.removeprefix("backbone.program."): weight for name, weight in taught.state_dict().items()}
    still = [name for name in network.state_dict() if name.endswith(("running_mean", "running_var"))]
    assert len(still) == 2
    assert all(torch.equal(own[name], network.state_dict()[name]) for name in still)
    told, vectors = len(said), taught(pixels)
    again = encoder_after(20)
    assert len(said) == told, "it was there"
    assert torch.equal(again(pixels), vectors), "with what it sees through"
    assert len(loaded) == 1
