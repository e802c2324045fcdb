"""`python app.py train find-words` and `add-words`: words that no caption had."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.training.options import Data

words_app = typer.Typer()


@words_app.command()
def find_words(
    data: Data,
    model: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="A model folder: its vocabulary.")
    ],
    wordnet: Annotated[Path, typer.Option(exists=True, file_okay=False, help="WordNet's own files, dict/.")],
    sentence_encoder: Annotated[
        Path,
        typer.Option(exists=True, file_okay=False, help="A BERT sentence encoder, as all-MiniLM-L6-v2 is."),
    ],
    words: Annotated[
        Path,
        typer.Option(exists=True, dir_okay=False, help="English words, one a line, the commonest first."),
    ],
    output: Annotated[
        Path | None, typer.Option(help="Where the pairs go; the list that ships by default.")
    ] = None,
) -> None:
    """Find for English words that no caption had the nearest word that the model has learnt."""
    from pipelines.training import words as vocabulary
    from pipelines.training.architecture import load_tokenizer
    from pipelines.training.captions import Facts
    from pipelines.training.pack import is_validation, read_shards
    from pipelines.training.wordnet import WordNet

    facts = [Facts.from_json(entry.fields) for entry in read_shards(data) if not is_validation(entry.key)]
    known, seen = vocabulary.known_words(facts, load_tokenizer(model / "tokenizer"))
    wide = words.read_text(encoding="utf-8").split()
    pairs = vocabulary.find_words(wide, known, seen, WordNet.read(wordnet), sentence_encoder)
    target = output or vocabulary.WORDS_FILE
    vocabulary.write_pairs(target, pairs)
    typer.echo(f"{target}: {len(pairs)} words read as {len({known for _, known in pairs})} known ones")


@words_app.command()
def add_words(
    model: Annotated[Path, typer.Option(exists=True, file_okay=False, help="The model folder to teach.")],
    words: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Pairs as find-words writes them.")
    ] = None,
) -> None:
    """Teach a finished model to read words that no caption had; what it reads already stays as it is."""
    from transformers import CLIPTextModel

    from pipelines.training import words as vocabulary
    from pipelines.training.architecture import load_tokenizer

    tokenizer = load_tokenizer(model / "tokenizer")
    text_encoder = CLIPTextModel.from_pretrained(model / "text_encoder", local_files_only=True, dtype="auto")
    added = vocabulary.add_words(
        tokenizer, text_encoder, vocabulary.read_pairs(words or vocabulary.WORDS_FILE)
    )
    tokenizer.save_pretrained(str(model / "tokenizer"))
    text_encoder.save_pretrained(str(model / "text_encoder"))
    typer.echo(f"{model}: {len(added)} words added")
