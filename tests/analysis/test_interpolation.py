"""Lines between two models: known accuracies along them, exact ends, and the mean in the middle."""

from __future__ import annotations

import pytest
import torch

from dynamo.analysis.averaging import averaged_weights, bundle_accuracy
from dynamo.analysis.interpolation import Interpolation, interpolate, interpolate_weights
from dynamo.meta.recurrent import RecurrentMetaModel
from dynamo.population.recurrent import RecurrentBundle
from dynamo.population.residual import ResidualBundle
from dynamo.types import TaskBatch


def boundary() -> RecurrentMetaModel:
    """At theta, item x is of class 1 where x > theta_0: h = tanh(x - theta_0), logits -h and h; the rest is idle."""
    network = RecurrentMetaModel(21, {"t": 2}, 3, hidden_size=1, embedding_size=1, architecture="rnn")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.embedding.weight[:, 0] = torch.arange(21.0)
        network.weight_input.fill_(1.0)
        network.weight_theta[0, 0] = -1.0
        network.heads["t"].weight[:, 0] = torch.tensor([-1.0, 1.0])
    return network


ITEMS = TaskBatch(torch.arange(1, 21).unsqueeze(1), (torch.arange(1, 21) > 4).long(), torch.ones(20, dtype=torch.int64))
NETWORK = boundary()


def test_accuracy_along_a_known_line() -> None:
    first, second = torch.tensor([4.5, 1.0, -2.0]), torch.tensor([12.5, 3.0, 7.0])
    line = interpolate(NETWORK, first, second, "t", [{"t": ITEMS}], steps=5)
    assert isinstance(line, Interpolation)
    assert line.shares.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert line.accuracy.tolist() == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6])  # two more items pass by every time
    assert line.accuracy.dtype == torch.float64
    assert line.weights_accuracy is None
    assert torch.equal(line.points[0], first)
    assert torch.equal(line.points[4], second)
    torch.testing.assert_close(line.points[1], 0.75 * first + 0.25 * second)


def test_the_line_back_is_the_line_turned_around() -> None:
    first, second = torch.tensor([3.2, 0.0, 0.0]), torch.tensor([17.9, 0.0, 1.0])
    there = interpolate(NETWORK, first, second, "t", [{"t": ITEMS}], steps=8)
    back = interpolate(NETWORK, second, first, "t", [{"t": ITEMS}], steps=8)
    assert torch.equal(there.accuracy.flip(0), back.accuracy)
    torch.testing.assert_close(there.points.flip(0), back.points)


def bundle(members: int, classes: int = 2) -> RecurrentBundle:
    settings = {"architecture": "gru", "vocab_size": 21, "embedding_size": 5, "hidden_size": 6, "classes": classes}
    built = RecurrentBundle.build(members, {**settings, "embedding_scale": 2.0})
    built.initialise(list(range(members)))
    return built


def test_weights_have_the_members_at_the_ends_and_their_mean_in_the_middle() -> None:
    population, batches = bundle(4), [{"t": ITEMS}]
    before = {name: value.clone() for name, value in population.state_dict().items()}
    ends = bundle_accuracy(population, "t", batches)
    middle = bundle_accuracy(averaged_weights(population.take([3, 1])), "t", batches)
    found = interpolate_weights(population, 3, 1, "t", batches, steps=5)
    assert found.shape == (5,)
    assert found.dtype == torch.float64
    assert found[[0, 2, 4]].tolist() == [float(ends[3]), float(middle[0]), float(ends[1])]
    assert len({*found.tolist()}) > 1  # or the line above would say little
    assert all(torch.equal(value, before[name]) for name, value in population.state_dict().items())
    assert all(parameter.requires_grad for parameter in population.parameters())


def test_a_member_and_itself_have_nothing_between_them() -> None:
    population = bundle(3)
    found = interpolate_weights(population, 2, 2, "t", [{"t": ITEMS}], steps=4)
    assert found.tolist() == [float(bundle_accuracy(population, "t", [{"t": ITEMS}])[2])] * 4


def test_a_network_and_its_permuted_twin_have_one_place_on_the_map_and_no_line_of_weights() -> None:
    """Both ends compute the same function; the networks between their weights do not."""
    twins = bundle(1).take([0, 0])
    order = torch.tensor([3, 5, 0, 1, 2, 4])
    gates = torch.cat([order, order + 6, order + 12])
    with torch.no_grad():
        for name in ("weight_ih", "bias_ih", "bias_hh"):
            tensor = getattr(twins, name)
            tensor[1] = tensor[1][gates]
        twins.weight_hh[1] = twins.weight_hh[1][gates][:, order]
        twins.readout_weight[1] = twins.readout_weight[1][:, order]
        twins.readout_bias.zero_()
    answers = twins(ITEMS).output[0, :, 0].argmax(-1)
    batches = [{"t": ITEMS._replace(targets=answers)}]
    found = interpolate_weights(twins, 0, 1, "t", batches, steps=3)
    assert found[[0, 2]].tolist() == [1.0, 1.0]
    assert found[1] < 1


def test_refuses_what_is_no_line() -> None:
    point, batches = torch.zeros(3), [{"t": ITEMS}]
    with pytest.raises(ValueError, match="steps must be at least 2, got 1"):
        interpolate(NETWORK, point, point, "t", batches, steps=1)
    with pytest.raises(ValueError, match="steps must be at least 2, got 0"):
        interpolate_weights(bundle(2), 0, 1, "t", batches, steps=0)
    with pytest.raises(ValueError, match=r"theta_b must be a point \[3\] of the map, got \[2\]"):
        interpolate(NETWORK, point, point[:2], "t", batches)
    with pytest.raises(ValueError, match=r"theta_a must be a point \[3\] of the map, got \[1, 3\]"):
        interpolate(NETWORK, point.unsqueeze(0), point, "t", batches)
    for index in (-1, 2):
        with pytest.raises(ValueError, match=f"no member {index} in a bundle of 2"):
            interpolate_weights(bundle(2), 0, index, "t", batches)
    with pytest.raises(ValueError, match="no task 'none'; it knows t"):
        interpolate(NETWORK, point, point, "none", batches)


def test_on_the_way_between_resnets_batch_norms_are_in_evaluation_mode() -> None:
    """The ends are the members, whatever the size of the batches."""
    bundle = ResidualBundle(2, [4, 5, 6, 7], [1, 1, 1, 1], 3)
    bundle.initialise([0, 1])
    images, ones = torch.randn(30, 3, 32, 32), torch.ones(30, dtype=torch.int64)
    with torch.no_grad():
        bundle.answers(TaskBatch(images + 1, ones, ones))  # running statistics that are not those of the items
    bundle.requires_grad_(False).eval()
    with torch.no_grad():
        targets = bundle.answers(TaskBatch(images, ones, ones))[0].argmax(-1)  # what the first member says is right
    items = TaskBatch(images, targets, ones)
    batches = [{"t": TaskBatch(*(part[rows] for part in items))} for rows in torch.arange(30).split(7)]
    found = interpolate_weights(bundle, 0, 1, "t", batches, steps=3)
    assert found[[0, 2]].tolist() == bundle_accuracy(bundle, "t", batches).tolist()
    assert found[0] == 1.0
    assert found.equal(interpolate_weights(bundle, 0, 1, "t", [{"t": items}], steps=3))
