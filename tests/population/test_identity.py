"""Two runs are the same if they are about the same, and what differs is named."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dynamo.population import Member, Population, RecurrentBundle
from dynamo.population.identity import FORMAT, KEY, CheckpointMismatchError, check, digest

IDENTITY = {"kind": "map", "dimensions": 3, "members": ["a", "b"], "vocabulary": "f" * 64}
WEIGHTS = {"theta": torch.zeros(2, 3), "network.weight": torch.zeros(4, 4)}


def checkpoint(identity: dict[str, Any] = IDENTITY, weights: dict[str, Any] = WEIGHTS) -> dict[str, Any]:
    return {KEY: {"format": FORMAT, **identity}, "state_dict": weights}


def test_the_same_passes() -> None:
    check(checkpoint(), IDENTITY, WEIGHTS)
    without = {key: value for key, value in IDENTITY.items() if key != "vocabulary"}
    check(checkpoint(), without, WEIGHTS)  # what nobody knows here is not compared


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ({"dimensions": 16}, "dimensions is 16 there and 3 here"),
        ({"kind": "population"}, "kind is 'population' there and 'map' here"),
        ({"members": ["a", "b", "c"]}, "members are 3 there and 2 here"),
        ({"members": ["a", "c"]}, "members: number 1 is 'c' there and 'b' here"),
        ({"vocabulary": "0" * 64}, "vocabulary is 00000000... there and ffffffff... here"),
        ({"members": 7}, r"members is 7 there and \['a', 'b'\] here"),
        (
            {"dimensions": 1, "kind": "x", "members": [], "vocabulary": ""},
            "there and 3 here; members are 0 there and 2 here, and 1 more",
        ),
    ],
)
def test_what_differs_is_named(there: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointMismatchError, match=rf"{said}\. Give the configuration"):
        check(checkpoint({**IDENTITY, **there}), IDENTITY, WEIGHTS)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"theta": torch.zeros(2, 4)}, r"theta is \[2, 4\] there and \[2, 3\] here"),
        ({"more": torch.zeros(1)}, r"more is \[1\] there and None here"),
        ({"theta": 3}, r"theta is None there and \[2, 3\] here"),
    ],
)
def test_weights_of_other_shapes_are_named(weights: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointMismatchError, match=said):
        check(checkpoint(weights={**WEIGHTS, **weights}), IDENTITY, WEIGHTS)


@pytest.mark.parametrize("found", [None, 3, {}, {"format": 0}])
def test_another_format_is_refused(found: object) -> None:
    with pytest.raises(CheckpointMismatchError, match="none of this release's"):
        check({KEY: found, "state_dict": WEIGHTS}, IDENTITY, WEIGHTS)


def test_a_population_is_known_by_its_weights() -> None:
    bundle = RecurrentBundle(2, "gru", 5, 3, 4, 2)
    bundle.initialise([1, 2])
    members = [[Member("a", "g", "t"), Member("b", "g", "t")]]
    one = digest(Population([bundle], members))
    copy = RecurrentBundle.build(2, bundle.settings)
    copy.load_state_dict(bundle.state_dict())
    assert digest(Population([copy], members)) == one
    with torch.no_grad():
        copy.readout_bias[1, 1] += 1e-7 + copy.readout_bias[1, 1].abs() * 1e-6
    assert digest(Population([copy], members)) != one
