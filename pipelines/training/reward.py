"""Trains a U-Net to please critics, through the denoising itself, while it goes on learning from the pack.

Deep reward tuning (Wu et al., 2024): a picture is painted step by step without gradients, then a few of its
steps are computed again, their inputs held fixed. The picture depends on the output of each in a known,
linear way, so that what the critics say of it reaches the first steps, which compose, as well as the last.
The guided half alone is tuned: what the U-Net paints without words stays the pack's.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel

from pipelines.training.architecture import build_scheduler, load_tokenizer
from pipelines.training.autoencoder import decode
from pipelines.training.averaging import AveragedModel
from pipelines.training.clock import Budget, Journal, learning_rate_scale
from pipelines.training.diffusion import DiffusionLoss, DiffusionTraining, NoisePrediction
from pipelines.training.distributed import Stateful, average_gradients
from pipelines.training.export import SHEET_PROMPTS, assemble_pipeline, export_model, paint_sheet
from pipelines.training.latent_bank import load_frozen_autoencoder, load_latent_bank, tokenize
from pipelines.training.loop import Loop, place, set_learning_rate
from pipelines.training.pack import Format
from pipelines.training.pictures import PictureBank
from pipelines.training.ranking import Critics, Wish
from pipelines.training.verdicts import Asked, Weights, ask_critics, displeasure, freeze


@dataclass(frozen=True)
class RewardTraining:
    """How a U-Net is tuned; the defaults are those of the shipped model.

    Each step paints `batch_size` wishes in `path_steps` steps, `traced` of which are computed again for their
    gradient, with a guidance drawn from `guidance`. `reward` is what the critics' loss counts beside the
    pack's, and `decoded_at_once` how many pictures are decoded and judged together.
    """

    batch_size: int = 128
    path_steps: int = 16
    traced: int = 2
    guidance: tuple[float, float] = (4.0, 7.0)
    reward: float = 0.002
    learning_rate: float = 2e-5
    ema_decay: float = 0.99
    warmup_steps: int = 20
    decoded_at_once: int = 64
    weights: Weights = field(default_factory=Weights)
    pack: DiffusionTraining = field(default_factory=DiffusionTraining)
    log_every: int = 10
    checkpoint_minutes: float = 3.0
    sheet_steps: int = 20
    sheet_prompts: tuple[str, ...] = SHEET_PROMPTS


class Trajectory:
    """The way from noise to a picture in some steps of DDIM, which with v-prediction are turns of a circle.

    x_t = cos(p) x_0 + sin(p) noise and v = cos(p) noise - sin(p) x_0 (Salimans & Ho, 2022, appendix D): a
    step that takes p down by d leaves cos(d) x_t - sin(d) v.
    """

    def __init__(self, alphas_cumprod: torch.Tensor, steps: int) -> None:
        """Space the timesteps (steps,) evenly, the last of alpha_bar (T,) first."""
        count = len(alphas_cumprod)
        self.timesteps = (torch.arange(steps, 0, -1, device=alphas_cumprod.device) * count) // steps - 1
        angles = alphas_cumprod[self.timesteps].sqrt().clamp(max=1).arccos()
        turns = angles - torch.cat([angles[1:], angles.new_zeros(1)])
        self._kept, self._taken = turns.cos(), turns.sin()
        # What comes after a step only ever scales what it left.
        after = torch.cat([self._kept[1:].flip(0).cumprod(0).flip(0), angles.new_ones(1)])
        self.shares = -self._taken * after
        """How much of the picture each step's v is, (steps,)."""

    def step(self, noisy: torch.Tensor, v: torch.Tensor, number: int) -> torch.Tensor:
        """Latents after one step, both (B, C, h, w)."""
        return self._kept[number] * noisy - self._taken[number] * v


