"""Words that no caption has: which known word is nearest, and that a model reads them as that one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import CLIPTextModel, CLIPTokenizer
from typer.testing import CliRunner

from pipelines.models.find import EMBEDDED, find_model
from pipelines.models.load import load_model
from pipelines.models.words import add_words, read_words, readable
from pipelines.recipe import BadInput, make_recipe
from pipelines.remarks import remarks
from pipelines.training.architecture import TOY, build_text_encoder, load_tokenizer, train_tokenizer
from pipelines.training.captions import Facts
from pipelines.training.cli import train_app
from pipelines.training.evaluation.painting import Manner, Painter
from pipelines.training.evaluation.prompts import Wanted
from pipelines.training.latent_bank import tokenize
from pipelines.training.pack import FORMATS
from pipelines.training.rereading import known_words, nearest_words
from pipelines.training.wordnet import WordNet
from tests.tiny import build_tiny_sd
from tests.toy_pack import write_pack, write_sentence_encoder

# Synsets as in WordNet's files; of the index the words, their senses, and how many of those a corpus had.
NOUNS = """\
00000001 05 n 01 animal 0 000 | alive
00000002 05 n 01 horse 0 001 @ 00000001 n 0000 | it neighs
00000003 05 n 01 colt 0 001 @ 00000002 n 0000 | young
00000004 05 n 01 cat 0 001 @ 00000001 n 0000 | it purrs
00000005 18 n 01 person 0 000 | somebody
00000006 18 n 01 woman 0 001 @ 00000005 n 0000 | an adult
00000007 18 n 01 pilot 0 001 @ 00000006 n 0000 | a trade
00000008 06 n 01 fill 0 000 | what is filled in
00000009 09 n 01 thought 0 000 | nobody sees it
"""
NAMES = ("animal", "horse", "colt", "cat", "person", "woman", "pilot", "fill", "thought")
CAPTIONS = ["a horse, impressionism", "a cat, baroque", "woman, baroque", "cattle and cats"] * 20


@pytest.fixture
def dictionary(tmp_path: Path) -> Path:
    """A folder of WordNet's files: nine nouns, of which one is oftener a verb."""
    folder = tmp_path / "dict"
    folder.mkdir()
    (folder / "data.noun").write_text(NOUNS)
    nouns = [f"{name} n 1 0 1 1 {number:08}" for number, name in enumerate(NAMES, 1)]
    (folder / "index.noun").write_text("\n".join(nouns))
    (folder / "data.verb").write_text("00000001 35 v 01 fill 0 000 | make full\n")
    (folder / "index.verb").write_text("fill v 2 0 2 2 00000001 00000001\n")
    for name in ("data.adj", "index.adj"):
        (folder / name).write_text("")
    return folder


@pytest.fixture
def tokenizer() -> CLIPTokenizer:
    return train_tokenizer(CAPTIONS, TOY)


@pytest.fixture
def text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    torch.manual_seed(0)
    return build_text_encoder(TOY, tokenizer).eval()


def read(text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, *texts: str) -> torch.Tensor:
    with torch.no_grad():
        return text_encoder(input_ids=tokenize(tokenizer, list(texts)).long())[0]


def test_wordnet_knows_things_and_what_they_are_kinds_of(dictionary: Path) -> None:
    net = WordNet.read(dictionary)
    horse, colt = ("n", "00000002"), ("n", "00000003")
    assert net.things("horses") == net.things("horse") == [horse]
    assert [word for word in ("fill", "filled", "thought", "xyz") if net.things(word)] == []
    assert net.above(colt) == {colt: 0, horse: 1, ("n", "00000001"): 2}
    assert [word for word in NAMES if net.is_person(word)] == ["person", "woman", "pilot"]


def test_known_words_are_those_of_pictures_enough(dictionary: Path, tokenizer: CLIPTokenizer) -> None:
    facts = [Facts("painting", "baroque", title=title) for title in ["a horse"] * 6 + ["a cat"] * 4]
    facts += [Facts("painting", "baroque", seen=("woman", "thought"))] * 5
    assert known_words(facts, WordNet.read(dictionary), tokenizer) == {"horse": 6, "woman": 5}


