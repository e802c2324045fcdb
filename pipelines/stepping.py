"""The steps of many runs of DPM-Solver++(2M) as one (Lu et al. 2022), to the bits of diffusers' own steps.

On a GPU that paints with many artists, diffusers' `step()` of each run takes longer than the network: some
forty operations on single numbers and a dozen on latents. Runs at any position of any schedule differ in a
few coefficients only, so that one operation on all their latents does what each of them would do alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from pipelines.guidance import Composition, Guidance
from pipelines.samplers import Scheduler

if TYPE_CHECKING:
    from pipelines.references import Referred


@dataclass(frozen=True, slots=True)
class Solver:
    """A run's own scheduler whose steps can be taken together with others'; `sigmas` is its schedule.

    `ends_in_first_order` says how it takes the last of them.
    """

    scheduler: Any
    sigmas: tuple[float, ...]
    ends_in_first_order: bool


class Taken(NamedTuple):
    """What a step came to: the guided output, the direction of guidance and x_t of the next step."""

    model_output: Tensor
    direction: Tensor
    following: Tensor


@dataclass(slots=True, eq=False)
class Stepping:
    """What a run will do with its answers: `guidance` makes one of them, by which its solver takes a step.

    `latents` (1, C, h, w) is x_t, `timestep` the scheduler's own. Who answers many runs may do it for them
    (`step_together`): then it is `taken`, and the run goes on from there.
    """

    solver: Solver
    guidance: Guidance | Composition | Referred
    timestep: Tensor
    latents: Tensor
    taken: Taken | None = None


def solver_of(scheduler: Scheduler) -> Solver | None:
    """Tell how a scheduler's steps can be taken with others'; None of any but plain DPM-Solver++(2M)."""
    config: Any = scheduler.config
    plain = {"algorithm_type": "dpmsolver++", "solver_type": "midpoint", "solver_order": 2}
    if type(scheduler).__name__ != "DPMSolverMultistepScheduler" or any(
        config[name] != value for name, value in plain.items()
    ):
        return None
    known = config.prediction_type in ("epsilon", "v_prediction", "sample")
    if not known or config.thresholding or config.use_flow_sigmas or config.variance_type is not None:
        return None
    own: Any = scheduler
    ends_in_first_order = (
        config.euler_at_final
        or (config.lower_order_final and len(scheduler.timesteps) < 15)
        or config.final_sigmas_type == "zero"
    )
    return Solver(own, tuple(own.sigmas.tolist()), ends_in_first_order)


def step_together(steppings: Sequence[Stepping], predictions: Sequence[Tensor]) -> None:
    """Take a step of each of several runs of one model and size.

    `predictions` are the network's answers to the rows of each, (n, C, h, w).
    """
    model_outputs, directions = _guided([one.guidance for one in steppings], predictions)
    device = model_outputs.device
    numbers = torch.tensor([_coefficients_of(one) for one in steppings], dtype=torch.float32)
    # Without waiting: it is a few numbers, which the driver takes at once.
    columns = numbers.to(device, non_blocking=True).T[..., None, None, None]
    alpha, sigma, inverse, keep, change, bend, slope = columns.unbind()
    samples = torch.cat([one.latents for one in steppings])
    schedulers = [one.solver.scheduler for one in steppings]
    match schedulers[0].config.prediction_type:
        case "epsilon":
            noiseless = samples - sigma * model_outputs
            # By a single number torch divides like this on CUDA, and there only.
            denoised = noiseless * inverse if device.type == "cuda" else noiseless / alpha
        case "v_prediction":
            denoised = alpha * samples - sigma * model_outputs
        case _:
            denoised = model_outputs
    rows = denoised.split(1)
    # In the first order, where it counts nothing, the row itself.
    last = [own.model_outputs[-1] for own in schedulers]
    before = torch.cat([row if one is None else one for one, row in zip(last, rows, strict=True)])
    following = keep * samples - change * denoised - bend * (slope * (denoised - before))
    parts = zip(steppings, rows, model_outputs.split(1), directions, following.split(1), strict=True)
    for one, row, *taken in parts:
        own = one.solver.scheduler
        own.model_outputs = [own.model_outputs[-1], row]
        own.lower_order_nums = min(own.lower_order_nums + 1, 2)
        own._step_index += 1
        one.taken = Taken(*taken)


def _guided(
    guidances: Sequence[Guidance | Composition | Referred], predictions: Sequence[Tensor]
) -> tuple[Tensor, Sequence[Tensor]]:
    """Make one output (n, C, h, w) of each run's answers; together where all are guided in the plain way."""
    if not all(isinstance(guidance, Guidance) and guidance.is_guided for guidance in guidances):
        combined = [guidance.combine(own) for guidance, own in zip(guidances, predictions, strict=True)]
        outputs, directions = zip(*combined, strict=True)
        return torch.cat(outputs), directions
    pairs = torch.stack(list(predictions))
    unconditional, conditional = pairs[:, 0], pairs[:, 1]
    direction = conditional - unconditional
    scales = torch.tensor([guidance.scale for guidance in guidances], dtype=torch.float32)
    scale = scales.to(pairs.device, non_blocking=True)[:, None, None, None]
    return unconditional + scale * direction, direction.split(1)


def _coefficients_of(stepping: Stepping) -> tuple[float, ...]:
    sigmas, scheduler = stepping.solver.sigmas, stepping.solver.scheduler
    if scheduler.step_index is None:
        scheduler._init_step_index(stepping.timestep)
    at: int = scheduler._step_index
    is_last = at == len(sigmas) - 2
    first_order = scheduler.lower_order_nums < 1 or (is_last and stepping.solver.ends_in_first_order)
    return _coefficients(sigmas[at], sigmas[at + 1], None if first_order else sigmas[at - 1])


@lru_cache(maxsize=4096)
def _coefficients(now: float, after: float, before: float | None) -> tuple[float, ...]:
    """Work a step from one noise level to the next out as diffusers does, number by number, in float32.

    Without the level `before` it is of the first order.
    """
    alpha_s0, sigma_s0, lambda_s0 = _at(now)
    alpha_t, sigma_t, lambda_t = _at(after)
    h = lambda_t - lambda_s0
    change = alpha_t * (torch.exp(-h) - 1.0)
    bend = slope = torch.zeros(())
    if before is not None:
        r0 = (lambda_s0 - _at(before)[2]) / h
        bend, slope = 0.5 * change, 1.0 / r0
    keep = sigma_t / sigma_s0
    numbers = alpha_s0, sigma_s0, 1.0 / alpha_s0, keep, change, bend, slope
    return tuple(number.item() for number in numbers)


def _at(sigma: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return alpha_t, sigma_t and lambda_t, half the logarithm of signal over noise, at a noise level."""
    level = torch.tensor(sigma, dtype=torch.float32)
    alpha_t = 1 / ((level**2 + 1) ** 0.5)
    sigma_t = level * alpha_t
    return alpha_t, sigma_t, torch.log(alpha_t) - torch.log(sigma_t)
