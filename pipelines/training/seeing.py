"""Says in words what a picture shows, where its title does not: a title is mostly a name.

An ImageNet classifier, which knows photographs, answers about a painting much the same to all that show a
ship. A small probe learns, from those pictures whose titles tell, which answers go with which words (Alain &
Bengio, 2017), and then reads the others. The classifier is a tool of training; nothing of it is shipped.
"""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from PIL import Image
from torch import nn
from torch.nn import functional

from pipelines.training.arrangement import arrange
from pipelines.training.captions import Facts, common_words, title_tags
from pipelines.training.evaluation.network import map_by_size
from pipelines.training.loop import set_learning_rate
from pipelines.training.pack import Entry, choose_format, is_validation, picture_hash, read_shards
from pipelines.training.pictures import to_pixels
from pipelines.training.wordnet import WordNet

SIDE_PX = 260
"""Pictures are brought to a square of this side before the classifier looks at them."""

_ANSWER_NOISE = 0.1


@dataclass(frozen=True)
class SeerTraining:
    """How the probe is trained, and how sure it must be of a word or a genre to say it.

    A picture's words are said by a probe that was trained on the other `folds`.
    """

    width: int = 512
    epochs: int = 8
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    folds: int = 5
    least_pictures: int = 5
    least_word: float = 0.12
    least_genre: float = 0.5
    most_words: int = 3


class Probe(nn.Module):
    """A classifier's answers (N, K) to the logits of words (N, V)."""

    def __init__(self, answers: int, words: int, width: int) -> None:
        """Build with random weights."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(answers))
        self.register_buffer("deviation", torch.ones(answers))
        self.register_buffer("prior", torch.zeros(words))
        self.layers = nn.Sequential(
            nn.Dropout(0.5), nn.Linear(answers, width), nn.GELU(), nn.Dropout(0.5), nn.Linear(width, words)
        )

    def forward(self, answers: torch.Tensor) -> torch.Tensor:
        """The logits of each word's being said of a picture."""
        answers = (answers - self.get_buffer("mean")) / self.get_buffer("deviation")
        if self.training:
            answers = answers + _ANSWER_NOISE * torch.randn_like(answers)
        return self.layers(answers) + self.get_buffer("prior")


