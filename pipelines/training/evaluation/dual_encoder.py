"""A dual encoder of pictures and words, trained on the real pack: which subject does a picture show?

Contrastive training as in CLIP (Radford et al., 2021), small, and with three changes. Captions mostly tell of
style, artist and colour, so nine texts of ten are one word alone, asked for as subjects are. It is words that
are drawn for these, not pictures: what one picture shows would hardly be met among the portraits. And texts
are often alike ("romanticism"; "a cat"), so a text is right of every picture that it could have been drawn
for. The pack is small for learning what a lighthouse looks like: pictures can be seen through an ImageNet
classifier's answers, which stay as they are at first (as in LiT, Zhai et al., 2022), and so are asked for
beforehand. Then it may be taught along (Kumar et al., 2022), by pictures varied as painters would, and by
things laid on paintings: no painting of the pack shows a bicycle, and by paintings alone it is learnt that
none does.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import CLIPTokenizer

from pipelines.training.architecture import (
    ATELIER_V1,
    Architecture,
    build_text_encoder,
    load_tokenizer,
    train_tokenizer,
)
from pipelines.training.evaluation.judge import NetworkSize, cached, save
from pipelines.training.evaluation.network import Backbone, fit, view_rows
from pipelines.training.evaluation.painterly import paint_like
from pipelines.training.latent_bank import tokenize
from pipelines.training.laying import LAID
from pipelines.training.pack import Format, Row
from pipelines.training.pictures import PictureBank
from pipelines.training.seeing import SIDE_PX, classify, load_classifier

_WORDS = replace(ATELIER_V1, text_width=192, text_layers=2, text_heads=3, max_tokens=32)
_START_SCALE = math.log(1 / 0.07)
_MOST_SCALE = math.log(100.0)
_DROPOUT = 0.2
_WORD_SHARE = 0.9
"""Of the texts that it learns from: 68% of 667 pictures kept from it were ranked right so, 60% with none."""

_WORD_BALANCE = 0.5
"""A word is drawn as often as this power of what its pictures weigh: 1 were as often as they are met."""

_BATCHES = 4
"""So many of the judge's batches make one: a word is told from the other texts of its batch alone."""

_LOOKS = 2
"""How often a classifier is asked about each row, each time about another crop."""

_LOOKED_AT_ONCE = 256

_FINETUNED_BATCHES = 2
_FINETUNING_RATE = 3e-4
_PAINTERLY_SHARE = 0.6

QUERIES = ("{}", "a {}", "a painting of {}", "{}, {}")
"""How a subject is asked for; the last takes the style of the picture. Their embeddings are averaged."""

Answers = dict[Format, torch.Tensor]
"""What a classifier says of a bank's rows, by format: (N, looks, K)."""


@dataclass(frozen=True)
class Finetuning:
    """How a classifier is taught along: for how many steps, and by which pictures.

    `bank` loads these when they are wanted; the rest learns from them too.
    """

    steps: int
    bank: Callable[[], PictureBank]


