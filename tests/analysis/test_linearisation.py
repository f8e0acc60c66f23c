"""Jacobians are those of autograd and of differences; eigenvalues and time constants are what was planted."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dynamo.analysis.linearisation import input_jacobians, jacobians, linearise


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


MATRIX, ROW = _random(3, 3, seed=1), _random(2, 3, seed=2)


def step(states: Tensor, context: Tensor) -> Tensor:
    """Mixes units unevenly and depends on the context, so that a transposed or shuffled answer shows."""
    return torch.tanh(states @ MATRIX.T.to(states) + context @ ROW.to(states)) + 0.1 * states.square()


def planted(eigenvalues: list[float]) -> Tensor:
    """A matrix with these eigenvalues and oblique eigenvectors: the columns of `basis`."""
    return (
        basis(len(eigenvalues))
        @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64))
        @ basis(len(eigenvalues)).inverse()
    )


def basis(size: int) -> Tensor:
    return torch.eye(size).double() + 0.4 * _random(size, size, seed=7)


def test_jacobians_are_those_of_autograd_and_of_differences() -> None:
    states, context = _random(5, 3), _random(5, 2, seed=3)
    found = jacobians(step, states, context, chunk=2)
    for p in range(5):
        one = torch.autograd.functional.jacobian(lambda h, p=p: step(h, context[p]), states[p])
        torch.testing.assert_close(found[p], one)
        for j in range(3):
            nudge = torch.zeros(3, dtype=torch.float64)
            nudge[j] = 1e-6
            slope = (step(states[p] + nudge, context[p]) - step(states[p] - nudge, context[p])) / 2e-6
            torch.testing.assert_close(found[p, :, j], slope, atol=1e-8, rtol=0)


@pytest.mark.parametrize("chunk", [1, 4, 7, 100])
def test_jacobians_do_not_depend_on_the_chunks(chunk: int) -> None:
    states, context = _random(7, 3), _random(7, 2, seed=3)
    torch.testing.assert_close(jacobians(step, states, context, chunk), jacobians(step, states, context, 7))
    assert jacobians(step, states.float(), context.float(), chunk).dtype == torch.float32


def test_jacobians_work_without_context_and_within_inference_mode() -> None:
    with torch.inference_mode():
        states = _random(4, 3)
        found = jacobians(lambda h: h @ MATRIX.T, states)
    torch.testing.assert_close(found, MATRIX.expand(4, 3, 3))
    assert torch.is_grad_enabled()
    assert not found.requires_grad


def test_input_jacobians_are_those_of_autograd() -> None:
    states, context, inputs, weight = _random(5, 3), _random(5, 2, seed=3), _random(5, 4, seed=4), _random(3, 4, seed=5)

    def open_step(h: Tensor, x: Tensor, c: Tensor) -> Tensor:
        return step(h, c) * torch.sin(x @ weight.T)

    found = input_jacobians(open_step, states, inputs, context, chunk=2)
    assert found.shape == (5, 3, 4)
    for p in range(5):
        one = torch.autograd.functional.jacobian(lambda x, p=p: open_step(states[p], x, context[p]), inputs[p])
        torch.testing.assert_close(found[p], one)
    shared = input_jacobians(open_step, states, inputs[0], context)
    torch.testing.assert_close(shared[0], found[0])
    without = input_jacobians(lambda h, x: h + x @ weight.T, states, inputs)
    torch.testing.assert_close(without, weight.expand(5, 3, 4))


def test_eigenvalues_vectors_and_time_constants_of_a_planted_map() -> None:
    values = [0.5, -0.9, 0.0, 0.99]
    matrix = planted(values)
    found = linearise(lambda h: h @ matrix.T, _random(3, 4))
    expected = torch.tensor([0.99, -0.9, 0.5, 0.0], dtype=torch.float64)
    torch.testing.assert_close(found.eigenvalues.real, expected.expand(3, 4), atol=1e-12, rtol=0)
    times = [-1 / math.log(0.99), -1 / math.log(0.9), -1 / math.log(0.5)]
    torch.testing.assert_close(found.time_constants[1, :3], torch.tensor(times, dtype=torch.float64))
    assert found.time_constants[:, 3].max() < 0.05  # 0 but for the rounding of an eigenvalue that is 0
    right, left = basis(4)[:, 3], basis(4).inverse()[3]
    for p in range(3):
        assert (found.right[p].real @ right).abs() / right.norm() == pytest.approx(1)
        assert (found.left[p].real @ left).abs() / left.norm() == pytest.approx(1)
    assert found.stability == ("stable",) * 3


def test_a_rotation_has_a_complex_pair_and_its_vectors_solve_both_equations() -> None:
    turn = torch.tensor([[0.6, -0.5, 0.2], [0.5, 0.6, 0.1], [0.0, 0.0, 0.3]]).double()
    found = linearise(lambda h: h @ turn.T, torch.zeros(1, 3).double())
    torch.testing.assert_close(found.eigenvalues[0, 0], torch.tensor(0.6 + 0.5j, dtype=torch.complex128))
    matrix = turn.to(torch.complex128)
    torch.testing.assert_close(matrix @ found.right[0], found.eigenvalues[0, 0] * found.right[0])
    torch.testing.assert_close(found.left[0] @ matrix, found.eigenvalues[0, 0] * found.left[0])
    torch.testing.assert_close(found.right.abs().square().sum(1), torch.ones(1).double())
    assert found.time_constants[0, 0] == pytest.approx(-1 / math.log(math.hypot(0.6, 0.5)))


@pytest.mark.parametrize(
    ("values", "stability", "slowest"),
    [
        ([0.3, 0.8], "stable", -1 / math.log(0.8)),
        ([1.2, 0.8], "saddle", math.inf),
        ([0.8, -1.2], "saddle", math.inf),
        ([1.2, -1.5], "unstable", math.inf),
        ([0.0, 0.0], "stable", 0.0),
    ],
)
def test_stability(values: list[float], stability: str, slowest: float) -> None:
    matrix = torch.diag(torch.tensor(values)).double()
    found = linearise(lambda h: h @ matrix.T, _random(2, 2))
    assert found.stability == (stability,) * 2
    assert found.time_constants[0, 0] == pytest.approx(slowest)


def test_an_eigenvalue_of_exactly_one_is_stable_and_lasts_for_ever() -> None:
    found = linearise(lambda h: h * torch.tensor([1.0, 0.5]), torch.zeros(2, 2))
    assert found.stability == ("stable", "stable")
    assert found.time_constants[:, 0].tolist() == [math.inf, math.inf]


def test_a_defective_map_still_has_a_slow_mode_on_both_sides() -> None:
    block = torch.tensor([[0.9, 1.0], [0.0, 0.9]]).double()
    found = linearise(lambda h: h @ block.T, torch.zeros(1, 2).double())
    torch.testing.assert_close(found.right.real.abs(), torch.tensor([[1.0, 0.0]]).double(), atol=1e-7, rtol=0)
    torch.testing.assert_close(found.left.real.abs(), torch.tensor([[0.0, 1.0]]).double(), atol=1e-7, rtol=0)


def test_refuses_what_has_no_jacobian() -> None:
    with pytest.raises(ValueError, match=r"states must be \[P, S\]"):
        jacobians(step, torch.zeros(3), None)
    with pytest.raises(ValueError, match="float32 or float64"):
        jacobians(step, torch.zeros(3, 3).long())
    with pytest.raises(ValueError, match="one row for each of the 3 states"):
        jacobians(step, torch.zeros(3, 3), torch.zeros(2, 2))
    with pytest.raises(ValueError, match="chunk"):
        jacobians(step, torch.zeros(3, 3), torch.zeros(3, 2), chunk=0)
    with pytest.raises(ValueError, match="has to keep them"):
        jacobians(lambda h: h[:, :1], torch.zeros(3, 3))
    with pytest.raises(ValueError, match=r"inputs \[\] must be \[E\]"):
        input_jacobians(lambda h, x: h + x, torch.zeros(3, 2), torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"inputs \[2, 4\]"):
        input_jacobians(step, torch.zeros(3, 3), torch.zeros(2, 4))
    states = torch.tensor([[1.0], [0.0], [4.0]])
    with pytest.raises(ValueError, match=r"states \[1\] are not finite"):
        linearise(lambda h: h.sqrt(), states)
