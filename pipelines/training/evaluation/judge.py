"""A judge of style and genre: a classifier trained on the real pack, and never on what is held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from pipelines.latents import to_pixels
from pipelines.models.sd import StableDiffusion
from pipelines.training.evaluation.network import Backbone, fit, look, view_rows
from pipelines.training.pack import Format
from pipelines.training.pictures import PictureBank

_SMOOTHING = 0.1
UNKNOWN = -1
"""The label of a picture of which a style or a genre is not told."""


@dataclass(frozen=True)
class NetworkSize:
    """Widths of the residual network, and how it is trained."""

    widths: tuple[int, ...] = (48, 96, 192, 320)
    blocks: int = 2
    features: int = 128
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.05


TOY_NETWORK = NetworkSize(widths=(4, 8), blocks=1, features=8, batch_size=8)


class Judge(nn.Module):
    """Pixels to features and to the logits of styles and genres."""

    def __init__(self, size: NetworkSize, styles: Sequence[str], genres: Sequence[str]) -> None:
        """Build with random weights."""
        super().__init__()
        self.styles, self.genres = tuple(styles), tuple(genres)
        self.backbone = Backbone(size.widths, size.blocks)
        self.features = nn.Linear(size.widths[-1], size.features)
        self.dropout = nn.Dropout(0.3)
        self.style_head = nn.Linear(size.features, len(styles))
        self.genre_head = nn.Linear(size.features, len(genres))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (B, 3, H, W) to features, style and genre logits side by side."""
        features = self.features(self.backbone(pixels))
        hidden = self.dropout(functional.gelu(features))
        return torch.cat([features, self.style_head(hidden), self.genre_head(hidden)], dim=1)


@dataclass(frozen=True)
class Opinion:
    """What a judge sees in N pictures: features (N, D), and the likeliest style and genre of each."""

    features: torch.Tensor
    styles: list[str]
    genres: list[str]


def judge_pictures(judge: Judge, images: Sequence[torch.Tensor], device: torch.device) -> Opinion:
    """Look at pictures, each (height, width, 3) uint8 and of any size."""
    seen = look(judge, images, device)
    width = judge.features.out_features
    features, style, genre = seen.split([width, len(judge.styles), len(judge.genres)], dim=1)
    return Opinion(
        features,
        [judge.styles[index] for index in style.argmax(1).tolist()],
        [judge.genres[index] for index in genre.argmax(1).tolist()],
    )


def doubts(
    judge: Judge, pixels: torch.Tensor, styles: torch.Tensor, genres: torch.Tensor, sure_enough: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """How far a judge is from seeing the styles and the genres asked for (B,) in pixels: two scalars.

    Cross entropy over the known labels, each picture's no less than `-sure_enough`.
    """
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=pixels.is_cuda):
        seen = judge(pixels).float()
    width = judge.features.out_features
    _, style, genre = seen.split([width, len(judge.styles), len(judge.genres)], dim=1)
    return _doubt(style, styles, sure_enough), _doubt(genre, genres, sure_enough)


def style_probabilities(judge: Judge, images: Sequence[torch.Tensor], device: torch.device) -> torch.Tensor:
    """How likely a judge finds each of its styles in pictures as `judge_pictures` takes them: (N, styles)."""
    first = judge.features.out_features
    return look(judge, images, device)[:, first : first + len(judge.styles)].softmax(1)


@torch.inference_mode()
def own_probabilities(model: StableDiffusion, images: Sequence[torch.Tensor]) -> torch.Tensor:
    """How likely a model's own classifier finds each of its styles in images (h, w, 3): (N, styles)."""
    assert model.style_classifier is not None
    latents = (model.encode(to_pixels(Image.fromarray(image.numpy()))) for image in images)
    logits = [model.style_classifier(one, one.new_zeros(1)) for one in latents]
    return torch.cat(logits).softmax(1).cpu()


def agreement(judged: Sequence[str], wanted: Sequence[str]) -> float:
    """The share of pictures judged to be what was wanted, of those where something was; NaN without any."""
    hits = [mine == theirs for mine, theirs in zip(judged, wanted, strict=True) if theirs]
    return sum(hits) / len(hits) if hits else float("nan")


