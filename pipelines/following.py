"""A branch with a mask: what lies outside it stays what it was in the run that was left."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pipelines.denoising import Frame, Rows, Run, from_alpha_space, step_to
from pipelines.samplers import Space

_Asking = Generator[Rows | Frame, Tensor | None, Tensor]


@dataclass(slots=True)
class Following:
    """Follows a parent's run outside a mask, step by step and to its very end.

    `begin` makes the parent's run, which is driven when it is first needed: what is known of it asks the
    network for nothing. `mask` (1, 1, h, w) goes from 0, which never leaves the parent, to 1, free; `start`
    is the schedule position the branch begins at, `sigmas` and `space` are those of its own schedule.
    """

    begin: Callable[[], Run]
    mask: Tensor
    start: int
    sigmas: Sequence[float]
    space: Space
    _frames: list[Frame] = field(default_factory=list[Frame])

    def lay(self, latents: Tensor, position: int) -> _Asking:
        """Put the parent's x_t back into that of a position, wherever the mask does not let go yet.

        A value between 0 and 1 is the part of the branch that may change its place: it is let go once that
        much is left, as in inpainting (Levin and Fried 2023, differential diffusion, algorithm 1).
        """
        yield from self._drive()
        past = (position - self.start) / max(1, len(self.sigmas) - self.start)
        free = (1 - self.mask <= past) & (self.mask > 0)
        return torch.where(free, latents, self._parents_at(position))

    def known(self, steps: int) -> Generator[Rows | Frame, Tensor | None, list[Frame]]:
        """Take the parent's first steps over: they are the branch's own."""
        yield from self._drive()
        return self._frames[:steps]

    def _drive(self) -> Generator[Rows | Frame, Tensor | None, None]:
        if self._frames:
            return
        run = self.begin()
        frames: list[Frame] = []
        answer: Tensor | None = None
        while not frames or len(frames) < frames[0].steps:
            event = run.send(answer)
            answer = None
            if isinstance(event, Frame):
                frames.append(event)
            else:
                answer = yield event
        run.close()
        self._frames = frames

    def _parents_at(self, position: int) -> Tensor:
        """The parent's x_t at the noise of a position: its own where it stood there, else a step away."""
        if position == len(self.sigmas):
            return self._frames[-1].following
        sigma = self.sigmas[position]
        there = [frame for frame in self._frames if frame.sigma == sigma and frame.space == self.space]
        mine = [at for at, own in enumerate(self.sigmas) if own == sigma]
        # A sampler of second order stands at one noise twice.
        if len(there) == len(mine):
            return there[mine.index(position)].latents
        before = [frame for frame in self._frames if frame.sigma >= sigma]
        noisy = step_to(before[-1] if before else self._frames[0], sigma)
        return from_alpha_space(noisy, sigma, self.space)
