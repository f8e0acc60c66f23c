"""Known fixed points are found and classified; seeds do not disturb each other; the network is left alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dynamo.analysis.fixed_points import (
    FixedPoints,
    bundle_input_step,
    bundle_step,
    find_fixed_points,
    network_input_step,
    network_step,
)
from dynamo.analysis.linearisation import input_jacobians, linearise
from dynamo.analysis.visited import mean_input, visited_states
from dynamo.meta.recurrent import RecurrentMetaModel
from dynamo.population.recurrent import Architecture, RecurrentBundle
from dynamo.types import TaskBatch


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """By bisection: an independent way to a fixed point."""
    assert function(low) * function(high) < 0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if function(low) * function(middle) > 0 else (low, middle)
    return low


def _self_exciting() -> RecurrentBundle:
    """Two decoupled GRU units with z = 1/2 and r = 1: h' = (tanh(w h + b) + h) / 2, bistable in both units."""
    bundle = RecurrentBundle(1, "gru", 5, 3, 2, 2)
    with torch.no_grad():
        bundle.bias_ih[0, :2] = 30.0
        bundle.weight_hh[0, 4:] = torch.diag(torch.tensor([2.0, 1.5]))
        bundle.bias_hh[0, 4:] = torch.tensor([0.1, -0.02])
    return bundle.requires_grad_(False)


def test_a_gru_with_known_points_has_four_stable_ones_four_saddles_and_one_that_repels() -> None:
    step, member = bundle_step(_self_exciting(), torch.zeros(1, 3)), torch.zeros(400).long()
    roots = []
    for weight, bias in ((2.0, 0.1), (1.5, -0.02)):
        brackets = [(-1.0, -0.5), (-0.3, 0.3), (0.5, 1.0)]
        roots.append([_root(lambda h, w=weight, b=bias: math.tanh(w * h + b) - h, *bracket) for bracket in brackets])
    seeds = 2 * torch.rand(400, 2, generator=torch.Generator().manual_seed(0)).double() - 1
    found = find_fixed_points(step, seeds, member, tolerance=1e-18)
    assert found.converged.all()
    points = found.states[found.unique(1e-3)]
    expected = {(a, b): (i == 1) + (j == 1) for i, a in enumerate(roots[0]) for j, b in enumerate(roots[1])}
    assert len(points) == 9
    names = ("stable", "saddle", "unstable")
    stability = linearise(step, points, member[:9]).stability
    for (a, b), directions_that_grow in expected.items():
        distance = (points - torch.tensor([a, b], dtype=torch.float64)).norm(dim=1)
        assert distance.min() < 1e-6
        assert stability[int(distance.argmin())] == names[directions_that_grow]


