"""Fidelity against perfect, constant and naive answers, on any split of the data."""

from __future__ import annotations

from dataclasses import astuple
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from dynamo.analysis.fidelity import Fidelity, FidelitySums
from dynamo.types import TaskBatch, Trajectory

N, T, H, C = 3, 7, 5, 4


class Batch(NamedTuple):
    """The arguments of `FidelitySums.update`."""

    original: Trajectory
    mapped: tuple[Tensor, ...]
    output: Tensor
    targets: Tensor
    real_steps: Tensor
    lengths: Tensor


def _batch(items: int, seed: int, offset: float = 0.0) -> Batch:
    """Ragged items; whatever stands on padding is NaN."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    lengths = torch.randint(1, T + 1, (items,), generator=generator)
    targets = torch.randint(0, C, (items,), generator=generator)
    steps = TaskBatch(torch.zeros(items, T, dtype=torch.int64), targets, lengths).real_steps()
    padding = ~steps[None, :, :, None]
    hidden = normal(N, items, T, H) * torch.arange(1, N + 1)[:, None, None, None] + offset + seed
    output = normal(N, items, T, C)
    mapped = hidden + 0.4 * normal(N, items, T, H)
    emulated = output + 0.8 * normal(N, items, T, C)
    filled = [tensor.masked_fill(padding, torch.nan) for tensor in (hidden, output, mapped, emulated)]
    return Batch(Trajectory((filled[0],), filled[1]), (filled[2],), filled[3], targets, steps, lengths)


def _sums(*batches: Batch) -> FidelitySums:
    sums = FidelitySums(N, (H,))
    for batch in batches:
        sums.update(*batch)
    return sums


def _assert_equal(found: Fidelity, expected: Fidelity, tolerance: float = 1e-12) -> None:
    for one, other in zip(astuple(found), astuple(expected), strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=0)


def _naive(batches: list[Batch]) -> Fidelity:
    """The definitions, spelled out in numpy, one member, item and step at a time."""
    columns = []
    for n in range(N):
        h, v, kl, agree, right, original_right = [], [], [], [], [], []
        for batch in batches:
            for b, length in enumerate(batch.lengths.tolist()):
                for t in range(length):
                    h.append(batch.original.hidden[0][n, b, t].numpy())
                    v.append(batch.mapped[0][n, b, t].numpy())
                    y = np.exp(batch.original.output[n, b, t].numpy())
                    q = np.exp(batch.output[n, b, t].numpy())
                    y, q = y / y.sum(), q / q.sum()
                    kl.append((y * np.log(y / q)).sum())
                answer, guess = (o[n, b, length - 1].argmax() for o in (batch.original.output, batch.output))
                agree.append(answer == guess)
                right.append(guess == batch.targets[b])
                original_right.append(answer == batch.targets[b])
        states, error = np.array(h), np.array(h) - np.array(v)
        explained = 1 - (error**2).sum() / ((states - states.mean(0)) ** 2).sum()
        columns.append([explained, *(np.mean(column) for column in (kl, agree, right, original_right))])
    found = torch.tensor(np.array(columns), dtype=torch.float64)
    return Fidelity(*found.unbind(1), stage_variance_explained=found[:, :1])


def test_networks_without_answers_are_judged_by_their_states_alone() -> None:
    states, nothing = torch.randn(2, 5, 3, 4), torch.zeros(2, 5, 3, 0)
    sums = FidelitySums(2, [4])
    real, lengths = torch.ones(5, 3, dtype=torch.bool), torch.full((5,), 3)
    sums.update(Trajectory((states,), nothing), (states,), nothing, torch.full((5,), -1), real, lengths)
    assert list(sums.result().columns()) == ["variance_explained"]


def test_agrees_with_the_definitions_on_ragged_items() -> None:
    batches = [_batch(6, seed=0), _batch(1, seed=1), _batch(9, seed=2)]
    found = _sums(*batches).result()
    _assert_equal(found, _naive(batches))
    assert (found.variance_explained > 0.5).all()
    assert (found.variance_explained < 1).all()


def test_perfect_emulator() -> None:
    batch = _batch(8, seed=3)
    perfect = batch._replace(mapped=batch.original.hidden, output=batch.original.output)
    found = _sums(perfect).result()
    assert (found.variance_explained == 1).all()
    assert (found.agreement == 1).all()
    torch.testing.assert_close(found.kl, torch.zeros(N, dtype=torch.float64), atol=1e-15, rtol=0)
    assert torch.equal(found.accuracy, found.original_accuracy)


def test_emulator_stuck_at_the_mean_explains_nothing() -> None:
    batch = _batch(20, seed=4)
    mean = batch.original.hidden[0].flatten(1, 2).nanmean(1)[:, None, None]
    stuck = batch._replace(mapped=(mean.expand_as(batch.mapped[0]),))
    zero = torch.zeros(N, dtype=torch.float64)
    torch.testing.assert_close(_sums(stuck).result().variance_explained, zero, atol=1e-12, rtol=0)


def test_uniform_answers_cost_log_classes_less_entropy() -> None:
    batch = _batch(5, seed=5)
    certain = torch.nn.functional.one_hot(batch.targets, C) * 100.0
    original = batch.original._replace(output=certain[None, :, None].expand(N, -1, T, -1))
    found = _sums(batch._replace(original=original, output=torch.zeros(N, 5, T, C))).result()
    torch.testing.assert_close(found.kl, torch.full((N,), np.log(C), dtype=torch.float64))
    assert (found.original_accuracy == 1).all()


def test_merged_shards_equal_the_whole() -> None:
    batches = [_batch(items, seed) for seed, items in enumerate([4, 1, 7, 2, 5])]
    whole = _sums(*batches).result()
    first = _sums(*batches[:2])
    for other in (_sums(*batches[2:]), FidelitySums(N, (H,))):  # the second shard got no batch
        first.merge(other)
    _assert_equal(first.result(), whole)
    empty = FidelitySums(N, (H,))
    empty.merge(first)
    _assert_equal(empty.result(), whole)


@pytest.mark.parametrize("ranks", [1, 2, 4, 7])
def test_gathered_rows_equal_the_whole(ranks: int) -> None:
    batches = [_batch(items, seed) for seed, items in enumerate([4, 1, 7, 2, 5])]
    rows = torch.stack([_sums(*batches[rank::ranks]).as_tensor() for rank in range(ranks)])
    _assert_equal(FidelitySums.from_tensor(rows).result(), _sums(*batches).result())


def test_one_row_comes_back_bit_for_bit() -> None:
    sums = _sums(_batch(4, seed=6), _batch(3, seed=7))
    row = sums.as_tensor()
    assert row.dtype == torch.float64
    assert row.ndim == 1
    copy = FidelitySums.from_tensor(row)
    assert torch.equal(copy.as_tensor(), row)
    copy.update(*_batch(2, seed=8))
    assert torch.equal(sums.as_tensor(), row)  # the copy shares no memory


def test_the_split_into_batches_does_not_matter_under_a_huge_offset() -> None:
    plain, offset = [_batch(6, seed) for seed in range(4)], [_batch(6, seed, offset=1e7) for seed in range(4)]
    naive = torch.stack([(b.original.hidden[0].nan_to_num() ** 2).flatten(1).sum(1) for b in offset]).sum(0)
    assert (naive > 1e15).all()  # a variance from raw sums of squares would keep few digits
    found, expected = _sums(*offset).result(), _sums(*plain).result()
    torch.testing.assert_close(found.variance_explained, expected.variance_explained, atol=1e-7, rtol=0)


def test_float32_states_lose_nothing_to_accumulation() -> None:
    batches = [_batch(4, seed, offset=1e3) for seed in range(30)]
    single = [
        b._replace(original=Trajectory((b.original.hidden[0].float(),), b.original.output.float())) for b in batches
    ]
    found, expected = _sums(*single).result(), _sums(*batches).result()
    torch.testing.assert_close(found.variance_explained, expected.variance_explained, atol=1e-6, rtol=0)


def test_residual_stages_without_steps_are_averaged() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(N, 10, 2, 4, 4), (N, 10, 6, 2, 2)]
    hidden = tuple(torch.randn(shape, generator=generator) + 3 for shape in shapes)
    output = torch.randn(N, 10, C, generator=generator)
    means = hidden[1].mean((1, 3, 4), keepdim=True).expand_as(hidden[1])
    targets = output[0].argmax(-1)
    sums = FidelitySums(N, (2, 6))
    for part in (slice(0, 4), slice(4, 10)):
        original = Trajectory(tuple(h[:, part] for h in hidden), output[:, part])
        sums.update(original, (hidden[0][:, part], means[:, part]), output[:, part], targets[part])
    found = FidelitySums.from_tensor(sums.as_tensor()).result()
    torch.testing.assert_close(found.variance_explained, torch.full((N,), 0.5, dtype=torch.float64))
    expected = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(N, 2)
    torch.testing.assert_close(found.stage_variance_explained, expected)
    assert found.original_accuracy[0] == 1
    assert (found.agreement == 1).all()


def test_maps_count_the_same_in_parts_of_any_size_and_any_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(N, 7, 5, 3, 2, generator=generator) * torch.arange(1, 6)[:, None, None] + 100
    guess = hidden + 0.3 * torch.randn(hidden.shape, generator=generator)
    output, targets = torch.randn(N, 7, C, generator=generator), torch.zeros(7, dtype=torch.int64)
    truth, error = hidden.double(), (hidden.double() - guess.double()).square().sum((1, 2, 3, 4))
    expected = 1 - error / (truth - truth.mean((1, 3, 4), keepdim=True)).square().sum((1, 2, 3, 4))
    for values in (1, 70, 2**17):
        monkeypatch.setattr("dynamo.analysis.fidelity._VALUES", {"cpu": values})
        for last in (False, True):
            maps = [h.movedim(2, -1).contiguous().movedim(-1, 2) if last else h for h in (hidden, guess)]
            sums = FidelitySums(N, (5,))
            sums.update(Trajectory((maps[0],), output), (maps[1],), output, targets)
            torch.testing.assert_close(sums.result().variance_explained, expected, atol=1e-12, rtol=0)


def test_stages_have_columns_of_their_own_where_there_are_several() -> None:
    explained = torch.tensor([[0.2, 0.4], [0.6, 0.9]])
    values = dict.fromkeys(("kl", "agreement", "accuracy", "original_accuracy"), torch.ones(2))
    found = Fidelity(explained.mean(1), **values, stage_variance_explained=explained).columns()
    names = ["variance_explained", "kl", "agreement", "accuracy", "original_accuracy"]
    assert list(found) == [*names, "variance_explained_stage1", "variance_explained_stage2"]
    assert found["variance_explained_stage2"].tolist() == pytest.approx([0.4, 0.9])
    assert list(Fidelity(explained[:, 0], **values, stage_variance_explained=explained[:, :1]).columns()) == names


def test_a_constant_state_is_met_exactly_or_not_at_all() -> None:
    batch = _batch(3, seed=9)
    constant = torch.ones_like(batch.mapped[0])
    met = batch._replace(original=batch.original._replace(hidden=(constant,)), mapped=(constant,))
    assert (_sums(met).result().variance_explained == 1).all()
    missed = met._replace(mapped=(constant + 1,))
    assert (_sums(missed).result().variance_explained == -torch.inf).all()


def test_works_in_inference_mode() -> None:
    sums = FidelitySums(N, (H,))
    with torch.inference_mode():
        sums.update(*_batch(4, seed=10))
    sums.update(*_batch(4, seed=11))
    _assert_equal(sums.result(), _naive([_batch(4, seed=10), _batch(4, seed=11)]))


def test_refuses_what_does_not_fit() -> None:
    batch = _batch(3, seed=12)
    with pytest.raises(ValueError, match="no batch"):
        FidelitySums(N, (H,)).result()
    with pytest.raises(ValueError, match="differ in shape"):
        _sums(batch._replace(mapped=(batch.mapped[0][..., :-1],)))
    with pytest.raises(ValueError, match="logits"):
        _sums(batch._replace(output=batch.output[..., :-1]))
    with pytest.raises(ValueError, match="made for 3 members"):
        FidelitySums(N, (H + 1,)).update(*batch)
    with pytest.raises(ValueError, match="real_steps and lengths"):
        FidelitySums(N, (H,)).update(batch.original, batch.mapped, batch.output, batch.targets)
    with pytest.raises(ValueError, match="cannot be merged"):
        FidelitySums(N, (H,)).merge(FidelitySums(N + 1, (H,)))
    with pytest.raises(ValueError, match="float64"):
        FidelitySums.from_tensor(_sums(batch).as_tensor().float())
    with pytest.raises(ValueError, match="header"):
        FidelitySums.from_tensor(_sums(batch).as_tensor()[:-1])