def test_what_an_emoji_is_titled_is_known_though_it_be_oftener_a_verb(dictionary: Path) -> None:
    tokenizer = train_tokenizer(["a fill, baroque"] * 20, TOY)
    painted = [Facts("painting", "baroque", title="a fill")] * 5
    titled = [Facts("emoji-3d", "3d render", title=title) for title in ("fill", "fill in")]
    net = WordNet.read(dictionary)
    assert known_words([*painted, titled[1]], net, tokenizer) == {}
    assert known_words([*painted, titled[0]], net, tokenizer) == {"fill": 6}


def test_a_word_is_known_that_could_be_an_adjective_but_is_met_as_a_noun(
    dictionary: Path, tokenizer: CLIPTokenizer
) -> None:
    nouns = (dictionary / "index.noun").read_text()
    (dictionary / "index.noun").write_text(nouns.replace("cat n 1 0 1 1", "cat n 1 0 1 0"))
    (dictionary / "data.adj").write_text("00000001 00 a 01 any 0 000 | of all\n")
    adjectives = {"horse": 0, "woman": 1, "cat": 0}
    (dictionary / "index.adj").write_text(
        "\n".join(f"{word} a 1 0 1 {met} 00000001" for word, met in adjectives.items())
    )
    facts = [Facts("painting", "baroque", title=f"a {word}") for word in adjectives for _ in range(5)]
    net = WordNet.read(dictionary)
    assert known_words(facts, net, tokenizer) == {"horse": 5}, "woman is met as one, cat as neither"
    assert known_words([*facts, Facts("emoji-3d", "3d render", title="cat")], net, tokenizer) == {
        "horse": 5,
        "cat": 6,
    }


def test_the_nearest_word_is_near_in_the_tree_and_to_the_sentence_encoder(dictionary: Path) -> None:
    net, known = WordNet.read(dictionary), {"horse": 10, "cat": 10, "woman": 1000}
    likeness = {"colt": (1.0, 0.0), "horse": (0.6, 0.8), "cat": (0.6, -0.8), "xyz": (0.0, 1.0)}

    def teacher(texts: Sequence[str]) -> torch.Tensor:
        words = [text.removeprefix("a painting of ") for text in texts]
        return torch.tensor([likeness.get(word, (-1.0, 0.0)) for word in words])

    assert nearest_words(["colt", "xyz"], known, net, teacher) == {"colt": "horse"}
    # As far as the tree goes a pilot is a woman, and women are painted most; the sentence encoder doubts it.
    likeness["pilot"] = (0.0, 1.0)
    assert nearest_words(["pilot"], known, net, teacher) == {}
    likeness["pilot"] = (-0.6, 0.8)
    assert nearest_words(["pilot"], known, net, teacher) == {"pilot": "woman"}


def test_a_new_word_reads_as_its_known_one_and_all_else_as_before(
    tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel
) -> None:
    others = ("a cat and colts, baroque", "acolt", "", "woman, impressionism")
    before = read(text_encoder, tokenizer, "a horse, baroque", *others)
    assert not torch.equal(read(text_encoder, tokenizer, "a colt, baroque")[0], before[0])
    # What begins other words is left alone, and what would be read as a word of many tokens.
    beginning = next(one for one in tokenizer.get_vocab() if not one.endswith("</w>") and one.isalpha())
    words = {"colt": "horse", beginning: "horse", "zebra": "impressionistically"}
    assert readable(words, tokenizer) == {"colt": tokenizer.get_vocab()["horse</w>"]}
    add_words(words, tokenizer, text_encoder)
    after = read(text_encoder, tokenizer, "a colt, baroque", *others)
    assert torch.equal(after, before)
    assert torch.equal(read(text_encoder, tokenizer, "A Colt, baroque")[0], before[0])


