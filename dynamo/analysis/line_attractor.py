"""Do a network's fixed points form a line, along which it keeps what it has read so far (Figure 8)?

Reverse engineering recurrent networks for sentiment classification reveals line attractor dynamics, Maheswaranathan,
Williams, Golub, Ganguli and Sussillo (2019), is where the measures come from: a nearly one-dimensional set of
approximate fixed points, at each of which one mode decays slowly, along the line and across the readout's border.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynamo.analysis.linearisation import Linearisation

_ROUNDING = 1e-9
"""A spread below this, relative to the size of the states, is rounding; so is one of two last bits of their type."""


@dataclass(frozen=True)
class LineAttractor:
    """How much of a line is this set of slow points, and what does it have to do with the answer?

    Tensors are float64 on the CPU. Points that are all the same are no line: dimension, length and straightness are
    0, and the direction is that of their slow mode.

    Attributes:
        count: number of points U.
        dimension: participation ratio of the points, `(sum v)^2 / sum v^2` over the variances v along their principal
            axes; in [1, min(U - 1, S)], 1 is a straight line.
        length: extent of the points along their first axis, in units of the states.
        straightness: share of the points' variance along the first axis, in (0, 1].
        direction: the first axis, of length 1, pointing to where the readout grows `[S]`.
        centre: mean of the points `[S]`.
        slow_share: share of the modes whose time constant exceeds the threshold, mean over the points, in [0, 1];
            modes that grow count, as their time constant is infinite.
        slowest: median over the points of the longest time constant, in steps; infinity where a mode grows.
        readout_alignment: |cos| between direction and readout, in [0, 1]: is moving along the line seen?
        mode_alignment: |cos| between direction and slow mode (right eigenvector), mean over the points, in [0, 1]: is
            the line along what lingers? A complex mode turns in a plane, that of its real and imaginary part; the angle
            is then the one to that plane.
        selection_alignment: |cos| between readout and the slow mode's left eigenvector, mean over the points, in
            [0, 1]: is what enters the line what the readout reads? A complex one is taken as in `mode_alignment`.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import line_attractor, linearise
        >>> states = torch.tensor([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
        >>> kept = linearise(lambda h: h @ torch.diag(torch.tensor([1.0, 0.5])), states)  # keeps its first unit
        >>> found = line_attractor(states, kept, readout=torch.tensor([0.0, 1.0]))
        >>> round(found.mode_alignment, 6), round(found.readout_alignment, 6)  # it lingers, and nobody reads it
        (1.0, 0.0)
    """

    count: int
    dimension: float
    length: float
    straightness: float
    direction: Tensor
    centre: Tensor
    slow_share: float
    slowest: float
    readout_alignment: float
    mode_alignment: float
    selection_alignment: float


def line_attractor(
    states: Tensor, linearisation: Linearisation, readout: Tensor, threshold: float = 10.0
) -> LineAttractor:
    """Do these slow points form a line?

    A dense cluster counts by its number of points; give the evenly spaced representatives of `FixedPoints.unique`.

    Args:
        states: the points `[U, S]`, U >= 1.
        linearisation: of these points, in this order.
        readout: what the answer's score grows along, such as the positive minus the negative row of the readout
            `[S]`; for an LSTM followed by zeros for c.
        threshold: time constant in steps above which a mode is slow.

    Raises:
        ValueError: shapes do not fit, values are not finite, or the readout is zero.

    Source: Figure 8; the measures are not given in the paper.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import line_attractor, linearise
        >>> states = torch.tensor([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
        >>> kept = linearise(lambda h: h @ torch.diag(torch.tensor([1.0, 0.5])), states)  # keeps its first unit
        >>> found = line_attractor(states, kept, readout=torch.tensor([1.0, 0.0]))
        >>> round(found.dimension, 6), round(found.length, 6), found.slowest
        (1.0, 2.0, inf)
    """
    if states.ndim != 2 or 0 in states.shape:
        raise ValueError(f"states must be [U, S] with U, S >= 1, got {list(states.shape)}")
    if linearisation.eigenvalues.shape != states.shape:
        raise ValueError(
            f"the linearisation is of {list(linearisation.eigenvalues.shape)}, the states {list(states.shape)}: "
            "linearise just these states"
        )
    if readout.shape != states.shape[1:]:
        raise ValueError(f"readout must be [{states.shape[1]}], as the states, got {list(readout.shape)}")
    points, weights = states.detach().cpu().double(), readout.detach().cpu().double()
    if not (points.isfinite().all() and weights.isfinite().all() and weights.any()):
        raise ValueError("states and readout must be finite numbers, and the readout not zero")
    centre = points.mean(0)
    centred = points - centre
    last_bits = 2 * torch.finfo(states.dtype).eps if states.is_floating_point() else 0.0
    if centred.abs().max() <= max(_ROUNDING, last_bits) * points.abs().max():
        centred = torch.zeros_like(points)
    _, singular, axes = torch.linalg.svd(centred, full_matrices=False)
    variance = singular.square()
    total = float(variance.sum())
    slow = linearisation.right.real
    direction = axes[0] if total > 0 else slow[0] / torch.linalg.vector_norm(slow[0])
    if direction @ weights < 0:
        direction = -direction
    along = centred @ direction
    times = linearisation.time_constants
    return LineAttractor(
        count=len(points),
        dimension=total**2 / float(variance.square().sum()) if total > 0 else 0.0,
        length=float(along.max() - along.min()),
        straightness=float(variance[0]) / total if total > 0 else 0.0,
        direction=direction,
        centre=centre,
        slow_share=float((times > threshold).double().mean()),
        slowest=float(times[:, 0].median()),
        readout_alignment=_overlap(direction.unsqueeze(0), weights),
        mode_alignment=_overlap(linearisation.right, direction),
        selection_alignment=_overlap(linearisation.left, weights),
    )


def angle(a: Tensor, b: Tensor) -> float:
    """By how much are two lines tilted against each other? Degrees in [0, 90]; which way they point does not count.

    Args:
        a: a direction of any length `[S]`.
        b: another `[S]`.

    Raises:
        ValueError: shapes differ, or a direction is zero or not finite.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import angle
        >>> round(angle(torch.tensor([1.0, 0.0]), torch.tensor([-1.0, -1.0])), 6)
        45.0
    """
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"an angle lies between two directions of one length, got {list(a.shape)} and {list(b.shape)}")
    first, second = (each.detach().cpu().double() for each in (a, b))
    if not all(each.isfinite().all() and each.any() for each in (first, second)):
        raise ValueError("an angle needs two finite directions that are not zero")
    first, second = (each / torch.linalg.vector_norm(each) for each in (first, second))
    if first @ second < 0:
        second = -second
    # Half-angle form: arccos loses half of the digits near 0.
    gap, reach = torch.linalg.vector_norm(first - second), torch.linalg.vector_norm(first + second)
    return float(torch.rad2deg(2 * torch.atan2(gap, reach)))


def _overlap(vectors: Tensor, direction: Tensor) -> float:
    """Mean |cos| between a direction `[S]` and vectors `[U, S]`, or the planes of complex ones."""
    turned = vectors.to(torch.complex128)
    # In the phase in which the sum of squares is a positive number, real and imaginary part are at right angles.
    turned = turned * torch.polar(torch.tensor(1.0).double(), -turned.square().sum(1, keepdim=True).angle() / 2)
    squares = torch.zeros(len(vectors), dtype=torch.float64)
    for part in (turned.real, turned.imag):
        length = torch.linalg.vector_norm(part, dim=1)
        spans = length > _ROUNDING * torch.linalg.vector_norm(turned, dim=1)
        squares += torch.where(spans, part @ direction / torch.where(spans, length, 1.0), 0.0).square()
    cosines = squares.sqrt() / torch.linalg.vector_norm(direction)
    return float(cosines.clamp(max=1).mean())
