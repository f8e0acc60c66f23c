"""Which items does one get labels for, and how does a descent read them (Figure 7)?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as nnf
from torch import Tensor

from dynamo.types import Reads, TaskBatch


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

    Examples:
        >>> import torch
        >>> from dynamo.analysis import draw_labels
        >>> targets = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])
        >>> drawn = draw_labels(targets, count=4, seed=0)
        >>> targets[drawn].bincount()  # as many of either class
        tensor([2, 2])
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


def minibatches(labelled: TaskBatch, batch_size: int | None, seed: int) -> Iterator[TaskBatch]:
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


def stacked(labelled: Sequence[TaskBatch], device: torch.device) -> TaskBatch:
    """Draws of k items as one batch `[N, k, ...]` on the device, sequences padded to the longest."""
    longest = max(draw.inputs.shape[-1] for draw in labelled)
    padded = [draw._replace(inputs=nnf.pad(draw.inputs, (0, longest - draw.inputs.shape[-1]))) for draw in labelled]
    return TaskBatch(*(torch.stack(values).to(device) for values in zip(*padded, strict=True)))


def item_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over items of logits `[N, B, C]` against targets `[N, B]`: `[N]`."""
    return nnf.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape).mean(1)


def check_items(labelled: Sequence[TaskBatch], reads: Reads, words: int, classes: int) -> None:
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


def check_descent(steps: int, lr: float, batch_size: int | None, momentum: float = 0.0) -> None:
    """Refuse what no descent can do."""
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if not lr > 0:
        raise ValueError(f"lr must be above 0, got {lr}")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, or None for all items, got {batch_size}")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must lie in [0, 1), got {momentum}")
