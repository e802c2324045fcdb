"""Teaches a text encoder to read the words of styles, or those of things, as if said again.

"a cat, ukiyo-e, ukiyo-e" is painted more plainly in its style than "a cat, ukiyo-e", and "a cat, cat, cat,
ukiyo-e" is more of a cat: a U-Net knows its words better than one among others tells it. What it makes of the
longer text is what the shorter one comes to mean. Only the embeddings of the words in question learn, by the
U-Net's answers along its own ways from noise to a picture; a text without them reads as it did, to the bit.
"""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from pipelines.training.architecture import build_scheduler, load_tokenizer
from pipelines.training.clock import Budget, Journal, learning_rate_scale
from pipelines.training.diffusion import NoisePrediction
from pipelines.training.distributed import Stateful
from pipelines.training.latent_bank import tokenize
from pipelines.training.loop import Loop, place, set_learning_rate
from pipelines.training.pack import FORMATS
from pipelines.training.reward import Trajectory
from pipelines.training.saying import Lesson


@dataclass(frozen=True)
class EmphasisTraining:
    """How words are taught.

    Each step is one of `path_steps` of DDIM, of `batch_size` of a lesson's captions, with a guidance drawn
    from `guidance`. `share` is how much of a lesson is taught.
    """

    batch_size: int = 64
    path_steps: int = 10
    guidance: tuple[float, float] = (3.0, 6.0)
    share: float = 1.0
    learning_rate: float = 2e-3
    warmup_steps: int = 20
    log_every: int = 20
    checkpoint_minutes: float = 3.0


class EmphasisStep:
    """One training step: one step of the way from noise to pictures."""

    def __init__(
        self,
        model: NoisePrediction,
        tokenizer: CLIPTokenizer,
        lesson: Lesson,
        training: EmphasisTraining,
    ) -> None:
        """Set up the optimizer; of the `model` only embeddings of the lesson's tokens learn."""
        self.model, self.training, said = model, training, lesson.said
        self.device = next(model.parameters()).device
        self.once, self.again, empty = (
            tokenize(tokenizer, texts).to(self.device)
            for texts in ([one.once for one in said], [one.again for one in said], [""])
        )
        self.shares = training.share * torch.tensor([one.share for one in said], device=self.device)
        model.requires_grad_(False)
        embeddings = model.text_encoder.get_input_embeddings().weight
        assert isinstance(embeddings, nn.Parameter)
        self.embeddings = embeddings.requires_grad_(True)
        learning = torch.zeros(len(embeddings), 1, device=self.device)
        learning[lesson.tokens] = 1

        def only_lesson(gradient: torch.Tensor) -> torch.Tensor:
            return gradient * learning

        self.embeddings.register_hook(only_lesson)
        # Without decay of weights, rows without a gradient stay as they are to the bit.
        self.optimizer = torch.optim.AdamW([self.embeddings], lr=training.learning_rate, weight_decay=0.0)
        self.path = Trajectory(build_scheduler().alphas_cumprod.to(self.device), training.path_steps)
        self.before = NoisePrediction(
            copy.deepcopy(model.text_encoder).requires_grad_(False), model.unet, autocast=model.autocast
        )
        with torch.no_grad():
            self.empty = self.before.read(empty.long())
        self._number = training.path_steps

    @property
    def parts(self) -> dict[str, Stateful]:
        """What a checkpoint holds."""
        return {"text_encoder": self.model.text_encoder, "optimizer": self.optimizer}

    def __call__(self, step: int, progress: float) -> dict[str, torch.Tensor]:
        """Train once; `progress` runs from 0 to 1. The error is told over how much saying again changes."""
        if self._number == self.training.path_steps:
            self._begin()
        with torch.no_grad():
            text = torch.cat([self._read_once, self._read_again, self.empty.expand_as(self._read_once)])
            once, again, unguided = self._predict(self.latents.repeat(3, 1, 1, 1), text).chunk(3)
            wanted = once + self._share * (again - once)
            change = (again - once).square().mean().clamp_min(1e-12)
        scale = learning_rate_scale(progress, step, warmup_steps=self.training.warmup_steps)
        set_learning_rate(self.optimizer, self.training.learning_rate * scale)
        loss = (self._predict(self.latents, self.model.read(self._ids)) - wanted).square().mean() / change
        loss.backward()
        nn.utils.clip_grad_norm_([self.embeddings], 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        v = unguided + self._guidance * (wanted - unguided)
        self.latents = self.path.step(self.latents, v, self._number)
        self._number += 1
        return {"loss": loss.detach()}

    def _begin(self) -> None:
        count, (low, high) = self.training.batch_size, self.training.guidance
        rows = torch.randint(len(self.once), (count,), device=self.device)
        self._ids = self.once[rows].long()
        self._share = self.shares[rows].view(-1, 1, 1, 1)
        with torch.no_grad():
            self._read_once = self.before.read(self._ids)
            self._read_again = self.before.read(self.again[rows].long())
        self._guidance = low + (high - low) * torch.rand(()).item()
        shape = FORMATS[int(torch.randint(len(FORMATS), ()))]
        channels = int(self.model.unet.config["in_channels"])
        self.latents = torch.randn(count, channels, shape.height // 8, shape.width // 8, device=self.device)
        self._number = 0

    def _predict(self, latents: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return self.model.predict(latents, self.path.timesteps[self._number].expand(len(latents)), text)


def train_emphasis(
    accelerator: Accelerator,
    lesson: Lesson,
    output: Path,
    model: Path,
    *,
    training: EmphasisTraining,
    budget: Budget,
    resume: bool = False,
) -> None:
    """Teach the text encoder of the model folder `model`; leaves the whole model in `output/model`."""
    torch.manual_seed(accelerator.process_index)
    tokenizer = load_tokenizer(model / "tokenizer")
    unet = UNet2DConditionModel.from_pretrained(str(model / "unet"), dtype=torch.float32)
    text_encoder = CLIPTextModel.from_pretrained(str(model / "text_encoder"), dtype=torch.float32)
    assert isinstance(unet, UNet2DConditionModel)
    taught = NoisePrediction(text_encoder, unet, autocast=accelerator.device.type == "cuda").eval()
    step = EmphasisStep(place(taught, accelerator.device), tokenizer, lesson, training)

    def keep(_: int) -> None:
        shutil.copytree(model, output / "model", dirs_exist_ok=True)
        copy.deepcopy(text_encoder).half().save_pretrained(str(output / "model" / "text_encoder"))

    Loop(
        stage="emphasis",
        accelerator=accelerator,
        journal=Journal(output / "log.jsonl", enabled=accelerator.is_main_process),
        budget=budget,
        checkpoint=output / "emphasis.pt",
        parts=step.parts,
        batch_size=training.batch_size,
        log_every=training.log_every,
        checkpoint_minutes=training.checkpoint_minutes,
    ).run(resume=resume, compile_pass=lambda: None, train_step=step, keep=keep)