class Sight(nn.Module):
    """A classifier as a part of a network that can be taught."""

    def __init__(self, program: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Take a program as `load_classifier` gives it."""
        super().__init__()
        self.program = program

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (B, 3, H, W) to answers (B, K)."""
        return classify(self.program, pixels)

    def train(self, mode: bool = True) -> Sight:
        """Leave the program alone: what torch.export saved refuses, and its batch norms stay as they are."""
        self.training = mode
        return self


class DualEncoder(nn.Module):
    """Pictures and captions as unit vectors of one space."""

    def __init__(
        self,
        backbone: Callable[[torch.Tensor], torch.Tensor],
        picture_head: nn.Module,
        tokenizer: CLIPTokenizer,
        words: Architecture,
        features: int,
    ) -> None:
        """Build with random weights, but for what pictures are seen with; `words` sizes the text encoder.

        The backbone takes pixels (B, 3, H, W), the head what comes of it, to (B, features).
        """
        super().__init__()
        self.backbone, self.picture_head = backbone, picture_head
        self.text_encoder = build_text_encoder(words, tokenizer)
        self.text_head = nn.Linear(words.text_width, features, bias=False)
        self.dropout = nn.Dropout(_DROPOUT)
        self.log_scale = nn.Parameter(torch.tensor(_START_SCALE))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (B, 3, H, W) to unit vectors (B, D)."""
        return self.place(self.backbone(pixels))

    def place(self, seen: torch.Tensor) -> torch.Tensor:
        """What the backbone sees (B, K) to unit vectors (B, D)."""
        return functional.normalize(self.picture_head(seen.float()).float(), dim=1)

    def encode_words(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Token ids (B, T) to unit vectors (B, D)."""
        pooled = self.text_encoder(input_ids=input_ids.long()).pooler_output
        return functional.normalize(self.text_head(self.dropout(pooled)).float(), dim=1)


def build_dual_encoder(
    size: NetworkSize,
    tokenizer: CLIPTokenizer,
    classifier: Path | None,
    device: torch.device,
    *,
    finetuned: bool = False,
) -> DualEncoder:
    """Build one on `device`; a classifier's own weights are among its weights only if it is `finetuned`."""
    features = size.features
    if classifier is None:
        backbone = Backbone(size.widths, size.blocks)
        head = nn.Sequential(nn.Dropout(_DROPOUT), nn.Linear(size.widths[-1], features, bias=False))
    else:
        program = load_classifier(classifier, device)
        answers = classify(program, torch.zeros(1, 3, SIDE_PX, SIDE_PX, device=device)).shape[1]
        backbone = Sight(program) if finetuned else partial(classify, program)
        head = nn.Sequential(
            nn.BatchNorm1d(answers, affine=False),
            nn.Dropout(0.5),
            nn.Linear(answers, 4 * features),
            nn.GELU(),
            nn.Dropout(0.5),
            nn.Linear(4 * features, features, bias=False),
        )
    encoder = DualEncoder(backbone, head, tokenizer, _WORDS, features)
    nn.Module.to(encoder, device)
    return encoder


class Texts:
    """All that may be said of each picture of a bank: its captions, and its words as subjects are asked for.

    `tokens` (T, L) are of all texts; `said[format]` (N, K) which of them each row has, -1 where it has fewer.
    """

    def __init__(self, bank: PictureBank, tokenizer: CLIPTokenizer) -> None:
        """Tokenize each text once, for the bank's device."""
        self._bank = bank
        number: dict[str, int] = {}
        self.said: dict[Format, torch.Tensor] = {}
        self._captions: dict[Format, torch.Tensor] = {}
        self._words: dict[Format, _Words] = {}
        for shape, rows in bank.rows.items():
            self._words[shape] = _Words(rows, bank.weights[shape])
            wordings = [
                [query.format(word, row.style) for word in row.words for query in QUERIES] for row in rows
            ]
            texts = [[*row.captions, *own] for row, own in zip(rows, wordings, strict=True)]
            said = [
                torch.tensor([number.setdefault(text, len(number)) for text in own], dtype=torch.long)
                for own in texts
            ]
            self.said[shape] = pad_sequence(said, batch_first=True, padding_value=-1).to(bank.device)
            self._captions[shape] = torch.tensor([len(row.captions) for row in rows], device=bank.device)
        self.tokens = tokenize(tokenizer, list(number)).to(bank.device)

    def draw(self, shape: Format, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rows (B,), the tokens (B, L) of a text of each, and of which of the rows (B, B) each text is right.

        Most are drawn by their words, the others by the bank's weights.
        """
        words, captions = self._words[shape], self._captions[shape]
        named = round(_WORD_SHARE * count) if words.known else 0
        rows, word = words.draw(named, self._bank.generator)
        others = self._bank.draw_rows(shape, count - named)
        wording = captions[rows] + len(QUERIES) * word + self._bank.draw_integers(len(QUERIES), named)
        choice = torch.rand(len(others), device=rows.device, generator=self._bank.generator)
        caption = (choice * captions[others]).long()
        rows, column = torch.cat([rows, others]), torch.cat([wording, caption])
        said = self.said[shape][rows]
        chosen = said.gather(1, column[:, None])[:, 0]
        return rows, self.tokens[chosen], (said[:, :, None] == chosen).any(1)


class _Words:
    """The words of the rows of one format, each as often as `_WORD_BALANCE` says.

    Of pairs of a row and a word of it, `rows` (P,) are the rows, `places` (P,) where among its words that is.
    """

    def __init__(self, rows: Sequence[Row], weights: torch.Tensor) -> None:
        """Weigh the pairs; `weights` (N,) are the rows' own, on the device to be drawn on."""
        number: dict[str, int] = {}
        pairs = [
            (index, place, number.setdefault(word, len(number)))
            for index, row in enumerate(rows)
            for place, word in enumerate(row.words)
        ]
        self.rows, self.places, words = (
            torch.tensor(pairs, device=weights.device).long().view(-1, 3).unbind(1)
        )
        weight = weights[self.rows]
        met = weight.new_zeros(len(number)).index_add(0, words, weight)[words]
        # Held-out rows weigh nothing, and neither does what is told of them alone.
        self._odds = torch.where(weight > 0, weight * met.pow(_WORD_BALANCE - 1), 0.0)
        self.known = bool(self._odds.any())

    def draw(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """A row for each of as many words drawn (count,), and the word's place among its own (count,)."""
        if not count:
            return self.rows[:0], self.places[:0]
        pairs = torch.multinomial(self._odds, count, replacement=True, generator=generator)
        return self.rows[pairs], self.places[pairs]


@torch.no_grad()
def look_beforehand(bank: PictureBank, backbone: Callable[[torch.Tensor], torch.Tensor]) -> Answers:
    """What a backbone sees in `_LOOKS` crops of each row, in float16."""
    answers: Answers = {}
    for shape, rows in bank.rows.items():
        every = torch.arange(len(rows), device=bank.device).repeat_interleave(_LOOKS)
        with torch.autocast(bank.device.type, torch.bfloat16, enabled=bank.device.type == "cuda"):
            seen = [backbone(view_rows(bank, shape, some)).half() for some in every.split(_LOOKED_AT_ONCE)]
        if seen:
            answers[shape] = torch.cat(seen).unflatten(0, (len(rows), _LOOKS))
    return answers


def contrastive_loss(pictures: torch.Tensor, words: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Cross entropy both ways between scaled vectors (B, D).

    `right` (B, B) says in row i, column j whether text j is right of picture i; its own text always is.
    """
    logits, true = pictures @ words.T, right.float()
    of_pictures = functional.cross_entropy(logits, true / true.sum(1, keepdim=True))
    return (of_pictures + functional.cross_entropy(logits.T, true.T / true.T.sum(1, keepdim=True))) / 2


def load_or_train_dual_encoder(
    bank: PictureBank,
    output: Path,
    *,
    size: NetworkSize,
    steps: int,
    say: Callable[[str], None],
    classifier: Path | None = None,
    finetuning: Finetuning | None = None,
) -> tuple[DualEncoder, CLIPTokenizer]:
    """Take the dual encoder that an earlier run left in `output`, or train one and leave it there.

    With a `classifier` (see `load_classifier`) it is through that one's answers that it sees pictures, and
    with `finetuning` that one is taught along after the first `steps`.
    """
    folder, path = output / "dual-tokenizer", output / "dual-encoder.safetensors"
    finetuning = finetuning if classifier is not None else None
    rows = [row for rows in bank.rows.values() for row in rows if not row.validation]
    seen_through = "" if classifier is None else hashlib.sha256(classifier.read_bytes()).hexdigest()
    told = {"size": repr(size), "steps": str(steps), "pictures": str(len(rows)), "classifier": seen_through}
    told["drawn"] = f"{_WORD_SHARE} {_WORD_BALANCE} {_BATCHES} {_LOOKS}"
    if finetuning is not None:
        how = (finetuning.steps, _FINETUNED_BATCHES, _FINETUNING_RATE, _PAINTERLY_SHARE, LAID)
        told["finetuned"] = " ".join(map(str, how))
    known = cached(path, told) and folder.exists()
    if not known:
        captions = [caption for row in rows for caption in row.captions[:6]]
        train_tokenizer(captions, _WORDS).save_pretrained(str(folder))
    tokenizer = load_tokenizer(folder)
    encoder = build_dual_encoder(size, tokenizer, classifier, bank.device, finetuned=finetuning is not None)
    if known:
        encoder.load_state_dict(load_file(path))
        return encoder.eval(), tokenizer
    say(f"training the dual encoder for {steps} steps on {len(rows)} pictures")
    taught = bank if finetuning is None else finetuning.bank()
    batches = _Batches(taught, Texts(taught, tokenizer), encoder)
    answers = None if classifier is None else look_beforehand(taught, encoder.backbone)
    count = _BATCHES * size.batch_size
    fit(
        encoder,
        lambda step: batches.loss(step, count, answers),
        steps=steps,
        learning_rate=1e-3,
        weight_decay=0.2,
        say=say,
    )
    if finetuning is not None:
        del answers
        say(f"teaching what it sees through for {finetuning.steps} steps")
        fit(
            encoder.requires_grad_(True),
            lambda step: batches.loss(step, _FINETUNED_BATCHES * size.batch_size, painterly=True),
            steps=finetuning.steps,
            learning_rate=_FINETUNING_RATE,
            weight_decay=0.05,
            say=say,
        )
    save(encoder, path, told)
    return encoder, tokenizer


class _Batches:
    """What a dual encoder learns from, drawn from a bank."""

    def __init__(self, bank: PictureBank, texts: Texts, encoder: DualEncoder) -> None:
        self.bank, self.texts, self.encoder = bank, texts, encoder

    def loss(
        self, step: int, count: int, answers: Answers | None = None, *, painterly: bool = False
    ) -> torch.Tensor:
        """The loss of one batch; `answers` are taken for pictures where there are any."""
        bank, encoder = self.bank, self.encoder
        shape = bank.choose_format(step)
        rows, ids, right = self.texts.draw(shape, count)
        with torch.autocast(bank.device.type, torch.bfloat16, enabled=bank.device.type == "cuda"):
            if answers is None:
                pixels = view_rows(bank, shape, rows)
                pictures = encoder(_some_painted(pixels, bank.generator) if painterly else pixels)
            else:
                pictures = encoder.place(answers[shape][rows, bank.draw_integers(_LOOKS, len(rows))])
            words = encoder.encode_words(ids)
        scale = encoder.log_scale.clamp(max=_MOST_SCALE).exp()
        return contrastive_loss(scale * pictures.float(), words.float(), right)


def _some_painted(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Pixels (B, 3, H, W), a share of them varied as painters would."""
    drawn = torch.rand(len(pixels), 1, 1, 1, device=pixels.device, generator=generator)
    return torch.where(drawn < _PAINTERLY_SHARE, paint_like(pixels, generator), pixels)
