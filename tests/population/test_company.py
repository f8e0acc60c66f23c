"""Does a member come out the same to the bit, at sizes that fill no vector and for any number of threads?"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from dynamo.population.base import last_step
from dynamo.population.company import SHARE, VECTOR, affine, in_whole_vectors, norms, products, rooms
from dynamo.population.cross_entropy import cross_entropies
from dynamo.population.optimisation import adam, clip_per_member, sgd, stacked_groups
from dynamo.population.recurrent import RecurrentBundle
from dynamo.types import TaskBatch

N, B, T = 7, 10, 30


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def trained(architecture: str, hidden: int, members: list[int], optimiser: str) -> dict[str, Tensor]:
    """States and weights of some of N members after two steps, each on its own items."""
    settings = {"architecture": architecture, "vocab_size": 40, "embedding_size": 5, "hidden_size": hidden}
    bundle = RecurrentBundle.build(len(members), {**settings, "classes": 3, "embedding_scale": 0.5})
    bundle.initialise(members)
    groups = stacked_groups(bundle.parameters(), 0.01)
    optimizer = adam(groups, 0.01) if optimiser == "adam" else sgd(groups, 0.1, 0.9)
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        inputs = torch.randint(1, 40, (N, B, T), generator=generator)[members]
        targets = torch.randint(3, (N, B), generator=generator)[members]
        lengths = torch.randint(1, T + 1, (N, B), generator=generator)[members]
        seen = bundle(TaskBatch(inputs, targets, lengths))
        optimizer.zero_grad()
        cross_entropies(last_step(seen.output, lengths), targets).sum().backward()
        clip_per_member(bundle.parameters(), 0.5)
        optimizer.step()
    return {"hidden": seen.hidden[0].detach(), **{k: v.detach() for k, v in bundle.state_dict().items()}}


@pytest.mark.parametrize(("architecture", "hidden"), [("gru", 7), ("gru", 64), ("rnn", 7), ("rnn", 64), ("lstm", 7)])
def test_some_members_are_trained_as_all_are(threads: int, architecture: str, hidden: int) -> None:
    for optimiser in ("adam", "sgd"):
        whole = trained(architecture, hidden, list(range(N)), optimiser)
        for members in ([0, 1, 2, 3], [4, 5, 6], *([[5]] if threads < 3 else [])):  # see PopulationTask's warning
            part = trained(architecture, hidden, members, optimiser)
            for name, value in part.items():
                assert torch.equal(value, whole[name][members]), (optimiser, members, name)


def test_sums_are_those_of_one_thread_whatever_n_is(threads: int) -> None:
    left, right = torch.randn(3, 40, 3000), torch.randn(3, 3000, 20)
    weight, bias = torch.randn(3, 20, 30), torch.randn(3, 20)
    inputs, large = torch.randn(3, 3000, 30), torch.randn(3, 200, 300)
    pull = torch.randn(3, 3000, 20)

    def found(which: slice) -> list[Tensor]:
        own = weight[which].clone().requires_grad_()
        shown = affine(inputs[which], own, bias[which])
        (gradient,) = torch.autograd.grad(shown, own, pull[which])
        return [products(left[which], right[which]), norms(large[which]), shown.detach(), gradient]

    whole = found(slice(None))
    torch.testing.assert_close(whole[0], left @ right)
    torch.testing.assert_close(whole[1], large.flatten(1).norm(dim=1))
    torch.testing.assert_close(whole[2], inputs @ weight.mT + bias.unsqueeze(1))
    torch.testing.assert_close(whole[3], pull.mT @ inputs, rtol=1e-4, atol=1e-3)  # sums of 3,000 numbers
    torch.set_num_threads(1)
    for value, all_values in zip(found(slice(None)), whole, strict=True):
        assert torch.equal(value, all_values)
    torch.set_num_threads(threads)
    for n in range(3 if threads < 3 else 0):  # see PopulationTask's warning
        for value, all_values in zip(found(slice(n, n + 1)), whole, strict=True):
            assert torch.equal(value[0], all_values[n])


@pytest.mark.parametrize("size", [1, 7, 63, 65, SHARE - 1, SHARE + 1, 3 * SHARE + 5])
def test_rooms_are_whole_vectors_for_every_thread(threads: int, size: int) -> None:
    steps = [torch.zeros(size)] * 3
    places = rooms(steps, True)
    assert [room.shape for room, _ in places] == [(size,)] * 3
    for number, (room, memory) in enumerate(places):
        room.fill_(number)
        assert room.data_ptr() == memory.data_ptr()
        assert len(memory) % (VECTOR * min(threads, -(-len(memory) // SHARE))) == 0
        assert len(memory) < size + VECTOR * (threads + 1)
    assert [int(room.sum()) for room, _ in places] == [0, size, 2 * size]
    again = rooms(steps, False)
    assert len(again) == 3
    assert len({room.data_ptr() for room, _ in again}) == 1


def test_only_parameters_of_whole_vectors_are_stepped_by_a_fused_kernel() -> None:
    bundle = RecurrentBundle.build(
        3, {"architecture": "gru", "vocab_size": 8, "embedding_size": 4, "hidden_size": 16, "classes": 2}
    )
    odd = [name for name, parameter in bundle.named_parameters() if not in_whole_vectors(parameter)]
    assert odd == ["readout_bias"]
    fused, others = stacked_groups(bundle.parameters(), 0.3)
    assert [len(group["params"]) for group in (fused, others)] == [6, 1]
    assert (fused["weight_decay"], others["weight_decay"], others["fused"]) == (0.3, 0.3, False)
