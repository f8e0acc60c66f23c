"""Can a handful of labels find a good network on the map? Gradient descent on theta alone (Figure 7)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.func import functional_call

from dynamo.analysis.emulator import Emulator, check_task
from dynamo.population.base import Bundle, last_step
from dynamo.population.optimisation import adam, check_finite, clip_per_member, learning_rate_factor
from dynamo.population.recurrent import RecurrentBundle
from dynamo.population.residual import ResidualBundle
from dynamo.types import Reads, TaskBatch

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
    """

    path: Tensor
    losses: Tensor

    @property
    def final(self) -> Tensor:
        """theta_final, `[D]`."""
        return self.path[-1]


def draw_labels(targets: Tensor, count: int, seed: int) -> Tensor:
    """Which items does one get labels for?

    Classes come as equally often as they can: their numbers differ by at most one, unless a class runs out. Which
    class is ahead is drawn too. Draws of one seed are nested: the first 10 of a draw are among its first 25.

    Args:
        targets: class of every item, `[items]`.
        count: how many.
        seed: decides the draw.

    Returns:
        Positions, int64 `[count]`, on the CPU.

    Raises:
        ValueError: more labels than items, fewer than classes, or items of one class only.
    """
    if targets.ndim != 1 or not len(targets):
        raise ValueError(f"targets must be [items] with an item at least, got {list(targets.shape)}")
    values = targets.detach().cpu()
    classes = values.unique()
    if len(classes) < 2:
        raise ValueError(f"all {len(values)} items are of class {int(classes[0])}; labels of one class teach nothing")
    if count > len(values):
        raise ValueError(f"{count} labels are more than the {len(values)} items there are; ask for fewer")
    if count < len(classes):
        raise ValueError(f"{count} labels cannot show {len(classes)} classes; ask for one of each at least")
    generator = torch.Generator().manual_seed(seed)
    piles, rounds = [], []
    for value in classes[torch.randperm(len(classes), generator=generator)]:
        own = (values == value).nonzero().flatten()
        piles.append(own[torch.randperm(len(own), generator=generator)])
        rounds.append(torch.arange(len(own)))
    # The first item of every class, in the drawn order of classes, then every class's second item, and so on.
    dealt = torch.cat(rounds).argsort(stable=True)
    return torch.cat(piles)[dealt][:count]


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
    """
    _check_options(steps, lr, batch_size, momentum)
    _check_map(network, task, [labelled], start, dimensions)
    assert isinstance(network, nn.Module)
    with torch.inference_mode(False), torch.enable_grad():
        # Copies without a gradient, also of weights made under inference_mode, which autograd refuses to keep.
        weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
        theta = next(iter(network.parameters())).detach().new_zeros(1, network.dimensions)
        if start is not None:
            theta.copy_(start.detach())
        items = _stack([labelled], theta.device)
        velocity = torch.zeros_like(theta)
        path, losses = [], []
        for step, part in enumerate(islice(_minibatches(items, batch_size, seed), steps + 1)):
            theta = theta.detach().requires_grad_()
            output = functional_call(network, weights, (theta, part.inputs[0], task)).output
            loss = _cross_entropy(last_step(output, part.lengths), part.targets)
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
    """
    if not isinstance(bundle, Trainable):
        raise ValueError(f"training from scratch needs networks of ours, not a {type(bundle).__name__}")
    _check_options(steps, lr, batch_size)
    if len(labelled) != bundle.count:
        raise ValueError(f"{bundle.count} networks were given {len(labelled)} draws of labels; each learns its own")
    _check_items(labelled, bundle.reads, bundle.settings.get("vocab_size", 0), bundle.classes)
    if len(sizes := {len(draw.targets) for draw in labelled}) > 1:
        raise ValueError(f"the draws have {min(sizes)} to {max(sizes)} labels; give every network as many")
    names = [f"draw {index}" for index in range(bundle.count)]
    factor = learning_rate_factor("cosine", steps, warmup_steps)
    with torch.inference_mode(False), torch.enable_grad():
        items_of_all = _stack(labelled, next(bundle.parameters()).device)
        trained = bundle.take(range(bundle.count)).train()
        optimizer = adam([{"params": list(trained.parameters())}], lr)
        for step, items in enumerate(islice(_minibatches(items_of_all, batch_size, seed), steps)):
            optimizer.param_groups[0]["lr"] = lr * factor(step)
            losses = trained.losses(items, _cross_entropy)
            check_finite(losses.detach(), names, step, _REMEDY)
            optimizer.zero_grad()
            losses.sum().backward()
            clip_per_member(trained.parameters(), clip)
            optimizer.step()
        optimizer.zero_grad()
    return trained.requires_grad_(False).eval()


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over items of logits `[N, B, C]` against targets `[N, B]`: `[N]`."""
    return nnf.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape).mean(1)


def _minibatches(labelled: TaskBatch, batch_size: int | None, seed: int) -> Iterator[TaskBatch]:
    """Items `[N, B, ...]` out of `[N, k, ...]`, without end; every item is read once before any is read again.

    The same places for all N, whose items differ anyway: what one draw reads does not depend on who is beside it.
    """
    size = labelled.targets.shape[1]
    if batch_size is None or batch_size >= size:
        while True:
            yield labelled
    generator = torch.Generator().manual_seed(seed)
    waiting = torch.zeros(0, dtype=torch.int64)
    while True:
        while len(waiting) < batch_size:
            waiting = torch.cat([waiting, torch.randperm(size, generator=generator)])
        places, waiting = waiting[:batch_size].to(labelled.targets.device), waiting[batch_size:]
        yield TaskBatch(*(values[:, places] for values in labelled))


def _stack(labelled: Sequence[TaskBatch], device: torch.device) -> TaskBatch:
    """Draws of k items as one batch `[N, k, ...]` on the device, sequences padded to the longest."""
    longest = max(draw.inputs.shape[-1] for draw in labelled)
    padded = [draw._replace(inputs=nnf.pad(draw.inputs, (0, longest - draw.inputs.shape[-1]))) for draw in labelled]
    return TaskBatch(*(torch.stack(values).to(device) for values in zip(*padded, strict=True)))


def _check_items(labelled: Sequence[TaskBatch], reads: Reads, words: int, classes: int) -> None:
    """Refuse labelled items that a network cannot read."""
    if not labelled:
        raise ValueError("there is no draw of labels to learn from; give one at least")
    forms = {"tokens": "[k, T]", "signals": "[k, T, F]", "vectors": "[k, F]", "images": "[k, channels, h, w]"}
    form = forms[reads]
    for index, draw in enumerate(labelled):
        if draw.inputs.ndim != form.count(",") + 1 or not draw.inputs.numel():
            raise ValueError(f"draw {index} must hold items {form}, one at least, got {list(draw.inputs.shape)}")
        inputs, longest = (0, words - 1) if words else (-torch.inf, torch.inf), draw.real_steps().shape[-1]
        limits = (inputs, (0, classes - 1), (1, longest))
        for what, values, (least, most) in zip(("token ids", "classes", "lengths"), draw, limits, strict=True):
            if float(values.min()) < least or float(values.max()) > most:
                raise ValueError(f"draw {index} has {what} outside {least}..{most}, which this network cannot read")


def _check_options(steps: int, lr: float, batch_size: int | None, momentum: float = 0.0) -> None:
    """Refuse what no descent can do."""
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if not lr > 0:
        raise ValueError(f"lr must be above 0, got {lr}")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, or None for all items, got {batch_size}")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must lie in [0, 1), got {momentum}")


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
    _check_items(labelled, network.reads, network.vocabulary, network.classes[task])
