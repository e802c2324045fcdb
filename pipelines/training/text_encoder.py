"""Trains the text encoder to agree with a sentence encoder, so that words no caption had mean something.

Captions have few words. So before any picture is seen, the text encoder learns to answer captions, single
words and phrases of a wide English vocabulary as a pretrained sentence encoder does (distillation, Hinton et
al., 2015): its state at the end of a text tells the vector of the whole, its state at the end of a word that
of the word. A kitten then lies beside a cat, and the U-Net, which learns to read these states, paints the one
as the other. Nothing of the sentence encoder is shipped.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer, CLIPTextModel, CLIPTokenizer

from pipelines.training.architecture import END, Architecture, build_text_encoder, train_tokenizer
from pipelines.training.clock import Budget, Journal, learning_rate_scale
from pipelines.training.distributed import Stateful
from pipelines.training.latent_bank import tokenize
from pipelines.training.loop import Loop, place, set_learning_rate
from pipelines.training.pack import Row

PHRASES = (
    "{0}",
    "a {0}",
    "{0}, {2}",
    "{0}, {2}",
    "{0} and {1}, {2}",
    "{1} with a {0}",
    "a painting of {0}",
    "a {2} painting of {0} and {1}",
)
"""What a word of the wide vocabulary is read in; {1} is another word, {2} a style."""

_END_OF_WORD = "</w>"
_NONE = -1


@dataclass(frozen=True)
class TextTraining:
    """How the text encoder is trained; `captions` is how many it reads, `repeats` how often a word is spelt.

    The latter is its weight in the vocabulary, beside the captions'.
    """

    batch_size: int = 1024
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    captions: int = 100_000
    repeats: int = 10
    warmup_steps: int = 200
    log_every: int = 200
    checkpoint_minutes: float = 5.0


class SentenceEncoder:
    """A pretrained BERT sentence encoder, as all-MiniLM-L6-v2 is: texts to unit vectors."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Load `folder`, in transformers' layout, onto `device`."""
        self.device = device
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        encoder: Any = AutoModel.from_pretrained(folder, local_files_only=True)
        self.encoder = encoder.eval().to(device)

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str], batch_size: int = 512) -> torch.Tensor:
        """The mean over its tokens of each text, (N, D), of unit length once the mean text is taken away.

        All texts lie in one narrow cone; seen from its middle they differ more.
        """
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        parts: list[torch.Tensor] = []
        for start in range(0, len(order), batch_size):
            batch = [texts[index] for index in order[start : start + batch_size]]
            fed = self.tokenizer(batch, padding=True, truncation=True, return_tensors="pt").to(self.device)
            mask = fed["attention_mask"][..., None]
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                states = self.encoder(**fed)[0].float()
            parts.append(functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1))
        vectors = torch.cat(parts)[torch.tensor(order, device=self.device).argsort()]
        return functional.normalize(vectors - vectors.mean(0), dim=1)


@dataclass(frozen=True)
class Lessons:
    """Texts and what they should be answered with.

    `input_ids` is (N, T), `ends` (N,) the place of each text's end, `texts` (N, D) their vectors; `words`
    (N, T) is, where a word ends, its row in `vectors` (W, D), and -1 elsewhere.
    """

    input_ids: torch.Tensor
    ends: torch.Tensor
    texts: torch.Tensor
    words: torch.Tensor
    vectors: torch.Tensor


