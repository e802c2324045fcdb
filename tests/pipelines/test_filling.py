"""How fillings are measured, by the piece; both commands on a toy model are in test_evaluation.py."""

from __future__ import annotations

import pytest
import torch

from pipelines.training.evaluation.filling import border_gradient, centre_hole, oklab


def test_the_gradient_across_a_border_is_that_of_its_neighbours_only() -> None:
    hole = centre_hole(torch.zeros(8, 12, 3, dtype=torch.uint8))
    assert hole.sum() == 4 * 6
    step = (hole[..., None] * 40).byte().expand(8, 12, 3)
    assert border_gradient(step, hole) == 40
    assert border_gradient(torch.full_like(step, 9), hole) == 0
    # A slope is met across the two upright borders and not across the level ones, which are 12 of 20 pairs.
    slope = (torch.arange(12)[None, :, None] * 5).expand(8, 12, 3).byte()
    assert border_gradient(slope, hole) == pytest.approx(5 * 8 / 20)


def test_oklab_of_known_colours() -> None:
    colours = oklab(torch.tensor([[255, 255, 255], [0, 0, 0], [255, 0, 0]], dtype=torch.uint8))
    expected = torch.tensor([[1, 0, 0], [0, 0, 0], [0.627955, 0.224863, 0.125846]], dtype=torch.float64)
    assert torch.allclose(colours, expected, atol=1e-5)
