"""Distils a model into a companion that paints in four steps without guidance.

Latent consistency distillation (Luo et al., 2023): along each path from noise to picture, the student learns
to answer the same picture at neighbouring points, the path's own steps being taken by the guided teacher.
Only low-rank updates of the U-Net's weights are learnt (Hu et al., 2022; Luo et al., 2023, LCM-LoRA), so that
the companion is a few megabytes beside the model it was made from.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, LCMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import parametrize
from transformers import CLIPTextModel, CLIPTokenizer

from pipelines.training.architecture import build_scheduler, load_tokenizer
from pipelines.training.averaging import AveragedModel
from pipelines.training.clock import Budget, Journal, learning_rate_scale
from pipelines.training.distributed import Stateful
from pipelines.training.evaluation.judge import Judge, doubts, label_rows, load_judge
from pipelines.training.evaluation.network import glance
from pipelines.training.evaluation.palette import WORDS, missing_colours
from pipelines.training.export import SHEET_PROMPTS, assemble_pipeline, paint_sheet
from pipelines.training.latent_bank import (
    LatentBank,
    decode_latents,
    load_frozen_autoencoder,
    load_latent_bank,
    tokenize,
)
from pipelines.training.loop import Loop, place, set_learning_rate
from pipelines.training.pack import Format
from pipelines.training.pictures import PictureBank

LORA_FILE = Path("lcm") / "pytorch_lora_weights.safetensors"
"""Where the companion lies in its model's folder, under the name that diffusers looks for."""


@dataclass(frozen=True)
class DistillationTraining:
    """How the companion is made; the defaults are those of the shipped one.

    `target_decay` is that of the averaged student whose answers are the target, `path_steps` the number of
    points on a path, `guidance_scale` the teacher's, `huber` where the loss turns from square to absolute.
    Updates are learnt at `rank` and kept at `kept_rank`. The colours that a caption names are looked for in
    `decoded` of a batch's answers, and count `palette`: four steps lose them first. Where there is a judge,
    its doubts of their style and genre count `judged`, those surer than `sure_enough` no further.
    """

    batch_size: int = 256
    learning_rate: float = 2e-4
    target_decay: float = 0.95
    rank: int = 64
    kept_rank: int = 28
    path_steps: int = 50
    guidance_scale: float = 3.5
    huber: float = 1e-3
    palette: float = 0.02
    judged: float = 0.02
    sure_enough: float = -0.3
    decoded: int = 64
    warmup_steps: int = 50
    log_every: int = 50
    checkpoint_minutes: float = 4.0
    sheet_steps: int = 4
    sheet_prompts: tuple[str, ...] = SHEET_PROMPTS


class LowRank(nn.Module):
    """A frozen weight plus a product of two thin matrices (Hu et al., 2022), zero at the start."""

    def __init__(self, weight: torch.Tensor, rank: int) -> None:
        """Fit the matrices to `weight` (out, in) or (out, in, height, width)."""
        super().__init__()
        self.kernel = weight.shape[1:]
        rank = min(rank, len(weight), math.prod(self.kernel))
        self.down = nn.Parameter(torch.empty(rank, math.prod(self.kernel), device=weight.device))
        self.up = nn.Parameter(torch.zeros(len(weight), rank, device=weight.device))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight with its update."""
        return weight + (self.up @ self.down).view_as(weight)

    @torch.no_grad()
    def take_over(self, down: torch.Tensor, up: torch.Tensor) -> None:
        """Begin with matrices as `tensors` gives them, of no larger rank; what lies beyond adds nothing."""
        self.down[: len(down)].copy_(down.flatten(1))
        self.up[:, : len(down)].copy_(up.flatten(1))

    def tensors(self, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The two matrices as diffusers writes them: (rank, in[, h, w]) and (out, rank[, 1, 1]), float16.

        Of a larger rank the greatest singular values are kept, the best that so small a product can be.
        """
        # Through the thin matrices' own bases: the product itself is large.
        (left, up), (right, down) = torch.linalg.qr(self.up.detach()), torch.linalg.qr(self.down.detach().T)
        turn, values, back = torch.linalg.svd(up @ down.T)
        scale = values[:rank].sqrt()
        thin_up = (left @ (turn[:, :rank] * scale)).half().cpu()
        thin_down = ((scale[:, None] * back[:rank]) @ right.T).half().cpu().unflatten(1, self.kernel)
        return thin_down, thin_up[..., None, None] if len(self.kernel) == 3 else thin_up


