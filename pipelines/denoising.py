"""The denoising run: a generator that asks for predictions and yields a frame a step.

It knows no queue, no user and no cancellation: whoever drives it sends predictions and may close it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from pipelines.conditioning import Conditioning
from pipelines.guidance import Composition, Guidance
from pipelines.image_attention import Shown
from pipelines.samplers import Scheduler, Space
from pipelines.shared_attention import Shared
from pipelines.stepping import Stepping, Taken, solver_of
from pipelines.styles import STEERING

if TYPE_CHECKING:
    from pipelines.following import Following
    from pipelines.inpainting import Canvas
    from pipelines.models.adapters import Weights
    from pipelines.references import Referred
    from pipelines.steering import Steering

# Where a schedule ends in pure noise alpha_bar is zero; diffusers' own sigma schedulers stop here too.
_MIN_ALPHA_BAR = 2.0**-24


@dataclass(frozen=True, slots=True)
class Rows:
    """What one step of one run asks the network.

    Shapes: latents (n, C, h, w) scaled for the network, timestep (n,) on any device, prompt_embeds
    (n, tokens, dim).
    `adapter` names the weights that answer, empty for the model's own. `shared` says which rows attend to
    others, and which to pictures beside their prompt. `pooled_embeds` (n, dim) is for networks that read
    whole prompts too. `stepping` is what the run will do with the answers, where that can be done together
    with others'.
    """

    latents: Tensor
    timestep: Tensor
    prompt_embeds: Tensor
    adapter: str = ""
    shared: tuple[Shared | Shown, ...] = ()
    pooled_embeds: Tensor | None = None
    stepping: Stepping | None = None

    @property
    def conditioning(self) -> Conditioning:
        """What the rows read."""
        return Conditioning(self.prompt_embeds, self.pooled_embeds)


def tensors_of(rows: Rows) -> dict[str, Tensor]:
    """Return what rows have one entry of each, by name: all fields that are tensors."""
    values = {field_.name: getattr(rows, field_.name) for field_ in fields(rows)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


@dataclass(frozen=True)
class Frame:
    """One step of a run: x_t as the step found it, and the picture the model predicted from it.

    It keeps what the step had in hand; what follows from that is worked out when somebody first looks at it,
    by whoever looks, since a painter with many runs has no time for it.

    `step` counts schedule positions from 0 and `steps` is their number: a sampler of second order has more
    of them than the steps asked for. `sigma` is the noise level in the sense of Karras et al. 2022
    (noise over signal). `latents` is x_t (1, C, h, w) in the scheduler's own `space`, `denoised` the
    predicted x_0 of the same shape; `model_output` is the guided network output it is made from, which is
    all that a sampler needs to take this step again; `pull` is what guidance did.
    `following` is what the step came to: x_t of the next, at the last step the finished latents.
    """

    step: int
    steps: int
    timestep: float
    sigma: float
    space: Space
    prediction_type: str
    latents: Tensor
    model_output: Tensor
    following: Tensor
    pull: Pull | Known | Frame

    @cached_property
    def denoised(self) -> Tensor:
        """The predicted x_0, (1, C, h, w)."""
        return predicted_denoised(self.model_output, self.noisy, self.sigma, self.prediction_type)

    @property
    def guidance_norm(self) -> Tensor:
        """How hard guidance pulled, a scalar (`Pull`)."""
        return self.pull.guidance_norm

    @property
    def guidance_heat(self) -> Tensor | None:
        """Where guidance pulled, (1, 1, h, w); None without guidance or where it was not kept (`Pull`)."""
        return self.pull.guidance_heat

    @property
    def contributions(self) -> dict[str, Tensor]:
        """Where each style of a mix of predictions pulled, and what steered (`Pull`)."""
        return self.pull.contributions

    @property
    def noisy(self) -> Tensor:
        """x_t as alpha_t x_0 + sigma_t noise, the scale at which the decoder can show it."""
        return to_alpha_space(self.latents, self.sigma, self.space)


@dataclass(frozen=True)
class Pull:
    """What guidance did at a step, from the network's answers (n, C, h, w) and the direction it took.

    `direction` is (1, C, h, w), a scalar zero without guidance; `shift` is what a classifier added to the
    guided output, of the same shape, where one steers.
    """

    guidance: Guidance | Composition | Referred
    predictions: Tensor
    direction: Tensor
    shift: Tensor | None = None

    @cached_property
    def guidance_norm(self) -> Tensor:
        """The root mean square of the conditional minus the unconditional prediction, a scalar."""
        return self.direction.square().mean().sqrt()

    @cached_property
    def guidance_heat(self) -> Tensor | None:
        """The same at every place, over the channels, (1, 1, h, w); None without guidance."""
        return strength_by_place(self.direction)

    @cached_property
    def contributions(self) -> dict[str, Tensor]:
        """The heat of each style's own part, where styles were mixed by their predictions, and of steering.

        Guidance multiplies the styles' parts by its scale and leaves the classifier's as it is; divided by
        the scale it can be laid beside theirs.
        """
        parts = self.guidance.contributions(self.predictions)
        steering = (
            None if self.shift is None else strength_by_place(self.shift / max(1.0, self.guidance.scale))
        )
        return parts if steering is None else {**parts, STEERING: steering}


class Guiding(Protocol):
    """What guides a run; it may be another guidance at every moment, from 0 at the first step to 1."""

    def at(self, progress: float, /) -> Guidance | Composition | Referred:
        """Return the guidance of one step."""
        ...


Run = Generator[Rows | Frame, Tensor | None, Tensor]


@dataclass(frozen=True, slots=True)
class Leg:
    """From schedule position `start` on: what the network is asked, and where the sampler draws its noise.

    `weights` are those that answer, `steering` moves each guided answer, where a classifier steers;
    `following` puts back what this leg is to leave as it is in another run.
    """

    start: int
    guidance: Guiding
    generator: torch.Generator
    weights: Weights
    steering: Steering | None = None
    following: Following | None = None

    def guidance_at(self, position: int, positions: int) -> Guidance | Composition | Referred:
        """Return the guidance at a position of a schedule of so many."""
        return self.guidance.at(progress_at(position, positions))


def progress_at(position: int, positions: int) -> float:
    """Tell how far a position of a schedule of so many is, from 0 at the first to 1 at the last."""
    return position / max(1, positions - 1)


def leg_at(legs: Sequence[Leg], position: int) -> Leg:
    """Find the leg that a schedule position belongs to."""
    return next(leg for leg in reversed(legs) if leg.start <= position)


@dataclass(frozen=True, slots=True)
class Known:
    """A step that was predicted before, and kept: its fields are those of `Frame`.

    Without `following` the scheduler, which takes the step again in any case, tells what it came to.
    """

    model_output: Tensor
    guidance_norm: Tensor
    guidance_heat: Tensor | None = None
    contributions: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    following: Tensor | None = None


def to_alpha_space(latents: Tensor, sigma: float, space: Space) -> Tensor:
    """Scale x_t so that signal and noise weights have squares that sum to one."""
    return latents if space == "alpha" else latents / math.hypot(1.0, sigma)


def from_alpha_space(latents: Tensor, sigma: float, space: Space) -> Tensor:
    """Scale x_t back to how a scheduler of this space writes it."""
    return latents if space == "alpha" else latents * math.hypot(1.0, sigma)


def predicted_denoised(model_output: Tensor, noisy: Tensor, sigma: float, prediction_type: str) -> Tensor:
    """Predict x_0 from x_t = alpha_t x_0 + sigma_t noise and the network's output.

    Salimans and Ho 2022, appendix D: x_0 = (x_t - sigma_t eps) / alpha_t = alpha_t x_t - sigma_t v.
    """
    alpha_t = 1.0 / math.hypot(1.0, sigma)
    sigma_t = sigma * alpha_t
    match prediction_type:
        case "epsilon":
            return (noisy - sigma_t * model_output) / alpha_t
        case "v_prediction":
            return alpha_t * noisy - sigma_t * model_output
        case "sample":
            return model_output
        case _:
            raise ValueError(f"unknown prediction type {prediction_type!r}")


def denoise(
    scheduler: Scheduler,
    space: Space,
    legs: Sequence[Leg],
    latents: Tensor,
    *,
    first: int = 0,
    known: Sequence[Known | Frame] = (),
    canvas: Canvas | None = None,
) -> Run:
    """Denoise latents along a scheduler's schedule.

    Args:
        scheduler: this run's own, its timesteps on the CPU: elsewhere each step waits for the device.
        space: how the scheduler writes x_t (`Sampler.space`).
        legs: what is asked from which position on, in order, beginning at `first`.
        latents: x_t at position `first`, (1, C, h, w), at the scheduler's own scale.
        first: the schedule position to begin at; 0 begins with pure noise.
        known: the steps from `first` on that need not be predicted again. The scheduler takes them as it
            took them then, so that what it carries from step to step is exact.
        canvas: the picture it is painted over, put back after each step where it is to stay.

    Yields:
        Rows, answered by the network's output for them, and a `Frame` at the end of each step.

    Returns:
        The final latents.
    """
    timesteps: list[float] = scheduler.timesteps.tolist()
    sigmas = schedule_sigmas(scheduler)
    prediction_type: str = scheduler.config.prediction_type
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    if first and (set_begin_index := getattr(scheduler, "set_begin_index", None)):
        set_begin_index(first)
    solver = solver_of(scheduler)
    for step in range(first, len(timesteps)):
        timestep = scheduler.timesteps[step]
        leg = leg_at(legs, step)
        options: dict[str, Any] = {"generator": leg.generator} if takes_generator else {}
        scaled = scheduler.scale_model_input(latents, timestep)
        again = known[step - first] if step - first < len(known) else None
        taken: Taken | None = None
        if again is not None:
            model_output, pull = again.model_output, again
        else:
            guidance = leg.guidance_at(step, len(timesteps))
            rows = guidance.rows(scaled if canvas is None else canvas.show(scaled), timestep)
            stepping = None
            if solver is not None and leg.steering is None:
                stepping = Stepping(solver, guidance, timestep, latents)
            predictions = yield replace(rows, adapter=leg.weights.name, stepping=stepping)
            assert predictions is not None, "rows are answered with predictions"
            taken = stepping.taken if stepping is not None else None
            model_output, direction = taken[:2] if taken is not None else guidance.combine(predictions)
            shift = None
            if leg.steering is not None:
                shift = leg.steering.shift(
                    to_alpha_space(latents, sigmas[step], space),
                    sigmas[step],
                    timestep,
                    prediction_type,
                    progress_at(step, len(timesteps)),
                )
                model_output = model_output + shift
            pull = Pull(guidance, predictions, direction, shift)
        if taken is not None:
            following = taken.following
        else:
            following = scheduler.step(model_output, timestep, latents, **options, return_dict=False)[0]
        if again is not None and again.following is not None:
            following = again.following
        else:
            if canvas is not None:
                following = canvas.lay(scheduler, following, step + 1)
            if leg.following is not None:
                following = yield from leg.following.lay(following, step + 1)
        yield Frame(
            step=step,
            steps=len(timesteps),
            timestep=timesteps[step],
            sigma=sigmas[step],
            space=space,
            prediction_type=prediction_type,
            latents=latents,
            model_output=model_output,
            following=following,
            pull=pull,
        )
        latents = following
    return latents


def step_to(frame: Frame, sigma: float) -> Tensor:
    """Take one Euler step from a frame to another noise level (Song et al. 2021, DDIM with eta 0).

    Returns:
        x_t as alpha_t x_0 + sigma_t noise.
    """
    signal = 1.0 / (1.0 + sigma**2) ** 0.5
    before = 1.0 / (1.0 + frame.sigma**2) ** 0.5
    noise = (frame.noisy - before * frame.denoised) / (frame.sigma * before)
    return signal * frame.denoised + sigma * signal * noise


def strength_by_place(direction: Tensor) -> Tensor | None:
    """Return the root mean square of (1, C, h, w) over its channels, (1, 1, h, w); None of a scalar."""
    return direction.square().mean(1, keepdim=True).sqrt() if direction.ndim else None


def schedule_sigmas(scheduler: Scheduler) -> list[float]:
    """Return the noise level (noise over signal) at each position of a scheduler's schedule."""
    sigmas: Tensor | None = getattr(scheduler, "sigmas", None)
    if sigmas is not None:
        return sigmas.tolist()[: len(scheduler.timesteps)]
    alpha_bar = scheduler.alphas_cumprod[scheduler.timesteps.long().cpu()].double().clamp(min=_MIN_ALPHA_BAR)
    return ((1 - alpha_bar) / alpha_bar).sqrt().tolist()
