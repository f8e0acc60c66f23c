"""Counts of every point against `forward` at that point alone; the plane, the deal and the scores by hand."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch import Tensor

from dynamo.analysis.accuracy_map import Answers, answers_at, best_point, interleave, preference, relative_accuracy
from dynamo.analysis.plane import plane_grid, plane_of
from dynamo.meta.recurrent import RecurrentMetaModel
from dynamo.population.base import last_step
from dynamo.types import TaskBatch

D, S, E, VOCABULARY, CLASSES = 3, 16, 6, 20, 3


def model(kind: str = "gru", way: str = "input") -> RecurrentMetaModel:
    options: dict[str, Any] = {"architecture": kind, "conditioning": way, "embedding_scale": 1.0}
    return RecurrentMetaModel(VOCABULARY, {"t": CLASSES, "u": 2}, D, S, E, **options)


def items(network: RecurrentMetaModel, count: int, steps: int, points: Tensor, margin: float = 1e-3) -> TaskBatch:
    """Items of unequal lengths whose answers are clear at every point, as a trained network's are."""
    tokens, lengths = torch.randint(1, VOCABULARY, (8 * count, steps)), torch.randint(1, steps + 1, (8 * count,))
    tokens[torch.arange(steps) >= lengths.unsqueeze(1)] = 0
    top = last_step(network(points, tokens, "t").output, lengths).topk(2, dim=-1).values
    clear = (top[..., 0] - top[..., 1]).amin(0) > margin
    assert clear.sum() >= count
    tokens, lengths = tokens[clear][:count], lengths[clear][:count]
    return TaskBatch(tokens, torch.randint(CLASSES, (count,)), lengths)


def one_after_the_other(
    network: RecurrentMetaModel, points: Tensor, batches: list[dict[str, TaskBatch]]
) -> tuple[Tensor, Tensor]:
    """The slow way: `forward`, all states kept, a point and an item at a time."""
    right, likely = torch.zeros(len(points), dtype=torch.int64), torch.zeros(len(points), dtype=torch.float64)
    for p, point in enumerate(points):
        for part in (batch["t"] for batch in batches if "t" in batch):
            output = network(point.unsqueeze(0), part.inputs, "t").output[0]
            for b, length in enumerate(part.lengths.tolist()):
                logits, target = output[b, length - 1], int(part.targets[b])
                right[p] += int(logits.argmax()) == target
                likely[p] += logits.double().softmax(0)[target].log()
    return right, likely


@pytest.mark.parametrize("way", ["input", "weights"])
@pytest.mark.parametrize("kind", ["gru", "lstm", "rnn"])
@torch.no_grad()
def test_counts_are_those_of_the_points_one_after_the_other(kind: str, way: str) -> None:
    network, points = model(kind, way), 3 * torch.randn(7, D)
    other = {"u": TaskBatch(torch.ones(2, 3, dtype=torch.long), torch.zeros(2, dtype=torch.long), torch.tensor([3, 1]))}
    batches = [{"t": items(network, 13, 9, points)}, other, {"t": items(network, 5, 4, points), **other}]
    right, likely = one_after_the_other(network, points, batches)
    assert right.unique().numel() > 1
    for chunk in (1, 2, 3, 7, 64):
        found = answers_at(network, points, "t", iter(batches), chunk)
        assert found.items == 18
        assert torch.equal(found.right, right)
        torch.testing.assert_close(found.log_likelihood, likely, rtol=1e-5, atol=1e-5)
        assert torch.equal(found.accuracy, right.double() / 18)


def test_the_points_dealt_out_to_processes_give_the_counts_of_one() -> None:
    network, points = model(), torch.randn(5, D)
    batches = [{"t": items(network, 9, 6, points)}]
    whole = answers_at(network, points, "t", batches)
    for world in (1, 2, 3, 7):  # with 7 processes, two have no point
        parts = [answers_at(network, points[rank::world], "t", batches, chunk=2) for rank in range(world)]
        assert torch.equal(interleave([part.right for part in parts]), whole.right)
        torch.testing.assert_close(interleave([part.log_likelihood for part in parts]), whole.log_likelihood)


def test_the_network_is_left_as_it_was() -> None:
    network, points = model().train(), torch.randn(2, D, requires_grad=True)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = answers_at(network, points, "t", [{"t": items(network, 3, 4, points.detach())}])
    assert network.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not found.log_likelihood.requires_grad


def test_the_answers_are_ordinary_tensors() -> None:
    network, points = model(), torch.randn(2, D)
    found = answers_at(network, points, "t", [{"t": items(network, 3, 4, points)}])
    found.right.add_(1)  # this and autograd are refused for tensors of inference mode
    (found.log_likelihood * torch.ones(2, requires_grad=True)).sum().backward()


