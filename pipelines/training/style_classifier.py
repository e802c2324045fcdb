"""Trains the style classifier that steers a model, on noised latents of the pack."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from pipelines.style_classifier import StyleClassifier
from pipelines.training.architecture import build_scheduler
from pipelines.training.autoencoder import encode
from pipelines.training.averaging import AveragedModel
from pipelines.training.clock import Budget, Journal, learning_rate_scale
from pipelines.training.distributed import Stateful
from pipelines.training.latent_bank import load_frozen_autoencoder
from pipelines.training.loop import Loop, set_learning_rate
from pipelines.training.pack import Format, Row, load_pixels, load_rows
from pipelines.training.pictures import to_pixels

CLASSIFIER_FILE = "style_classifier/style_classifier.safetensors"
LATENTS_FILE = "style-latents.safetensors"
LEVELS = (0, 200, 400, 600, 800)
"""Timesteps that accuracy is measured at."""


@dataclass(frozen=True)
class ClassifierTraining:
    """How the classifier is trained; `crop` is the side of what it sees, in latents."""

    batch_size: int = 96
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    decay: float = 0.995
    crop: int = 20
    warmup_steps: int = 50
    log_every: int = 50
    checkpoint_minutes: float = 3.0


@dataclass(frozen=True)
class StyleLatents:
    """One arrangement of each picture as latents (C, h, w), by style; some were never trained on."""

    training: dict[str, list[Tensor]]
    held_out: dict[str, list[Tensor]]

    @property
    def least_side(self) -> int:
        """The shortest side of any picture, in latents."""
        return min(min(latents.shape[1:]) for known in self.training.values() for latents in known)

    def draw(self, styles: tuple[str, ...], count: int, crop: int) -> tuple[Tensor, Tensor]:
        """Draw latents (count, C, crop, crop), every style as often and half of them mirrored, and labels."""
        labels = torch.randint(len(styles), (count,))
        return torch.stack([self._cropped(styles[label], crop) for label in labels.tolist()]), labels

    def _cropped(self, style: str, crop: int) -> Tensor:
        known = self.training[style]
        latents = known[int(torch.randint(len(known), ()))]
        top, left = (int(torch.randint(side - crop + 1, ())) for side in latents.shape[1:])
        part = latents[:, top : top + crop, left : left + crop].float()
        return part.flip(-1) if torch.rand(()) < 0.5 else part


def load_style_latents(
    accelerator: Accelerator, prepared: Path, output: Path, vae: AutoencoderKL, most: int | None
) -> StyleLatents:
    """Encode the first arrangement of every picture, once; `most` training pictures of a style, if given."""
    file = output / LATENTS_FILE
    kept = load_file(file) if file.exists() else {}
    pixels = {shape: load_pixels(prepared, shape) for shape in load_rows(prepared)}
    chosen = choose_pictures(load_rows(prepared), most)
    for shape in pixels:
        missing = [one for one in chosen if one.shape == shape and one.row.key not in kept]
        for start in range(0, len(missing), 8):
            part = missing[start : start + 8]
            latents = _encode(accelerator, vae, torch.from_numpy(pixels[shape][[one.index for one in part]]))
            kept |= {one.row.key: latent.clone() for one, latent in zip(part, latents, strict=True)}
    kept = {one.row.key: kept[one.row.key] for one in chosen}
    if accelerator.is_main_process:
        save_file(kept, file)
    found = StyleLatents(defaultdict(list), defaultdict(list))
    for one in chosen:
        (found.held_out if one.row.validation else found.training)[one.row.style].append(kept[one.row.key])
    return found


@dataclass(frozen=True)
class Chosen:
    """One picture's first arrangement, and where its pixels are."""

    row: Row
    shape: Format
    index: int


def choose_pictures(rows: dict[Format, list[Row]], most: int | None) -> list[Chosen]:
    """Choose one arrangement of each picture: all held-out ones, and at most so many others of a style."""
    first: dict[str, Chosen] = {}
    for shape, known in rows.items():
        for index, row in enumerate(known):
            first.setdefault(row.key, Chosen(row, shape, index))
    counts: Counter[str] = Counter()
    chosen: list[Chosen] = []
    # In an order that knows no format, so that a limit leaves the formats mixed as they are.
    for one in sorted(first.values(), key=lambda one: hashlib.sha256(one.row.key.encode()).digest()):
        if not one.row.validation:
            if most is not None and counts[one.row.style] >= most:
                continue
            counts[one.row.style] += 1
        chosen.append(one)
    return chosen


