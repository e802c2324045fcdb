"""Trains the autoencoder: pixels to latents an eighth of their size, and back.

L1 on pixels and on their gradients, structural similarity, a light Kullback-Leibler term, and a term that
asks halved latents to decode to the halved picture (Kouzelis et al., 2025, EQ-VAE), which makes latents
easier to denoise. Some pictures are decoded from their first, coarse channels alone (nested dropout, Rippel
et al., 2014), so that these hold as much as they can. The others add what is fine and end up smaller: noise
covers them first, and a denoiser settles what a picture is before how it looks from near. In the last part a
patch discriminator (hinge loss, feature matching) sharpens texture; its pull is kept at a fixed share of the
reconstruction's own gradient (the balancer of Défossez et al., 2022).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional

from pipelines.training.adversary import PatchDiscriminator, adversarial_pull, train_adversary
from pipelines.training.architecture import Architecture, build_autoencoder
from pipelines.training.averaging import AveragedModel
from pipelines.training.clock import Budget, Journal, learning_rate_scale
from pipelines.training.distributed import Stateful
from pipelines.training.loop import Loop, place, set_learning_rate
from pipelines.training.pictures import PictureBank, to_images, to_pixels
from pipelines.training.quality import psnr, ssim
from pipelines.training.sheets import save_sheet


@dataclass(frozen=True)
class AutoencoderTraining:
    """How the autoencoder is trained; the defaults are those of the shipped model."""

    batch_size: int = 128
    crop_px: int = 128
    learning_rate: float = 4e-4
    gradient_weight: float = 0.5
    structure_weight: float = 0.1
    kl_weight: float = 3e-4
    halving_weight: float = 0.15
    coarse_share: float = 0.25
    fine_deviation: float = 0.5
    adversary_from: float = 0.7
    adversary_share: float = 0.06
    matching_share: float = 0.15
    adversary_learning_rate: float = 2e-4
    anchor_weight: float = 0.0
    ema_decay: float = 0.999
    compile: bool = False
    log_every: int = 100
    checkpoint_minutes: float = 3.0


def keep_latents(training: AutoencoderTraining) -> AutoencoderTraining:
    """How a finished autoencoder is sharpened while its latents stay where they are."""
    return replace(
        training,
        anchor_weight=1.0,
        coarse_share=0.0,
        structure_weight=0.4,
        adversary_share=0.04,
        learning_rate=3e-4,
    )


class Reconstruction(nn.Module):
    """One forward pass of the autoencoder for training."""

    def __init__(
        self,
        vae: AutoencoderKL,
        *,
        coarse_channels: int,
        coarse_share: float,
        anchor: AutoencoderKL | None,
        autocast: bool,
    ) -> None:
        """Wrap `vae`; `coarse_share` of the pictures are decoded from `coarse_channels` alone.

        `anchor` is a frozen autoencoder whose latents are to be kept; `autocast` computes in bfloat16.
        """
        super().__init__()
        self.vae, self.anchor = vae, anchor
        self.coarse_channels, self.coarse_share = coarse_channels, coarse_share
        self.autocast = autocast

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pixels (B, 3, H, W) to their reconstruction, half the batch's at half the size, and two terms.

        These are the KL term and the mean square by which latents, scaled to unit deviation, have drifted.
        """
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=self.autocast):
            mean, log_variance = _moments(self.vae, pixels).float().chunk(2, dim=1)
            log_variance = log_variance.clamp(-30.0, 20.0)
            latents = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
            whole = torch.rand(len(latents), 1, 1, 1, device=latents.device) >= self.coarse_share
            coarse, fine = latents.tensor_split([self.coarse_channels], dim=1)
            latents = torch.cat([coarse, fine * whole], dim=1)
            decoded = decode(self.vae, latents)
            halved = functional.avg_pool2d(latents[: max(1, len(latents) // 2)], 2)
            small = decode(self.vae, halved)
            anchored = mean if self.anchor is None else encode(self.anchor, pixels).float()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).mean()
        drift = (float(self.vae.config["scaling_factor"]) * (mean - anchored)).square().mean()
        return decoded.float(), small.float(), kl, drift


def reconstruction_loss(
    decoded: torch.Tensor, pixels: torch.Tensor, training: AutoencoderTraining
) -> torch.Tensor:
    """L1 on pixels, L1 on their horizontal and vertical differences, and what SSIM lacks of one, weighted."""
    error = decoded - pixels
    slopes = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    unlike = 1.0 - ssim(decoded, pixels).mean()
    return error.abs().mean() + training.gradient_weight * slopes + training.structure_weight * unlike


class AutoencoderStep:
    """One training step of the autoencoder, and of its adversary in the last part."""

    def __init__(
        self,
        accelerator: Accelerator,
        vae: AutoencoderKL,
        bank: PictureBank,
        architecture: Architecture,
        training: AutoencoderTraining,
        anchor: AutoencoderKL | None = None,
    ) -> None:
        """Set up the optimizers and join the other processes; the clock has not started yet."""
        on_gpu = accelerator.device.type == "cuda"
        self.bank, self.training, self.vae = bank, training, vae
        self.averaged = AveragedModel(vae, training.ema_decay)
        self.discriminator = place(PatchDiscriminator(), accelerator.device)
        self.optimizer = torch.optim.AdamW(
            vae.parameters(), lr=training.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=on_gpu
        )
        self.adversary_optimizer = torch.optim.AdamW(
            self.discriminator.parameters(),
            lr=training.adversary_learning_rate,
            betas=(0.5, 0.9),
            fused=on_gpu,
        )
        model = Reconstruction(
            vae,
            coarse_channels=architecture.coarse_channels,
            coarse_share=training.coarse_share,
            anchor=anchor,
            autocast=on_gpu,
        )
        if training.compile:
            model.compile(dynamic=False)
        self._model = accelerator.prepare(model)
        self._shared_discriminator = accelerator.prepare(self.discriminator)

    @property
    def parts(self) -> dict[str, Stateful]:
        """What a checkpoint holds."""
        return {
            "vae": self.vae,
            "averaged": self.averaged,
            "discriminator": self.discriminator,
            "optimizer": self.optimizer,
            "adversary_optimizer": self.adversary_optimizer,
        }

    def compile_pass(self) -> None:
        """Run forward and backward once and throw the gradients away."""
        decoded, small, kl, drift = self._model(self._draw(0))
        (decoded.mean() + small.mean() + kl + drift).backward()
        self.optimizer.zero_grad(set_to_none=True)

    def __call__(self, step: int, progress: float) -> dict[str, torch.Tensor]:
        """Train on one batch; `progress` runs from 0 to 1."""
        training = self.training
        scale = learning_rate_scale(progress, step, warmup_steps=300)
        set_learning_rate(self.optimizer, training.learning_rate * scale)
        pixels = self._draw(step)
        decoded, small, kl, drift = self._model(pixels)
        leaf = decoded.detach().requires_grad_()
        loss = reconstruction_loss(leaf, pixels, training)
        (pull,) = torch.autograd.grad(loss, leaf)
        if progress >= training.adversary_from:
            pull = pull + adversarial_pull(
                leaf,
                pixels,
                pull,
                self.discriminator,
                adversary_share=training.adversary_share,
                matching_share=training.matching_share,
            )
            train_adversary(leaf.detach(), pixels, self._shared_discriminator, self.adversary_optimizer)
        halved = functional.avg_pool2d(pixels[: len(small)], 2)
        halving = (small - halved).abs().mean()
        beside = training.kl_weight * kl + training.halving_weight * halving + training.anchor_weight * drift
        torch.autograd.backward([decoded, beside], [pull, None])
        nn.utils.clip_grad_norm_(self.vae.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.averaged.update()
        return {"loss": loss, "kl": kl, "halving": halving, "drift": drift}

    def _draw(self, step: int) -> torch.Tensor:
        shape = self.bank.choose_format(step)
        return self.bank.draw_crops(shape, self.training.batch_size, self.training.crop_px)


def train_autoencoder(
    accelerator: Accelerator,
    bank: PictureBank,
    output: Path,
    *,
    architecture: Architecture,
    training: AutoencoderTraining,
    budget: Budget,
    resume: bool = False,
    initial: Path | None = None,
) -> None:
    """Train, measure on held-out pictures, and write the averaged weights to `output/vae`.

    `initial` is a model folder whose autoencoder is trained on from; where its latents have fewer channels
    the layers beside them start at random, as everything does without it. With an anchor weight its latents
    are kept, and so is their scale.
    """
    journal = Journal(output / "log.jsonl", enabled=accelerator.is_main_process)
    torch.manual_seed(accelerator.process_index)
    vae = build_autoencoder(architecture)
    earlier = None if initial is None else load_autoencoder(initial / "vae")
    anchor: AutoencoderKL | None = None
    if earlier is not None:
        _take_over(vae, earlier)
        if training.anchor_weight:
            vae.register_to_config(scaling_factor=earlier.config["scaling_factor"])
            anchor = place(earlier.eval().requires_grad_(False), accelerator.device)
    vae = place(vae, accelerator.device)
    train_step = AutoencoderStep(accelerator, vae, bank, architecture, training, anchor)

    def keep(step: int) -> None:
        sheet = output / "sheets" / f"autoencoder-{step:06d}.png"
        save_sheet(sheet, _compare(train_step.averaged.model, bank))

    Loop(
        stage="autoencoder",
        accelerator=accelerator,
        journal=journal,
        budget=budget,
        checkpoint=output / "autoencoder.pt",
        parts=train_step.parts,
        batch_size=training.batch_size,
        log_every=training.log_every,
        checkpoint_minutes=training.checkpoint_minutes,
    ).run(resume=resume, compile_pass=train_step.compile_pass, train_step=train_step, keep=keep)
    if accelerator.is_main_process:
        finished = place(build_autoencoder(architecture), accelerator.device)
        finished.load_state_dict(train_step.averaged.model.state_dict())
        finished.eval()
        journal.write(stage="autoencoder", **measure_autoencoder(finished, bank))
        scaling_factor = (
            float(anchor.config["scaling_factor"])
            if anchor is not None
            else balance_latents(
                finished,
                bank,
                coarse_channels=architecture.coarse_channels,
                fine_deviation=training.fine_deviation,
            )
        )
        finished.register_to_config(scaling_factor=scaling_factor)
        finished.save_pretrained(str(output / "vae"))
    accelerator.wait_for_everyone()


def load_autoencoder(folder: Path) -> AutoencoderKL:
    """An autoencoder's folder, in float32 on the CPU."""
    vae = AutoencoderKL.from_pretrained(str(folder), dtype=torch.float32)
    assert isinstance(vae, AutoencoderKL)
    return vae


def _take_over(vae: AutoencoderKL, earlier: AutoencoderKL) -> None:
    """Copy the weights of an earlier autoencoder into every layer that has kept its shape."""
    weights, known = vae.state_dict(), earlier.state_dict()
    vae.load_state_dict({n: known[n] if known[n].shape == w.shape else w for n, w in weights.items()})


@torch.no_grad()
def encode(vae: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Pixels (B, 3, H, W) to the means of their latents (B, C, H/8, W/8), not yet scaled."""
    assert isinstance(vae, AutoencoderKL)
    return _moments(vae, pixels).chunk(2, dim=1)[0]


def decode(vae: nn.Module, latents: torch.Tensor) -> torch.Tensor:
    """Latents (B, C, H/8, W/8), not scaled, to pixels (B, 3, H, W)."""
    assert isinstance(vae, AutoencoderKL)
    assert vae.post_quant_conv is not None
    return vae.decoder(vae.post_quant_conv(latents))


def _moments(vae: AutoencoderKL, pixels: torch.Tensor) -> torch.Tensor:
    """The mean and log-variance of the latents' distribution, (B, 2C, H/8, W/8)."""
    assert vae.quant_conv is not None
    return vae.quant_conv(vae.encoder(pixels))


@torch.no_grad()
def measure_autoencoder(vae: nn.Module, bank: PictureBank) -> dict[str, float]:
    """PSNR in decibels and SSIM of the reconstruction, means over the held-out paintings and others."""
    decibels: list[torch.Tensor] = []
    likeness: list[torch.Tensor] = []
    for shape, rows in bank.validation.items():
        for start in range(0, len(rows), 32):
            pixels = to_pixels(bank.pixels[shape][rows[start : start + 32]])
            decoded = decode(vae, encode(vae, pixels))
            decibels.append(psnr(decoded, pixels))
            likeness.append(ssim(decoded, pixels))
    if not decibels:
        return {"psnr_db": float("nan"), "ssim": float("nan")}
    return {"psnr_db": torch.cat(decibels).mean().item(), "ssim": torch.cat(likeness).mean().item()}


@torch.no_grad()
def balance_latents(vae: nn.Module, bank: PictureBank, coarse_channels: int, fine_deviation: float) -> float:
    """Give fine channels `fine_deviation` times the deviation of the coarse ones; return the scaling factor.

    The factor, one over their deviation, brings the coarse channels of training pictures to one. The 1x1
    convolutions at both sides of the latents take the change up, so that pictures decode as before.
    """
    assert isinstance(vae, AutoencoderKL)
    assert vae.quant_conv is not None
    assert vae.post_quant_conv is not None
    latents = [
        encode(vae, to_pixels(bank.pixels[shape][bank.draw_rows(shape, 64)])).transpose(0, 1).flatten(1)
        for shape in bank.rows
        if bank.weights[shape].sum() > 0
    ]
    coarse, fine = torch.cat(latents, dim=1).tensor_split([coarse_channels])
    deviation = coarse.std().item()
    factor = torch.ones(len(coarse) + len(fine), device=coarse.device)
    factor[coarse_channels:] = fine_deviation * deviation / fine.std().clamp_min(1e-6)
    weight, bias = vae.quant_conv.weight.data, vae.quant_conv.bias
    assert bias is not None
    channels = len(factor)
    weight[:channels] *= factor.view(-1, 1, 1, 1)
    bias.data[:channels] *= factor
    bias.data[channels:] += 2 * factor.log()  # the rest of it is the logarithm of the variance
    vae.post_quant_conv.weight.data /= factor.view(1, -1, 1, 1)
    return 1.0 / deviation


@torch.no_grad()
def _compare(vae: nn.Module, bank: PictureBank) -> list[torch.Tensor]:
    """Held-out pictures above their reconstructions, as rows of a sheet."""
    rows: list[torch.Tensor] = []
    for shape, held_out in bank.validation.items():
        if not held_out:
            continue
        pixels = to_pixels(bank.pixels[shape][held_out[:6]])
        rows += [to_images(pixels), to_images(decode(vae, encode(vae, pixels)))]
    return rows