def expected_agreement(judged: Sequence[str], truth: Sequence[str], wanted: Sequence[str]) -> float:
    """The judge's accuracy on real pictures if they were mixed as `wanted` is.

    Styles differ in how hard they are to tell, and prompts ask for them in other shares than the real
    pictures have. Labels without a real picture are left out; NaN where nothing is left.
    """
    recall = {
        label: agreement(judged, [one if one == label else "" for one in truth])
        for label in set(wanted) & set(truth)
        if label
    }
    recalls = [recall[label] for label in wanted if label in recall]
    return sum(recalls) / len(recalls) if recalls else float("nan")


def load_judge(path: Path, device: torch.device) -> Judge:
    """The judge that `load_or_train_judge` left at `path`."""
    with safe_open(path, "pt") as weights:
        told = weights.metadata()
    size = next(size for size in (NetworkSize(), TOY_NETWORK) if repr(size) == told["size"])
    judge = Judge(size, told["styles"].split("|"), told["genres"].split("|"))
    judge.load_state_dict(load_file(path))
    nn.Module.to(judge, device)
    return judge.eval()


def load_or_train_judge(
    bank: PictureBank, path: Path, *, size: NetworkSize, steps: int, say: Callable[[str], None]
) -> Judge:
    """Take the judge that an earlier run left at `path`, or train one and leave it there."""
    rows = [row for rows in bank.rows.values() for row in rows if not row.validation]
    styles = sorted({row.style for row in rows})
    genres = sorted({row.genre for row in rows if row.genre})
    told = {"size": repr(size), "steps": str(steps), "styles": "|".join(styles), "genres": "|".join(genres)}
    told["pictures"] = str(len(rows))
    if cached(path, told):
        return load_judge(path, bank.device)
    judge = Judge(size, styles, genres)
    nn.Module.to(judge, bank.device)
    say(f"training the judge for {steps} steps on {len(rows)} pictures")
    labels = label_rows(bank, styles, genres)

    def loss_of_step(step: int) -> torch.Tensor:
        shape = bank.choose_format(step)
        drawn = bank.draw_rows(shape, size.batch_size)
        pixels = view_rows(bank, shape, drawn)
        with torch.autocast(bank.device.type, torch.bfloat16, enabled=bank.device.type == "cuda"):
            seen = judge(pixels).float()
        style, genre = seen[:, size.features :].split([len(styles), len(genres)], dim=1)
        style_label, genre_label = (one[drawn] for one in labels[shape])
        loss = functional.cross_entropy(style, style_label, label_smoothing=_SMOOTHING)
        if (genre_label != UNKNOWN).any():
            loss = loss + functional.cross_entropy(
                genre, genre_label, ignore_index=UNKNOWN, label_smoothing=_SMOOTHING
            )
        return loss

    fit(
        judge,
        loss_of_step,
        steps=steps,
        learning_rate=size.learning_rate,
        weight_decay=size.weight_decay,
        say=say,
    )
    save(judge, path, told)
    return judge


def cached(path: Path, told: dict[str, str]) -> bool:
    """Whether `path` holds weights made in just the way that `told` tells."""
    if not path.exists():
        return False
    with safe_open(path, "pt") as weights:
        return weights.metadata() == told


def save(model: nn.Module, path: Path, told: dict[str, str]) -> None:
    """Write a model's weights and how they were made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.cpu().contiguous() for name, weight in model.state_dict().items()}, path, told)


def _doubt(logits: torch.Tensor, labels: torch.Tensor, sure_enough: float) -> torch.Tensor:
    known = labels != UNKNOWN
    sure = logits.log_softmax(1).gather(1, labels.clamp_min(0)[:, None])[:, 0]
    return -(sure.clamp(max=sure_enough) * known).sum() / known.sum().clamp_min(1)


def labels_of(known: Sequence[str], names: Sequence[str]) -> torch.Tensor:
    """The number of each name among the known ones, (N,)."""
    index = {label: number for number, label in enumerate(known)}
    return torch.tensor([index.get(name, UNKNOWN) for name in names])


def label_rows(
    bank: PictureBank, styles: Sequence[str], genres: Sequence[str]
) -> dict[Format, tuple[torch.Tensor, torch.Tensor]]:
    """The numbers of each row's style and genre, (N,) by format, on the bank's device."""
    return {
        shape: (
            labels_of(styles, [row.style for row in rows]).to(bank.device),
            labels_of(genres, [row.genre for row in rows]).to(bank.device),
        )
        for shape, rows in bank.rows.items()
    }
