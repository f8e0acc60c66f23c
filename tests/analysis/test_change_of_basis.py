"""Is a network with its hidden units in another order still the same network?"""

from __future__ import annotations

import pytest
import torch

from dynamo import Population
from dynamo.analysis import in_another_basis, permuted_units
from dynamo.population import Member, RecurrentBundle
from dynamo.population.recurrence import Kind
from dynamo.types import TaskBatch


def bundle(kind: Kind, count: int = 3) -> RecurrentBundle:
    found = RecurrentBundle(count, kind, vocab_size=9, embedding_size=4, hidden_size=5, classes=2)
    found.initialise(range(count))
    return found


def batch() -> TaskBatch:
    return TaskBatch(torch.randint(2, 9, (6, 7)), torch.zeros(6, dtype=torch.int64), torch.full((6,), 7))


@pytest.mark.parametrize("kind", ["gru", "lstm", "rnn"])
def test_a_permuted_member_is_the_same_function(kind: Kind) -> None:
    networks, items, order = bundle(kind), batch(), torch.tensor([3, 0, 4, 1, 2])
    other = permuted_units(networks, 1, order)
    before, after = networks(items), other(items)
    torch.testing.assert_close(after.output, before.output)
    torch.testing.assert_close(after.hidden[0][1], before.hidden[0][1][..., order])
    torch.testing.assert_close(after.hidden[0][[0, 2]], before.hidden[0][[0, 2]])
    assert not torch.allclose(after.hidden[0][1], before.hidden[0][1], atol=0.001)


def population() -> Population:
    kinds: tuple[Kind, ...] = ("gru", "rnn")
    members = [[Member(f"{kind}-{i}", kind, "words") for i in range(3)] for kind in kinds]
    return Population([bundle(kind) for kind in kinds], members)


def test_the_named_members_alone_are_turned_each_in_its_own_way() -> None:
    original, items = population(), {"words": batch()}
    turned = in_another_basis(original, ["gru-2", "rnn-0", "rnn-1"])
    assert turned.members == original.members
    for before, after, moved in zip(original.run(items), turned.run(items), ([2], [0, 1]), strict=True):
        assert before is not None
        assert after is not None
        torch.testing.assert_close(after.output, before.output)
        same = [torch.allclose(a, b, atol=0.001) for a, b in zip(after.hidden[0], before.hidden[0], strict=True)]
        assert [index for index, alike in enumerate(same) if not alike] == moved
    first, second = (turned.bundles[1].get_parameter("bias_hh")[i] - 0 for i in (0, 1))
    orders = [
        torch.cdist(own[:, None], was[:, None]).argmin(1)
        for own, was in zip((first, second), original.bundles[1].get_parameter("bias_hh"), strict=False)
    ]
    assert not torch.equal(*orders)


def test_the_seed_decides_the_orders() -> None:
    original = population()
    one, again, other = (in_another_basis(original, ["gru-0"], seed).bundles[0].state_dict() for seed in (0, 0, 1))
    assert torch.equal(one["weight_hh"], again["weight_hh"])
    assert not torch.equal(one["weight_hh"], other["weight_hh"])


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [0, 1, 2, 3, 3], [1, 2, 3, 4, 5]])
def test_what_is_no_permutation_is_refused(order: list[int]) -> None:
    with pytest.raises(ValueError, match="each of the 5 units once"):
        permuted_units(bundle("gru"), 0, torch.tensor(order))


def test_who_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="no member 3 in a bundle of 3"):
        permuted_units(bundle("gru"), 3, torch.arange(5))
    with pytest.raises(ValueError, match="no member 'gru-7'; the population has gru-0"):
        in_another_basis(population(), ["gru-7"])
