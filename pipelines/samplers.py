"""The samplers an artist may choose, and the diffusers scheduler behind each.

No torch at import: the page lists the samplers before torch has loaded.
"""

from __future__ import annotations

import copy
import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import torch

Space = Literal["alpha", "sigma"]


class Scheduler(Protocol):
    """What the denoising run needs of a diffusers scheduler."""

    config: Any
    order: int
    timesteps: torch.Tensor
    alphas_cumprod: torch.Tensor
    init_noise_sigma: float | torch.Tensor

    def set_timesteps(self, num_inference_steps: int, *, device: torch.device) -> None:
        """Lay out the schedule; `timesteps` then has one entry for each model call."""
        ...

    def scale_model_input(self, sample: torch.Tensor, timestep: torch.Tensor, /) -> torch.Tensor:
        """Scale x_t as the network expects it at this step."""
        ...

    def add_noise(
        self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor, /
    ) -> torch.Tensor:
        """Noise x_0 to the position the scheduler is at, which is that of `timesteps` (1,)."""
        ...

    def step(
        self, model_output: torch.Tensor, timestep: torch.Tensor, sample: torch.Tensor, /, **options: Any
    ) -> tuple[torch.Tensor, ...]:
        """Return x_{t-1} first, given `return_dict=False`."""
        ...


@dataclass(frozen=True, slots=True)
class Sampler:
    """One sampler: the scheduler class, what is changed in the model's own configuration, and its space.

    `space` says how the scheduler writes x_t: "alpha" is alpha_t x_0 + sigma_t noise with
    alpha_t² + sigma_t² = 1 (DDIM, DPM++, UniPC), "sigma" is x_0 + sigma noise (Euler, Heun: Karras et al.
    2022, equation 1). `follows_zero_snr` tells whether diffusers can rescale its betas to zero terminal SNR,
    `begins_midway` whether it can begin at a later position than the first. `adapter` names the weights that
    it is made for, empty for the model's own; `max_steps` is the most steps it can take, if there is a most.
    """

    scheduler: str
    space: Space
    follows_zero_snr: bool
    begins_midway: bool = True
    config: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    adapter: str = ""
    max_steps: int | None = None


SAMPLERS: Mapping[str, Sampler] = MappingProxyType(
    {
        "DPM++ 2M": Sampler("DPMSolverMultistepScheduler", "alpha", True),
        "DPM++ 2M Karras": Sampler(
            "DPMSolverMultistepScheduler",
            "alpha",
            True,
            config=MappingProxyType({"use_karras_sigmas": True}),
        ),
        "Euler": Sampler("EulerDiscreteScheduler", "sigma", True),
        "Euler a": Sampler("EulerAncestralDiscreteScheduler", "sigma", True),
        "DDIM": Sampler("DDIMScheduler", "alpha", True),
        "Heun": Sampler("HeunDiscreteScheduler", "sigma", False),
        "UniPC": Sampler("UniPCMultistepScheduler", "alpha", True),
        "PNDM": Sampler("PNDMScheduler", "alpha", False, False, MappingProxyType({"skip_prk_steps": True})),
        "DEIS": Sampler("DEISMultistepScheduler", "alpha", False),
        "DDPM": Sampler("DDPMScheduler", "alpha", True),
        # Luo et al. 2023; its schedule is a choice among the 50 points that companions are distilled on.
        "LCM": Sampler("LCMScheduler", "alpha", True, adapter="lcm", max_steps=50),
    }
)

# Settings that belong to one sampler's own way of stepping and must not leak from the model's scheduler
# configuration into another's.
_OWN_SETTINGS = (
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "algorithm_type",
    "solver_type",
    "skip_prk_steps",
)


def make_scheduler(name: str, model_config: Mapping[str, Any]) -> Scheduler:
    """Make a fresh scheduler for one run.

    Args:
        name: a key of `SAMPLERS`.
        model_config: the model's own scheduler configuration (betas, prediction type, timestep spacing).

    Returns:
        An instance of its own: a scheduler remembers the step it is at, so runs never share one.
    """
    # Making one is mostly asking what its class takes; until `set_timesteps` no two of a kind differ.
    return copy.copy(_new_scheduler(name, json.dumps(dict(model_config), sort_keys=True)))


@lru_cache(maxsize=32)
def _new_scheduler(name: str, model_config: str) -> Scheduler:
    sampler = SAMPLERS[name]
    settings: dict[str, Any] = json.loads(model_config)
    config = {key: value for key, value in settings.items() if key not in _OWN_SETTINGS}
    return getattr(importlib.import_module("diffusers"), sampler.scheduler).from_config(
        {**config, **sampler.config}
    )
