"""A run's frames on disk: one safetensors file a step and a JSON of every step's numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines.denoising import Frame, Known, to_alpha_space
from pipelines.recipe import BadInput, Recipe
from pipelines.samplers import Space

_TENSORS = ("latents", "denoised", "model_output")


class Step(BaseModel):
    """The numbers of one step, as `Frame` has them; `change` is the RMS by which x_0 moved since the last.

    `contributions` is how hard each style of a mix pulled, the RMS of its part of the guidance, and under
    the name "steering" how hard a classifier did, over the guidance scale.
    """

    model_config = ConfigDict(frozen=True)

    step: int
    timestep: float
    sigma: float
    guidance_norm: float
    change: float
    space: Space
    contributions: dict[str, float] = Field(default_factory=dict[str, float], exclude_if=lambda own: not own)


class TimelineFile(BaseModel):
    """What `timeline.json` holds."""

    model_config = ConfigDict(frozen=True)

    recipe: Recipe
    steps: list[Step]


class TimelineWriter:
    """Keeps a run's frames in a folder as they come.

    `add` writes `frame-000.safetensors` and on (`latents`: x_t at the sampler's own scale, `denoised`: the
    predicted x_0, `model_output`: the guided output behind it, from which a branch goes on exactly; in the
    last also `finished`: what the decoder makes the picture of; with guidance also `guidance_heat`: where it
    pulls and how hard, (1, 1, h, w) in float16; for a mix of predictions, and where a classifier steers, also
    `contributions`: the same for each style and for steering, (parts, h, w), in the order of the step's
    `contributions`); `close` writes `timeline.json`, without which the folder is not a timeline.
    """

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self._folder = folder
        self._recipe = recipe
        self._steps: list[Step] = []
        self._before: Tensor | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, frame: Frame) -> Step:
        """Write one frame and return its numbers."""
        tensors = {
            "latents": frame.latents.cpu().contiguous(),
            "denoised": frame.denoised.cpu().contiguous(),
            "model_output": frame.model_output.cpu().contiguous(),
        }
        if frame.step == frame.steps - 1:
            tensors["finished"] = frame.following.cpu().contiguous()
        if frame.guidance_heat is not None:
            tensors["guidance_heat"] = frame.guidance_heat.half().cpu().contiguous()
        if frame.contributions:
            tensors["contributions"] = torch.cat(list(frame.contributions.values()))[:, 0].half().cpu()
        save_file(tensors, _frame_file(self._folder, frame.step))
        step = Step(
            step=frame.step,
            timestep=frame.timestep,
            sigma=frame.sigma,
            guidance_norm=frame.guidance_norm.item(),
            change=0.0 if self._before is None else _rms(tensors["denoised"] - self._before),
            space=frame.space,
            contributions={name: _rms(pull) for name, pull in frame.contributions.items()},
        )
        self._steps.append(step)
        self._before = tensors["denoised"]
        return step

    def close(self) -> None:
        """Write `timeline.json`, whole or not at all."""
        file = TimelineFile(recipe=self._recipe, steps=self._steps)
        partial = self._folder / "timeline.json.partial"
        partial.write_text(json.dumps(file.model_dump(), indent=1, ensure_ascii=False), encoding="utf-8")
        partial.replace(self._folder / "timeline.json")


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """One frame read back: tensors as in `Frame`, on the CPU; a frame without guidance has no heat.

    `contributions` is (parts, h, w), where styles were mixed by their predictions or a classifier steered;
    only the last frame has `finished`, the latents that the run ended with.
    """

    latents: Tensor
    denoised: Tensor
    model_output: Tensor
    noisy: Tensor
    guidance_heat: Tensor | None
    contributions: Tensor | None
    finished: Tensor | None


@dataclass(frozen=True, slots=True)
class Timeline:
    """A timeline on disk; frames are read when asked for."""

    folder: Path
    recipe: Recipe
    steps: list[Step]

    def frame(self, step: int) -> StoredFrame:
        """Read one frame.

        Raises:
            BadInput: when its file is missing or damaged.
        """
        file = _frame_file(self.folder, step)
        try:
            tensors = load_file(file)
            latents, denoised, model_output = (tensors[name] for name in _TENSORS)
        except (OSError, SafetensorError, KeyError):
            raise BadInput(
                f"Step {step} of this timeline is gone: {file.name} is missing or damaged."
            ) from None
        numbers = self.steps[step]
        noisy = to_alpha_space(latents, numbers.sigma, numbers.space)
        heat, contributions = (
            None if stored is None else stored.float()
            for stored in (tensors.get("guidance_heat"), tensors.get("contributions"))
        )
        finished = tensors.get("finished")
        return StoredFrame(latents, denoised, model_output, noisy, heat, contributions, finished)

    def damaged(self) -> list[int]:
        """List the steps whose file is missing or cut; only the headers are read.

        A safetensors file begins with the length of its header (8 bytes, little-endian) and the header, JSON
        that tells where in the rest each tensor ends.
        """
        return [step for step in range(len(self.steps)) if not _is_whole(_frame_file(self.folder, step))]

    def known(self, steps: int, device: torch.device) -> list[Known]:
        """Read the first steps as a branch takes them over: so many, or up to one that is gone."""
        known: list[Known] = []
        frame = self._whole(0)
        for step in range(min(steps, len(self.steps))):
            if frame is None:
                break
            after = self._whole(step + 1)
            known.append(self._known(step, frame, frame.finished if after is None else after.latents, device))
            frame = after
        return known

    def _whole(self, step: int) -> StoredFrame | None:
        try:
            return self.frame(step) if step < len(self.steps) else None
        except BadInput:
            return None

    def _known(self, step: int, frame: StoredFrame, following: Tensor | None, device: torch.device) -> Known:
        numbers, heat, pulls = self.steps[step], frame.guidance_heat, frame.contributions
        by_style = () if pulls is None else pulls.to(device)[:, None, None]
        return Known(
            frame.model_output.to(device),
            torch.tensor(numbers.guidance_norm, device=device),
            None if heat is None else heat.to(device),
            dict(zip(numbers.contributions, by_style, strict=True)),
            None if following is None else following.to(device),
        )


def read_timeline(folder: Path) -> Timeline:
    """Read a timeline's numbers.

    Raises:
        BadInput: when the folder has no readable `timeline.json`.
    """
    try:
        file = TimelineFile.model_validate_json((folder / "timeline.json").read_bytes())
    except OSError:
        raise BadInput(f"There is no timeline in {folder}: timeline.json is missing.") from None
    except ValidationError:
        raise BadInput(f"The timeline in {folder} is damaged: timeline.json cannot be read.") from None
    return Timeline(folder, file.recipe, file.steps)


def _frame_file(folder: Path, step: int) -> Path:
    return folder / f"frame-{step:03d}.safetensors"


def _is_whole(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            size = file.stat().st_size
            if not 0 < length <= size - 8:
                return False
            header = _HEADER.validate_json(stream.read(length))
        ends = {name: tensor.data_offsets[1] for name, tensor in header.items() if name != "__metadata__"}
    except (OSError, ValidationError):
        return False
    return ends.keys() >= set(_TENSORS) and max(ends.values()) == size - 8 - length


class _StoredTensor(BaseModel):
    data_offsets: tuple[int, int] = (0, 0)


_HEADER = TypeAdapter(dict[str, _StoredTensor])


def _rms(difference: Tensor) -> float:
    return difference.square().mean().sqrt().item()
