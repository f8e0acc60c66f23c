"""Do members keep every bit when bundles are joined and taken apart?"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from dynamo.population import Bundle, RecurrentBundle

MakeBundle = Callable[..., RecurrentBundle]
KINDS = ("gru", "lstm", "rnn")


def assert_same_member(one: Bundle, index: int, other: Bundle, position: int) -> None:
    for name, stacked in one.state_dict().items():
        assert torch.equal(stacked[index], other.state_dict()[name][position]), name


@pytest.mark.parametrize("kind", KINDS)
def test_join_and_take_keep_members_bit_for_bit(make_bundle: MakeBundle, kind: str) -> None:
    parts = [make_bundle(count, seed, architecture=kind) for count, seed in ((2, 0), (1, 10), (3, 20))]
    joined = parts[0].join(parts[1:])
    assert isinstance(joined, RecurrentBundle)
    assert (joined.count, joined.settings) == (6, parts[0].settings)
    origin = [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (2, 2)]
    for index, (part, position) in enumerate(origin):
        assert_same_member(joined, index, parts[part], position)
    order = [5, 0, 2]
    taken = joined.take(order)
    assert (taken.count, taken.settings) == (3, joined.settings)
    for position, index in enumerate(order):
        assert_same_member(joined, index, taken, position)


def test_join_and_take_copy(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(2)
    before = {name: tensor.clone() for name, tensor in bundle.state_dict().items()}
    for other in (bundle.join([]), bundle.take([0, 1])):
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.fill_(7.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in bundle.state_dict().items())


def test_a_member_may_be_taken_twice(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(2)
    twice = bundle.take([1, 1])
    assert_same_member(bundle, 1, twice, 0)
    assert_same_member(bundle, 1, twice, 1)


def test_stacked_tensors_are_found_by_name(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(2)
    assert bundle.get_buffer_or_parameter("weight_hh") is bundle.weight_hh
    with pytest.raises(KeyError, match="weight_xx"):
        bundle.get_buffer_or_parameter("weight_xx")


def test_a_bundle_has_to_say_how_it_runs() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Bundle()  # type: ignore[abstract]


@pytest.mark.parametrize("kind", KINDS)
def test_averaged_is_one_frozen_network_of_mean_weights(make_bundle: MakeBundle, kind: str) -> None:
    bundle = make_bundle(3, architecture=kind)
    average = bundle.averaged()
    assert (average.count, average.settings) == (1, bundle.settings)
    for name, tensor in average.state_dict().items():
        torch.testing.assert_close(tensor[0], sum(bundle.state_dict()[name]) / 3)
    assert not any(parameter.requires_grad for parameter in average.parameters())


def test_shares_weigh_the_members(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(3)
    average = bundle.averaged([0.5, -0.25, 0.75 + 5e-7])  # rounding of float32 is allowed
    expected = 0.5 * bundle.weight_hh[0] - 0.25 * bundle.weight_hh[1] + 0.75 * bundle.weight_hh[2]
    torch.testing.assert_close(average.weight_hh[0], expected)


@pytest.mark.parametrize("shares", [[1.0], [0.5, 0.5], [0.25] * 4, [0.2] * 3, [0.5, 0.5, torch.nan], []])
def test_shares_that_are_no_mean_are_refused(make_bundle: MakeBundle, shares: list[float]) -> None:
    with pytest.raises(ValueError, match=f"3 numbers that sum to 1, one for each network, got {len(shares)} that sum"):
        make_bundle(3).averaged(shares)


def test_what_is_made_of_a_bundle_has_its_precision(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(2).double()
    for made in (bundle.take([1]), bundle.join([make_bundle(1)]), bundle.averaged()):
        assert {tensor.dtype for tensor in made.state_dict().values()} == {torch.float64}
    assert torch.equal(bundle.take([1]).weight_hh[0], bundle.weight_hh[1])
