"""Do losses found in turn give the gradients of losses found together, to everyone who asks for them?"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from dynamo.population.in_turn import losses_in_turn


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.randn(4, *shape)) for shape in ((3, 2), (2,))]


def cubic(index: int, own: Sequence[Tensor]) -> Tensor:
    """A loss that is another one for every member."""
    weight, bias = own
    return (index + 1) * ((weight**3).sum() + (weight @ bias).square().sum())


def together(stacked: Sequence[Tensor]) -> Tensor:
    return torch.stack([cubic(index, [p[index] for p in stacked]) for index in range(4)])


def test_losses_and_gradients_are_those_of_the_plain_way() -> None:
    stacked = parameters()
    arrived = torch.tensor([1.0, -2.0, 0.5, 0.0])
    expected = torch.autograd.grad((together(stacked) * arrived).sum(), stacked)
    losses = losses_in_turn(stacked, cubic)
    assert torch.equal(losses, together(stacked))
    (losses * arrived).sum().backward()
    for parameter, gradient in zip(stacked, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_gradients_add_up_over_steps_and_with_other_losses() -> None:
    stacked = parameters()
    expected = torch.autograd.grad(3 * together(stacked).sum() + stacked[0].sum(), stacked)
    (losses_in_turn(stacked, cubic).sum() + stacked[0].sum()).backward()
    (2 * losses_in_turn(stacked, cubic)).sum().backward()
    for parameter, gradient in zip(stacked, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_hooks_fire_once_as_gradients_are_handed_over() -> None:
    stacked = parameters()
    fired: list[int] = []
    for number, parameter in enumerate(stacked):
        parameter.register_post_accumulate_grad_hook(lambda _parameter, number=number: fired.append(number))
    losses = losses_in_turn(stacked, cubic)
    assert fired == []
    assert all(parameter.grad is None for parameter in stacked)
    losses.sum().backward()
    assert sorted(fired) == [0, 1]


def test_a_member_s_graph_is_gone_before_the_next_one_begins() -> None:
    alive: list[weakref.ref[Tensor]] = []

    def loss(index: int, own: Sequence[Tensor]) -> Tensor:
        assert all(kept() is None for kept in alive)
        hidden = own[0].exp()  # its backward keeps it
        alive.append(weakref.ref(hidden))
        return hidden.sum() + own[1].sum()

    losses = losses_in_turn(parameters(), loss)
    assert len(alive) == len(losses) == 4
    assert all(kept() is None for kept in alive)


def test_a_second_backward_is_an_error_and_no_wrong_gradient() -> None:
    losses = losses_in_turn(parameters(), cubic).sum()
    losses.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        losses.backward()
    losses = losses_in_turn(parameters(), cubic).sum()
    losses.backward()
    with pytest.raises(RuntimeError, match="a second time"):
        losses.backward()