def test_a_planted_line_is_found_close_to_the_seeds() -> None:
    axes = torch.linalg.qr(_random(5, 5))[0]
    keep = axes @ torch.diag(torch.tensor([1.0, 0.9, 0.5, -0.5, 0.0]).double()) @ axes.T
    centre, seeds = _random(5, seed=1), 3 * _random(60, 5, seed=2)
    found = find_fixed_points(lambda h: centre + (h - centre) @ keep.T, seeds, tolerance=1e-16)
    assert found.converged.all()
    offset = (found.states - centre) @ axes
    torch.testing.assert_close(offset[:, 1:], torch.zeros(60, 4).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(offset[:, 0], (seeds - centre) @ axes[:, 0], atol=1e-6, rtol=0)  # nobody slid along it
    linear = linearise(lambda h: centre + (h - centre) @ keep.T, found.states)
    assert set(linear.stability) == {"stable"}
    assert (linear.right.real @ axes[:, 0]).abs().min() == pytest.approx(1)


def test_a_nearly_flat_line_does_not_send_seeds_to_its_distant_exact_end() -> None:
    def drift(h: Tensor) -> Tensor:  # fixed at 100 alone, but slower than the tolerance from 96 to 104
        return torch.stack([h[:, 0] + 1e-4 * (100 - h[:, 0]), 0.3 * h[:, 1]], dim=1)

    seeds = torch.tensor([[97.0, 2.0], [103.0, -3.0]]).double()
    found = find_fixed_points(drift, seeds)
    assert found.converged.all()
    torch.testing.assert_close(found.states[:, 0], seeds[:, 0], atol=0.05, rtol=0)


def _ghost(h: Tensor) -> Tensor:
    """Drifts to the right, slowest at 0 where a pair of fixed points has just vanished; comes to rest at 3."""
    return h - 0.02 * (h**2 + 0.05) * (h - 3)


def test_where_the_descent_is_stuck_at_a_ghost_the_network_runs_on() -> None:
    seeds = torch.tensor([[-1.0], [0.1], [2.9]]).double()
    stays = find_fixed_points(_ghost, seeds, run_on_when_stuck=False)
    assert stays.converged.tolist() == [False, False, True]
    assert stays.states[:2, 0].abs().max() < 0.1
    assert stays.iterations.max() < 30  # it does not spend the rest of its iterations on the spot
    moves = find_fixed_points(_ghost, seeds)
    assert moves.converged.all()
    assert moves.ran_on is not None
    assert moves.ran_on.tolist() == [True, True, False]
    torch.testing.assert_close(moves.states, torch.full((3, 1), 3.0).double(), atol=1e-2, rtol=0)


def test_what_never_rests_is_marked() -> None:
    found = find_fixed_points(lambda h: h + 0.1, torch.zeros(2, 3), iterations=12)
    assert not found.converged.any()
    assert found.iterations.tolist() == [12, 12]
    assert len(found.unique(0.1)) == 0


def test_what_is_not_finite_is_marked_and_disturbs_nobody() -> None:
    def root(h: Tensor) -> Tensor:
        return 0.5 * h.sqrt()

    seeds = torch.tensor([[1.0, 2.0], [-1.0, 1.0], [torch.nan, 1.0], [torch.inf, 1.0], [0.4, 0.1]])
    found = find_fixed_points(root, seeds)
    assert found.converged.tolist() == [True, False, False, False, True]
    assert found.iterations[1:4].tolist() == [0, 0, 0]
    alone = find_fixed_points(root, seeds[[0, 4]])
    assert torch.equal(found.states[[0, 4]], alone.states)


def test_seeds_that_rest_already_stay_as_they_are() -> None:
    seeds = _random(4, 3)
    found = find_fixed_points(lambda h: h.clone(), seeds)
    assert torch.equal(found.states, seeds)
    assert found.iterations.tolist() == [0] * 4
    assert found.converged.all()


WORDS = 7


def _network(architecture: Architecture = "gru", conditioning: str = "input") -> RecurrentMetaModel:
    torch.manual_seed(3)
    network = RecurrentMetaModel(WORDS, {"toy": 2}, 2, 6, 4, architecture, conditioning)  # type: ignore[arg-type]
    with torch.no_grad():
        network.weight_state.mul_(2)
    return network


@pytest.mark.parametrize("conditioning", ["input", "weights"])
@pytest.mark.parametrize("architecture", ["gru", "lstm", "rnn"])
def test_network_step_is_the_network_reading_one_word(architecture: Architecture, conditioning: str) -> None:
    network = _network(architecture, conditioning)
    theta, tokens = _random(3, 2).float(), torch.tensor([[4, 4, 4, 4]])
    step = network_step(network, network.embedding.weight[4])
    states = torch.zeros(3, 12 if architecture == "lstm" else 6)
    for t in range(4):
        states = step(states, theta)
        torch.testing.assert_close(states[:, :6], network(theta, tokens, "toy").hidden[0][:, 0, t].detach())
    assert step(states.double(), theta).dtype == torch.float64
    open_step, words = network_input_step(network), network.embedding.weight[[4, 5, 6]]
    torch.testing.assert_close(open_step(states, words, theta)[:1], step(states, theta)[:1])
    slopes = input_jacobians(open_step, states, words, theta)
    one = torch.autograd.functional.jacobian(lambda x: open_step(states[1:2], x[None], theta[1:2])[0], words[1])
    torch.testing.assert_close(slopes[1], one)


@pytest.mark.parametrize("architecture", ["gru", "lstm", "rnn"])
def test_bundle_step_is_each_member_reading_its_own_word(architecture: Architecture) -> None:
    bundle = RecurrentBundle(3, architecture, WORDS, 4, 6, 2)
    bundle.initialise([1, 2, 3])
    step = bundle_step(bundle, bundle.embedding[:, 5])
    member = torch.tensor([2, 0, 1, 2])
    states = torch.zeros(4, 12 if architecture == "lstm" else 6)
    hidden = bundle(TaskBatch(torch.full((1, 3), 5), torch.zeros(1), torch.tensor([3]))).hidden[0].detach()
    for t in range(3):
        states = step(states, member)
        torch.testing.assert_close(states[:, :6], hidden[member, 0, t])
    assert step(states.double(), member).dtype == torch.float64
    open_step = bundle_input_step(bundle)
    torch.testing.assert_close(open_step(states, bundle.embedding[member, 5], member), step(states, member))


def test_a_step_keeps_the_weights_it_was_made_with() -> None:
    network = _network()
    step, theta, states = network_step(network, torch.zeros(4)), torch.zeros(2, 2), torch.zeros(2, 6)
    before = step(states, theta)
    with torch.no_grad():
        network.bias_input.add_(1)
    assert torch.equal(step(states, theta), before)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_results_depend_neither_on_the_chunks_nor_on_who_else_is_there(chunk: int) -> None:
    step, theta, seeds = network_step(_network(), torch.zeros(4)), _random(20, 2), 0.5 * _random(20, 6, seed=1)
    whole = find_fixed_points(step, seeds, theta, tolerance=1e-14)
    assert whole.converged.all()
    found = find_fixed_points(step, seeds, theta, tolerance=1e-14, chunk=chunk)
    torch.testing.assert_close(found.states, whole.states)
    assert torch.equal(found.iterations, whole.iterations)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(4))[:9]
    some = find_fixed_points(step, seeds[order], theta[order], tolerance=1e-14, chunk=chunk)
    torch.testing.assert_close(some.states, whole.states[order])
    again = find_fixed_points(step, seeds, theta, tolerance=1e-14)
    assert torch.equal(again.states, whole.states)


