"""One process has what it has; three have the mean of theirs, and everybody's rows in the order of the ranks."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import distributed

from dynamo.population.ranks import mean_over_ranks, nothing_of, processes, rows_of_ranks


def together() -> dict[str, Any]:
    """What each of three processes finds; a single one joins nobody."""
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    if "LOCAL_RANK" in os.environ:
        distributed.init_process_group("gloo", rank=rank, world_size=3)
    own = torch.tensor([1.0, 10.0]) * (rank + 1)
    kept = own.clone().requires_grad_(True)
    mean = mean_over_ranks(kept * 1.0)
    assert not mean.requires_grad
    assert torch.equal(kept.detach(), own)  # what is asked about stays as it is
    return {"processes": processes(), "mean": mean, "rows": rows_of_ranks(own)}


def test_one_process_has_its_own(in_processes: Callable[..., list[Any]]) -> None:
    (alone,) = in_processes(1, together)
    assert alone["processes"] == 1
    assert torch.equal(alone["mean"], torch.tensor([1.0, 10.0]))
    assert torch.equal(alone["rows"], torch.tensor([[1.0, 10.0]]))


def test_three_processes_have_the_same(in_processes: Callable[..., list[Any]]) -> None:
    for found in in_processes(3, together):
        assert found["processes"] == 3
        assert torch.equal(found["mean"], torch.tensor([2.0, 20.0]))
        assert torch.equal(found["rows"], torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]))


def test_nothing_has_a_gradient_of_zeros() -> None:
    parts = [torch.ones(2, 3, requires_grad=True), torch.tensor(5.0, requires_grad=True)]
    nothing = nothing_of(parts)
    nothing.backward()
    assert float(nothing.detach()) == 0
    for part in parts:
        assert part.grad is not None
        assert torch.equal(part.grad, torch.zeros_like(part))
