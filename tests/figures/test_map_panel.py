"""What is drawn of a map: groups, spectrum, and the snapshots of one network joined and fading."""

from __future__ import annotations

import pytest
import torch

from dynamo.analysis import pca
from dynamo.figures.map_panel import map_panel, opacities, trajectories
from dynamo.population import Member


def member(name: str, group: str = "a", epoch: int | None = None) -> Member:
    return Member(name, group, "t", epoch=epoch)


def test_a_panel_is_the_pca_and_the_groups() -> None:
    answer = pca(torch.tensor([[0.0, 0.0], [1.0, 0.0], [5.0, 3.0]]))
    panel = map_panel(answer, [member("x"), member("y"), member("z", "b")], "title", "small print")
    assert torch.equal(torch.as_tensor(panel.coordinates), answer.coordinates)
    assert list(panel.groups) == ["a", "a", "b"]
    assert panel.dims_95 == answer.components_for(0.95)
    assert (panel.title, panel.note) == ("title", "small print")
    assert (panel.trajectories, panel.opacity) == (None, None)


def test_a_map_of_one_point_has_no_dimensions() -> None:
    panel = map_panel(pca(torch.zeros(3, 2)), [member(name) for name in "xyz"], "start")
    assert panel.dims_95 is None


def test_snapshots_are_joined_in_the_order_of_their_epochs_and_fade() -> None:
    members = [member("x@10", epoch=10), member("y@2", epoch=2), member("x@2", epoch=2), member("y@10", epoch=10)]
    assert trajectories(members) == [[2, 0], [1, 3]]
    assert opacities(members) == pytest.approx([1.0, 0.32, 0.32, 1.0])


def test_one_snapshot_of_each_is_no_trajectory() -> None:
    members = [member("x@3", epoch=3), member("y@3", epoch=3)]
    assert trajectories(members) is None
    assert opacities(members) is None


def test_a_mark_in_the_name_counts_from_the_right() -> None:
    members = [member("a@b@1", epoch=1), member("a@b@2", epoch=2), member("plain", epoch=None)]
    assert trajectories(members) == [[0, 1]]
    assert opacities(members) == pytest.approx([0.575, 1.0, 0.15])
