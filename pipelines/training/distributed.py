"""What several training processes must agree on, and what is kept so that a run can be taken up again."""

from __future__ import annotations

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


def agree(accelerator: Accelerator, value: float) -> float:
    """The first process's value, in every process: clocks differ, and learning rates must not."""
    if accelerator.num_processes == 1:
        return value
    shared = torch.tensor([value], dtype=torch.float64, device=accelerator.device)
    torch.distributed.broadcast(shared, 0)
    return float(shared.item())


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
