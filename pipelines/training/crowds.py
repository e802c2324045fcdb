"""Compares a crowd of made pictures with the pack's, which no critic of single pictures can.

Critics each wish for plainer pictures, and a model that gives them what they want paints all of them alike.
The Fréchet distance (Heusel et al., 2017) between crowds tells, in the answers of a classifier that was not
trained on the pack; here it is a loss, each picture being drawn to where the optimal transport of its crowd
to the pack's would take it.

What pleases critics is also what is typical, and that is where the training pictures are. So a crowd is held
to their distance as well: no nearer than pictures never trained on.
"""

from __future__ import annotations

import torch

from pipelines.training.evaluation.metrics import nearest_distances

_LEAST_VARIANCE = 1e-4


class Crowd:
    """The pack's answers as a Gaussian, and those of the pictures made lately as another."""

    def __init__(self, real: torch.Tensor, width: int, decay: float) -> None:
        """Keep `width` principal components of answers (N, K), each scaled to the variance 1.

        `decay` is how much of the earlier pictures' moments every batch leaves.
        """
        self._mean = real.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov(real.T))
        self._basis = vectors[:, -width:] / values[-width:].clamp_min(1e-8).sqrt()
        self._decay = decay
        self._count = 0.0
        self._first, self._second = real.new_zeros(width), real.new_zeros(width, width)

    def see(self, answers: torch.Tensor) -> torch.Tensor:
        """Answers (B, K) in the components where the pack is normal, (B, width)."""
        return (answers - self._mean) @ self._basis

    def distance(self, answers: torch.Tensor) -> torch.Tensor:
        """The mean squared way of made pictures' answers (B, K) to where the transport takes them, a scalar.

        It is the Fréchet distance if the crowd is these pictures alone, and has its gradient. From the
        Gaussian N(m, C) to N(0, 1) the transport takes x to C^(-1/2) (x - m) (Dowson & Landau, 1982).
        """
        seen = self.see(answers)
        with torch.no_grad():
            self._remember(seen)
            mean = self._first / self._count
            covariance = self._second / self._count - mean.outer(mean)
            values, vectors = torch.linalg.eigh(covariance)
            root = vectors * values.clamp_min(_LEAST_VARIANCE).rsqrt() @ vectors.T
            target = (seen - mean) @ root
        return (seen - target).square().sum(1).mean()

    def _remember(self, seen: torch.Tensor) -> None:
        self._count = self._decay * self._count + len(seen)
        self._first = self._decay * self._first + seen.sum(0)
        self._second = self._decay * self._second + seen.T @ seen


class Neighbourhood:
    """Training pictures' features, and how near to one of them pictures never trained on lie."""

    def __init__(self, training: torch.Tensor, held_out: torch.Tensor) -> None:
        """Measure features (N, D) and (M, D)."""
        self._training = training
        self._usual = nearest_distances(held_out, training)

    def nearness(self, features: torch.Tensor) -> torch.Tensor:
        """How much nearer made pictures' features (B, D) lie than held-out ones, in their medians: a scalar.

        The nearest are compared with the nearest, level by level; nothing is gained by being farther.
        """
        distances = nearest_distances(features, self._training).sort().values
        levels = (torch.arange(len(distances), device=features.device) + 0.5) / len(distances)
        return (self._usual.quantile(levels) - distances).clamp_min(0).mean() / self._usual.median()