class RewardLoss:
    """Paints wishes, and carries what the critics say of them back into the U-Net's gradients."""

    def __init__(
        self,
        model: NoisePrediction,
        vae: AutoencoderKL,
        critics: Critics,
        wishes: Sequence[Wish],
        ids: torch.Tensor,
        empty_ids: torch.Tensor,
        training: RewardTraining,
        generator: torch.Generator,
    ) -> None:
        """Hold the networks; `ids` (N, T) are the wishes' captions for the model itself."""
        self.model, self.vae, self.critics, self.training = model, vae, critics, training
        self.ids, self.empty_ids, self.generator = ids.long(), empty_ids.long(), generator
        self.device = ids.device
        self.asked = ask_critics(critics, wishes)
        self.rows: dict[Format, torch.Tensor] = {
            shape: torch.tensor(rows, device=self.device)
            for shape in {wish.shape: None for wish in wishes}
            if (rows := [number for number, wish in enumerate(wishes) if wish.shape == shape])
        }
        self.path = Trajectory(build_scheduler().alphas_cumprod.to(self.device), training.path_steps)

    def backward(self, step: int) -> dict[str, torch.Tensor]:
        """Add the gradients of one batch, `reward` times; return the parts of the loss, scalars."""
        shapes, counts = list(self.rows), [len(rows) for rows in self.rows.values()]
        shape = random.Random(step).choices(shapes, counts)[0]
        rows = self._draw_rows(shape)
        with torch.no_grad():
            text, empty = self.model.read(self.ids[rows]), self.model.read(self.empty_ids[None])
        guidance = self._draw(*self.training.guidance)
        traced = torch.randperm(self.training.path_steps)[: self.training.traced].tolist()
        picture, met = self._paint(shape, text, empty, guidance, traced)
        parts, pull = self._judge(picture, self.asked.take(rows))
        # Of the guided v, unconditional + guidance (conditional - unconditional), the conditional is tuned.
        scale = self.training.reward * guidance * self.training.path_steps / self.training.traced
        for number in traced:
            conditional = self._predict(met[number], number, text)
            conditional.backward(scale * self.path.shares[number] * pull)
        return parts

    @torch.no_grad()
    def _paint(
        self, shape: Format, text: torch.Tensor, empty: torch.Tensor, guidance: float, traced: Sequence[int]
    ) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
        """Finished latents (B, C, h, w), and what the traced steps began from."""
        channels = int(self.model.unet.config["in_channels"])
        size = (len(text), channels, shape.height // 8, shape.width // 8)
        latents = torch.randn(size, device=self.device, generator=self.generator)
        both = torch.cat([empty.expand(len(text), -1, -1), text])
        met: dict[int, torch.Tensor] = {}
        for number in range(self.training.path_steps):
            if number in traced:
                met[number] = latents
            unconditional, conditional = self._predict(latents.repeat(2, 1, 1, 1), number, both).chunk(2)
            v = unconditional + guidance * (conditional - unconditional)
            latents = self.path.step(latents, v, number)
        return latents, met

    def _judge(self, latents: torch.Tensor, asked: Asked) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The parts of the critics' loss, and its gradient by the latents, (B, C, h, w)."""
        leaf = latents.detach().requires_grad_()
        parts: dict[str, torch.Tensor] = {}
        for some in torch.arange(len(leaf), device=self.device).split(self.training.decoded_at_once):
            pixels = self._decode(leaf[some])
            told = displeasure(self.critics, pixels, asked.take(some), self.training.weights, self.generator)
            share = len(some) / len(leaf)
            torch.stack(list(told.values())).sum().mul(share).backward()
            for name, value in told.items():
                parts[name] = parts.get(name, torch.zeros_like(value)) + share * value.detach()
        assert leaf.grad is not None
        return parts, leaf.grad

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            return decode(self.vae, latents / float(self.vae.config["scaling_factor"])).float()

    def _predict(self, latents: torch.Tensor, number: int, text: torch.Tensor) -> torch.Tensor:
        return self.model.predict(latents, self.path.timesteps[number].expand(len(latents)), text)

    def _draw_rows(self, shape: Format) -> torch.Tensor:
        known = self.rows[shape]
        count = self.training.batch_size
        return known[torch.randint(len(known), (count,), device=self.device, generator=self.generator)]

    def _draw(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), device=self.device, generator=self.generator))


