"""What several training processes must agree on, and what is kept so that a run can be taken up again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator


class Stateful(Protocol):
    """Anything whose state can be taken and given back."""

    def state_dict(self) -> dict[str, object]:
        """Take the state."""
        ...

    def load_state_dict(self, state: dict[str, object], /) -> object:
        """Give it back."""
        ...


def see_one_gpu() -> None:
    """Leave each process of a launch one GPU, its first: to be called before torch looks for them.

    Compiled code is kept under its GPU's index, so that what the first process compiled is found by the
    others only if theirs has the same. (Four processes compiling three formats each took six minutes.)
    """
    rank = os.environ.get("LOCAL_RANK")
    if rank is None or torch.cuda.is_initialized():
        return
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = given.split(",") if given else [str(index) for index in range(int(rank) + 1)]
    os.environ["CUDA_VISIBLE_DEVICES"] = visible[int(rank) % len(visible)]
    # Else accelerate would look for a GPU of the rank's number.
    os.environ["LOCAL_RANK"] = "0"


def agree(accelerator: Accelerator, value: float) -> float:
    """The first process's value, in every process: clocks differ, and learning rates must not."""
    if accelerator.num_processes == 1:
        return value
    shared = torch.tensor([value], dtype=torch.float64, device=accelerator.device)
    torch.distributed.broadcast(shared, 0)
    return float(shared.item())


@torch.no_grad()
def average_gradients(accelerator: Accelerator, weights: Sequence[torch.Tensor]) -> None:
    """Give every process the mean of all processes' gradients; a weight without one counts as zero.

    For a step of several backward passes, each through another path of the model, which DDP does not allow.
    """
    if accelerator.num_processes == 1:
        return
    gradients: list[torch.Tensor] = []
    for weight in weights:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        gradients.append(weight.grad)
    together = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(together)
    together /= accelerator.num_processes
    for gradient, mean in zip(gradients, together.split([one.numel() for one in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def save_state(path: Path, parts: dict[str, Stateful], step: int, spent_s: float) -> None:
    """Write a checkpoint whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state: dict[str, object] = {name: part.state_dict() for name, part in parts.items()}
    state |= {"step": step, "spent_s": spent_s}
    unfinished = path.with_suffix(".unfinished")
    torch.save(state, unfinished)
    unfinished.replace(path)


def load_state(path: Path, parts: dict[str, Stateful], device: torch.device) -> tuple[int, float]:
    """Take up a checkpoint into `parts`: its step and the seconds spent, or (0, 0.0) where there is none."""
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, map_location=device, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["step"]), float(state["spent_s"])
