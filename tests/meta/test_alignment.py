"""Is V_n one ordinary map per member, and does it begin at the best constant answer?"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dynamo.meta import AffineAlignment, IdentityAlignment, MLPAlignment
from dynamo.meta.alignment import ALIGNMENTS

N, T, B, S, H = 4, 3, 2, 5, 6


def linear(alignment: AffineAlignment, member: int) -> nn.Linear:
    """The same map as a module of torch."""
    found = nn.Linear(*alignment.weight.shape[1:])
    with torch.no_grad():
        found.weight.copy_(alignment.weight[member].T)
        found.bias.copy_(alignment.bias[member])
    return found


def randomised(kind: str) -> AffineAlignment | IdentityAlignment | MLPAlignment:
    alignment = ALIGNMENTS[kind](N, S, H)
    for parameter in alignment.parameters():
        nn.init.normal_(parameter)
    return alignment


def one_by_one(alignment: nn.Module, states: Tensor, members: list[int]) -> Tensor:
    mapped = []
    for position, member in enumerate(members):
        if isinstance(alignment, MLPAlignment):
            inner, outer = linear(alignment.inner, member), linear(alignment.outer, member)
            mapped.append(outer(torch.tanh(inner(states[position]))))
        else:
            assert isinstance(alignment, AffineAlignment)
            mapped.append(linear(alignment, member)(states[position]))
    return torch.stack(mapped)


@pytest.mark.parametrize("kind", ["affine", "mlp"])
@pytest.mark.parametrize("members", [None, [2], [3, 0, 1]])
def test_equals_one_module_per_member(kind: str, members: list[int] | None) -> None:
    alignment = randomised(kind)
    chosen = list(range(N)) if members is None else members
    states = torch.randn(len(chosen), T, B, S)
    mapped = alignment(states, None if members is None else torch.tensor(members))
    assert mapped.shape == (len(chosen), T, B, H)
    torch.testing.assert_close(mapped, one_by_one(alignment, states, chosen))


@pytest.mark.parametrize("kind", ["affine", "mlp"])
def test_the_start_is_set_for_these_members_alone(kind: str) -> None:
    alignment = ALIGNMENTS[kind](N, S, H)
    before = alignment(torch.zeros(N, T, B, S))
    mean, members = torch.randn(2, H), torch.tensor([3, 1])
    alignment.start_at(mean, members)
    after = alignment(torch.zeros(N, T, B, S))
    torch.testing.assert_close(after[members], mean[:, None, None].expand(2, T, B, H) + 0.0)
    assert torch.equal(after[[0, 2]], before[[0, 2]])


def test_the_identity_is_the_identity_and_needs_equal_sizes() -> None:
    alignment = IdentityAlignment(N, S, S)
    states = torch.randn(2, T, B, S)
    assert alignment(states, torch.tensor([1, 2])) is states
    alignment.start_at(torch.ones(1, S), torch.tensor([0]))
    assert not list(alignment.parameters())
    with pytest.raises(ValueError, match="but S = 5 and H = 6; set hidden_size to 6 or choose alignment 'affine'"):
        IdentityAlignment(N, S, H)


def test_only_chosen_members_get_a_gradient() -> None:
    alignment = AffineAlignment(N, S, H)
    alignment(torch.randn(2, T, B, S), torch.tensor([0, 2])).square().sum().backward()
    assert alignment.weight.grad is not None
    assert (alignment.weight.grad.abs().sum((1, 2)) > 0).tolist() == [True, False, True, False]


def test_fresh_maps_of_members_differ() -> None:
    weight = AffineAlignment(N, S, H).weight.detach()
    assert not torch.equal(weight[0], weight[1])
    assert float(weight.abs().max()) <= S**-0.5
