"""A timeline on disk is the run that was painted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipelines.denoising import Frame
from pipelines.models.sd import StableDiffusion
from pipelines.prompt_to_image import paint
from pipelines.recipe import BadInput
from pipelines.timeline import TimelineWriter, read_timeline
from tests.pipelines.test_denoising import recipe_of


def kept(tiny: StableDiffusion, folder: Path, sampler: str = "Euler") -> list[Frame]:
    recipe = recipe_of(tiny, sampler=sampler)
    frames: list[Frame] = []
    writer = TimelineWriter(folder, recipe)

    def keep(frame: Frame) -> None:
        frames.append(frame)
        writer.add(frame)

    paint(tiny, recipe, keep)
    writer.close()
    return frames


@pytest.mark.parametrize("sampler", ["Euler", "DPM++ 2M"])
def test_frames_come_back_bit_for_bit(tiny: StableDiffusion, tmp_path: Path, sampler: str) -> None:
    frames = kept(tiny, tmp_path, sampler)
    timeline = read_timeline(tmp_path)
    assert timeline.recipe == recipe_of(tiny, sampler=sampler)
    assert len(timeline.steps) == len(frames) == 6
    for frame, step in zip(frames, timeline.steps, strict=True):
        stored = timeline.frame(frame.step)
        assert torch.equal(stored.latents, frame.latents)
        assert torch.equal(stored.denoised, frame.denoised)
        assert torch.equal(stored.noisy, frame.noisy)
        assert (step.step, step.timestep, step.sigma) == (frame.step, frame.timestep, frame.sigma)
        assert step.guidance_norm == frame.guidance_norm.item()
        assert stored.guidance_heat is not None
        pull = stored.guidance_heat.square().mean().sqrt().item()
        assert pull == pytest.approx(step.guidance_norm, rel=2e-3), "its places make up its strength"
    moved = (frames[3].denoised - frames[2].denoised).square().mean().sqrt().item()
    assert timeline.steps[3].change == moved > 0
    assert timeline.steps[0].change == 0


def test_folder_holds_what_the_documentation_says(tiny: StableDiffusion, tmp_path: Path) -> None:
    kept(tiny, tmp_path)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == [*(f"frame-{i:03d}.safetensors" for i in range(6)), "timeline.json"]
    tensors = load_file(tmp_path / "frame-000.safetensors")
    assert set(tensors) == {"latents", "denoised", "model_output", "guidance_heat"}
    file = json.loads((tmp_path / "timeline.json").read_text())
    assert set(file) == {"recipe", "steps"}
    assert set(file["steps"][0]) == {"step", "timestep", "sigma", "guidance_norm", "change", "space"}


def test_damage_is_told_in_a_sentence(tiny: StableDiffusion, tmp_path: Path) -> None:
    kept(tiny, tmp_path)
    (tmp_path / "frame-002.safetensors").write_bytes(b"not safetensors")
    (tmp_path / "frame-003.safetensors").unlink()
    timeline = read_timeline(tmp_path)
    for step in (2, 3):
        with pytest.raises(BadInput, match=f"Step {step} of this timeline is gone"):
            timeline.frame(step)
    assert timeline.frame(4).latents.shape == (1, 4, 36, 32)
    (tmp_path / "timeline.json").write_text("{")
    with pytest.raises(BadInput, match="damaged"):
        read_timeline(tmp_path)
    with pytest.raises(BadInput, match="missing"):
        read_timeline(tmp_path / "nowhere")