class Agreement(nn.Module):
    """The text encoder, and two linear maps from its states to the sentence encoder's vectors."""

    def __init__(self, text_encoder: CLIPTextModel, width: int, dimensions: int) -> None:
        """Wrap `text_encoder`, whose states are (B, T, `width`)."""
        super().__init__()
        self.text_encoder = text_encoder
        self.text_head = nn.Linear(width, dimensions)
        self.word_head = nn.Linear(width, dimensions)

    def forward(self, input_ids: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids (B, T) and a place in each, (B,), to vectors of texts (B, D) and of words (B, T, D)."""
        states = self.text_encoder(input_ids=input_ids)[0]
        rows = torch.arange(len(places), device=places.device)
        return self.text_head(states[rows, places]), self.word_head(states)


def wide_phrases(words: Sequence[str], styles: Sequence[str]) -> Iterator[str]:
    """Every word in each of `PHRASES`, beside other words and styles drawn at random."""
    rng = random.Random(0)
    for word in words:
        for phrase in PHRASES:
            yield phrase.format(word, rng.choice(words), rng.choice(styles))


def long_texts(captions: Sequence[str]) -> Iterator[str]:
    """As many as a fifth of the captions, each of two to five of them: prompts can be long."""
    rng = random.Random(1)
    for _ in range(len(captions) // 5):
        yield ", ".join(rng.choices(captions, k=rng.randint(2, 5)))


def prepare_lessons(
    tokenizer: CLIPTokenizer, texts: Sequence[str], wide: Sequence[str], teacher: SentenceEncoder
) -> Lessons:
    """Tokenize the texts, find where their words end, and ask the sentence encoder about all of them."""
    ids = tokenize(tokenizer, list(texts)).long()
    words = sorted(set(wide) | {word for text in texts for word in re.findall("[a-z]+", text)})
    index = {word: number for number, word in enumerate(words)}
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    end = tokenizer.convert_tokens_to_ids(END)
    rows = np.full(ids.shape, _NONE, dtype=np.int32)
    ends = np.zeros(len(ids), dtype=np.int64)
    for row, numbers in enumerate(ids.tolist()):
        spelt = ""
        for place_, number in enumerate(numbers):
            if number == end:
                ends[row] = place_
                break
            token = tokens[number]
            spelt += token.removesuffix(_END_OF_WORD)
            if token.endswith(_END_OF_WORD):
                rows[row, place_] = index.get(spelt, _NONE)
                spelt = ""
            elif place_ == 0:  # the token of the start is no part of a word
                spelt = ""
    device = teacher.device
    return Lessons(
        input_ids=ids.to(device),
        ends=torch.from_numpy(ends).to(device),
        texts=teacher(texts),
        words=torch.from_numpy(rows).to(device),
        vectors=teacher(words),
    )


class AgreementStep:
    """One training step of the text encoder."""

    def __init__(self, model: Agreement, lessons: Lessons, training: TextTraining) -> None:
        """Set up the optimizer."""
        self.model, self.lessons, self.training = model, lessons, training
        self.optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=training.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=training.weight_decay,
            fused=lessons.input_ids.is_cuda,
        )
        self.generator = torch.Generator(lessons.input_ids.device).manual_seed(0)

    @property
    def parts(self) -> dict[str, Stateful]:
        """What a checkpoint holds."""
        return {"model": self.model, "optimizer": self.optimizer}

    def __call__(self, step: int, progress: float) -> dict[str, torch.Tensor]:
        """Train on one batch; `progress` runs from 0 to 1. Tells how far vectors still are, as 1 - cosine."""
        training, lessons = self.training, self.lessons
        scale = learning_rate_scale(progress, step, warmup_steps=training.warmup_steps)
        set_learning_rate(self.optimizer, training.learning_rate * scale)
        device = lessons.input_ids.device
        rows = torch.randint(
            len(lessons.ends), (training.batch_size,), device=device, generator=self.generator
        )
        ids, ends = lessons.input_ids[rows], lessons.ends[rows]
        # The padding is read by the U-Net too: half of the time it is what should tell the text's vector.
        drawn = torch.rand(2, len(ends), device=device, generator=self.generator)
        further = (drawn[0] * (ids.shape[1] - ends)).long() * (drawn[1] < 0.5)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            texts, words = self.model(ids, ends + further)
        wanted = lessons.words[rows]
        told = wanted != _NONE
        text = 1 - functional.cosine_similarity(texts.float(), lessons.texts[rows]).mean()
        word = 1 - functional.cosine_similarity(words[told].float(), lessons.vectors[wanted[told]]).mean()
        (text + word).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {"text": text, "word": word}


def train_text_encoder(
    accelerator: Accelerator,
    rows: Sequence[Row],
    output: Path,
    *,
    words: Sequence[str],
    sentence_encoder: Path,
    architecture: Architecture,
    training: TextTraining,
    budget: Budget,
    resume: bool = False,
) -> None:
    """Learn the vocabulary and the text encoder, in one process, into `output/tokenizer` and `text_encoder`.

    `rows` are the pack's, whose captions are read beside `words`, a wide English vocabulary.

    Raises ValueError where several processes were started.
    """
    if accelerator.num_processes > 1:
        raise ValueError("train the text encoder in one process: it takes minutes")
    journal = Journal(output / "log.jsonl", enabled=True)
    known = [row for row in rows if not row.validation]
    captions = [caption for row in known for caption in row.captions]
    tokenizer = train_tokenizer([*captions, *(training.repeats * list(words))], architecture)
    tokenizer.save_pretrained(str(output / "tokenizer"))
    distinct = sorted(set(captions))
    few = random.Random(0).sample(distinct, min(training.captions, len(distinct)))
    styles = sorted({row.style for row in known})
    texts = [*few, *long_texts(few), *wide_phrases(list(words), styles), ""]
    lessons = prepare_lessons(tokenizer, texts, words, SentenceEncoder(sentence_encoder, accelerator.device))
    torch.manual_seed(0)
    text_encoder = build_text_encoder(architecture, tokenizer)
    model = Agreement(text_encoder, architecture.text_width, lessons.texts.shape[1])
    train_step = AgreementStep(place(model, accelerator.device), lessons, training)

    def keep(_step: int) -> None:
        text_encoder.save_pretrained(str(output / "text_encoder"))

    Loop(
        stage="text encoder",
        accelerator=accelerator,
        journal=journal,
        budget=budget,
        checkpoint=output / "text_encoder.pt",
        parts=train_step.parts,
        batch_size=training.batch_size,
        log_every=training.log_every,
        checkpoint_minutes=training.checkpoint_minutes,
    ).run(resume=resume, compile_pass=lambda: None, train_step=train_step, keep=keep)
