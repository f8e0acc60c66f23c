"""One damped step never makes things worse, is Newton's where it may be, and stays close where it may not."""

from __future__ import annotations

import torch
from torch import Tensor

from dynamo.analysis.levenberg_marquardt import begin, damped_step, run_on


def _cubic(states: Tensor) -> Tensor:
    """The residual h - F(h) is h^3 - h, unit by unit: fixed points at -1, 0 and 1."""
    return states - (states**3 - states)


def test_no_row_gets_worse_and_the_speed_is_that_of_the_state() -> None:
    now = begin(_cubic, torch.linspace(-3, 3, 41, dtype=torch.float64).view(-1, 1), None)
    for _ in range(6):
        after = damped_step(_cubic, now, None)
        assert (after.speed <= now.speed).all()
        torch.testing.assert_close(after.residual, after.states - _cubic(after.states))
        torch.testing.assert_close(after.speed, after.residual.square().sum(1) / 2)
        now = after
    assert (now.speed < 1e-7).float().mean() > 0.9


def test_solves_the_damped_equations() -> None:
    matrix = torch.tensor([[0.2, 0.5], [-0.3, 0.1]]).double()
    now = begin(lambda h: h @ matrix.T, torch.tensor([[3.0, -2.0]]).double(), None)
    after = damped_step(lambda h: h @ matrix.T, now, None)
    jacobian = torch.eye(2).double() - matrix
    normal = jacobian.T @ jacobian + now.damping * torch.eye(2).double()
    expected = now.states[0] - torch.linalg.solve(normal, jacobian.T @ now.residual[0])
    torch.testing.assert_close(after.states[0], expected)
    assert after.damping < now.damping


def test_a_step_that_leaves_the_finite_is_refused() -> None:
    def cliff(states: Tensor) -> Tensor:
        return torch.where(states < 0.5, torch.nan, 0.9 * states)

    now = begin(cliff, torch.tensor([[1.0], [2.0]]), None)  # from both, Newton's step goes to 0
    after = damped_step(cliff, now, None)
    assert after.speed.isfinite().all()
    assert (after.states >= 0.5).all()
    assert (after.states < now.states).all()  # a shorter step within the same iteration was taken


def test_running_on_is_the_network_itself_until_it_is_slow_enough() -> None:
    def halve(states: Tensor) -> Tensor:
        return states / 2

    now = begin(halve, torch.tensor([[1.0], [64.0], [1e-9]]), None)
    after = run_on(halve, now, None, tolerance=1e-2, steps=4)  # speed is h^2 / 8
    assert after.states[:, 0].tolist() == [0.25, 4.0, torch.tensor(1e-9).item()]
    torch.testing.assert_close(after.speed, after.states[:, 0] ** 2 / 8)
