"""Words that no caption had: what they are read as, and that nothing else is read otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer, CLIPTextModel, CLIPTokenizer

from pipelines.models.find import EMBEDDED, find_model
from pipelines.models.load import load_model
from pipelines.training.architecture import (
    TOY,
    build_autoencoder,
    build_text_encoder,
    build_unet,
    train_tokenizer,
)
from pipelines.training.captions import Facts
from pipelines.training.export import assemble_pipeline, export_model
from pipelines.training.latent_bank import tokenize
from pipelines.training.wordnet import WordNet
from pipelines.training.words import add_words, find_words, known_words, read_pairs, write_pairs
from tests.conftest import CPU_FP32

# A few synsets in WordNet's own form: offset, file, part, words, pointers, gloss.
NOUNS = """\
  1 the licence stands here
00000001 05 n 01 animal 0 003 ~ 00000002 n 0000 ~ 00000003 n 0000 ~ 00000005 n 0000 | a living thing
00000002 05 n 02 cat 0 true_cat 0 002 @ 00000001 n 0000 ~ 00000004 n 0000 | it purrs
00000003 05 n 01 dog 0 001 @ 00000001 n 0000 | it barks
00000004 05 n 01 kitten 0 001 @ 00000002 n 0000 | a young cat
00000005 18 n 01 vixen 0 001 @ 00000001 n 0000 | an insult
00000006 09 n 01 thought 0 000 | nobody sees it
00000007 18 n 01 Catherine 0 000 | a name
"""
WORDS = {
    "animal": 1, "cat": 2, "dog": 3, "kitten": 4, "vixen": 5, "thought": 6, "catherine": 7,
}  # fmt: skip


@pytest.fixture
def net(tmp_path: Path) -> WordNet:
    (tmp_path / "data.noun").write_text(NOUNS)
    lines = [f"{word} n 1 0 1 0 0000000{offset}" for word, offset in WORDS.items()]
    lines = [
        line.replace("n 1 0 1 0", "n 2 0 2 0") + " 00000006" if "vixen" in line else line for line in lines
    ]
    (tmp_path / "index.noun").write_text("\n".join(lines))
    for part in ("verb", "adj"):
        (tmp_path / f"data.{part}").write_text("")
        (tmp_path / f"index.{part}").write_text("")
    return WordNet.read(tmp_path)


@pytest.fixture(scope="module")
def reader() -> tuple[CLIPTokenizer, CLIPTextModel]:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["a cat and a dog, impressionism, bright sea"] * 40, TOY)
    return tokenizer, build_text_encoder(TOY, tokenizer).eval()


@torch.inference_mode()
def read(reader: tuple[CLIPTokenizer, CLIPTextModel], text: str) -> torch.Tensor:
    tokenizer, text_encoder = reader
    return text_encoder(tokenize(tokenizer, [text]).long())[0]


def test_wordnet_tells_what_is_near(net: WordNet) -> None:
    near = net.near("kittens")
    assert (near["kitten"], near["cat"], near["animal"]) == (0, 0.7, 1.4)
    assert net.near("cat")["dog"] == 2, "both are animals"
    assert net.is_seen("kittens")
    assert not net.is_seen("thought")
    assert not net.is_seen("catherine"), "a name"
    assert net.is_insult("vixen", "dog")
    assert not net.is_insult("kitten", "dog")


def test_a_new_word_is_paired_with_a_known_one_that_it_is_related_to(net: WordNet, tmp_path: Path) -> None:
    torch.manual_seed(0)
    letters = [*"abcdefghijklmnopqrstuvwxyz"]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + letter for letter in letters)]
    encoder = tmp_path / "encoder"
    BertTokenizer(vocab={piece: index for index, piece in enumerate(pieces)}).save_pretrained(str(encoder))
    small = BertConfig(
        vocab_size=len(pieces),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    BertModel(small).save_pretrained(str(encoder))
    wide = ["the", "thought", "kitten", "vixen", "animal", "catherine", "xyz"]
    pairs = dict(find_words(wide, ["cat", "dog", "impressionism"], frozenset({"the"}), net, encoder))
    assert set(pairs) == {"kitten", "animal"}, "vixen is said of people"
    assert set(pairs.values()) <= {"cat", "dog"}
    write_pairs(tmp_path / "words.tsv", pairs.items())
    assert dict(read_pairs(tmp_path / "words.tsv")) == pairs


def test_known_words_stood_in_captions_and_are_no_artists(
    reader: tuple[CLIPTokenizer, CLIPTextModel],
) -> None:
    facts = [Facts("painting", "impressionism", title="cat and dog", artist="jan dog")] * 5
    facts.append(Facts("painting", "impressionism", title="bright sea"))
    known, seen = known_words(facts, reader[0])
    assert {"cat", "impressionism"} <= set(known)
    assert not {"dog", "jan", "sea"} & set(known), "an artist's name, or seen in one picture only"
    assert {"dog", "sea"} <= seen


def test_a_new_word_is_read_as_the_known_one_and_nothing_else_changes(
    reader: tuple[CLIPTokenizer, CLIPTextModel],
) -> None:
    before = {text: read(reader, text) for text in ("a cat, bright", "a kittenish dog", "")}
    added = add_words(*reader, [("kitten", "cat"), ("hound", "wolf"), ("sea", "dog")])
    assert added == ["kitten"], "no wolf is known, and sea is known already"
    for text, embeds in before.items():
        assert torch.equal(read(reader, text), embeds)
    assert torch.equal(read(reader, "a Kitten, bright"), before["a cat, bright"])


def test_after_further_training_an_added_word_is_read_as_the_known_one_again() -> None:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["a cat and a dog, impressionism, bright sea"] * 40, TOY)
    trained = tokenizer, build_text_encoder(TOY, tokenizer).eval()
    pairs = [("kitten", "cat")]
    add_words(*trained, pairs)
    count = len(tokenizer)
    embedding = trained[1].get_input_embeddings()
    assert isinstance(embedding, torch.nn.Embedding)
    embedding.weight.data[tokenizer.get_vocab()["cat</w>"]] += 1
    assert not torch.equal(read(trained, "a kitten"), read(trained, "a cat"))
    assert add_words(*trained, pairs) == ["kitten"]
    assert len(tokenizer) == count, "no second token for the same word"
    assert torch.equal(read(trained, "a kitten"), read(trained, "a cat"))


def test_an_export_is_as_large_as_its_weights_whatever_words_were_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["a cat, impressionism"] * 4, TOY)
    text_encoder = build_text_encoder(TOY, tokenizer)
    add_words(tokenizer, text_encoder, [("kitten", "cat")])
    pipeline = assemble_pipeline(build_autoencoder(TOY), text_encoder, tokenizer, build_unet(TOY))
    folder = tmp_path / "model"
    size = export_model(pipeline, folder)
    assert size == sum(file.stat().st_size for file in folder.glob("*/*.safetensors"))
    monkeypatch.setattr("pipelines.training.export.MODEL_LIMIT_BYTES", size + 1)
    assert export_model(pipeline, folder) == size, "a vocabulary is no weight"
    monkeypatch.setattr("pipelines.training.export.MODEL_LIMIT_BYTES", size)
    with pytest.raises(ValueError, match="are shipped"):
        export_model(pipeline, folder)


def test_the_embedded_model_reads_other_words() -> None:
    folder = find_model(EMBEDDED)
    model = load_model(folder, CPU_FP32)
    for new, known in (("a skyscraper, bright", "a building, bright"), ("Reindeer", "deer")):
        one, other = model.encode_prompt([new, known]).embeds
        assert torch.equal(one, other)
    tokens = json.loads((folder.path / "tokenizer" / "tokenizer.json").read_text())["added_tokens"]
    assert len(tokens) > 3000
    assert model.token_spans("a skyscraper")[2] == (2, 12)
