"""Trains the U-Net on the autoencoder's latents, and the text encoder with it unless it was trained before.

v-prediction (Salimans & Ho, 2022) with min-SNR weights (Hang et al., 2023), caption dropout for
classifier-free guidance (Ho & Salimans, 2022), and an average of the weights that is what ships.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel

from pipelines.training.architecture import (
    Architecture,
    build_scheduler,
    build_text_encoder,
    build_unet,
)
from pipelines.training.averaging import AveragedModel
from pipelines.training.clock import Budget, Journal, learning_rate_scale
from pipelines.training.compiling import CompileFor, compile_unet, load_compiled, save_compiled
from pipelines.training.distributed import Stateful
from pipelines.training.export import SHEET_PROMPTS, assemble_pipeline, export_model, paint_sheet
from pipelines.training.latent_bank import (
    LatentBank,
    load_frozen_autoencoder,
    load_latent_bank,
    prepare_tokenizer,
)
from pipelines.training.loop import Loop, place, set_learning_rate
from pipelines.training.pictures import PictureBank


@dataclass(frozen=True)
class DiffusionTraining:
    """How the U-Net is trained; the defaults are those of the shipped model."""

    batch_size: int = 256
    learning_rate: float = 8e-4
    weight_decay: float = 0.01
    caption_dropout: float = 0.1
    snr_gamma: float = 5.0
    snr_floor: float = 0.4
    ema_decay: float = 0.999
    warmup_steps: int = 200
    compile: bool = False
    compile_for: CompileFor = "blocks"
    log_every: int = 50
    checkpoint_minutes: float = 6.0
    sheet_steps: int = 25
    sheet_prompts: tuple[str, ...] = SHEET_PROMPTS


class NoisePrediction(nn.Module):
    """The text encoder and the U-Net as one model: noisy latents and token ids to a v prediction."""

    def __init__(self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel, *, autocast: bool) -> None:
        """Wrap both; `autocast` computes in bfloat16."""
        super().__init__()
        self.text_encoder = text_encoder
        self.unet = unet
        self.autocast = autocast

    def forward(
        self, latents: torch.Tensor, timesteps: torch.Tensor, input_ids: torch.Tensor
    ) -> torch.Tensor:
        """Latents (B, C, h, w), timesteps (B,) and token ids (B, T) to the model output (B, C, h, w)."""
        return self.predict(latents, timesteps, self.read(input_ids))

    def read(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Token ids (B, T) to the text encoder's states (B, T, D)."""
        with torch.autocast(input_ids.device.type, torch.bfloat16, enabled=self.autocast):
            return self.text_encoder(input_ids=input_ids)[0]

    def predict(self, latents: torch.Tensor, timesteps: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Latents, timesteps and the text encoder's states to the model output, float32."""
        with torch.autocast(latents.device.type, torch.bfloat16, enabled=self.autocast):
            return self.unet(latents, timesteps, hidden, return_dict=False)[0].float()


def v_prediction_target(
    latents: torch.Tensor, noise: torch.Tensor, alpha_bar: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy latents x_t and the target v = sqrt(a) noise - sqrt(1 - a) x_0, for alpha_bar (B,)."""
    signal = alpha_bar.sqrt().view(-1, 1, 1, 1)
    spread = (1.0 - alpha_bar).sqrt().view(-1, 1, 1, 1)
    return signal * latents + spread * noise, signal * noise - spread * latents


def min_snr_weight(alpha_bar: torch.Tensor, gamma: float, floor: float = 0.0) -> torch.Tensor:
    """The weight of a v-prediction loss, (min(snr, gamma) + floor) / (snr + 1), for alpha_bar (B,).

    The floor is an addition to the paper: composition and colour are settled in the first, noisiest steps,
    which the plain weight all but leaves out.
    """
    snr = alpha_bar / (1.0 - alpha_bar)
    return (snr.clamp(max=gamma) + floor) / (snr + 1.0)


def draw_timesteps(weights: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Draw timesteps (count,) as often as `weights` (T,) say, one from each of `count` equal shares of them.

    The expected loss is that of uniform timesteps times their weights, with less noise in it: no time is
    spent on timesteps that hardly count.
    """
    jitter = torch.rand(count, device=weights.device, generator=generator)
    shares = (torch.arange(count, device=weights.device) + jitter) / count
    below = weights.double().cumsum(0)
    return torch.searchsorted(below, shares.double() * below[-1]).clamp(max=len(weights) - 1)


class DiffusionLoss:
    """The loss of one batch: draws timesteps and noise, and compares the prediction with v."""

    def __init__(self, bank: PictureBank, encoded: LatentBank, training: DiffusionTraining) -> None:
        """Hold the data and the schedule's alpha_bar, (1000,)."""
        self.bank = bank
        self.encoded = encoded
        self.training = training
        self.alphas_cumprod = build_scheduler().alphas_cumprod.to(bank.device)
        self.weights = min_snr_weight(self.alphas_cumprod, training.snr_gamma, training.snr_floor)

    def train(self, model: nn.Module, step: int) -> torch.Tensor:
        """The weighted loss of a fresh random batch, a scalar."""
        bank, count = self.bank, self.training.batch_size
        latents, ids = self.encoded.draw(bank, step, count)
        dropped = bank.draw_integers(1000, count) < 1000 * self.training.caption_dropout
        ids = torch.where(dropped[:, None], self.encoded.empty_ids.long(), ids)
        timesteps = draw_timesteps(self.weights, count, bank.generator)
        noise = torch.randn(latents.shape, device=bank.device, generator=bank.generator)
        # Each is as rare as its weight is small, so all count alike.
        return self.weights.mean() * self._errors(model, latents, ids, timesteps, noise).mean()

    @torch.no_grad()
    def validate(self, model: nn.Module) -> float:
        """The loss on held-out pictures, with the same noise and timesteps each time."""
        generator = torch.Generator(self.bank.device).manual_seed(0)
        losses: list[torch.Tensor] = []
        for shape, held_out in self.bank.validation.items():
            for start in range(0, len(held_out), 64):
                rows = held_out[start : start + 64]
                latents = self.encoded.latents[shape][rows, 0].float()
                ids = self.encoded.input_ids[shape][rows, 0].long()
                timesteps = torch.linspace(5, 994, len(rows), device=self.bank.device).long()
                noise = torch.randn(latents.shape, device=self.bank.device, generator=generator)
                errors = self._errors(model, latents, ids, timesteps, noise)
                losses.append((self.weights[timesteps] * errors).sum())
        count = sum(len(rows) for rows in self.bank.validation.values())
        return torch.stack(losses).sum().item() / count if losses else float("nan")

    def _errors(
        self,
        model: nn.Module,
        latents: torch.Tensor,
        ids: torch.Tensor,
        timesteps: torch.Tensor,
        noise: torch.Tensor,
    ) -> torch.Tensor:
        """The squared error of each picture's v prediction, (B,), not weighted."""
        noisy, target = v_prediction_target(latents, noise, self.alphas_cumprod[timesteps])
        return (model(noisy, timesteps, ids) - target).square().mean((1, 2, 3))


class DiffusionStep:
    """One training step of the text encoder and the U-Net."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: NoisePrediction,
        losses: DiffusionLoss,
        training: DiffusionTraining,
        compiled: Path,
    ) -> None:
        """Set up the optimizer and join the other processes; the clock has not started yet.

        `compiled` is the file where what was compiled is kept.
        """
        self.accelerator, self.compiled = accelerator, compiled
        self.model, self.losses, self.training = model, losses, training
        self.averaged = AveragedModel(model, training.ema_decay)
        if training.compile:
            compile_unet(model.unet, training.compile_for)
        self.optimizer = torch.optim.AdamW(
            [weight for weight in model.parameters() if weight.requires_grad],
            lr=training.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=training.weight_decay,
            fused=accelerator.device.type == "cuda",
        )
        self._model = accelerator.prepare(model)
        self._model.train()

    @property
    def parts(self) -> dict[str, Stateful]:
        """What a checkpoint holds."""
        return {"model": self.model, "averaged": self.averaged, "optimizer": self.optimizer}

    def compile_pass(self) -> None:
        """Run each format forward and backward once and throw the gradients away.

        One process compiles, on all the machine's cores, and the others take over what it made, unless an
        earlier run has left it. So the model runs without its wrapper here, which would wait for the other
        processes' gradients.
        """
        formats = {self.losses.bank.choose_format(step): step for step in range(200)}
        first = self.accelerator.is_main_process
        compiled_before = self.compiled.exists()
        self.accelerator.wait_for_everyone()
        with nullcontext() if compiled_before else self.accelerator.main_process_first():
            if self.training.compile:
                load_compiled(self.compiled)
            for step in formats.values():
                self.losses.train(self.model, step).backward()
                self.optimizer.zero_grad(set_to_none=True)
            if self.training.compile and first and not compiled_before:
                save_compiled(self.compiled)

    def __call__(self, step: int, progress: float) -> dict[str, torch.Tensor]:
        """Train on one batch; `progress` runs from 0 to 1."""
        training = self.training
        scale = learning_rate_scale(progress, step, warmup_steps=training.warmup_steps)
        set_learning_rate(self.optimizer, training.learning_rate * scale)
        loss = self.losses.train(self._model, step)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.averaged.update()
        return {"loss": loss}


def train_diffusion(
    accelerator: Accelerator,
    bank: PictureBank,
    output: Path,
    *,
    architecture: Architecture,
    training: DiffusionTraining,
    budget: Budget,
    resume: bool = False,
    initial: Path | None = None,
) -> None:
    """Train and keep, every few minutes, a checkpoint, a sample sheet and a whole model folder.

    `initial` is a model folder of the same architecture and vocabulary to start from; without it the weights
    start at random.

    Needs `output/vae` from `train_autoencoder`. A text encoder that `train_text_encoder` left in `output`, or
    that came with `initial`, stays as it is, so that it goes on reading words that no caption has. Leaves
    `output/model` in the Stable Diffusion layout, made of the averaged weights in float16.
    """
    device = accelerator.device
    journal = Journal(output / "log.jsonl", enabled=accelerator.is_main_process)
    vae = load_frozen_autoencoder(output, device)
    tokenizer = prepare_tokenizer(accelerator, bank, output, architecture)
    encoded = load_latent_bank(accelerator, bank, vae, tokenizer)
    bank.pixels.clear()

    torch.manual_seed(accelerator.process_index)
    text_encoder, unet = build_text_encoder(architecture, tokenizer), build_unet(architecture)
    if (output / "text_encoder").exists():
        trained = CLIPTextModel.from_pretrained(str(output / "text_encoder"))
        text_encoder.load_state_dict(_weights(trained))
        text_encoder.requires_grad_(False)
    if initial is not None:
        unet.load_state_dict(_weights(UNet2DConditionModel.from_pretrained(str(initial / "unet"))))
    model = NoisePrediction(text_encoder, unet, autocast=device.type == "cuda")
    losses = DiffusionLoss(bank, encoded, training)
    compiled = output / "compiled.bin"
    train_step = DiffusionStep(accelerator, place(model, device), losses, training, compiled)

    def keep(step: int) -> None:
        averaged = train_step.averaged.model
        assert isinstance(averaged, NoisePrediction)
        pipeline = assemble_pipeline(vae, averaged.text_encoder, tokenizer, averaged.unet)
        export_model(pipeline, output / "model")
        sheet = output / "sheets" / f"diffusion-{step:06d}.png"
        paint_sheet(
            pipeline,
            sheet,
            device=device,
            prompts=training.sheet_prompts,
            num_inference_steps=training.sheet_steps,
        )
        journal.write(stage="diffusion", step=step, validation_loss=losses.validate(averaged))

    Loop(
        stage="diffusion",
        accelerator=accelerator,
        journal=journal,
        budget=budget,
        checkpoint=output / "diffusion.pt",
        parts=train_step.parts,
        batch_size=training.batch_size,
        log_every=training.log_every,
        checkpoint_minutes=training.checkpoint_minutes,
    ).run(resume=resume, compile_pass=train_step.compile_pass, train_step=train_step, keep=keep)
    accelerator.wait_for_everyone()


def _weights(model: object) -> dict[str, torch.Tensor]:
    """A loaded model's weights, in the float32 that training needs."""
    assert isinstance(model, nn.Module)
    return {name: weight.float() for name, weight in model.state_dict().items()}
