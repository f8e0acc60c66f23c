"""Where does a network dwell while it reads? The mean input, and states that it really visited: seeds of a search."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from dynamo.analysis.emulator import check_tokens
from dynamo.types import TaskBatch


class VisitedStates(NamedTuple):
    """States drawn from what networks went through.

    Attributes:
        states: `[P * n, S]`, the n of the first network first.
        owner: which of the P networks each belongs to, int64 `[P * n]`.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import visited_states
        >>> seen = visited_states(torch.randn(3, 4, 5, 2), lengths=torch.tensor([5, 5, 2, 1]), count=2)
        >>> seen.states.shape, seen.owner.tolist()  # two states of each of three networks
        (torch.Size([6, 2]), [0, 0, 1, 1, 2, 2])
    """

    states: Tensor
    owner: Tensor


@torch.no_grad()
def mean_input(embedding: Tensor, batches: Iterable[TaskBatch]) -> Tensor:
    """What is the average word to a network? x* of Figure 8: the mean word vector over the real tokens.

    The paper does not say what x* is; the other choice is a vector of zeros.

    Args:
        embedding: the word vectors of a network `[V, E]`, or of every member of a bundle `[N, V, E]`.
        batches: the items that are averaged over; where they carry a leading N, each member reads its own if there
            are N tables, and all of them count if there is one.

    Returns:
        `[E]` or `[N, E]`, in the type of the embedding; the mean itself is taken in float64.

    Raises:
        ValueError: there is no token, or one that the embedding does not know, or the items are those of another
            number of members than there are tables.

    Examples:
        >>> import torch
        >>> from dynamo import TaskBatch
        >>> from dynamo.analysis import mean_input
        >>> vectors = torch.tensor([[9.0, 9.0], [9.0, 9.0], [0.0, 1.0], [3.0, 1.0]])
        >>> items = TaskBatch(torch.tensor([[2, 3, 0], [2, 0, 0]]), torch.tensor([0, 1]), torch.tensor([2, 1]))
        >>> mean_input(vectors, [items])  # of the words 2, 3 and 2; padding does not count
        tensor([1., 1.])
    """
    tables = embedding.detach().reshape(-1, *embedding.shape[-2:])
    count, vocabulary = tables.shape[:2]
    seen = torch.zeros(count, vocabulary, dtype=torch.float64)
    for batch in batches:
        tokens, real = batch.inputs.detach().cpu(), batch.real_steps().cpu()
        if tokens.ndim == 3 and count not in (1, len(tokens)):
            raise ValueError(f"items for {len(tokens)} members cannot be read with the {count} tables of the embedding")
        own = tokens.ndim == 3 and count == len(tokens) and embedding.ndim == 3
        for member, (ids, kept) in enumerate(zip(tokens, real, strict=True) if own else [(tokens, real)]):
            found = ids[kept]
            check_tokens(found, vocabulary)
            seen[member if own else slice(None)] += torch.bincount(found, minlength=vocabulary)
    if not seen.sum(1).all():
        raise ValueError("there is no token to average over; give at least one batch")
    shares = (seen / seen.sum(1, keepdim=True)).unsqueeze(1)
    mean = (shares @ tables.cpu().double()).squeeze(1).to(embedding)
    return mean if embedding.ndim == 3 else mean[0]


def visited_states(states: Tensor, lengths: Tensor, count: int, seed: int = 0, burn_in: int = 0) -> VisitedStates:
    """Which states does a network visit while it reads? A draw without repetition from the real steps.

    Args:
        states: what P networks went through, `[P, B, T, S]` (`Trajectory.hidden[0]`; for an LSTM, h and c side by
            side).
        lengths: real steps of every item `[B]`: all networks are then seen at the same moments. Or `[P, B]`.
        count: n, states per network.
        seed: decides the draw.
        burn_in: steps at the beginning of every item that are not drawn; the last real one always can be.

    Raises:
        ValueError: shapes do not fit, or a network has fewer than n real steps.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import visited_states
        >>> states = torch.arange(6.0).view(1, 2, 3, 1)  # [P, B, T, S]; of the second item one step is real
        >>> visited_states(states, lengths=torch.tensor([3, 1]), count=4).states.flatten().sort().values
        tensor([0., 1., 2., 3.])
    """
    if states.ndim != 4 or lengths.shape not in ((states.shape[1],), tuple(states.shape[:2])):
        raise ValueError(
            f"states {list(states.shape)} must be [P, B, T, S] and lengths {list(lengths.shape)} [B] or [P, B]"
        )
    networks, items, steps, size = states.shape
    inputs = torch.zeros(*lengths.shape, steps, dtype=torch.int64)
    real = TaskBatch(inputs, lengths.cpu(), lengths.cpu()).real_steps(burn_in).flatten(-2)
    fewest = int(real.sum(-1).min())
    if not 1 <= count <= fewest:
        raise ValueError(f"count must lie between 1 and {fewest}, the real steps there are, got {count}")
    generator = torch.Generator().manual_seed(seed)
    # The largest of random keys are a draw without repetition; one set of keys serves all networks.
    keys = torch.rand(items * steps, generator=generator, dtype=torch.float64).masked_fill(~real, -1.0)
    drawn = keys.topk(count, dim=-1).indices.expand(networks, count).to(states.device)
    picked = states.detach().flatten(1, 2).gather(1, drawn.unsqueeze(2).expand(-1, -1, size))
    owner = torch.arange(networks, device=states.device).repeat_interleave(count)
    return VisitedStates(picked.flatten(0, 1), owner)
