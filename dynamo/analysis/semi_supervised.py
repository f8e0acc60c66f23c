"""Can a handful of labels find a good network on the map? Gradient descent on theta alone (Figure 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dynamo.analysis.emulator import Emulator, check_task
from dynamo.analysis.labels import check_descent, check_items, item_losses, minibatches, stacked
from dynamo.population.base import Bundle, last_step
from dynamo.population.optimisation import adam, check_finite, clip_per_member, learning_rate_factor
from dynamo.population.recurrent import RecurrentBundle
from dynamo.population.residual import ResidualBundle
from dynamo.types import TaskBatch

_REMEDY = "Lower lr."
Trainable = RecurrentBundle | ResidualBundle
"""Bundles whose networks can be made anew, and trained."""


@dataclass(frozen=True)
class Search:
    """Which way did the labels lead over the map?

    Attributes:
        path: theta before the first step and after every step, `[steps + 1, D]`.
        losses: cross-entropy at each of these points, float64 `[steps + 1]`, on the labelled examples that the step
            from there reads: all of them where they are no more than `batch_size`.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import Search
        >>> Search(path=torch.tensor([[0.0, 0.0], [1.0, 0.5]]), losses=torch.tensor([0.7, 0.4])).final
        tensor([1.0000, 0.5000])
    """

    path: Tensor
    losses: Tensor

    @property
    def final(self) -> Tensor:
        """theta_final, `[D]`."""
        return self.path[-1]


def search(
    network: Emulator,
    task: str,
    labelled: TaskBatch,
    *,
    steps: int = 100,
    lr: float = 0.03,
    batch_size: int | None = 32,
    start: Tensor | None = None,
    dimensions: int | None = None,
    momentum: float = 0.0,
    seed: int = 0,
) -> Search:
    """Which network of the map do these labels lead to?

    Plain stochastic gradient descent on theta alone, from 0, on the cross-entropy after the last real step. The
    network stays as it is.

    Args:
        network: the trained meta-model.
        task: whose readout answers.
        labelled: the k items whose labels are known.
        steps: SGD iterates.
        lr: step size.
        batch_size: labelled items that one step reads, in passes over all of them, each in a new order; None for
            all of them at every step.
        start: where the search begins, `[D]`; 0 by default, where every model's theta began too.
        dimensions: D, to say which map is meant; that of the network by default.
        momentum: of SGD, in [0, 1).
        seed: decides the order in which the labelled items are read.

    Raises:
        ValueError: items that the network cannot read, or an option out of its range.
        DivergenceError: the loss is no longer finite.

    Source: Figure 7 (number of iterates, start). Not given in the paper: step size, batch size and momentum.

    Examples:
        >>> import torch
        >>> from dynamo import TaskBatch
        >>> from dynamo.analysis import search
        >>> from dynamo.meta import RecurrentMetaModel
        >>> network = RecurrentMetaModel(9, {"film": 2}, 1, hidden_size=1, architecture="rnn").requires_grad_(False)
        >>> _ = [weight.zero_() for weight in network.parameters()]
        >>> network.weight_theta[0, 0] = network.heads["film"].weight[1, 0] = 1.0  # "positive" where theta > 0
        >>> labelled = TaskBatch(torch.tensor([[2, 3], [4, 5]]), torch.tensor([1, 1]), torch.tensor([2, 2]))
        >>> found = search(network, "film", labelled, steps=20, lr=0.5)
        >>> float(found.path[0]), float(found.final) > 1
        (0.0, True)
    """
    check_descent(steps, lr, batch_size, momentum)
    _check_map(network, task, [labelled], start, dimensions)
    assert isinstance(network, nn.Module)
    with torch.inference_mode(False), torch.enable_grad():
        # Copies without a gradient, also of weights made under inference_mode, which autograd refuses to keep.
        weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
        theta = next(iter(network.parameters())).detach().new_zeros(1, network.dimensions)
        if start is not None:
            theta.copy_(start.detach())
        items = stacked([labelled], theta.device)
        velocity = torch.zeros_like(theta)
        path, losses = [], []
        for step, part in enumerate(islice(minibatches(items, batch_size, seed), steps + 1)):
            theta = theta.detach().requires_grad_()
            output = functional_call(network, weights, (theta, part.inputs[0], task)).output
            loss = item_losses(last_step(output, part.lengths), part.targets)
            check_finite(loss.detach(), ["the search"], step, _REMEDY)
            path.append(theta.detach()[0])
            losses.append(loss.detach()[0])
            if step < steps:
                velocity = momentum * velocity + torch.autograd.grad(loss, theta)[0]
                theta = theta.detach() - lr * velocity
    return Search(torch.stack(path), torch.stack(losses).cpu().double())


def search_many(
    network: Emulator,
    task: str,
    labelled: Sequence[TaskBatch],
    *,
    steps: int = 100,
    lr: float = 0.03,
    batch_size: int | None = 32,
    momentum: float = 0.0,
    seed: int = 0,
) -> list[Search]:
    """Which network of the map does each of several draws of labels lead to? See `search`.

    One after the other: on a CPU ten draws as one batch took as long as ten searches.

    Args:
        network: as in `search`, as all that is not named here.
        task: whose readout answers.
        labelled: draws of labelled items, each of any number.
        steps: SGD iterates.
        lr: step size.
        batch_size: labelled items that one step reads.
        momentum: of SGD.
        seed: decides the order in which the labelled items are read.

    Returns:
        One search for each draw, in their order.

    Raises:
        ValueError: there is no draw, or as `search`.
        DivergenceError: a loss is no longer finite.

    Examples:
        >>> import torch
        >>> from dynamo import TaskBatch
        >>> from dynamo.analysis import search_many
        >>> from dynamo.meta import RecurrentMetaModel
        >>> network = RecurrentMetaModel(9, {"film": 2}, 1, hidden_size=1, architecture="rnn").requires_grad_(False)
        >>> _ = [weight.zero_() for weight in network.parameters()]
        >>> network.weight_theta[0, 0] = network.heads["film"].weight[1, 0] = 1.0  # "positive" where theta > 0
        >>> draws = [TaskBatch(torch.tensor([[2, 3]]), torch.tensor([label]), torch.tensor([2])) for label in (0, 1)]
        >>> [float(found.final.sign()) for found in search_many(network, "film", draws, steps=5, lr=0.5)]
        [-1.0, 1.0]
    """
    _check_map(network, task, labelled, None, None)
    return [
        search(network, task, draw, steps=steps, lr=lr, batch_size=batch_size, momentum=momentum, seed=seed)
        for draw in labelled
    ]


def train_from_scratch(
    bundle: Bundle,
    labelled: Sequence[TaskBatch],
    *,
    steps: int = 200,
    lr: float = 3e-3,
    batch_size: int | None = 32,
    clip: float = 1.0,
    warmup_steps: int = 20,
    seed: int = 0,
) -> Bundle:
    """How good is a network of the base architecture that has seen nothing but these labels?

    The control for `search`, trained as populations of recurrent networks are: Adam, a cosine schedule with a warm-up,
    each member's gradient clipped by itself. Member i reads draw i alone; none depends on the others. For ResNets it is
    a weak control: their populations use SGD and augmentation, here images are not augmented.

    Args:
        bundle: N fresh networks (`initialise`); they stay as they are.
        labelled: N draws of k labelled items.
        steps: optimiser steps.
        lr: learning rate of Adam.
        batch_size: as in `search`.
        clip: largest norm of a member's gradient; 0 for none.
        warmup_steps: until the full learning rate.
        seed: as in `search`.

    Returns:
        The trained networks, frozen.

    Raises:
        ValueError: as many draws as networks are needed, and networks of ours; otherwise as `search`.
        DivergenceError: a loss is no longer finite.

    Source: not in the paper.

    Examples:
        >>> import torch
        >>> from dynamo import TaskBatch
        >>> from dynamo.analysis import train_from_scratch
        >>> from dynamo.population import RecurrentBundle
        >>> fresh = RecurrentBundle(1, "gru", vocab_size=9, embedding_size=4, hidden_size=4, classes=2)
        >>> fresh.initialise([0])
        >>> labelled = TaskBatch(torch.tensor([[2], [3]]), torch.tensor([0, 1]), torch.tensor([1, 1]))  # word 3 is good
        >>> train_from_scratch(fresh, [labelled], steps=60, lr=0.05).answers(labelled).argmax(-1)
        tensor([[0, 1]])
    """
    if not isinstance(bundle, Trainable):
        raise ValueError(f"training from scratch needs networks of ours, not a {type(bundle).__name__}")
    check_descent(steps, lr, batch_size)
    if len(labelled) != bundle.count:
        raise ValueError(f"{bundle.count} networks were given {len(labelled)} draws of labels; each learns its own")
    check_items(labelled, bundle.reads, bundle.settings.get("vocab_size", 0), bundle.classes)
    if len(sizes := {len(draw.targets) for draw in labelled}) > 1:
        raise ValueError(f"the draws have {min(sizes)} to {max(sizes)} labels; give every network as many")
    names = [f"draw {index}" for index in range(bundle.count)]
    factor = learning_rate_factor("cosine", steps, warmup_steps)
    with torch.inference_mode(False), torch.enable_grad():
        items_of_all = stacked(labelled, next(bundle.parameters()).device)
        trained = bundle.take(range(bundle.count)).train()
        optimizer = adam([{"params": list(trained.parameters())}], lr)
        for step, items in enumerate(islice(minibatches(items_of_all, batch_size, seed), steps)):
            optimizer.param_groups[0]["lr"] = lr * factor(step)
            losses = trained.losses(items, item_losses)
            check_finite(losses.detach(), names, step, _REMEDY)
            optimizer.zero_grad()
            losses.sum().backward()
            clip_per_member(trained.parameters(), clip)
            optimizer.step()
        optimizer.zero_grad()
    return trained.requires_grad_(False).eval()


def _check_map(
    network: Emulator,
    task: str,
    labelled: Sequence[TaskBatch],
    start: Tensor | None,
    dimensions: int | None,
) -> None:
    """Refuse a task, a place or items that this map does not know."""
    check_task(network, task)
    if dimensions not in (None, network.dimensions):
        raise ValueError(f"dimensions is {dimensions}, and the map of this meta-model has {network.dimensions}")
    if start is not None and start.shape != (network.dimensions,):
        raise ValueError(f"start must be a point [{network.dimensions}] of the map, got {list(start.shape)}")
    check_items(labelled, network.reads, network.vocabulary, network.classes[task])