def test_every_seed_is_solved_for_its_own_theta() -> None:
    def pull(h: Tensor, theta: Tensor) -> Tensor:
        return h / 2 + theta

    theta = _random(9, 3)
    found = find_fixed_points(pull, torch.zeros(9, 3).double(), theta, tolerance=1e-20, chunk=4)
    torch.testing.assert_close(found.states, 2 * theta)
    assert found.context is theta


def test_float64_reaches_what_float32_cannot() -> None:
    step, theta, seeds = network_step(_network(), torch.zeros(4)), _random(5, 2).float(), torch.zeros(5, 6)
    tight = find_fixed_points(step, seeds, theta, tolerance=1e-26, dtype=torch.float64)
    assert tight.states.dtype == torch.float64
    assert tight.converged.all()
    plain = find_fixed_points(step, seeds, theta)
    assert plain.states.dtype == torch.float32
    assert plain.converged.all()


def test_the_network_is_left_as_it_was() -> None:
    network = _network().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.inference_mode():  # as an analysis may be run
        theta, seeds = _random(5, 2).float(), torch.zeros(5, 6)
        word = mean_input(
            network.embedding.weight, [TaskBatch(torch.tensor([[1, 2]]), torch.zeros(1), torch.tensor([2]))]
        )
        find_fixed_points(network_step(network, word), seeds, theta)
    assert network.training
    assert torch.is_grad_enabled()
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad
        assert parameter.grad is None
        assert torch.equal(parameter, before[name])


def test_what_is_taken_is_what_those_seeds_found() -> None:
    found = FixedPoints(
        torch.arange(8.0).view(4, 2),
        torch.tensor([0.1, 0.2, 0.3, 0.4]),
        torch.tensor([True, False, True, True]),
        torch.arange(4),
        torch.tensor([[5.0], [6.0], [7.0], [8.0]]),
    )
    taken = found.take(torch.tensor([3, 1]))
    assert taken.states.tolist() == [[6.0, 7.0], [2.0, 3.0]]
    assert taken.speed.tolist() == pytest.approx([0.4, 0.2])
    assert (taken.converged.tolist(), taken.iterations.tolist()) == ([True, False], [3, 1])
    assert taken.context is not None
    assert taken.context.tolist() == [[8.0], [6.0]]
    assert taken.ran_on is None


