"""Rigid alignment of two embeddings of the same models, to compare theta between seeds of the meta-model."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Alignment(NamedTuple):
    """Is it the same map, only moved, turned or mirrored?

    Attributes:
        aligned: the moving embedding laid over the fixed one `[N, D]`, D the larger of the two, in float64.
        residual: how far every model still is from its counterpart `[N]`.
        scale: factor applied to the moving embedding; 1 unless asked for.
        turn: rotation and reflection `[D, D]` in the directions in which the models spread; 0 in all others, where
            none is determined.
        centres: of the moving and of the fixed embedding `[D]`.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import procrustes_align
        >>> theta = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
        >>> round(procrustes_align(2 * theta, theta, scale=True).scale, 6)
        0.5
    """

    aligned: Tensor
    residual: Tensor
    scale: float
    turn: Tensor
    centres: tuple[Tensor, Tensor]

    def carry(self, points: Tensor, known: Tensor) -> Tensor:
        """Where in the fixed embedding would further models of the moving one lie?

        In a direction in which the aligned models do not spread (fewer models than dimensions) no turn is better than
        another; there a model is given its known place.

        Args:
            points: their places in the moving embedding `[M, D1]`.
            known: their places in the fixed one, that of a map they were on `[M, D2]`.

        Returns:
            `[M, D]`.
        """
        width = len(self.turn)
        away = _padded(known, width) - self.centres[1]
        told = self.scale * (_padded(points, width) - self.centres[0]) @ self.turn
        return self.centres[1] + told + away - away @ (self.turn.T @ self.turn)


def procrustes_align(moving: Tensor, fixed: Tensor, *, scale: bool = False) -> Alignment:
    """How different are two embeddings of the same models, once position and orientation are discounted?

    Finds the translation and orthogonal map (reflections included), and on request the scale, with the least
    summed squared distance. Embeddings of different D are padded with zeros to the larger.

    Args:
        moving: embedding to lay over the other `[N, D1]`.
        fixed: embedding that stays `[N, D2]`; row n is the same model in both.
        scale: also fit one factor for all axes.

    Raises:
        ValueError: if the embeddings do not hold the same number of models, or hold NaN or infinity.

    Source: Schoenemann, "A generalized solution of the orthogonal Procrustes problem", Psychometrika, 1966.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import procrustes_align
        >>> theta = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
        >>> turned_and_moved = theta @ torch.tensor([[0.0, 1.0], [-1.0, 0.0]]) + 5
        >>> procrustes_align(turned_and_moved, theta).residual.round(decimals=6)
        tensor([0., 0., 0.], dtype=torch.float64)
    """
    if moving.ndim != 2 or fixed.ndim != 2 or len(moving) != len(fixed) or not len(moving):
        raise ValueError(f"both must be [N, D] of the same N, got {list(moving.shape)}, {list(fixed.shape)}")
    width = max(moving.shape[1], fixed.shape[1])
    source, target = _padded(moving, width), _padded(fixed, width)
    if not (source.isfinite().all() and target.isfinite().all()):
        raise ValueError("an embedding holds NaN or infinity")
    centres = source.mean(0), target.mean(0)
    source, target = source - centres[0], target - centres[1]
    left, singular, right = torch.linalg.svd(source.T @ target)
    spread = source.square().sum()
    factor = float(singular.sum() / spread) if scale and spread > 0 else 1.0
    aligned = factor * source @ (left @ right)
    spans = singular > singular.amax() * 1e-12
    turn = left[:, spans] @ right[spans]
    return Alignment(aligned + centres[1], torch.linalg.vector_norm(aligned - target, dim=1), factor, turn, centres)


def _padded(points: Tensor, width: int) -> Tensor:
    """The points in float64 on the CPU with zeros for missing dimensions `[N, width]`."""
    return torch.nn.functional.pad(points.detach().cpu().double(), (0, width - points.shape[1]))
