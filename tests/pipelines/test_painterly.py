"""Pictures in other colours and in strokes: what changes, and what stays as it was."""

from __future__ import annotations

import pytest
import torch

from pipelines.training.evaluation.painterly import paint_like, recolour, stroke


def noise(seed: int, count: int = 6, side: int = 24) -> torch.Tensor:
    drawn = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))
    return drawn * 2 - 1


def test_a_stroke_evens_what_is_rough_and_keeps_an_edge() -> None:
    edge = torch.full((1, 3, 16, 16), -0.5)
    edge[..., 8:] = 0.5
    assert torch.allclose(stroke(edge, 3), edge, atol=1e-6), "either side is as even as can be"
    rough = (edge + 0.1 * noise(0, 1, 16)).clamp(-1, 1)
    painted = stroke(rough, 3)
    assert (painted - edge).abs().mean() < 0.5 * (rough - edge).abs().mean()
    assert ((painted[..., 8:].amin() > 0.3) & (painted[..., :8].amax() < -0.3)).item()


def test_a_stroke_is_the_evenest_of_four_squares() -> None:
    pixels, radius = noise(1, 1, 7), 2
    around = pixels[0, :, 3 - radius : 3 + radius + 1, 3 - radius : 3 + radius + 1]
    squares = [around[:, top : top + 3, left : left + 3] for top in (0, 2) for left in (0, 2)]
    evenest = min(squares, key=lambda one: one.var((1, 2), correction=0).sum().item())
    assert torch.allclose(stroke(pixels, radius)[0, :, 3, 3], evenest.mean((1, 2)), atol=1e-5)


def test_recoloured_it_has_the_other_ones_mean_and_deviation() -> None:
    other = 0.3 + 0.5 * noise(3)
    painted = recolour(noise(2), other)
    for mine, theirs in zip(torch.std_mean(painted, (2, 3)), torch.std_mean(other, (2, 3)), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-4)
    plain = recolour(noise(2), torch.full_like(other, 0.25))
    assert plain.std((2, 3)).min() > 0.09, "a plain picture takes no other's shapes away"


def test_each_is_varied_in_its_own_way_and_some_are_not() -> None:
    pixels = noise(4, 200, 16) * 0.5
    painted = paint_like(pixels, torch.Generator().manual_seed(0))
    assert torch.equal(painted, paint_like(pixels, torch.Generator().manual_seed(0)))
    assert painted.shape == pixels.shape
    assert painted.abs().max() <= 1
    same = (painted == pixels).flatten(1).all(1).float().mean().item()
    assert same == pytest.approx(0.6 * 0.6 * 0.7, abs=0.1)
