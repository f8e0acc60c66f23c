"""Means of theta and of weights, and accuracies, by hand."""

from __future__ import annotations

from types import MappingProxyType

import pytest
import torch

from dynamo.analysis.averaging import (
    accuracy_at,
    averaged_weights,
    bundle_accuracy,
    mean_points,
    with_own_statistics,
)
from dynamo.population.recurrent import RecurrentBundle
from dynamo.population.residual import ResidualBundle
from dynamo.types import TaskBatch


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


class Constant:
    """At point p, every step answers the class that p names, except that padding answers the other one."""

    dimensions, classes, vocabulary, reads = 1, MappingProxyType({"t": 2, "none": 2}), 6, "tokens"

    def prepare(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs

    def answers(self, points: torch.Tensor, inputs: torch.Tensor, lengths: torch.Tensor, task: str) -> torch.Tensor:
        chosen = torch.nn.functional.one_hot(points[:, 0].long(), 2).float()  # [P, 2]
        last = inputs.gather(1, lengths.unsqueeze(1) - 1)
        return torch.where(last > 0, chosen.unsqueeze(1), 1 - chosen.unsqueeze(1))


BATCHES = [
    {"t": TaskBatch(torch.tensor([[3, 4, 0], [5, 0, 0]]), torch.tensor([0, 0]), torch.tensor([2, 1]))},
    {"other": TaskBatch(torch.tensor([[3]]), torch.tensor([1]), torch.tensor([1]))},
    {"t": TaskBatch(torch.tensor([[3, 4]]), torch.tensor([1]), torch.tensor([2]))},
]


def test_accuracy_counts_items_at_their_last_real_step() -> None:
    points = torch.tensor([[0.0], [1.0]])
    found = accuracy_at(Constant(), points, "t", BATCHES)  # type: ignore[arg-type]
    assert found.tolist() == pytest.approx([2 / 3, 1 / 3])
    assert found.dtype == torch.float64
    with pytest.raises(ValueError, match="no item of task 'none'"):
        accuracy_at(Constant(), points, "none", BATCHES)  # type: ignore[arg-type]


def bundle(members: int) -> RecurrentBundle:
    settings = {"architecture": "gru", "vocab_size": 8, "embedding_size": 3, "hidden_size": 4, "classes": 2}
    built = RecurrentBundle.build(members, settings)
    built.initialise(list(range(members)))
    return built


def test_averaged_weights_are_the_mean_of_every_tensor() -> None:
    population = bundle(3)
    average = averaged_weights(population)
    assert average.count == 1
    for name, tensor in average.state_dict().items():
        assert torch.allclose(tensor[0], population.state_dict()[name].mean(0))
    assert not any(parameter.requires_grad for parameter in average.parameters())


def test_the_average_of_equal_networks_is_the_network() -> None:
    population = bundle(2)
    for tensor in population.state_dict().values():
        tensor[1] = tensor[0]
    both = bundle_accuracy(population, "t", BATCHES)
    assert both[0] == both[1] == bundle_accuracy(averaged_weights(population), "t", BATCHES)


def test_accuracy_of_a_bundle_is_that_of_its_members() -> None:
    population = bundle(4)
    alone = [bundle_accuracy(population.take([index]), "t", BATCHES) for index in range(4)]
    assert torch.equal(bundle_accuracy(population, "t", BATCHES), torch.cat(alone))
    with pytest.raises(ValueError, match="no item of task 'none'"):
        bundle_accuracy(population, "none", BATCHES)


def test_averaged_weights_gather_statistics_of_their_own() -> None:
    """At the first batch norm: those of what the averaged stem makes of the images, not the mean of the members'."""
    members = ResidualBundle(3, [4, 5, 6, 7], [1, 1, 1, 1], 2)
    members.initialise([0, 1, 2])
    members.network.state_dict()["norm.running_mean"].copy_(torch.tensor([[1.0], [2.0], [6.0]]))
    average = averaged_weights(members)
    before = {name: value.clone() for name, value in average.state_dict().items()}
    assert average.network.state_dict()["norm.running_mean"].tolist() == [[3.0] * 4]
    images = 2 + torch.randn(5, 3, 32, 32)
    batch = TaskBatch(images, torch.zeros(5, dtype=torch.int64), torch.ones(5, dtype=torch.int64))
    other = {"other": batch._replace(inputs=images + 9)}
    found = with_own_statistics(average, "t", [other, *[{"t": batch}] * 3])
    with torch.no_grad():
        maps = torch.nn.functional.conv2d(images, average.network.stem.weight[0], padding=1)
    own = found.network.state_dict()
    torch.testing.assert_close(own["norm.running_mean"][0], maps.mean((0, 2, 3)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(own["norm.running_var"][0], maps.var((0, 2, 3)), atol=1e-3, rtol=1e-3)
    changed = {name for name, value in own.items() if not torch.equal(value, before[f"network.{name}"])}
    assert changed == {name for name in own if "running" in name}
    assert all(torch.equal(value, before[name]) for name, value in average.state_dict().items())
    assert not any(module.training for module in found.modules())
    again = found.answers(batch)
    assert torch.equal(again, found.answers(batch))  # they stay what they were gathered to be
