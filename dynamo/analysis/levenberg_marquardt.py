"""One iteration of the search for fixed points: Levenberg-Marquardt on ||h - F(h)||^2, each row with its own damping.

A line attractor makes the Jacobian of h - F(h) nearly singular. Newton's method would leave along the line for a
distant exact solution; the damping keeps the step short in just these directions, so that every seed ends close to
where it began.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from dynamo.analysis.linearisation import Step, evaluate, jacobians

_FIRST_DAMPING: Final = 1e-3
_LEAST, _MOST = 1e-9, 1e9
_ATTEMPTS: Final = 4
"""Dampings that are tried on one Jacobian, which costs as much as a few of them."""


class Iterate(NamedTuple):
    """Where P rows are.

    Attributes:
        states: `[P, S]`.
        residual: `h - F(h)`, `[P, S]`.
        speed: `1/2 ||h - F(h)||^2`, `[P]`; not finite where the state or the next one is not.
        damping: added to the eigenvalues of `J^T J` in the next step, `[P]`.
    """

    states: Tensor
    residual: Tensor
    speed: Tensor
    damping: Tensor

    def rows(self, index: Tensor) -> Iterate:
        """Some of the rows."""
        return Iterate(*(part[index] for part in self))

    def put(self, index: Tensor, other: Iterate) -> None:
        """Overwrite these rows, in place."""
        for part, new in zip(self, other, strict=True):
            part[index] = new


def begin(step: Step, states: Tensor, context: Tensor | None) -> Iterate:
    """Rows `[P, S]` that have not moved yet."""
    residual = states - evaluate(step, states, context)
    speed = residual.square().sum(1) / 2
    return Iterate(states, residual, speed, torch.full_like(speed, _FIRST_DAMPING))


def damped_step(step: Step, now: Iterate, context: Tensor | None) -> Iterate:
    """How far down does one Jacobian take every row? Solves `(J^T J + damping I) d = J^T r` and moves by -d.

    The damping falls tenfold where a step brought over 3/4 of what the linear picture promised, stays where it brought
    over 1/4, and rises tenfold otherwise: for the next iteration if the step gained a little and is taken, and for
    another attempt on the same Jacobian if it did not pay.

    Args:
        step: see `linearisation.Step`.
        now: the rows.
        context: what travels with them, `[P, ...]`.

    Returns:
        The rows after it; one for which no damping paid has stayed where it was, with a larger damping.
    """
    jacobian = -jacobians(step, now.states, context, len(now.states))
    jacobian.diagonal(dim1=1, dim2=2).add_(1)
    normal, slope = jacobian.mT @ jacobian, jacobian.mT @ now.residual.unsqueeze(2)
    after = Iterate(*(part.clone() for part in now))
    left = torch.arange(len(now.states), device=now.states.device)
    for _ in range(_ATTEMPTS):
        before = after.rows(left)
        damped = normal[left]
        damped.diagonal(dim1=1, dim2=2).add_(before.damping.unsqueeze(1))
        factor, failed = torch.linalg.cholesky_ex(damped)
        move = torch.cholesky_solve(slope[left], factor).squeeze(2)
        tried = begin(step, before.states - move, None if context is None else context[left])
        promised = ((move * slope[left].squeeze(2)).sum(1) + before.damping * move.square().sum(1)) / 2
        gain = (before.speed - tried.speed) / promised  # not a number where the step left the finite
        better = (gain > 1e-3) & (failed == 0)
        factor_of = torch.where(better & (gain > 0.75), 0.1, torch.where(better & (gain > 0.25), 1.0, 10.0))
        damping = (before.damping * factor_of.to(before.damping.dtype)).clamp(_LEAST, _MOST)
        moved = Iterate(*(torch.where(_like(better, new), new, old) for new, old in zip(tried, before, strict=True)))
        after.put(left, moved._replace(damping=damping))
        left = left[~better]
        if not len(left):
            break
    return after


def run_on(step: Step, now: Iterate, context: Tensor | None, tolerance: float, steps: int) -> Iterate:
    """Where does the network itself go from here? Up to so many steps, each row until its speed is below tolerance."""
    states, after = now.states, now.states - now.residual
    for _ in range(steps):
        moving = (states - after).square().sum(1, keepdim=True) / 2 >= tolerance
        states = torch.where(moving, after, states)
        after = evaluate(step, states, context)
    residual = states - after
    return Iterate(states, residual, residual.square().sum(1) / 2, now.damping)


def _like(mask: Tensor, other: Tensor) -> Tensor:
    """A mask `[P]` that broadcasts against `[P]` or `[P, S]`."""
    return mask.view(-1, *[1] * (other.ndim - 1))
