"""Means of theta, by hand."""

from __future__ import annotations

import pytest
import torch

from dynamo.analysis.averaging import mean_points


def test_mean_of_all_and_of_each_group_in_order_of_appearance() -> None:
    theta = torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 12.0]])
    means = mean_points(theta, ["small", "small", "big"])
    assert list(means) == ["all", "small", "big"]
    assert {name: mean.tolist() for name, mean in means.items()} == {
        "all": [2.0, 4.0],
        "small": [1.0, 0.0],
        "big": [4.0, 12.0],
    }
    assert means["all"].dtype == theta.dtype


def test_needs_no_gradient() -> None:
    means = mean_points(torch.nn.Parameter(torch.ones(2, 3)), ["a", "b"])
    assert not any(mean.requires_grad for mean in means.values())


def test_refuses_mismatch_and_the_reserved_name() -> None:
    with pytest.raises(ValueError, match="not 1"):
        mean_points(torch.zeros(2, 3), ["a"])
    with pytest.raises(ValueError, match='"all"'):
        mean_points(torch.zeros(2, 3), ["all", "b"])