def test_unique_points_keep_their_distance_within_a_context_and_are_the_slowest() -> None:
    states = torch.tensor([[0.0], [0.3], [0.5], [0.1], [2.0], [9.0]])
    speed = torch.tensor([5.0, 1.0, 2.0, 3.0, 4.0, 0.0])
    converged = torch.tensor([True, True, True, True, True, False])
    context = torch.tensor([[1, 0], [1, 0], [1, 0], [0, 1], [1, 0], [1, 0]])
    found = FixedPoints(states, speed, converged, torch.zeros(6).long(), context)
    assert found.unique(0.35).tolist() == [1, 3, 4]  # 0.3 stands for 0 and 0.5; 0.1 is of another network
    assert found.unique(0.0).tolist() == [1, 2, 3, 4, 0]
    assert FixedPoints(states, speed, converged, torch.zeros(6).long()).unique(0.35).tolist() == [1, 4]
    with pytest.raises(ValueError, match="radius"):
        found.unique(-1.0)
    with pytest.raises(ValueError, match="radius"):
        found.unique(math.nan)


def test_on_a_trained_gru_visited_states_lead_to_approximate_fixed_points() -> None:
    torch.manual_seed(0)
    bundle, generator = RecurrentBundle(2, "gru", 9, 8, 24, 2), torch.Generator().manual_seed(1)
    bundle.initialise([5, 6])
    optimizer = torch.optim.Adam(bundle.parameters(), lr=1e-2)
    valence = torch.tensor([0, 1, 1, 1, 1, -1, -1, -1, -1])

    def draw() -> TaskBatch:
        tokens, lengths = torch.randint(1, 9, (64, 20), generator=generator), torch.full((64,), 20)
        return TaskBatch(tokens, (valence[tokens].sum(1) > 0).long(), lengths)

    for _ in range(80):  # which words were in the majority? the task of Figure 8 without its language
        batch = draw()
        logits = bundle(batch).output[:, :, -1].flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, batch.targets.repeat(2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.3
    batch = draw()
    seeds = visited_states(bundle(batch).hidden[0], batch.lengths, 150)
    step = bundle_step(bundle, mean_input(bundle.embedding, [batch]))
    found = find_fixed_points(step, seeds.states, seeds.owner)
    assert found.states.dtype == torch.float32
    assert found.converged.float().mean() >= 0.95
    exact = found.states.double()
    speed = (exact - step(exact, seeds.owner)).square().sum(1) / 2
    assert (speed[found.converged] < 1.01e-7).all()


def test_refuses_what_cannot_be_searched() -> None:
    seeds = torch.zeros(4, 3)
    with pytest.raises(ValueError, match=r"seeds must be \[P, S\]"):
        find_fixed_points(torch.tanh, torch.zeros(0, 3))
    with pytest.raises(ValueError, match="float32 or float64"):
        find_fixed_points(torch.tanh, seeds, dtype=torch.float16)
    with pytest.raises(ValueError, match="one row for each of the 4 seeds"):
        find_fixed_points(torch.add, seeds, torch.zeros(3, 3))
    with pytest.raises(ValueError, match="tolerance"):
        find_fixed_points(torch.tanh, seeds, tolerance=0)
    with pytest.raises(ValueError, match="keep shape and type"):
        find_fixed_points(lambda h: h[:, :2], seeds)
    with pytest.raises(ValueError, match="keep shape and type"):
        find_fixed_points(lambda h: h.float(), seeds.double())
    with pytest.raises(ValueError, match=r"word_vector must be \[4\]"):
        network_step(_network(), torch.zeros(3))
    with pytest.raises(ValueError, match=r"word_vectors \[4\] must be \[1, 3\]"):
        bundle_step(_self_exciting(), torch.zeros(4))