def nothing_is_read() -> Iterator[dict[str, TaskBatch]]:
    pytest.fail("a batch was read")
    yield {}


def test_wrong_questions_are_refused_before_anything_is_read() -> None:
    network, points = model(), torch.randn(4, D)
    with pytest.raises(ValueError, match="chunk must be at least 1"):
        answers_at(network, points, "t", nothing_is_read(), chunk=0)
    with pytest.raises(ValueError, match="no task 'v'; it knows t, u"):
        answers_at(network, points, "v", nothing_is_read())
    with pytest.raises(ValueError, match="D = 3, got"):
        answers_at(network, points[:, :2], "t", nothing_is_read())
    with pytest.raises(ValueError, match=r"NaN or infinity in rows \[2\]"):
        answers_at(network, torch.tensor([[0.0] * 3, [1.0] * 3, [0, torch.inf, 0]]), "t", nothing_is_read())


def test_items_that_the_network_cannot_answer_are_refused_as_they_are_read() -> None:
    network, points = model(), torch.randn(4, D)
    good = items(network, 3, 4, points)
    targets = good.targets.clone()
    for target in (CLASSES, -1):
        targets[1] = target
        with pytest.raises(ValueError, match=rf"target {target} is none of the classes 0\.\.2 of task 't'"):
            answers_at(network, points, "t", [{"t": good}, {"t": good._replace(targets=targets)}])
    for token in (VOCABULARY, -1):
        inputs = good.inputs.clone()
        inputs[2, 3] = token
        with pytest.raises(ValueError, match=f"token id {token} lies outside the vocabulary of 20"):
            answers_at(network, points, "t", [{"t": good._replace(inputs=inputs)}])
    with pytest.raises(ValueError, match="a batch of task 't' holds 0 items"):
        answers_at(network, points, "t", [{"t": good}, {"t": TaskBatch(*(part[:0] for part in good))}])
    with pytest.raises(ValueError, match="lengths must lie between 1 and the 4 steps, got 5 to 5"):
        answers_at(network, points, "t", [{"t": good._replace(lengths=torch.full((3,), 5))}])
    with pytest.raises(ValueError, match="no item of task 'u'"):
        answers_at(network, points, "u", [{"t": good}])


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 6, 7])
def test_interleave_undoes_the_deal(count: int, world: int) -> None:
    values = torch.randn(count, 2)
    assert torch.equal(interleave([values[rank::world] for rank in range(world)]), values)


def test_interleave_refuses_what_was_not_dealt_out() -> None:
    for lengths in ((1, 2), (3, 1), (2, 1, 2)):
        with pytest.raises(ValueError, match="not dealt out"):
            interleave([torch.zeros(length) for length in lengths])
    with pytest.raises(ValueError, match="not dealt out"):
        interleave([])


def test_a_grid_over_theta_itself_runs_row_after_row() -> None:
    theta = torch.tensor([[0.0, 10.0], [4.0, 12.0], [1.0, 11.0]])
    grid = plane_grid(theta, size=3, margin=0.25)
    assert grid.x.tolist() == [-1.0, 2.0, 5.0]
    assert grid.y.tolist() == [9.5, 11.0, 12.5]
    assert grid.points.tolist() == [[x, y] for y in (9.5, 11.0, 12.5) for x in (-1.0, 2.0, 5.0)]
    assert grid.points.dtype == theta.dtype
    assert grid.x.dtype == grid.y.dtype == torch.float64


def test_a_grid_lies_in_the_plane_of_the_members_and_covers_them() -> None:
    theta = torch.randn(6, 2).mul_(torch.tensor([3.0, 1.0])) @ torch.randn(2, 5) + torch.randn(5)
    plane, grid = plane_of(theta), plane_grid(theta, size=4, margin=0.5)
    assert grid.points.shape == (16, 5)
    torch.testing.assert_close(plane.back(plane.members).float(), theta)  # the members fill a plane: nothing is lost
    torch.testing.assert_close(plane.project(theta), plane.members)
    wanted = torch.tensor([[x, y] for y in grid.y for x in grid.x], dtype=torch.float64)
    torch.testing.assert_close(plane.project(grid.points), wanted, rtol=1e-5, atol=1e-5)
    for axis, coordinates in ((grid.x, plane.members[:, 0]), (grid.y, plane.members[:, 1])):
        extent = float(coordinates.max() - coordinates.min())
        assert float(axis[-1] - axis[0]) == pytest.approx(2 * extent)
        assert float(coordinates.min() - axis[0]) == pytest.approx(0.5 * extent)


def test_in_two_dimensions_the_plane_is_theta() -> None:
    theta = torch.randn(4, 2)
    plane, others = plane_of(theta), torch.randn(3, 7, 2)
    assert torch.equal(plane.members, theta.double())
    assert torch.equal(plane.project(others), others.double())
    assert torch.equal(plane.back(others), others.double())


