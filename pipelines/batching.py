"""Many runs, one U-Net call: advance every run together, one call a tick."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass
from itertools import accumulate, groupby

import torch
from accelerate.utils.memory import clear_device_cache
from torch import Tensor

from pipelines.denoising import Frame, Rows, Run
from pipelines.models.sd import StableDiffusion


@dataclass(frozen=True, slots=True)
class Finished:
    """A run has come to its end; `latents` (1, C, h, w) is its picture in latent space."""

    latents: Tensor


@dataclass(frozen=True, slots=True)
class Failed:
    """A run raised; it has left the batch and no other run was touched."""

    error: Exception


class StepBatcher:
    """Drives runs of one model; runs join and leave between ticks.

    On an accelerator the rows of runs of one size and one adapter go into one call, since a call of many rows
    costs hardly more than a call of two. On a CPU there is nothing to gain and each run makes its own call,
    so that a picture does not depend on who else is painting.
    """

    def __init__(self, model: StableDiffusion, *, merge: bool | None = None) -> None:
        """Take the model; `merge` overrides whether the runs of one size share a call."""
        self._model = model
        self._merge = model.device.type != "cpu" if merge is None else merge
        self._at_once: int | None = None  # runs in one call, once memory has shown how many are too many
        self._runs: dict[Hashable, Run] = {}
        self._asking: dict[Hashable, Rows] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def join(self, key: Hashable, run: Run) -> None:
        """Take a run in; its first step is part of the next tick."""
        self._runs[key] = run

    def leave(self, key: Hashable) -> None:
        """Close a run between ticks; nothing happens when it has ended already."""
        run = self._runs.pop(key, None)
        self._asking.pop(key, None)
        if run is not None:
            run.close()

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
        return events

    def _groups(self, asking: dict[Hashable, Rows]) -> list[list[Hashable]]:
        if not self._merge:
            return [[key] for key in asking]
        # Rows that share attention take another path through the network than those that do not.
        kind = {
            key: (rows.adapter, bool(rows.shared), tuple(rows.latents.shape[1:]))
            for key, rows in asking.items()
        }
        in_order = sorted(asking, key=lambda key: kind[key])
        alike = (list(keys) for _, keys in groupby(in_order, key=lambda key: kind[key]))
        return [part for keys in alike for part in _parts(keys, self._at_once or len(keys))]

    def _predict(
        self, keys: list[Hashable], events: list[tuple[Hashable, Frame | Finished | Failed]]
    ) -> None:
        asked = [self._asking.pop(key) for key in keys]
        rows = asked[0] if len(asked) == 1 else _concatenate(asked)
        try:
            predictions = self._model.predict(rows)
        except torch.OutOfMemoryError as error:
            if len(keys) == 1:
                self._fail(keys, error, events)
                return
            # The runs survive: half of them at a time, from now on.
            self._at_once = len(keys) // 2
            self._asking.update(zip(keys, asked, strict=True))
            clear_device_cache()
            for part in _parts(keys, self._at_once):
                self._predict(part, events)
            return
        except Exception as error:
            self._fail(keys, error, events)
            return
        for key, part in zip(keys, predictions.split([len(r.latents) for r in asked]), strict=True):
            self._advance(key, part, events)

    def _fail(
        self,
        keys: list[Hashable],
        error: Exception,
        events: list[tuple[Hashable, Frame | Finished | Failed]],
    ) -> None:
        for key in keys:
            self.leave(key)
            events.append((key, Failed(error)))

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
            del self._runs[key]
            events.append((key, Finished(end.value)))
        except Exception as error:
            del self._runs[key]
            events.append((key, Failed(error)))


def _concatenate(asked: list[Rows]) -> Rows:
    before = accumulate((len(rows.latents) for rows in asked), initial=0)
    return Rows(
        torch.cat([rows.latents for rows in asked]),
        torch.cat([rows.timestep for rows in asked]),
        torch.cat([rows.prompt_embeds for rows in asked]),
        asked[0].adapter,
        tuple(
            shared.behind(first) for first, rows in zip(before, asked, strict=False) for shared in rows.shared
        ),
    )


def _parts(keys: list[Hashable], size: int) -> list[list[Hashable]]:
    return [keys[start : start + size] for start in range(0, len(keys), size)]