class ClassifierStep:
    """One training step."""

    def __init__(
        self,
        accelerator: Accelerator,
        classifier: StyleClassifier,
        latents: StyleLatents,
        training: ClassifierTraining,
    ) -> None:
        """Set up the optimizer and the average of the weights, which is what is kept."""
        self.accelerator, self.latents, self.training = accelerator, latents, training
        self.styles = classifier.styles
        self.crop = min(training.crop, latents.least_side)
        optimizer = torch.optim.AdamW(
            classifier.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
        )
        self.classifier, self.optimizer = accelerator.prepare(classifier, optimizer)
        self.averaged = AveragedModel(accelerator.unwrap_model(self.classifier), training.decay)
        self.alpha_bar = build_scheduler().alphas_cumprod.to(accelerator.device)

    @property
    def parts(self) -> dict[str, Stateful]:
        """What a checkpoint holds."""
        return {
            "model": self.accelerator.unwrap_model(self.classifier),
            "averaged": self.averaged,
            "optimizer": self.optimizer,
        }

    def __call__(self, step: int, progress: float) -> dict[str, Tensor]:
        """Train on one batch at random noise levels; `progress` runs from 0 to 1."""
        training, device = self.training, self.accelerator.device
        scale = learning_rate_scale(progress, step, warmup_steps=training.warmup_steps, decay_from=0.3)
        set_learning_rate(self.optimizer, training.learning_rate * scale)
        latents, labels = self.latents.draw(self.styles, training.batch_size, self.crop)
        latents, labels = latents.to(device), labels.to(device)
        timesteps = torch.randint(len(self.alpha_bar), (len(labels),), device=device)
        noisy = noised(latents, timesteps, self.alpha_bar)
        loss = functional.cross_entropy(self.classifier(noisy, timesteps).float(), labels)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.classifier.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.averaged.update()
        return {"loss": loss.detach()}


def noised(latents: Tensor, timesteps: Tensor, alpha_bar: Tensor) -> Tensor:
    """Noise x_0 (B, C, h, w) to timesteps (B,)."""
    signal = alpha_bar[timesteps].view(-1, 1, 1, 1)
    return signal.sqrt() * latents + (1 - signal).sqrt() * torch.randn_like(latents)


@torch.no_grad()
def accuracy_by_level(classifier: StyleClassifier, held_out: dict[str, list[Tensor]]) -> dict[int, float]:
    """Measure on held-out pictures how often the right style is the likeliest, every style counting alike."""
    device = next(classifier.parameters()).device
    alpha_bar = build_scheduler().alphas_cumprod.to(device)
    found: dict[int, float] = {}
    for level in LEVELS:
        torch.manual_seed(level)
        recalls: list[float] = []
        for style, pictures in held_out.items():
            hits = 0
            for latents in pictures:
                timestep = torch.tensor([level], device=device)
                logits = classifier(noised(latents[None].float().to(device), timestep, alpha_bar), timestep)
                hits += int(logits.argmax()) == classifier.styles.index(style)
            recalls.append(hits / len(pictures))
        found[level] = sum(recalls) / len(recalls) if recalls else float("nan")
    return found


def train_style_classifier(
    accelerator: Accelerator,
    prepared: Path,
    output: Path,
    model: Path,
    *,
    training: ClassifierTraining,
    budget: Budget,
    most_per_style: int | None = None,
    resume: bool = False,
) -> dict[int, float]:
    """Train beside the model folder `model`; leaves `CLASSIFIER_FILE` in `output`, in float16.

    Returns:
        Its accuracy on held-out pictures, by timestep.
    """
    torch.manual_seed(1 + accelerator.process_index)
    vae = load_frozen_autoencoder(model, accelerator.device)
    latents = load_style_latents(accelerator, prepared, output, vae, most_per_style)
    styles = sorted(latents.training)
    classifier = StyleClassifier(styles, next(iter(latents.training.values()))[0].shape[0])
    step = ClassifierStep(accelerator, classifier, latents, training)
    averaged = step.averaged.model
    assert isinstance(averaged, StyleClassifier)

    def keep(_: int) -> None:
        file = output / CLASSIFIER_FILE
        file.parent.mkdir(parents=True, exist_ok=True)
        weights = {name: weight.half().contiguous() for name, weight in averaged.state_dict().items()}
        save_file(weights, file)

    journal = Journal(output / "log.jsonl", enabled=accelerator.is_main_process)
    Loop(
        stage="style classifier",
        accelerator=accelerator,
        journal=journal,
        budget=budget,
        checkpoint=output / "style-classifier.pt",
        parts=step.parts,
        batch_size=training.batch_size,
        log_every=training.log_every,
        checkpoint_minutes=training.checkpoint_minutes,
    ).run(resume=resume, compile_pass=lambda: None, train_step=step, keep=keep)
    accuracy = accuracy_by_level(averaged, latents.held_out)
    if accelerator.is_main_process:
        (output / "style-classifier.json").write_text(json.dumps(accuracy))
    return accuracy


@torch.no_grad()
def _encode(accelerator: Accelerator, vae: AutoencoderKL, images: Tensor) -> Tensor:
    pixels = to_pixels(images.to(accelerator.device)).contiguous(memory_format=torch.channels_last)
    with torch.autocast(accelerator.device.type, torch.bfloat16):
        latents = encode(vae, pixels).float() * float(vae.config["scaling_factor"])
    return latents.half().cpu().contiguous()