def test_members_on_a_line_still_get_a_plane() -> None:
    for theta in (torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 5.0]]), torch.tensor([[0.0, 1.0], [3.0, 1.0]])):
        grid = plane_grid(theta, size=2, margin=0.0)
        assert float(grid.x[1] - grid.x[0]) == pytest.approx(3.0)
        assert float(grid.y[1] - grid.y[0]) == pytest.approx(3.0)


def test_a_plane_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="a plane needs two dimensions"):
        plane_grid(torch.randn(4, 1))
    for same in (torch.ones(3, 2), torch.zeros(5, 4), torch.randn(1, 3)):
        with pytest.raises(ValueError, match="lie at one point"):
            plane_grid(same)
    with pytest.raises(ValueError, match="size >= 2"):
        plane_grid(torch.randn(4, 2), size=1)
    for margin in (-0.1, torch.nan, torch.inf):
        with pytest.raises(ValueError, match="margin >= 0"):
            plane_grid(torch.randn(4, 2), margin=margin)


def answers(right: list[int], count: int, likely: list[float] | None = None) -> Answers:
    return Answers(torch.tensor(right), torch.tensor(likely or [-1.0] * len(right), dtype=torch.float64), count)


def test_relative_accuracy_by_hand() -> None:
    found = relative_accuracy({"a": answers([4, 8], 10), "b": answers([3, 1], 4)}, {"b": 0.5, "a": 0.8})
    assert found.tolist() == pytest.approx([(0.5 + 1.5) / 2, (1.0 + 0.5) / 2])


def test_relative_accuracy_refuses_what_does_not_belong_together() -> None:
    one = {"a": answers([1, 2], 4)}
    with pytest.raises(ValueError, match="name the same tasks"):
        relative_accuracy(one, {"b": 0.5})
    for score in (relative_accuracy, preference):
        with pytest.raises(ValueError, match="no task to compare on"):
            score({}, {})
    with pytest.raises(ValueError, match="name the same tasks"):
        preference(one, {})
    with pytest.raises(ValueError, match="accuracy must lie"):
        relative_accuracy(one, {"a": 0.0})
    with pytest.raises(ValueError, match="points differ"):
        relative_accuracy({**one, "b": answers([1], 4)}, {"a": 0.5, "b": 0.5})


def test_likelihood_decides_between_equals_only() -> None:
    found = answers([5, 6, 6, 5], 10, [-1e-9, -50.0, -20.0, -3.0])
    scores = preference({"a": found}, {"a": 0.9})
    assert scores.argsort(descending=True).tolist() == [2, 1, 0, 3]
    extra = scores - relative_accuracy({"a": found}, {"a": 0.9})
    assert ((extra >= 0) & (extra <= 0.5 / 10 / 0.9 + 1e-12)).all()


class Bowl:
    """Network at theta says class 1 with a logit that is highest at `top`: accuracy alone cannot find it."""

    dimensions, classes, vocabulary, reads = 2, MappingProxyType({"t": 2}), 2, "tokens"
    top = torch.tensor([0.7, -0.2])

    def prepare(self, inputs: Tensor) -> Tensor:
        return inputs.float()

    def answers(self, theta: Tensor, prepared: Tensor, lengths: Tensor, task: str) -> Tensor:
        height = 1 - (theta - self.top).square().sum(1)  # above 0 within distance 1
        return torch.stack([0 * height, height], dim=1).unsqueeze(1).expand(-1, len(prepared), -1)


def test_the_best_point_lies_beyond_the_grid() -> None:
    network, theta = Bowl(), torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    batches = [{"t": TaskBatch(torch.ones(4, 2).long(), torch.tensor([1, 1, 1, 0]), torch.tensor([2, 2, 1, 2]))}]
    grid = plane_grid(theta, size=3, margin=0.0)
    found = {"t": answers_at(network, grid.points, "t", batches)}
    search = best_point(network, theta, grid.points, found, {"t": 0.5}, batches, rounds=12, seed=3)
    near = (grid.points - network.top).norm(dim=1)
    assert torch.equal(search.start, grid.points[near.argmin()])
    assert float((search.point - network.top).norm()) < 0.1 * float(near.min())
    assert search.score > search.start_score
    assert relative_accuracy(found, {"t": 0.5}).max() == 1.5
    again = best_point(network, theta, grid.points, found, {"t": 0.5}, batches, rounds=12, seed=3, chunk=5)
    assert torch.equal(again.point, search.point)
    with pytest.raises(ValueError, match="no task to compare on"):
        best_point(network, theta, grid.points, {}, {}, batches)
    with pytest.raises(ValueError, match="4 points and answers at 9"):
        best_point(network, theta, grid.points[:4], found, {"t": 0.5}, batches)
