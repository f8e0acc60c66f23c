"""What lies between two models? A straight line on the map, and beside it the same line between their weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from dynamo.analysis.averaging import accuracy_at, bundle_accuracy
from dynamo.analysis.emulator import Emulator
from dynamo.population.base import Bundle
from dynamo.types import TaskBatch


@dataclass(frozen=True)
class Interpolation:
    """How good are the networks on the way from one model to another?

    Attributes:
        shares: how much of the second model each point has, float64 `[K]`, from 0 to 1.
        points: the straight line of theta, `[K, D]`; begins at the first model and ends at the second.
        accuracy: of the meta-model at these points, in [0, 1], float64 `[K]`.
        weights_accuracy: of the networks on the straight line between the two models' weights, float64 `[K]`; None
            where it was not measured, as for models that are not in one bundle.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import Interpolation
        >>> shares, accuracy = torch.tensor([0.0, 0.5, 1.0]).double(), torch.tensor([0.80, 0.82, 0.81]).double()
        >>> way = Interpolation(shares, points=torch.tensor([[0.0], [1.0], [2.0]]), accuracy=accuracy)
        >>> float(way.points[way.accuracy.argmax()])  # the best network stands half-way
        1.0
    """

    shares: Tensor
    points: Tensor
    accuracy: Tensor
    weights_accuracy: Tensor | None = None


def interpolate(
    network: Emulator,
    theta_a: Tensor,
    theta_b: Tensor,
    task: str,
    batches: Iterable[dict[str, TaskBatch]],
    steps: int = 11,
) -> Interpolation:
    """Is every point between two models of the map a working network?

    Args:
        network: the trained meta-model.
        theta_a: where the line begins, `[D]`.
        theta_b: where it ends, `[D]`.
        task: whose items and readout.
        batches: labelled items; those of other tasks are passed over.
        steps: K, points on the line with both ends.

    Raises:
        ValueError: what is given is no two points of this map, fewer than 2 steps, or there is no item of the task.

    Source: the interpolated points of Figure 8.

    Examples:
        >>> import torch
        >>> from dynamo import TaskBatch
        >>> from dynamo.analysis import interpolate
        >>> from dynamo.meta import RecurrentMetaModel
        >>> network = RecurrentMetaModel(9, {"film": 2}, 1, hidden_size=1, architecture="rnn").requires_grad_(False)
        >>> _ = [weight.zero_() for weight in network.parameters()]
        >>> network.weight_theta[0, 0] = network.heads["film"].weight[1, 0] = 1.0  # "positive" where theta > 0
        >>> items = TaskBatch(torch.tensor([[2, 3], [4, 5]]), torch.tensor([1, 1]), torch.tensor([2, 2]))
        >>> interpolate(network, torch.tensor([-2.0]), torch.tensor([1.0]), "film", [{"film": items}], steps=3).accuracy
        tensor([0., 0., 1.], dtype=torch.float64)
    """
    shares = _shares(steps)
    for name, theta in (("theta_a", theta_a), ("theta_b", theta_b)):
        if theta.shape != (network.dimensions,):
            raise ValueError(f"{name} must be a point [{network.dimensions}] of the map, got {list(theta.shape)}")
    points = _line(theta_a.detach(), theta_b.detach(), shares)
    return Interpolation(shares, points, accuracy_at(network, points, task, batches))


@torch.inference_mode()
def interpolate_weights(
    bundle: Bundle,
    a: int,
    b: int,
    task: str,
    batches: Iterable[dict[str, TaskBatch]],
    steps: int = 11,
) -> Tensor:
    """Are the networks between two models' weights any good? The control for `interpolate`.

    Hidden units of separately trained networks do not correspond, so the middle of this line is usually poor.

    Args:
        bundle: base models.
        a: index of the first model in the bundle.
        b: index of the second.
        task: that of the bundle.
        batches: as in `interpolate`.
        steps: as in `interpolate`.

    Returns:
        Share of right answers, float64 `[K]`.

    Raises:
        ValueError: no such member, fewer than 2 steps, or there is no item of the task.

    Examples:
        >>> import torch
        >>> from dynamo import TaskBatch
        >>> from dynamo.analysis import interpolate_weights
        >>> from dynamo.population import RecurrentBundle
        >>> bundle = RecurrentBundle(2, "gru", 9, 2, hidden_size=3, classes=2).requires_grad_(False)
        >>> bundle.readout_bias[:] = torch.tensor([[3.0, 0.0], [0.0, 1.0]])  # of the way in between, 3/4 answer 0
        >>> items = TaskBatch(torch.tensor([[2], [3]]), torch.tensor([1, 1]), torch.tensor([1, 1]))
        >>> interpolate_weights(bundle, 0, 1, "film", [{"film": items}], steps=6)
        tensor([0., 0., 0., 0., 1., 1.], dtype=torch.float64)
    """
    shares = _shares(steps)
    for index in (a, b):
        if not 0 <= index < bundle.count:
            raise ValueError(f"there is no member {index} in a bundle of {bundle.count}; give 0..{bundle.count - 1}")
    ends = bundle.take([a, b])
    first, *rest = (ends.averaged([1 - share, share]) for share in shares.tolist())
    return bundle_accuracy(first.join(rest), task, batches)


def _shares(steps: int) -> Tensor:
    """Even steps from 0 to 1, `[K]`."""
    if steps < 2:
        raise ValueError(f"a line has two ends: steps must be at least 2, got {steps}")
    return torch.linspace(0.0, 1.0, steps, dtype=torch.float64)


def _line(first: Tensor, second: Tensor, shares: Tensor) -> Tensor:
    """Points `[K, ...]` between two tensors `[...]`; the ends are exact."""
    weights = shares.to(first).view(-1, *[1] * first.ndim)
    return torch.lerp(first, second.to(first), weights)
