"""The denoising run: a generator that asks for predictions and yields a frame a step.

It knows no queue, no user and no cancellation: whoever drives it sends predictions and may close it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipelines.guidance import Guidance
from pipelines.samplers import Scheduler, Space

# Where a schedule ends in pure noise alpha_bar is zero; diffusers' own sigma schedulers stop here too.
_MIN_ALPHA_BAR = 2.0**-24


@dataclass(frozen=True, slots=True)
class Rows:
    """What one step of one run asks the network.

    Shapes: latents (n, C, h, w) scaled for the network, timestep (n,), prompt_embeds (n, tokens, dim).
    """

    latents: Tensor
    timestep: Tensor
    prompt_embeds: Tensor


@dataclass(frozen=True, slots=True)
class Frame:
    """One step of a run: x_t as the step found it, and the picture the model predicted from it.

    `step` counts schedule positions from 0 and `steps` is their number: a sampler of second order has more
    of them than the steps asked for. `sigma` is the noise level in the sense of Karras et al. 2022
    (noise over signal). `latents` is x_t (1, C, h, w) in the scheduler's own `space`, `denoised` the
    predicted x_0 of the same shape; `guidance_norm` (a scalar tensor) is the root mean square of the
    conditional minus the unconditional prediction, 0 without guidance.
    """

    step: int
    steps: int
    timestep: float
    sigma: float
    space: Space
    latents: Tensor
    denoised: Tensor
    guidance_norm: Tensor

    @property
    def noisy(self) -> Tensor:
        """x_t as alpha_t x_0 + sigma_t noise, the scale at which the decoder can show it."""
        return to_alpha_space(self.latents, self.sigma, self.space)


Run = Generator[Rows | Frame, Tensor | None, Tensor]


def to_alpha_space(latents: Tensor, sigma: float, space: Space) -> Tensor:
    """Scale x_t so that signal and noise weights have squares that sum to one."""
    return latents if space == "alpha" else latents / math.hypot(1.0, sigma)


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
    scheduler: Scheduler, space: Space, guidance: Guidance, latents: Tensor, generator: torch.Generator
) -> Run:
    """Denoise latents over the whole of a scheduler's schedule.

    Args:
        scheduler: this run's own, its timesteps set.
        space: how the scheduler writes x_t (`Sampler.space`).
        guidance: the conditionings and how their predictions become one.
        latents: x_T, (1, C, h, w), at the scheduler's own scale.
        generator: the CPU generator that samplers with noise of their own draw from.

    Yields:
        Rows, answered by the network's output for them, and a `Frame` at the end of each step.

    Returns:
        The final latents.
    """
    timesteps: list[float] = scheduler.timesteps.tolist()
    sigmas = schedule_sigmas(scheduler)
    prediction_type: str = scheduler.config.prediction_type
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    options: dict[str, Any] = {"generator": generator} if takes_generator else {}
    for step, timestep in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(latents, timestep)
        predictions = yield guidance.rows(scaled, timestep)
        assert predictions is not None, "rows are answered with predictions"
        model_output, guidance_norm = guidance.combine(predictions)
        noisy = to_alpha_space(latents, sigmas[step], space)
        denoised = predicted_denoised(model_output, noisy, sigmas[step], prediction_type)
        following = scheduler.step(model_output, timestep, latents, **options, return_dict=False)[0]
        yield Frame(
            step, len(timesteps), timesteps[step], sigmas[step], space, latents, denoised, guidance_norm
        )
        latents = following
    return latents


def schedule_sigmas(scheduler: Scheduler) -> list[float]:
    """Return the noise level (noise over signal) at each position of a scheduler's schedule."""
    sigmas: Tensor | None = getattr(scheduler, "sigmas", None)
    if sigmas is not None:
        return sigmas.tolist()[: len(scheduler.timesteps)]
    alphas_cumprod: Tensor = getattr(scheduler, "alphas_cumprod")  # noqa: B009 - not every scheduler has it
    alpha_bar = alphas_cumprod[scheduler.timesteps.long().cpu()].double().clamp(min=_MIN_ALPHA_BAR)
    return ((1 - alpha_bar) / alpha_bar).sqrt().tolist()