def test_words_are_listed_from_the_pack(dictionary: Path, tmp_path: Path) -> None:
    data, output, model = (tmp_path / name for name in ("data", "output", "model"))
    for folder in (data, output, model):
        folder.mkdir()
    write_pack(data)
    encoder = write_sentence_encoder(tmp_path / "encoder")
    train_tokenizer(["pear", "cat face"] * 20, TOY).save_pretrained(str(model / "tokenizer"))
    (tmp_path / "english.txt").write_text("cats\ncolt\npilot\nfilled\ncat\n")
    arguments = ["reread", "--data", f"{data}", "--output", f"{output}", "--model", f"{model}", "--words"]
    arguments += [
        f"{tmp_path / 'english.txt'}",
        "--sentence-encoder",
        f"{encoder}",
        "--workers",
        "1",
    ]
    result = CliRunner().invoke(train_app, [*arguments, "--wordnet", f"{dictionary}"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "1 words" in result.stdout
    assert read_words(output / "words.tsv") == {"cats": "cat"}
    shutil.rmtree(dictionary)
    dictionary.mkdir()
    refused = CliRunner().invoke(train_app, [*arguments, "--wordnet", f"{dictionary}"])
    assert refused.exit_code == 2
    assert "data.noun" in refused.stderr


def test_a_model_that_lists_words_reads_them(tmp_path: Path) -> None:
    folder = build_tiny_sd(tmp_path / "reading")
    plain = find_model(str(folder))
    (folder / "words.tsv").write_text("colt\ta\n")
    (folder / "atelier.json").write_text('{"words": "words.tsv"}')
    listing = find_model(str(folder))
    assert listing.revision != plain.revision, "pictures depend on it"
    model = load_model(listing)
    colt, known = (model.encode_prompt([text]).embeds for text in ("colt b", "a b"))
    assert torch.equal(colt, known)
    assert model.token_spans("colt b")[1] == (0, 4)
    assert model.reads_as("a Colt, b") == {"colt": "a"}
    recipe = make_recipe(
        model=listing.name,
        model_revision=listing.revision,
        prompt="a Colt",
        negative_prompt="b",
        seed=0,
        width=64,
        height=64,
        **listing.defaults.model_dump(),
    )
    assert remarks(model, recipe) == ["The model reads “colt” as “a”: it never learnt the word."]
    assert remarks(load_model(plain), recipe) == []
    painter, manner = Painter(listing, torch.device("cpu"), batch_size=2), Manner("DDIM", 2, 2.0)
    wanted = [Wanted(prompt, 0, FORMATS[-1]) for prompt in ("colt b", "a b")]
    new, own = painter.paint(wanted, manner, lambda _: None)
    assert torch.equal(new, own), "an evaluation paints as the studio does"
    (folder / "words.tsv").write_text("colt\ta\npilot, a woman\n")
    with pytest.raises(BadInput, match="line 2: a line is a word, a tab"):
        load_model(find_model(str(folder)))
    (folder / "words.tsv").unlink()
    with pytest.raises(BadInput, match="lacks the list of words"):
        find_model(str(folder))


@pytest.mark.parametrize(
    ("new", "known"), [("colt", "horse"), ("aircraft", "airplane"), ("Alleyway", "street")]
)
def test_the_embedded_model_reads_words_that_no_caption_had(new: str, known: str) -> None:
    folder = find_model(EMBEDDED)
    tokenizer = load_tokenizer(folder.path / "tokenizer")
    text_encoder = CLIPTextModel.from_pretrained(str(folder.path / "text_encoder")).eval()
    before = read(text_encoder, tokenizer, f"a {known}, impressionism")
    assert folder.words is not None
    words = read_words(folder.words)
    assert len(readable(words, tokenizer)) == len(words)
    add_words(words, tokenizer, text_encoder)
    told = read(text_encoder, tokenizer, f"a {new}, impressionism", f"a {known}, impressionism")
    assert torch.equal(told, before.expand_as(told))