def add_low_rank(unet: UNet2DConditionModel, rank: int) -> nn.ModuleDict:
    """Freeze the U-Net and give every convolution and linear layer an update to learn, by the layer's name.

    A module's name cannot hold a dot: here it has a slash instead.
    """
    unet.requires_grad_(False)
    updates = nn.ModuleDict()
    for name, module in list(unet.named_modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            update = LowRank(module.weight, rank)
            parametrize.register_parametrization(module, "weight", update)
            updates[name.replace(".", "/")] = update
    return updates


def load_low_rank(updates: nn.ModuleDict, path: Path) -> None:
    """Go on from what `save_low_rank` wrote; raises KeyError where a layer is missing in it."""
    tensors = load_file(path)
    for name, update in updates.items():
        assert isinstance(update, LowRank)
        layer = "unet." + name.replace("/", ".")
        update.take_over(tensors[f"{layer}.lora_A.weight"], tensors[f"{layer}.lora_B.weight"])


def save_low_rank(updates: nn.ModuleDict, path: Path, rank: int) -> int:
    """Write the updates as a LoRA of this rank that diffusers loads; return the file's size in bytes."""
    tensors: dict[str, torch.Tensor] = {}
    for name, update in updates.items():
        assert isinstance(update, LowRank)
        layer = "unet." + name.replace("/", ".")
        down, up = update.tensors(rank)
        tensors[f"{layer}.lora_A.weight"] = down.contiguous()
        tensors[f"{layer}.lora_B.weight"] = up.contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return path.stat().st_size


class ConsistencyLoss:
    """How far the student's answers at two neighbouring points of a path are apart."""

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        text_encoder: nn.Module,
        training: DistillationTraining,
        empty_ids: torch.Tensor,
    ) -> None:
        """Hold the networks; `empty_ids` (T,) is the prompt that the teacher is guided away from."""
        self.teacher, self.student, self.text_encoder = teacher, student, text_encoder
        self.training = training
        # The student follows a slow copy of itself: following itself, it runs away (measured).
        self.target = AveragedModel(student, training.target_decay)
        device = empty_ids.device
        scheduler = build_scheduler()
        stride = len(scheduler.alphas_cumprod) // training.path_steps
        self.timesteps = torch.arange(1, training.path_steps + 1, device=device) * stride - 1
        alpha_bar = scheduler.alphas_cumprod.to(device)[self.timesteps]
        # Position 0 is the picture itself, without noise.
        self.alpha_bar = torch.cat([alpha_bar.new_ones(1), alpha_bar])
        self.boundary: Any = LCMScheduler()
        self.boundary.get_scalings_for_boundary_condition_discrete(0)  # sets sigma_data
        self.empty = self._encode(empty_ids.long()[None])

    def __call__(self, latents: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, a scalar, of latents (B, C, h, w) with captions (B, T), and the student's answers."""
        with torch.no_grad():
            text = self._encode(ids)
            position = torch.randint(1, len(self.alpha_bar), (len(latents),), device=latents.device)
            noise = torch.randn_like(latents)
            signal, spread = self._weights(position)
            noisy = signal * latents + spread * noise
            earlier = self._step(noisy, position, text)
            target = self._answer(self.target.model, earlier, position - 1, text)
        answer, huber = self._answer(self.student, noisy, position, text), self.training.huber
        return (((answer - target).square() + huber**2).sqrt() - huber).mean(), answer

    def _encode(self, ids: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.text_encoder(input_ids=ids)[0]

    def _weights(self, position: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        alpha_bar = self.alpha_bar[position].view(-1, 1, 1, 1)
        return alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt()

    def _step(self, noisy: torch.Tensor, position: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """One guided DDIM step of the teacher to the point before (Song et al., 2021, eq. 12, eta 0)."""
        unguided = self.empty.expand(len(text), -1, -1)
        both = self._predict(
            self.teacher, noisy.repeat(2, 1, 1, 1), position.repeat(2), torch.cat([unguided, text])
        )
        unconditional, conditional = both.chunk(2)
        output = unconditional + self.training.guidance_scale * (conditional - unconditional)
        signal, spread = self._weights(position)
        denoised, noise = signal * noisy - spread * output, spread * noisy + signal * output
        signal, spread = self._weights(position - 1)
        return signal * denoised + spread * noise

    def _answer(
        self, student: nn.Module, noisy: torch.Tensor, position: torch.Tensor, text: torch.Tensor
    ) -> torch.Tensor:
        """A student's picture for a point of the path: the point itself where there is no noise left."""
        # At position 0 the boundary makes the network's answer count for nothing: any timestep will do.
        at = position.clamp(min=1)
        signal, spread = self._weights(at)
        denoised = signal * noisy - spread * self._predict(student, noisy, at, text)
        timestep = torch.where(position > 0, self.timesteps[at - 1], 0)
        # As LCMScheduler has it: the shares of the point and of the network's answer.
        scaled = (timestep * self.boundary.config["timestep_scaling"]).float().view(-1, 1, 1, 1)
        sigma_data: float = self.boundary.sigma_data
        norm = scaled.square() + sigma_data**2
        return sigma_data**2 / norm * noisy + scaled / norm.sqrt() * denoised

    def _predict(
        self, unet: nn.Module, noisy: torch.Tensor, position: torch.Tensor, text: torch.Tensor
    ) -> torch.Tensor:
        with torch.autocast(noisy.device.type, torch.bfloat16, enabled=noisy.is_cuda):
            return unet(noisy, self.timesteps[position - 1], text, return_dict=False)[0].float()


class NamedColours:
    """How much pictures lack of the colours that their captions name."""

    def __init__(self, tokenizer: CLIPTokenizer, device: torch.device) -> None:
        """Find each colour word's token."""
        ids = tokenize(tokenizer, list(WORDS)).to(device).long()
        # Of a word that is cut into several tokens the first would be part of other words too.
        whole = ids[:, 2] == int(str(tokenizer.eos_token_id))
        self.tokens = torch.where(whole, ids[:, 1], -1)

    def __call__(self, pixels: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar, of pixels (B, 3, H, W) with captions (B, T)."""
        return missing_colours(pixels, (ids[:, :, None] == self.tokens).any(1).float())


class NamedKinds:
    """How far a judge is from seeing the styles and genres of the pack's rows in pictures made from them."""

    def __init__(self, judge: Judge, bank: PictureBank, sure_enough: float) -> None:
        """Number the rows' styles and genres as the judge does."""
        self.judge, self.sure_enough = judge.requires_grad_(False), sure_enough
        self.generator = bank.generator
        self.labels = label_rows(bank, judge.styles, judge.genres)

    def __call__(self, pixels: torch.Tensor, shape: Format, rows: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar, of pixels (B, 3, H, W) with the rows (B,) of one format."""
        styles, genres = (labels[rows] for labels in self.labels[shape])
        view = glance(pixels, self.generator)
        return torch.stack(doubts(self.judge, view, styles, genres, self.sure_enough)).sum()


class DistillationStep:
    """One training step of the companion."""

    def __init__(
        self,
        updates: nn.ModuleDict,
        loss: ConsistencyLoss,
        vae: AutoencoderKL,
        colours: NamedColours,
        kinds: NamedKinds | None,
        bank: PictureBank,
        encoded: LatentBank,
        training: DistillationTraining,
    ) -> None:
        """Set up the optimizer."""
        self.updates, self.loss, self.training = updates, loss, training
        self.vae, self.colours, self.kinds = vae, colours, kinds
        self.bank, self.encoded = bank, encoded
        self.optimizer = torch.optim.AdamW(
            updates.parameters(), lr=training.learning_rate, betas=(0.9, 0.99), weight_decay=0.0
        )

    @property
    def parts(self) -> dict[str, Stateful]:
        """What a checkpoint holds."""
        return {"updates": self.updates, "target": self.loss.target, "optimizer": self.optimizer}

    def __call__(self, step: int, progress: float) -> dict[str, torch.Tensor]:
        """Train on one batch; `progress` runs from 0 to 1."""
        scale = learning_rate_scale(progress, step, warmup_steps=self.training.warmup_steps)
        set_learning_rate(self.optimizer, self.training.learning_rate * scale)
        shape = self.bank.choose_format(step)
        rows = self.bank.draw_rows(shape, self.training.batch_size)
        latents, ids = self.encoded.take(self.bank, shape, rows)
        loss, answers = self.loss(latents, ids)
        seen = self.training.decoded
        pixels = decode_latents(self.vae, answers[:seen])
        told = {"palette": self.training.palette * self.colours(pixels, ids[:seen])}
        if self.kinds is not None:
            told["judged"] = self.training.judged * self.kinds(pixels, shape, rows[:seen])
        (loss + torch.stack(list(told.values())).sum()).backward()
        nn.utils.clip_grad_norm_(self.updates.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss.target.update()
        return {"loss": loss, **told}


def distill(
    accelerator: Accelerator,
    bank: PictureBank,
    output: Path,
    model: Path,
    *,
    training: DistillationTraining,
    budget: Budget,
    initial: Path | None = None,
    judge: Path | None = None,
    resume: bool = False,
) -> None:
    """Distil the model folder `model`, in one process; leaves `LORA_FILE` and sample sheets in `output`.

    `initial` is the folder of a model whose companion is trained on, `judge` the file of one that
    `train reward` or `train evaluate` left. Raises ValueError where several processes were started.
    """
    if accelerator.num_processes > 1:
        raise ValueError("distil in one process: its updates are not shared between several")
    device = accelerator.device
    journal = Journal(output / "log.jsonl", enabled=True)
    torch.manual_seed(0)
    vae, tokenizer = load_frozen_autoencoder(model, device), load_tokenizer(model / "tokenizer")
    encoded = load_latent_bank(accelerator, bank, vae, tokenizer)
    bank.pixels.clear()
    teacher = UNet2DConditionModel.from_pretrained(str(model / "unet"), dtype=torch.float32)
    text_encoder = CLIPTextModel.from_pretrained(str(model / "text_encoder"), dtype=torch.float32)
    assert isinstance(teacher, UNet2DConditionModel)
    teacher = place(teacher.eval().requires_grad_(False), device)
    text_encoder = place(text_encoder.eval().requires_grad_(False), device)
    student = copy.deepcopy(teacher)
    updates = add_low_rank(student, training.rank)
    if initial is not None:
        load_low_rank(updates, initial / LORA_FILE)
    loss = ConsistencyLoss(teacher, student, text_encoder, training, encoded.empty_ids)
    kinds = None if judge is None else NamedKinds(load_judge(judge, device), bank, training.sure_enough)
    colours = NamedColours(tokenizer, device)
    train_step = DistillationStep(updates, loss, vae, colours, kinds, bank, encoded, training)

    def keep(step: int) -> None:
        save_low_rank(updates, output / LORA_FILE, training.kept_rank)
        pipeline = assemble_pipeline(vae, text_encoder, tokenizer, student)
        pipeline.scheduler = LCMScheduler.from_config(build_scheduler().config)
        paint_sheet(
            pipeline,
            output / "sheets" / f"distillation-{step:06d}.png",
            device=device,
            prompts=training.sheet_prompts,
            num_inference_steps=training.sheet_steps,
            guidance_scale=1.0,
        )

    Loop(
        stage="distillation",
        accelerator=accelerator,
        journal=journal,
        budget=budget,
        checkpoint=output / "distillation.pt",
        parts=train_step.parts,
        batch_size=training.batch_size,
        log_every=training.log_every,
        checkpoint_minutes=training.checkpoint_minutes,
    ).run(resume=resume, compile_pass=lambda: None, train_step=train_step, keep=keep)
