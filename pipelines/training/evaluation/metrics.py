"""How far apart two sets of pictures are, from their features."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

_CHUNK = 1024


def _distances(points: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Euclidean distances (N, M), without the matrix product that loses near neighbours to rounding."""
    return torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist")


def frechet_distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The Fréchet distance of Gaussians fitted to features (N, D) and (M, D) (Heusel et al., 2017, eq. 6).

    |m - n|^2 + tr(A + B - 2 (A B)^(1/2)). It is biased upwards in small sets: compare it only with that of
    sets of like size.
    """
    ours, theirs = ours.double().cpu(), theirs.double().cpu()
    gap = (ours.mean(0) - theirs.mean(0)).square().sum()
    first, second = torch.cov(ours.T), torch.cov(theirs.T)
    # (A B)^(1/2) has the trace of (A^(1/2) B A^(1/2))^(1/2), which is symmetric and so has real eigenvalues.
    values, vectors = torch.linalg.eigh(first)
    root = vectors @ torch.diag(values.clamp_min(0).sqrt()) @ vectors.T
    shared = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
    return float(gap + first.trace() + second.trace() - 2 * shared)


def precision_recall(real: torch.Tensor, made: torch.Tensor, neighbours: int = 3) -> tuple[float, float]:
    """Precision and recall of made pictures by k nearest neighbours (Kynkäänniemi et al., 2019, eq. 1 and 2).

    Features (N, D) and (M, D). Precision is the share of made pictures that lie in the manifold of the real
    ones, recall the share of real pictures in the manifold of the made ones.
    """
    return _covered(made, real, neighbours), _covered(real, made, neighbours)


def _covered(points: torch.Tensor, manifold: torch.Tensor, neighbours: int) -> float:
    """The share of `points` within some manifold point's distance to its own k-th neighbour."""
    neighbours = min(neighbours, len(manifold) - 1)
    # The nearest to a point is the point itself, so the k-th neighbour stands at k + 1.
    radii = torch.cat(
        [_distances(part, manifold).kthvalue(neighbours + 1, dim=1).values for part in manifold.split(_CHUNK)]
    )
    inside = [(_distances(part, manifold) <= radii).any(1) for part in points.split(_CHUNK)]
    return float(torch.cat(inside).double().mean())


def nearest_distances(points: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Each point's distance to the nearest of `others`: (N, D) and (M, D) to (N,)."""
    return torch.cat([_distances(part, others).amin(1) for part in points.split(_CHUNK)])


def nearer_than_rivals(points: torch.Tensor, own: torch.Tensor, seed: int) -> torch.Tensor:
    """Whether each of points (W, N, D) lies nearer to its own than to a random other word's: (W, N) bool.

    `own` (W, N, D) holds what each of a word's N points belongs to; `seed` draws the rivals.
    """
    rng = random.Random(seed)
    words, count = points.shape[:2]
    drawn = [[rng.choice([o for o in range(words) if o != w]) for _ in range(count)] for w in range(words)]
    rivals = torch.tensor(drawn, device=own.device)
    theirs = own[rivals, torch.arange(count, device=own.device).expand_as(rivals)]
    return (points - own).norm(dim=2) < (points - theirs).norm(dim=2)


def mean_distance(points: torch.Tensor) -> float:
    """The mean distance between two different points of (N, D); NaN where there are fewer than two."""
    count = len(points)
    return float(torch.pdist(points).mean()) if count > 1 else float("nan")


def quantiles(values: torch.Tensor) -> dict[str, float]:
    """The median and the 5th percentile of values (N,)."""
    levels = torch.tensor([0.5, 0.05], dtype=values.dtype, device=values.device)
    median, low = torch.quantile(values, levels).tolist()
    return {"median": median, "percentile_5": low}


def ratio(ours: float, beside: float) -> float:
    """One figure over another, NaN over nothing."""
    return ours / beside if beside else float("nan")


def mean(values: Sequence[float]) -> float:
    """The mean, NaN of nothing."""
    return sum(values) / len(values) if values else float("nan")


def share(hits: Sequence[bool]) -> float:
    """The share that are true, NaN of nothing."""
    return mean([float(hit) for hit in hits])
