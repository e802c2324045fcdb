"""Trains a U-Net to please critics, through the denoising itself, while it goes on learning from the pack.

Deep reward tuning (Wu et al., 2024): a picture is painted step by step without gradients, then a few of its
steps are computed again, their inputs held fixed. The picture depends on the output of each in a known,
linear way, so that what the critics say of it reaches the first steps, which compose, as well as the last.
The guided half alone is tuned: what the U-Net paints without words stays the pack's. Critics of single
pictures alone would have it paint them all alike, so now and then a crowd is held against the pack's, and to
the distance from its pictures that those have which were never trained on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel

from pipelines.training.architecture import build_scheduler, load_tokenizer
from pipelines.training.averaging import AveragedModel
from pipelines.training.clock import Budget, Journal, learning_rate_scale
from pipelines.training.commissions import (
    Classifier,
    Commission,
    CrowdTaste,
    Judged,
    commission_crowd,
    commission_wishes,
)
from pipelines.training.diffusion import DiffusionLoss, DiffusionTraining, NoisePrediction
from pipelines.training.distributed import Stateful, average_gradients
from pipelines.training.export import SHEET_PROMPTS, assemble_pipeline, export_model, paint_sheet
from pipelines.training.grain import Grain
from pipelines.training.latent_bank import (
    decode_latents,
    load_frozen_autoencoder,
    load_latent_bank,
)
from pipelines.training.loop import Loop, place, set_learning_rate
from pipelines.training.pack import Format
from pipelines.training.pictures import PictureBank
from pipelines.training.ranking import Critics, Wish
from pipelines.training.verdicts import Weights, freeze


@dataclass(frozen=True)
class RewardTraining:
    """How a U-Net is tuned.

    Each step paints `batch_size` wishes in `path_steps` steps, with a guidance drawn from `guidance`. The
    first of these, a share of `composing`, compose; `traced` of them are computed again for their gradient.
    The others only finish what is there, and are left to the pack. `reward` is what the critics' loss counts
    beside the pack's, its gradient never longer than `most` times the pack's, and `decoded_at_once` how many
    pictures are decoded and judged together. Every `crowd_every`th batch the pack's own captions are painted
    instead.
    """

    batch_size: int = 128
    path_steps: int = 12
    traced: int = 3
    composing: float = 0.8
    guidance: tuple[float, float] = (4.0, 7.0)
    reward: float = 0.03
    most: float = 3.0
    learning_rate: float = 1.5e-4
    ema_decay: float = 0.99
    warmup_steps: int = 20
    decoded_at_once: int = 128
    weights: Weights = field(default_factory=Weights)
    crowd: CrowdTaste = field(default_factory=CrowdTaste)
    crowd_every: int = 3
    # Words say most in the noisiest steps: at 980 of 1,000 an emoji's error is a fifth less for its name.
    pack: DiffusionTraining = field(default_factory=lambda: DiffusionTraining(snr_floor=1.0))
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
    """Paints what is asked for, and carries what is said of it back into the U-Net's gradients."""

    def __init__(
        self,
        model: NoisePrediction,
        vae: AutoencoderKL,
        empty_ids: torch.Tensor,
        training: RewardTraining,
        generator: torch.Generator,
    ) -> None:
        """Hold the networks; `empty_ids` (T,) is the prompt that pictures are guided away from."""
        self.model, self.vae, self.training = model, vae, training
        self.empty_ids, self.generator = empty_ids.long(), generator
        self.device = empty_ids.device
        self.path = Trajectory(build_scheduler().alphas_cumprod.to(self.device), training.path_steps)

    def backward(self, commission: Commission, step: int) -> dict[str, torch.Tensor]:
        """Add the gradients of one batch, `reward` times; return the parts of the loss, scalars."""
        shape, ids, numbers = commission.draw(step, self.training.batch_size, self.generator)
        with torch.no_grad():
            text, empty = self.model.read(ids), self.model.read(self.empty_ids[None])
        low, high = commission.guidance
        guidance = low + (high - low) * torch.rand((), device=self.device, generator=self.generator).item()
        composing = math.ceil(self.training.composing * self.training.path_steps)
        traced = torch.randperm(composing)[: self.training.traced].tolist()
        picture, met = self._paint(shape, text, empty, guidance, traced)
        parts, pull = self._judge(picture, numbers, commission.judge)
        # Of the guided v, unconditional + guidance (conditional - unconditional), the conditional is tuned.
        scale = self.training.reward * guidance * composing / self.training.traced
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

    def _judge(
        self, latents: torch.Tensor, numbers: torch.Tensor, judge: Judged
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The parts of the loss, and its gradient by the latents, (B, C, h, w)."""
        leaf = latents.detach().requires_grad_()
        parts: dict[str, torch.Tensor] = {}
        for some in torch.arange(len(leaf), device=self.device).split(self.training.decoded_at_once):
            told = judge(decode_latents(self.vae, leaf[some]), numbers[some])
            share = len(some) / len(leaf)
            torch.stack(list(told.values())).sum().mul(share).backward()
            for name, value in told.items():
                parts[name] = parts.get(name, torch.zeros_like(value)) + share * value.detach()
        assert leaf.grad is not None
        return parts, leaf.grad

    def _predict(self, latents: torch.Tensor, number: int, text: torch.Tensor) -> torch.Tensor:
        return self.model.predict(latents, self.path.timesteps[number].expand(len(latents)), text)


class RewardStep:
    """One training step: a batch of the pack, and a batch of wishes or a crowd."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: NoisePrediction,
        pack: DiffusionLoss,
        reward: RewardLoss,
        wishes: Commission,
        crowd: Commission,
        training: RewardTraining,
    ) -> None:
        """Set up the optimizer."""
        self.accelerator, self.model, self.training = accelerator, model, training
        self.pack, self.reward, self.wishes, self.crowd = pack, reward, wishes, crowd
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
        crowded = step % self.training.crowd_every == self.training.crowd_every - 1
        parts = self.reward.backward(self.crowd if crowded else self.wishes, step)
        told = self._take_gradients()
        loss = self.pack.train(self.model, step)
        loss.backward()
        learnt = self._take_gradients()
        lengths = [nn.utils.get_total_norm(gradients) for gradients in (learnt, told)]
        # The critics' is longer by far where an early step was traced: it must not drown the pack's.
        share = (self.training.most * lengths[0] / lengths[1].clamp_min(1e-12)).clamp(max=1.0)
        for weight, from_pack, from_critics in zip(self.weights, learnt, told, strict=True):
            weight.grad = from_pack + share * from_critics
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.averaged.update()
        return {"loss": loss, "gradient": lengths[0], "critics_gradient": lengths[1], **parts}

    def _take_gradients(self) -> list[torch.Tensor]:
        """The mean of all processes' gradients, which are none then."""
        average_gradients(self.accelerator, self.weights)
        taken = [torch.zeros_like(one) if one.grad is None else one.grad for one in self.weights]
        self.optimizer.zero_grad(set_to_none=True)
        return taken