def load_classifier(path: Path, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """A program that torch.export saved: pixels (B, 3, 260, 260) in [-1, 1] to answers (B, K).

    It is never taught anything.
    """
    program = torch.export.load(path).module().requires_grad_(False)
    nn.Module.to(program, device)
    return program


def ask(
    classifier: Callable[[torch.Tensor], torch.Tensor],
    images: Sequence[torch.Tensor],
    device: torch.device,
) -> torch.Tensor:
    """The classifier's answers about images (height, width, 3) uint8 of any size: (N, K) on `device`."""
    return map_by_size(lambda batch: classify(classifier, to_pixels(batch)), images, device, batch_size=32)


def classify(classifier: Callable[[torch.Tensor], torch.Tensor], pixels: torch.Tensor) -> torch.Tensor:
    """The classifier's answers about pixels (B, 3, H, W) in [-1, 1] of any size: (B, K)."""
    size = (SIDE_PX, SIDE_PX)
    return classifier(functional.interpolate(pixels, size, mode="bicubic", antialias=True))


def train_seer(
    data: Path,
    output: Path,
    classifier: Path,
    wordnet: WordNet,
    *,
    training: SeerTraining,
    say: Callable[[str], None],
    limit: int | None = None,
) -> Path:
    """Train the probe, and write what it sees in paintings to `output/seen.tsv`, whose path is returned.

    A line is a picture's hash and its words, the surest first: words that its title lacks, and a genre only
    where the pack tells none. Held-out pictures are neither learnt from nor described. Raises
    FileNotFoundError where `data` holds no shard.
    """
    device = torch.device(PartialState().device or "cpu")
    entries = [entry for entry in read_shards(data, limit) if not is_validation(entry.key)]
    facts = [Facts.from_json(entry.fields) for entry in entries]
    common = common_words(one.title for one in facts)
    told = [_told(one, common) for one in facts]
    counts = Counter(word for words in told for word in words)
    words = tuple(sorted(word for word, count in counts.items() if count >= training.least_pictures))
    index = {word: number for number, word in enumerate(words)}
    labels = torch.zeros(len(entries), len(words))
    for row, row_words in enumerate(told):
        labels[row, [index[word] for word in row_words if word in index]] = 1
    say(f"looking at {len(entries)} pictures")
    answers = ask(load_classifier(classifier, device), [_arranged(entry) for entry in entries], device).cpu()
    torch.manual_seed(0)
    known = torch.tensor([bool(row_words) for row_words in told])
    folds = torch.arange(len(entries)) % training.folds
    seen = torch.zeros(len(entries), len(words))
    for fold in range(training.folds):
        rows = torch.where(known & (folds != fold))[0]
        probe = fit_probe(answers[rows], labels[rows], training)
        with torch.no_grad():
            seen[folds == fold] = probe(answers[folds == fold]).sigmoid()
        say(f"fold {fold + 1} of {training.folds}")
    output.mkdir(parents=True, exist_ok=True)
    styles, genres = {one.style for one in facts}, {one.genre for one in facts if one.genre}
    lines: list[str] = []
    for entry, one, row_words, sure in zip(entries, facts, told, seen, strict=True):
        if one.source in ("painting", "ukiyo-e"):
            found = _say(sure, words, row_words, styles, genres, one.genre, wordnet, training)
            lines += [f"{picture_hash(entry.image)}\t{', '.join(found)}"] if found else []
    path = output / "seen.tsv"
    path.write_text("\n".join(sorted(lines)) + "\n")
    return path


def fit_probe(answers: torch.Tensor, labels: torch.Tensor, training: SeerTraining) -> Probe:
    """Train a probe on answers (N, K) and labels (N, V), each 0 or 1."""
    probe = Probe(answers.shape[1], labels.shape[1], training.width)
    share = labels.mean(0).clamp(1e-5, 1 - 1e-5)
    probe.get_buffer("mean").copy_(answers.mean(0))
    probe.get_buffer("deviation").copy_(answers.std(0).clamp_min(1e-6))
    probe.get_buffer("prior").copy_(share.log() - (1 - share).log())
    optimizer = torch.optim.AdamW(
        probe.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
    )
    probe.train()
    for epoch in range(training.epochs):
        set_learning_rate(optimizer, training.learning_rate * min(1.0, 2 - 2 * epoch / training.epochs))
        for rows in torch.randperm(len(answers)).split(training.batch_size):
            logits = probe(answers[rows])
            loss = functional.binary_cross_entropy_with_logits(logits, labels[rows], reduction="sum")
            (loss / len(rows)).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return probe.eval()


def _told(facts: Facts, common: frozenset[str]) -> set[str]:
    """The words that the pack itself tells of a picture, its style and its genre among them."""
    kinds = (facts.style, facts.genre)
    return {word for word in (*title_tags(facts.title, common), *facts.keywords, *kinds) if word}


def _say(
    sure: torch.Tensor,
    words: tuple[str, ...],
    told: set[str],
    styles: set[str],
    genres: set[str],
    genre: str,
    wordnet: WordNet,
    training: SeerTraining,
) -> list[str]:
    """The words that a picture deserves beside those that are told of it."""
    found: list[str] = []
    for number in sure.argsort(descending=True).tolist():
        word, share = words[number], float(sure[number])
        if share < training.least_word or len(found) == training.most_words:
            break
        if word in genres:
            fits = not genre and share >= training.least_genre and not genres & set(found)
        else:
            fits = word not in styles and wordnet.is_seen(word)
        if fits and word not in told:
            found.append(word)
    return found


def _arranged(entry: Entry) -> torch.Tensor:
    """A picture as training arranges it at its plainest, (height, width, 3) uint8."""
    image = Image.open(io.BytesIO(entry.image))
    image.load()
    shape = choose_format(image.width, image.height)
    arranged, _ = arrange(
        image,
        source=str(entry.fields["source"]),
        width=shape.width,
        height=shape.height,
        rng=random.Random(entry.key),
        still=True,
    )
    return torch.from_numpy(np.array(arranged, dtype=np.uint8))
