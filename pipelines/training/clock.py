"""How far a run has come: its steps and minutes, and the learning rate that follows from them."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Budget:
    """What a run may spend, in minutes, in steps, or both; the nearer limit rules.

    A run that is stopped and taken up again goes on with what its earlier part left: `spent_s` carries the
    seconds, and the caller its step.
    """

    minutes: float | None
    max_steps: int | None
    spent_s: float = 0.0
    _started_s: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.minutes is None and self.max_steps is None:
            raise ValueError("a run needs a limit: minutes, steps or both")

    def restart(self, spent_s: float) -> None:
        """Start counting now, after compilation, with `spent_s` seconds already used."""
        self.spent_s = spent_s
        self._started_s = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds spent so far, over all parts of the run."""
        return self.spent_s + time.monotonic() - self._started_s

    def progress(self, step: int) -> float:
        """The share of the budget that is spent: 0 at the start, 1 or more at the end."""
        by_time = self.elapsed_s / (60 * self.minutes) if self.minutes else 0.0
        by_steps = step / self.max_steps if self.max_steps else 0.0
        return max(by_time, by_steps)


def learning_rate_scale(
    progress: float, step: int, *, warmup_steps: int = 500, decay_from: float = 0.55
) -> float:
    """Warm up over some steps, hold, then fall along a half cosine so that the run ends annealed.

    `progress` runs from 0 to 1 with time or steps, so a run bounded by the clock still ends at the bottom.
    """
    warmup = min(1.0, (step + 1) / warmup_steps)
    if progress <= decay_from:
        return warmup
    fall = min(1.0, (progress - decay_from) / (1.0 - decay_from))
    return warmup * max(0.01, 0.5 * (1.0 + math.cos(math.pi * fall)))


class Journal:
    """The run's log: one JSON object a line, in a file and on the terminal."""

    def __init__(self, path: Path, *, enabled: bool) -> None:
        """Append to `path`; where `enabled` is false (every process but the first) write nothing."""
        self._path = path
        self._enabled = enabled
        if enabled:
            path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, **fields: float | int | str) -> None:
        """Write one line; floats are rounded to five significant digits."""
        if not self._enabled:
            return
        rounded = {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in fields.items()}
        line = json.dumps(rounded)
        print(line, flush=True)
        with self._path.open("a") as log:
            log.write(line + "\n")
