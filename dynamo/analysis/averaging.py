"""Model averaging in the embedding: the mean of theta is itself a working network (abstract of the paper)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from dynamo.analysis.accuracy_map import answers_at
from dynamo.analysis.emulator import Emulator
from dynamo.population.artifact import Population
from dynamo.population.base import Bundle
from dynamo.population.residual_block import MOMENTUM
from dynamo.types import TaskBatch

ALL = "all"


def mean_points(theta: Tensor, groups: Sequence[str]) -> dict[str, Tensor]:
    """At which points does one look for the average of all models, and of each group?

    Args:
        theta: embeddings `[N, D]`.
        groups: one name per model.

    Returns:
        The mean `[D]` over every model under "all", then that of each group in order of first appearance, in
        the type and on the device of `theta`; means are taken in float64.

    Raises:
        ValueError: if names and models differ in number, or a group is called "all".

    Source: the abstract (model averaging); the centroids of Figure 8.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import mean_points
        >>> mean_points(torch.tensor([[0.0, 0.0], [2.0, 4.0], [4.0, 2.0]]), ["GRU", "GRU", "RNN"])
        {'all': tensor([2., 2.]), 'GRU': tensor([1., 2.]), 'RNN': tensor([4., 2.])}
    """
    if theta.ndim != 2 or len(theta) != len(groups) or not len(groups):
        raise ValueError(f"theta {list(theta.shape)} must be [N, D] with one group each, not {len(groups)}")
    if ALL in groups:
        raise ValueError(f'no group can be called "{ALL}": it names the mean over every model')
    everyone = theta.detach().cpu().double().mean(0)
    return {ALL: everyone.to(theta.dtype).to(theta.device), **group_means(theta, groups)}


def group_means(theta: Tensor, groups: Sequence[str]) -> dict[str, Tensor]:
    """Where is the middle of each group? As `mean_points`, without the mean over every model.

    Args:
        theta: embeddings `[N, D]`.
        groups: one name per model.

    Returns:
        The mean `[D]` of each group, in order of first appearance.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import group_means
        >>> group_means(torch.tensor([[0.0, 0.0], [2.0, 4.0], [4.0, 2.0]]), ["GRU", "GRU", "RNN"])
        {'GRU': tensor([1., 2.]), 'RNN': tensor([4., 2.])}
    """
    values = theta.detach().cpu().double()
    means = {}
    for name in dict.fromkeys(groups):
        member = torch.tensor([group == name for group in groups])
        means[name] = values[member].mean(0)
    return {name: mean.to(theta.dtype).to(theta.device) for name, mean in means.items()}


def accuracy_at(network: Emulator, points: Tensor, task: str, batches: Iterable[dict[str, TaskBatch]]) -> Tensor:
    """How good are the networks at these points of the map?

    Args:
        network: the trained meta-model.
        points: `[P, D]`.
        task: whose items and readout.
        batches: labelled items; those of other tasks are passed over.

    Returns:
        Share of right answers at the last real step, float64 `[P]`.

    Raises:
        ValueError: there is no item of this task.

    Examples:
        >>> import torch
        >>> from dynamo import TaskBatch
        >>> from dynamo.analysis import accuracy_at
        >>> from dynamo.meta import RecurrentMetaModel
        >>> network = RecurrentMetaModel(9, {"film": 2}, 1, hidden_size=1, architecture="rnn").requires_grad_(False)
        >>> _ = [weight.zero_() for weight in network.parameters()]
        >>> network.weight_theta[0, 0] = network.heads["film"].weight[1, 0] = 1.0  # "positive" where theta > 0
        >>> items = TaskBatch(torch.tensor([[2, 3], [4, 5], [6, 7]]), torch.tensor([1, 1, 0]), torch.tensor([2, 2, 2]))
        >>> accuracy_at(network, torch.tensor([[-1.0], [1.0]]), "film", [{"film": items}]).round(decimals=2)
        tensor([0.3300, 0.6700], dtype=torch.float64)
    """
    return answers_at(network, points, task, batches).accuracy


def averaged_weights(bundle: Bundle) -> Bundle:
    """The one network whose weights are the mean of the members' weights: the control for averaging on the map.

    Hidden units of separately trained networks do not correspond, so this network is usually no better than chance.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import averaged_weights
        >>> from dynamo.population import RecurrentBundle
        >>> bundle = RecurrentBundle(2, "gru", 9, 2, hidden_size=3, classes=2).requires_grad_(False)
        >>> bundle.readout_bias[:] = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
        >>> averaged_weights(bundle).readout_bias
        Parameter containing:
        tensor([[2., 2.]])
    """
    return bundle.averaged()


@torch.no_grad()
def with_own_statistics(bundle: Bundle, task: str, batches: Iterable[dict[str, TaskBatch]]) -> Bundle:
    """What are averaged weights worth once their batch norms know what these weights do?

    The mean of several networks' statistics is not what the mean of their weights makes of the data: activations
    are fainter than any batch norm expects. Statistics gathered anew, with the weights as they are, repair that part
    of the damage (Jordan et al. 2023, REPAIR), and so this is the fairer control.

    Args:
        bundle: networks with batch norms; they stay as they are.
        task: that of the bundle.
        batches: training items; those of other tasks are passed over.

    Returns:
        A frozen copy, whose running statistics are the mean of the batches' own.

    Examples:
        >>> import torch
        >>> from dynamo import TaskBatch
        >>> from dynamo.analysis import with_own_statistics
        >>> from dynamo.population import ResidualBundle
        >>> bundle = ResidualBundle(1, widths=[2, 2, 2, 2], depths=[1, 1, 1, 1], classes=2)
        >>> bundle.initialise([0])
        >>> items = TaskBatch(torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 0, 1]), torch.ones(4, dtype=torch.int64))
        >>> own = with_own_statistics(bundle, "photos", [{"photos": items}]).network.norm.running_mean[0]
        >>> seen = torch.nn.functional.conv2d(items.inputs, bundle.network.stem.weight[0], padding=1).mean((0, 2, 3))
        >>> bool(torch.allclose(own, seen, atol=1e-4))  # of these items, where the bundle's own mean is still 0
        True
    """
    copy = bundle.take(range(bundle.count)).requires_grad_(True).train()
    means: dict[str, Tensor] = {}
    for count, items in enumerate((batch[task] for batch in batches if task in batch), start=1):
        for buffer in copy.buffers():
            buffer.zero_()  # of what is 0, a running average keeps nothing
        copy.answers(items)
        for name, buffer in copy.named_buffers():
            said = buffer / MOMENTUM
            means[name] = said if count == 1 else torch.lerp(means[name], said, 1 / count)
    for name, buffer in copy.named_buffers():
        buffer.copy_(means[name])
    return copy.requires_grad_(False).eval()


@torch.inference_mode()
def bundle_accuracy(bundle: Bundle, task: str, batches: Iterable[dict[str, TaskBatch]]) -> Tensor:
    """How good are base models? Share of right answers at the last real step, float64 `[N]`; see `accuracy_at`.

    Args:
        bundle: N base models.
        task: theirs.
        batches: labelled items; those of other tasks are passed over.

    Raises:
        ValueError: there is no item of this task.

    Examples:
        >>> import torch
        >>> from dynamo import TaskBatch
        >>> from dynamo.analysis import bundle_accuracy
        >>> from dynamo.population import RecurrentBundle
        >>> bundle = RecurrentBundle(2, "gru", 9, 2, hidden_size=3, classes=2).requires_grad_(False)
        >>> bundle.readout_bias[:] = torch.eye(2)  # the first always answers 0, the second 1
        >>> items = TaskBatch(torch.tensor([[2], [3], [4], [5]]), torch.tensor([1, 1, 1, 0]), torch.ones(4).long())
        >>> bundle_accuracy(bundle, "film", [{"film": items}])
        tensor([0.2500, 0.7500], dtype=torch.float64)
    """
    right: Tensor | float = 0.0
    items = 0
    for part in (batch[task] for batch in batches if task in batch):
        right = right + (bundle.answers(part).argmax(-1) == part.targets).double().sum(1).cpu()
        items += len(part.targets)
    if not items:
        raise ValueError(f"There is no item of task {task!r} to measure an accuracy on.")
    return torch.as_tensor(right) / items


def base_accuracies(population: Population, batches: Sequence[dict[str, TaskBatch]]) -> dict[str, Tensor]:
    """How good are the base models of every task? Float64 `[members of the task]`, in the order of the members.

    Args:
        population: the base models.
        batches: labelled items of every task, read once for each bundle.

    Raises:
        ValueError: there is no item of a task.

    Examples:
        >>> import torch
        >>> from dynamo import Population, TaskBatch
        >>> from dynamo.analysis import base_accuracies
        >>> from dynamo.population import RecurrentClassifier
        >>> network = RecurrentClassifier("gru", 9, 2, hidden_size=3, classes=2).requires_grad_(False)
        >>> network.readout.weight[:], network.readout.bias[:] = 0, torch.tensor([0.0, 1.0])  # always answers 1
        >>> items = TaskBatch(torch.tensor([[2], [3], [4], [5]]), torch.tensor([1, 1, 1, 0]), torch.ones(4).long())
        >>> base_accuracies(Population.from_modules([network], task="film"), [{"film": items}])
        {'film': tensor([0.7500], dtype=torch.float64)}
    """
    found: dict[str, list[Tensor]] = {task: [] for task in population.tasks}
    for bundle, task in zip(population.bundles, population.tasks, strict=True):
        found[task].append(bundle_accuracy(bundle, task, batches))
    return {task: torch.cat(parts) for task, parts in found.items()}
