"""The mean input counts every real token once; visited states are real steps, drawn without repetition."""

from __future__ import annotations

import pytest
import torch

from dynamo.analysis.visited import mean_input, visited_states
from dynamo.types import TaskBatch


def _batch(inputs: list[list[int]], lengths: list[int]) -> TaskBatch:
    return TaskBatch(torch.tensor(inputs), torch.zeros(len(inputs)).long(), torch.tensor(lengths))


TABLE = torch.tensor([[100.0, 100.0], [1.0, 0.0], [0.0, 2.0], [4.0, 4.0]])


def test_mean_input_is_the_mean_over_real_tokens_of_all_batches() -> None:
    batches = [_batch([[1, 2, 2], [3, 0, 0]], [3, 1]), _batch([[1, 1]], [2])]
    torch.testing.assert_close(mean_input(TABLE, iter(batches)), torch.tensor([3 + 4.0, 4 + 4.0]) / 6)
    torch.testing.assert_close(
        mean_input(torch.stack([TABLE, 2 * TABLE, -TABLE]), batches)[1], torch.tensor([14.0, 16.0]) / 6
    )


def test_mean_input_of_members_that_read_their_own_items() -> None:
    tokens, lengths = torch.tensor([[[1, 2], [1, 0]], [[3, 0], [2, 0]]]), torch.tensor([[2, 1], [1, 1]])
    batch = TaskBatch(tokens, torch.zeros(2, 2), lengths)
    own = mean_input(torch.stack([TABLE, TABLE]), [batch])
    torch.testing.assert_close(own, torch.tensor([[2 / 3, 2 / 3], [2.0, 3.0]]))
    torch.testing.assert_close(mean_input(TABLE, [batch]), torch.tensor([6.0, 8.0]) / 5)


def test_mean_input_refuses_nothing_and_strangers() -> None:
    with pytest.raises(ValueError, match="no token"):
        mean_input(TABLE, [])
    for token in (4, -1):
        with pytest.raises(ValueError, match=f"token id {token} lies outside the vocabulary of 4 words"):
            mean_input(TABLE, [_batch([[1, token]], [2])])


def test_mean_input_refuses_items_of_another_number_of_members() -> None:
    own = TaskBatch(torch.ones(2, 5, 3).long(), torch.zeros(2, 5), torch.full((2, 5), 3))
    with pytest.raises(ValueError, match="items for 2 members cannot be read with the 3 tables"):
        mean_input(torch.stack([TABLE] * 3), [own])
    assert torch.equal(mean_input(TABLE.unsqueeze(0), [own]), TABLE[1:2])


def test_visited_states_are_all_the_real_steps_when_all_are_wanted() -> None:
    states = torch.arange(2 * 3 * 4).float().view(2, 3, 4, 1)  # every state knows its place
    found = visited_states(states, torch.tensor([4, 1, 2]), 7)
    assert found.owner.tolist() == [0] * 7 + [1] * 7
    first = found.states[:7, 0].tolist()
    assert sorted(first) == [0, 1, 2, 3, 4, 8, 9]
    assert found.states[7:, 0].tolist() == [value + 12 for value in first]  # the same moments of both networks


def test_visited_states_of_networks_with_items_of_their_own_and_a_burn_in() -> None:
    states = torch.arange(2 * 2 * 4).float().view(2, 2, 4, 1)
    found = visited_states(states, torch.tensor([[4, 1], [2, 3]]), 2, burn_in=2)
    assert set(found.states[:2, 0].tolist()) <= {2.0, 3.0, 4.0}  # the last step of a short item counts
    assert set(found.states[2:, 0].tolist()) == {8.0 + 1, 12.0 + 2}


def test_visited_states_depend_on_the_seed_alone() -> None:
    states, lengths = torch.randn(2, 5, 9, 3), torch.tensor([9, 3, 7, 1, 5])
    one = visited_states(states, lengths, 6, seed=1)
    assert torch.equal(one.states, visited_states(states, lengths, 6, seed=1).states)
    assert not torch.equal(one.states, visited_states(states, lengths, 6, seed=2).states)
    assert len(one.states.unique(dim=0)) == 12


def test_visited_states_refuse_more_than_there_are() -> None:
    states = torch.zeros(2, 3, 4, 1)
    with pytest.raises(ValueError, match="between 1 and 7"):
        visited_states(states, torch.tensor([4, 1, 2]), 8)
    with pytest.raises(ValueError, match=r"\[B\] or \[P, B\]"):
        visited_states(states, torch.tensor([4, 1]), 2)
