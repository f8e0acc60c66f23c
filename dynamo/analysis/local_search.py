"""A local search for the best point around a good one, by drawing candidates a batch at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dynamo.analysis.pca import pca


@dataclass(frozen=True)
class LocalSearch:
    """Is there a better point near by, and how was it found?

    Attributes:
        point: the best point seen `[D]`, in the type and on the device of `start`.
        score: its score.
        start: where the search began `[D]`.
        start_score: the score there; never above `score`.
        scores: the best score so far after every round `[rounds]`, float64.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import local_search
        >>> found = local_search(lambda points: points[:, 0], torch.zeros(2), scale=1.0, rounds=5)
        >>> found.score > found.start_score, bool((found.scores.diff() >= 0).all())
        (True, True)
    """

    point: Tensor
    score: float
    start: Tensor
    start_score: float
    scores: Tensor


def directions(theta: Tensor) -> Tensor:
    """In which directions do the models differ, and how far?

    Args:
        theta: embeddings `[N, D]`.

    Returns:
        One row per principal direction `[D, D]`, as long as the models' standard deviation along it: a normal
        draw times this matrix has the models' own covariance. float64 on the CPU.

    Raises:
        ValueError: `theta` is no such matrix, or holds NaN or infinity.
    """
    axes = pca(theta)
    return axes.components * axes.coordinates.std(0, correction=0).unsqueeze(1)


def local_search(
    score: Callable[[Tensor], Tensor],
    start: Tensor,
    scale: Tensor | float,
    rounds: int = 8,
    candidates: int = 24,
    shrink: float = 0.7,
    seed: int = 0,
) -> LocalSearch:
    """Which point near `start` scores best?

    Each round draws pairs of opposite steps from the best point so far, normal in the directions of `scale`, and
    has them scored as one batch. A better candidate becomes the centre of the next round; where there is none,
    the steps shrink. Equal is not better: on a plateau the search stays where it began.

    Args:
        score: from points `[P, D]` to scores `[P]`, higher is better; NaN counts as the worst.
        start: `[D]`.
        scale: the size of a first step: one number, one per coordinate `[D]`, or a basis `[K, D]` whose rows are
            the steps of one standard deviation, such as `directions` gives.
        rounds: how many batches are scored.
        candidates: points per batch.
        shrink: factor of the steps after a round without success, in (0, 1].
        seed: decides the steps, the same ones on every device.

    Raises:
        ValueError: an argument out of its range, a shape that does not fit, or a `start` without a score.

    Source: the X of Figures 6 and 8. How it was found is not given in the paper.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import local_search
        >>> hill = torch.tensor([3.0, -1.0])
        >>> found = local_search(lambda points: -(points - hill).square().sum(1), torch.zeros(2), scale=1.0, rounds=40)
        >>> found.point.round(decimals=1)
        tensor([ 3., -1.])
    """
    if start.ndim != 1:
        raise ValueError(f"start must be one point [D], got {list(start.shape)}")
    if rounds < 0 or candidates < 1 or not 0 < shrink <= 1:
        raise ValueError(
            f"rounds {rounds} must be at least 0, candidates {candidates} at least 1, shrink {shrink} in (0, 1]"
        )
    given = torch.as_tensor(scale).detach().cpu().double()
    basis = given if given.ndim > 1 else torch.diag(given.expand(len(start)) if given.ndim == 0 else given)
    if basis.ndim != 2 or basis.shape[1] != len(start) or not basis.isfinite().all():
        wanted = f"a number, [D] or [K, D] with D = {len(start)}"
        raise ValueError(f"scale must be {wanted}, and finite; got {list(given.shape)}")
    first = start.detach()
    best, value = first, float(_scored(score, first.unsqueeze(0)))
    if value == -torch.inf:
        raise ValueError("the start has no score to improve on (NaN or minus infinity)")
    found, length, start_score = [], 1.0, value
    generator = torch.Generator().manual_seed(seed)
    for _ in range(rounds):
        half = torch.randn((candidates + 1) // 2, len(basis), generator=generator, dtype=torch.float64)
        steps = torch.stack([half, -half], dim=1).flatten(0, 1)[:candidates] @ basis
        points = best + (length * steps).to(best.dtype).to(best.device)
        scores = _scored(score, points)
        top = int(scores.argmax())
        if scores[top] > value:
            best, value = points[top], float(scores[top])
        else:
            length *= shrink
        found.append(value)
    return LocalSearch(best, value, first, start_score, torch.tensor(found, dtype=torch.float64))


def _scored(score: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    """The scores of a batch as float64 `[P]`, without NaN."""
    scores = score(points).detach().cpu().double()
    if scores.shape != points.shape[:1]:
        raise ValueError(f"score must give one number per point [{len(points)}], got {list(scores.shape)}")
    return torch.where(scores.isnan(), -torch.inf, scores)