class RewardStep:
    """One training step: a batch of the pack and a batch of wishes."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: NoisePrediction,
        pack: DiffusionLoss,
        reward: RewardLoss,
        training: RewardTraining,
    ) -> None:
        """Set up the optimizer."""
        self.accelerator, self.model, self.training = accelerator, model, training
        self.pack, self.reward = pack, reward
        self.averaged = AveragedModel(model, training.ema_decay)
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.weights, lr=training.learning_rate, betas=(0.9, 0.99), weight_decay=0.01
        )

    @property
    def parts(self) -> dict[str, Stateful]:
        """What a checkpoint holds."""
        return {"model": self.model, "averaged": self.averaged, "optimizer": self.optimizer}

    def __call__(self, step: int, progress: float) -> dict[str, torch.Tensor]:
        """Train once; `progress` runs from 0 to 1."""
        scale = learning_rate_scale(progress, step, warmup_steps=self.training.warmup_steps)
        set_learning_rate(self.optimizer, self.training.learning_rate * scale)
        loss = self.pack.train(self.model, step)
        loss.backward()
        parts = self.reward.backward(step)
        average_gradients(self.accelerator, self.weights)
        norm = nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.averaged.update()
        return {"loss": loss, "gradient": norm, **parts}


def train_reward(
    accelerator: Accelerator,
    bank: PictureBank,
    output: Path,
    model: Path,
    critics: Critics,
    wishes: Sequence[Wish],
    *,
    training: RewardTraining,
    budget: Budget,
    resume: bool = False,
) -> None:
    """Tune the U-Net of the model folder `model`; leaves `output/model`, made of the averaged weights.

    All but the U-Net stays as it is.
    """
    device = accelerator.device
    journal = Journal(output / "log.jsonl", enabled=accelerator.is_main_process)
    torch.manual_seed(accelerator.process_index)
    vae, tokenizer = load_frozen_autoencoder(model, device), load_tokenizer(model / "tokenizer")
    encoded = load_latent_bank(accelerator, bank, vae, tokenizer)
    bank.pixels.clear()
    unet = UNet2DConditionModel.from_pretrained(str(model / "unet"), dtype=torch.float32)
    text_encoder = CLIPTextModel.from_pretrained(str(model / "text_encoder"), dtype=torch.float32)
    assert isinstance(unet, UNet2DConditionModel)
    text_encoder.eval().requires_grad_(False)
    tuned = place(NoisePrediction(text_encoder, unet, autocast=device.type == "cuda"), device)
    freeze(critics)
    ids = tokenize(tokenizer, [wish.caption for wish in wishes]).to(device)
    train_step = RewardStep(
        accelerator,
        tuned,
        DiffusionLoss(bank, encoded, training.pack),
        RewardLoss(tuned, vae, critics, wishes, ids, encoded.empty_ids, training, bank.generator),
        training,
    )

    def keep(step: int) -> None:
        averaged = train_step.averaged.model
        assert isinstance(averaged, NoisePrediction)
        pipeline = assemble_pipeline(vae, averaged.text_encoder, tokenizer, averaged.unet)
        export_model(pipeline, output / "model")
        paint_sheet(
            pipeline,
            output / "sheets" / f"reward-{step:06d}.png",
            device=device,
            prompts=training.sheet_prompts,
            num_inference_steps=training.sheet_steps,
        )
        journal.write(stage="reward", step=step, validation_loss=train_step.pack.validate(averaged))

    Loop(
        stage="reward",
        accelerator=accelerator,
        journal=journal,
        budget=budget,
        checkpoint=output / "reward.pt",
        parts=train_step.parts,
        batch_size=training.batch_size,
        log_every=training.log_every,
        checkpoint_minutes=training.checkpoint_minutes,
    ).run(resume=resume, compile_pass=lambda: None, train_step=train_step, keep=keep)
    accelerator.wait_for_everyone()
