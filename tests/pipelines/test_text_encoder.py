"""The text encoder's own training: it agrees with a sentence encoder, on words that no caption had too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch.nn import functional
from transformers import CLIPTextModel

from pipelines.training.architecture import TOY, load_tokenizer, train_tokenizer
from pipelines.training.clock import Budget
from pipelines.training.latent_bank import tokenize
from pipelines.training.pack import Row
from pipelines.training.text_encoder import (
    PHRASES,
    SentenceEncoder,
    TextTraining,
    prepare_lessons,
    train_text_encoder,
    wide_phrases,
)
from pipelines.training.wordnet import WordNet
from tests.toy_pack import write_sentence_encoder

# A few synsets in WordNet's own form: offset, file, part, words, pointers, gloss.
NOUNS = """\
  1 the licence stands here
00000001 05 n 01 animal 0 003 ~ 00000002 n 0000 ~ 00000003 n 0000 ~ 00000005 n 0000 | a living thing
00000002 05 n 02 cat 0 true_cat 0 002 @ 00000001 n 0000 ~ 00000004 n 0000 | it purrs
00000004 05 n 01 kitten 0 001 @ 00000002 n 0000 | a young cat
00000006 09 n 01 thought 0 000 | nobody sees it
00000007 18 n 01 Catherine 0 000 | a name
"""
WORDS = {"animal": 1, "cat": 2, "kitten": 4, "thought": 6, "catherine": 7}
CAPTIONS = ["a cat, impressionism", "a bright sea, baroque", "cat and sea"]


@pytest.fixture
def wordnet(tmp_path: Path) -> Path:
    """A folder of WordNet's files with six nouns."""
    (tmp_path / "data.noun").write_text(NOUNS)
    lines = [f"{word} n 1 0 1 0 0000000{offset}" for word, offset in WORDS.items()]
    (tmp_path / "index.noun").write_text("\n".join(lines))
    for part in ("verb", "adj"):
        (tmp_path / f"data.{part}").write_text("")
        (tmp_path / f"index.{part}").write_text("")
    return tmp_path


@pytest.fixture(scope="module")
def sentence_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sentence_encoder(tmp_path_factory.mktemp("encoder"))


def test_wordnet_tells_what_a_picture_can_show(wordnet: Path) -> None:
    net = WordNet.read(wordnet)
    assert [word for word in [*WORDS, "cats", "xyz"] if net.is_seen(word)] == [
        "animal",
        "cat",
        "kitten",
        "cats",
    ]
    assert net.stems("kittens") == ["kitten"]


def test_wide_words_are_read_alone_and_in_phrases() -> None:
    phrases = list(wide_phrases(["kitten", "sea"], ["baroque"]))
    assert len(phrases) == 2 * len(PHRASES)
    assert {"kitten", "a kitten", "kitten, baroque", "a painting of sea"} <= set(phrases)


def test_lessons_know_where_words_and_texts_end(sentence_encoder: Path) -> None:
    tokenizer = train_tokenizer(CAPTIONS * 20, TOY)
    teacher = SentenceEncoder(sentence_encoder, torch.device("cpu"))
    texts = ["a cat, kittenish", "sea"]
    lessons = prepare_lessons(tokenizer, texts, ["kittenish"], teacher)
    vocabulary = tokenizer.get_vocab()
    words = ["a", "cat", "kittenish", "sea"]
    for row, text in enumerate(texts):
        ids = lessons.input_ids[row].tolist()
        assert ids == tokenize(tokenizer, [text])[0].tolist()
        end = int(lessons.ends[row])
        assert ids.index(vocabulary["<|endoftext|>"]) == end
        told = {place: words[word] for place, word in enumerate(lessons.words[row].tolist()) if word >= 0}
        # The word of many pieces is told where its last one is, right before the end.
        assert list(told.values()) == (["a", "cat", "kittenish"] if row == 0 else ["sea"])
        assert max(told) == end - 1
    torch.testing.assert_close(lessons.texts.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(lessons.vectors, teacher(words))


def test_a_trained_text_encoder_agrees_with_the_sentence_encoder(
    sentence_encoder: Path, tmp_path: Path
) -> None:
    rows = [Row("0", "painting", "baroque", "", "", validation=False, weight=1.0, captions=CAPTIONS)]
    words = ["kitten", "ocean", "lighthouse", "vessel", "meadow"]
    accelerator = Accelerator(cpu=True)
    train_text_encoder(
        accelerator,
        rows,
        tmp_path,
        words=words,
        sentence_encoder=sentence_encoder,
        architecture=TOY,
        training=TextTraining(batch_size=32, learning_rate=3e-3, warmup_steps=10, log_every=1000),
        budget=Budget(None, 200),
    )
    tokenizer = load_tokenizer(tmp_path / "tokenizer")
    trained = CLIPTextModel.from_pretrained(str(tmp_path / "text_encoder")).eval()
    teacher = SentenceEncoder(sentence_encoder, torch.device("cpu"))
    with torch.inference_mode():
        read = trained(input_ids=tokenize(tokenizer, words).long()).pooler_output
    # The same words lie near each other: that is what a U-Net can make use of.
    mine, wanted = (
        functional.cosine_similarity(vectors[:, None], vectors[None], dim=2).flatten()
        for vectors in (read - read.mean(0), teacher(words))
    )
    apart = ~torch.eye(len(words), dtype=torch.bool).flatten()
    correlation = torch.corrcoef(torch.stack([mine[apart], wanted[apart]]))[0, 1].item()
    assert correlation > 0.8
