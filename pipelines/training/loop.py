"""The training loop that both stages share: the budget, the log, the checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from pipelines.training.clock import Budget, Journal
from pipelines.training.distributed import Stateful, agree, load_state, save_state

Model = TypeVar("Model", bound=nn.Module)


@dataclass
class Loop:
    """One stage's run: `parts` is what a checkpoint holds, `batch_size` the pictures of one process."""

    stage: str
    accelerator: Accelerator
    journal: Journal
    budget: Budget
    checkpoint: Path
    parts: dict[str, Stateful]
    batch_size: int
    log_every: int
    checkpoint_minutes: float
    step: int = 0

    def run(
        self,
        *,
        resume: bool,
        compile_pass: Callable[[], None],
        train_step: Callable[[int, float], dict[str, torch.Tensor]],
        keep: Callable[[int], None],
    ) -> None:
        """Train until the budget is spent, and leave a checkpoint.

        `compile_pass` runs once before the clock starts. `train_step` is given the step and the progress, 0
        to 1, and returns what the log shows. `keep` is called in the first process with every checkpoint.
        """
        device = self.accelerator.device
        self.step, spent_s = load_state(self.checkpoint, self.parts, device) if resume else (0, 0.0)
        compile_pass()
        self.accelerator.wait_for_everyone()
        self.budget.restart(spent_s)
        kept_s = self.budget.elapsed_s
        since, since_step = time.monotonic(), self.step
        progress = agree(self.accelerator, self.budget.progress(self.step))
        while progress < 1.0:
            shown = train_step(self.step, progress)
            self.step += 1
            if self.step % 10 == 0 or self.budget.max_steps is not None:
                progress = agree(self.accelerator, self.budget.progress(self.step))
            if self.step % self.log_every == 0 or self.step == 1:
                images = (self.step - since_step) * self.batch_size * self.accelerator.num_processes
                values = {name: float(value.item()) for name, value in shown.items()}
                rate = images / max(1e-9, time.monotonic() - since)
                self.journal.write(
                    stage=self.stage, step=self.step, progress=progress, images_per_s=rate, **values
                )
                since, since_step = time.monotonic(), self.step
            due = self.budget.elapsed_s - kept_s > 60 * self.checkpoint_minutes
            if due and self.accelerator.is_main_process:
                kept_s = self.budget.elapsed_s
                self._keep(keep)
        if self.accelerator.is_main_process:
            self._keep(keep)
            self.journal.write(stage=self.stage, step=self.step, minutes=self.budget.elapsed_s / 60)

    def _keep(self, keep: Callable[[int], None]) -> None:
        save_state(self.checkpoint, self.parts, self.step, self.budget.elapsed_s)
        keep(self.step)


def place(model: Model, device: torch.device) -> Model:
    """Move a model to the device, in the memory layout its convolutions are fastest in there."""
    nn.Module.to(model, device)
    if device.type == "cuda":
        convert_conv2d_weight_memory_format(model, torch.channels_last)
    return model


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Give every parameter group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
