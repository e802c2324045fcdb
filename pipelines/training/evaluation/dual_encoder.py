"""A dual encoder of pictures and words, trained on the real pack: which subject does a picture show?

Contrastive training as in CLIP (Radford et al., 2021), small, and with one change: captions are often alike
("romanticism"), so every picture whose caption is the same counts as right. The pack is small for learning
what a lighthouse looks like: pictures can be seen through an ImageNet classifier's answers, which stay as
they are (as in LiT, Zhai et al., 2022).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from transformers import CLIPTokenizer

from pipelines.training.architecture import (
    ATELIER_V1,
    Architecture,
    build_text_encoder,
    load_tokenizer,
    train_tokenizer,
)
from pipelines.training.evaluation.judge import NetworkSize, cached, save
from pipelines.training.evaluation.network import Backbone, draw_views, fit, look
from pipelines.training.latent_bank import tokenize, tokenize_rows
from pipelines.training.pictures import PictureBank
from pipelines.training.seeing import SIDE_PX, classify, load_classifier

_WORDS = replace(ATELIER_V1, text_width=192, text_layers=2, text_heads=3, max_tokens=32)
_START_SCALE = math.log(1 / 0.07)
_MOST_SCALE = math.log(100.0)
_DROPOUT = 0.2
QUERIES = ("{}", "a {}", "a painting of {}", "{}, {}")
"""How a subject is asked for; the last takes the style of the picture. Their embeddings are averaged."""


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
        return functional.normalize(self.picture_head(self.backbone(pixels).float()), dim=1)

    def encode_words(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Token ids (B, T) to unit vectors (B, D)."""
        pooled = self.text_encoder(input_ids=input_ids.long()).pooler_output
        return functional.normalize(self.text_head(self.dropout(pooled)).float(), dim=1)


def build_dual_encoder(
    size: NetworkSize, tokenizer: CLIPTokenizer, classifier: Path | None, device: torch.device
) -> DualEncoder:
    """Build one on `device`; a classifier's own weights are not among its weights."""
    features = size.features
    if classifier is None:
        backbone = Backbone(size.widths, size.blocks)
        head = nn.Sequential(nn.Dropout(_DROPOUT), nn.Linear(size.widths[-1], features, bias=False))
    else:
        program = load_classifier(classifier, device)
        answers = classify(program, torch.zeros(1, 3, SIDE_PX, SIDE_PX, device=device)).shape[1]
        backbone = partial(classify, program)
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


def contrastive_loss(pictures: torch.Tensor, words: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
    """Cross entropy both ways between scaled vectors (B, D); `same` (B, B) says which belong together."""
    logits = pictures @ words.T
    target = same.float() / same.sum(1, keepdim=True)
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


def load_or_train_dual_encoder(
    bank: PictureBank,
    output: Path,
    *,
    size: NetworkSize,
    steps: int,
    say: Callable[[str], None],
    classifier: Path | None = None,
) -> tuple[DualEncoder, CLIPTokenizer]:
    """Take the dual encoder that an earlier run left in `output`, or train one and leave it there.

    With a `classifier` (see `load_classifier`) it is through that one's answers that it sees pictures.
    """
    folder, path = output / "dual-tokenizer", output / "dual-encoder.safetensors"
    rows = [row for rows in bank.rows.values() for row in rows if not row.validation]
    seen_through = "" if classifier is None else hashlib.sha256(classifier.read_bytes()).hexdigest()
    told = {"size": repr(size), "steps": str(steps), "pictures": str(len(rows)), "classifier": seen_through}
    known = cached(path, told) and folder.exists()
    if not known:
        captions = [caption for row in rows for caption in row.captions[:6]]
        train_tokenizer(captions, _WORDS).save_pretrained(str(folder))
    tokenizer = load_tokenizer(folder)
    encoder = build_dual_encoder(size, tokenizer, classifier, bank.device)
    if known:
        encoder.load_state_dict(load_file(path))
        return encoder.eval(), tokenizer
    say(f"training the dual encoder for {steps} steps on {len(rows)} pictures")
    ids = {shape: tokenize_rows(tokenizer, rows).to(bank.device) for shape, rows in bank.rows.items()}

    def loss_of_step(step: int) -> torch.Tensor:
        shape = bank.choose_format(step)
        pixels, drawn = draw_views(bank, shape, size.batch_size)
        captions = ids[shape][drawn]
        choice = torch.randint(captions.shape[1], (len(drawn),), device=bank.device, generator=bank.generator)
        captions = captions[torch.arange(len(drawn), device=bank.device), choice]
        with torch.autocast(bank.device.type, torch.bfloat16, enabled=bank.device.type == "cuda"):
            pictures, words = encoder(pixels), encoder.encode_words(captions)
        same = (captions[:, None] == captions[None]).all(2)
        scale = encoder.log_scale.clamp(max=_MOST_SCALE).exp()
        return contrastive_loss(scale * pictures.float(), words.float(), same)

    fit(encoder, loss_of_step, steps=steps, learning_rate=1e-3, weight_decay=0.2, say=say)
    save(encoder, path, told)
    return encoder, tokenizer


class SubjectRanks:
    """Where a subject stands among all, by the dual encoder's likeness to a picture."""

    def __init__(
        self,
        encoder: DualEncoder,
        tokenizer: CLIPTokenizer,
        names: Sequence[str],
        device: torch.device,
    ) -> None:
        """Rank among `names`."""
        self.encoder, self.tokenizer, self.names, self.device = encoder, tokenizer, tuple(names), device

    def ranks(
        self, images: Sequence[torch.Tensor], subjects: Sequence[str], styles: Sequence[str]
    ) -> torch.Tensor:
        """The rank of each picture's subject, 0 for the first: (N,) for images (height, width, 3) uint8."""
        seen = look(self.encoder, images, self.device)
        queries = {style: self.queries(style) for style in set(styles)}
        likeness = torch.stack([queries[style] @ vector for style, vector in zip(styles, seen, strict=True)])
        index = torch.tensor([self.names.index(subject) for subject in subjects], device=self.device)
        return (likeness > likeness.gather(1, index[:, None])).sum(1)

    @torch.no_grad()
    def queries(self, style: str) -> torch.Tensor:
        """The mean vector of every subject's wordings in a style, (names, D)."""
        wordings = [query.format(name, style) for name in self.names for query in QUERIES]
        vectors = self.encoder.encode_words(tokenize(self.tokenizer, wordings).to(self.device))
        return vectors.unflatten(0, (len(self.names), len(QUERIES))).mean(1)
