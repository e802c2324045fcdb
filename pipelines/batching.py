"""Many runs, one U-Net call: advance every run together, one call a tick."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Any

import torch
from torch import Tensor

from pipelines.calls import BUCKETS, Call, Calls, Engine
from pipelines.denoising import Frame, Rows, Run
from pipelines.models.sd import StableDiffusion
from pipelines.stepping import step_together

_USUAL_ROWS = 2  # with guidance


@dataclass(frozen=True, slots=True)
class Finished:
    """A run has come to its end; `latents` (1, C, h, w) is its picture in latent space.

    `calls` are the kinds of call that answered it, in the order in which it first met them.
    """

    latents: Tensor
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """A run raised; it has left the batch and no other run was touched."""

    error: Exception


class StepBatcher:
    """Drives runs of one model; runs join and leave between ticks.

    On an accelerator the rows of runs of one size and one adapter go into one call, since a call of many rows
    costs hardly more than a call of two, padded to a bucket: in the same bucket a picture is the same,
    whoever else is painting. On a CPU there is nothing to gain and each run makes its own call.
    """

    def __init__(
        self, model: StableDiffusion, *, merge: bool | None = None, buckets: Sequence[int] = BUCKETS
    ) -> None:
        """Take the model and the sizes of call; `merge` overrides whether the runs of one size share them."""
        self._merge = model.device.type != "cpu" if merge is None else merge
        self._calls = Calls(model, buckets if self._merge else ())
        self._runs: dict[Hashable, Run] = {}
        self._engines: dict[Hashable, Engine] = {}
        self._asking: dict[Hashable, Rows] = {}
        self._answered: dict[Hashable, dict[Call, None]] = {}
        self._device = model.device
        self._tick_before: Any = None

    def __len__(self) -> int:
        return len(self._runs)

    def join(self, key: Hashable, run: Run, engine: Engine = "eager") -> None:
        """Take a run in; its first step is part of the next tick, and one engine answers it to its end."""
        self._runs[key] = run
        self._engines[key] = engine
        self._answered[key] = {}

    @property
    def rows_at_once(self) -> int:
        """How many rows a call has at most, as memory allows; 0 where every run makes its own."""
        return max(self._calls.buckets, default=0)

    def rows_of(self, key: Hashable) -> int:
        """Tell how many rows a run's next step has; of one that has not begun, as many as most have."""
        return len(self._asking[key].latents) if key in self._asking else _USUAL_ROWS

    def leave(self, key: Hashable) -> None:
        """Close a run between ticks; nothing happens when it has ended already."""
        run = self._forget(key)
        if run is not None:
            run.close()

    def _forget(self, key: Hashable) -> Run | None:
        for notes in (self._engines, self._asking, self._answered):
            notes.pop(key, None)
        return self._runs.pop(key, None)

    @torch.inference_mode()
    def tick(self, resting: Collection[Hashable] = ()) -> list[tuple[Hashable, Frame | Finished | Failed]]:
        """Advance every run but the resting ones by one model call.

        Returns:
            What each came to, in the order they joined.
        """
        events: list[tuple[Hashable, Frame | Finished | Failed]] = []
        for key in [key for key in self._runs if key not in resting]:
            if key not in self._asking:
                self._advance(key, None, events)
        for keys in self._groups({key: rows for key, rows in self._asking.items() if key not in resting}):
            self._predict(keys, events)
        self._wait_for_device()
        return events

    def _wait_for_device(self) -> None:
        """Wait until the device has done the tick before this one.

        It then always has one tick to do while the next is prepared, and never so many that a picture that
        joins or is cancelled would have to wait for them.
        """
        if self._device.type != "cuda":
            return
        asked = torch.cuda.Event(blocking=True)
        asked.record()
        if self._tick_before is not None:
            self._tick_before.synchronize()
        self._tick_before = asked

    def _groups(self, asking: dict[Hashable, Rows]) -> list[list[Hashable]]:
        if not self._merge:
            return [[key] for key in asking]
        kind = {key: (self._engines[key], *_kind(rows)) for key, rows in asking.items()}
        in_order = sorted(asking, key=lambda key: kind[key])
        return [list(keys) for _, keys in groupby(in_order, key=lambda key: kind[key])]

    def _predict(
        self, keys: list[Hashable], events: list[tuple[Hashable, Frame | Finished | Failed]]
    ) -> None:
        asked = [self._asking[key] for key in keys]
        counts = [len(rows.latents) for rows in asked]
        try:
            predictions, calls = self._calls.predict(_concatenate(asked), self._engines[keys[0]])
            answers = predictions.split(counts)
            _step_together(asked, answers)
        except Exception as error:
            if len(keys) == 1:
                self.leave(keys[0])
                events.append((keys[0], Failed(error)))
                return
            # One of them may be to blame for all: each is asked alone, and that one fails alone.
            for key in keys:
                self._predict([key], events)
            return
        start = 0
        for key, part in zip(keys, answers, strict=True):
            del self._asking[key]
            self._answered[key].update(dict.fromkeys(calls[start : start + len(part)]))
            start += len(part)
            self._advance(key, part, events)

    def _advance(
        self,
        key: Hashable,
        answer: Tensor | None,
        events: list[tuple[Hashable, Frame | Finished | Failed]],
    ) -> None:
        """Send a run its predictions and go on until it asks again, ends or raises."""
        run = self._runs[key]
        try:
            event = run.send(answer)
            while isinstance(event, Frame):
                events.append((key, event))
                event = run.send(None)
            self._asking[key] = event
        except StopIteration as end:
            calls = tuple(self._answered[key])
            self._forget(key)
            events.append((key, Finished(end.value, calls)))
        except Exception as error:
            self._forget(key)
            events.append((key, Failed(error)))


def _kind(rows: Rows) -> tuple[str, bool, tuple[int, ...], tuple[int, ...]]:
    """Tell which rows may be asked in one call: those of one adapter, one size and prompts of one length.

    Rows that share attention take another path through the network than those that do not.
    """
    sizes = tuple(rows.latents.shape[1:]), tuple(rows.prompt_embeds.shape[1:])
    return rows.adapter, bool(rows.shared), *sizes


def _concatenate(asked: list[Rows]) -> Rows:
    if len(asked) == 1:
        return asked[0]
    before = accumulate((len(rows.latents) for rows in asked), initial=0)
    pooled = [rows.pooled_embeds for rows in asked if rows.pooled_embeds is not None]
    return Rows(
        torch.cat([rows.latents for rows in asked]),
        torch.cat([rows.timestep for rows in asked]),
        torch.cat([rows.prompt_embeds for rows in asked]),
        asked[0].adapter,
        tuple(
            shared.behind(first) for first, rows in zip(before, asked, strict=False) for shared in rows.shared
        ),
        torch.cat(pooled) if pooled else None,
    )


def _step_together(asked: Sequence[Rows], answers: Sequence[Tensor]) -> None:
    """Take the steps of those runs together that can be; one alone takes its own.

    Only where divisions are known to round as diffusers' do.
    """
    if answers[0].device.type not in ("cpu", "cuda"):
        return
    alike = [
        (rows.stepping, answer)
        for rows, answer in zip(asked, answers, strict=True)
        if rows.stepping is not None
    ]
    if len(alike) > 1:
        steppings, predictions = zip(*alike, strict=True)
        step_together(steppings, predictions)