def train_reward(
    accelerator: Accelerator,
    bank: PictureBank,
    output: Path,
    model: Path,
    critics: Critics,
    classifier: Classifier,
    words: Sequence[str],
    wishes: Sequence[Wish],
    *,
    training: RewardTraining,
    budget: Budget,
    resume: bool = False,
) -> None:
    """Tune the U-Net of the model folder `model`; leaves `output/model`, made of the averaged weights.

    All but the U-Net stays as it is. `words` are the subjects that the critics tell apart; crowds are seen
    through the `classifier`.
    """
    # Five networks in three formats each: trying out cuDNN's kernels for all took a minute and a half.
    torch.backends.cudnn.benchmark = False
    device = accelerator.device
    journal = Journal(output / "log.jsonl", enabled=accelerator.is_main_process)
    torch.manual_seed(accelerator.process_index)
    vae, tokenizer = load_frozen_autoencoder(model, device), load_tokenizer(model / "tokenizer")
    encoded = load_latent_bank(accelerator, bank, vae, tokenizer)
    freeze(critics)
    wished = commission_wishes(
        critics,
        Grain(bank, critics.judge.styles),
        words,
        wishes,
        tokenizer,
        guidance=training.guidance,
        weights=training.weights,
        generator=bank.generator,
    )
    crowd = commission_crowd(critics.judge, classifier, bank, encoded, training.crowd)
    bank.pixels.clear()
    unet = UNet2DConditionModel.from_pretrained(str(model / "unet"), dtype=torch.float32)
    text_encoder = CLIPTextModel.from_pretrained(str(model / "text_encoder"), dtype=torch.float32)
    assert isinstance(unet, UNet2DConditionModel)
    text_encoder.eval().requires_grad_(False)
    tuned = place(NoisePrediction(text_encoder, unet, autocast=device.type == "cuda"), device)
    train_step = RewardStep(
        accelerator,
        tuned,
        DiffusionLoss(bank, encoded, training.pack),
        RewardLoss(tuned, vae, encoded.empty_ids, training, bank.generator),
        wished,
        crowd,
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
