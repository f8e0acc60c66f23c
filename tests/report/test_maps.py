"""What the page's script draws: all members, in axes that do not turn between seeds, and attractors where there are."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from dynamo.figures.style import group_styles
from dynamo.report.maps import MapRun, _rounded, load_all, page_data
from dynamo.runs import RunFolder
from dynamo.types import UserError


def test_points_are_theta_in_its_own_plane(map_run: MapRun) -> None:
    data = page_data([map_run])
    (run,) = data["runs"]
    plane = map_run.answer.coordinates[:, :2]
    torch.testing.assert_close(
        torch.tensor(run["points"]).double(), plane, atol=1e-3 * float(plane.abs().max()), rtol=0
    )
    assert [member["name"] for member in data["members"]] == [member.name for member in map_run.members]
    styles = group_styles([member.group for member in map_run.members])
    assert [(s["name"], s["colour"], s["marker"]) for s in data["styles"]] == [(n, *s) for n, s in styles.items()]
    assert run["fidelity"] == map_run.fidelity
    assert len(run["courses"]) == len(map_run.members)


def test_axes_do_not_turn_from_seed_to_seed(map_run: MapRun) -> None:
    turned = replace(
        map_run.answer, coordinates=map_run.answer.coordinates * torch.tensor([-1.0, *[1.0] * 15]).double()
    )
    data = page_data([map_run, replace(map_run, answer=turned)])
    assert data["runs"][0]["points"] == data["runs"][1]["points"]


def test_attractors_belong_to_their_member_or_place(attractors: RunFolder) -> None:
    run = page_data([MapRun.load(attractors)])["runs"][0]
    assert list(run["attractors"]) == ["1"]
    assert run["attractors"]["1"]["fixed"] == [[0.02, 0.0], [0.0, 1.0], [2.0, 0.5]]
    assert [(place["name"], place["at"]) for place in run["places"]] == [("X", [0.01, 0.01])]


def test_damaged_attractors_are_one_line(attractors: RunFolder) -> None:
    content = attractors.read_result("fixed_points")
    del content["points"]["X"]["logits"]
    attractors.write_result("fixed_points", content)
    with pytest.raises(UserError, match=r"fixed_points\.json is damaged"):
        page_data([MapRun.load(attractors)])


def test_fidelity_of_other_members_is_one_line(run: RunFolder) -> None:
    content = run.read_result("fidelity_test")
    content["members"].pop()
    run.write_result("fidelity_test", content)
    with pytest.raises(UserError, match=r"fidelity_test\.json is damaged"):
        MapRun.load(run)


def test_seeds_are_maps_of_the_same_networks(map_run: MapRun, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = iter([map_run, replace(map_run, members=map_run.members[1:])])
    monkeypatch.setattr(MapRun, "load", lambda folder: next(maps))
    with pytest.raises(UserError, match="maps of different networks"):
        load_all([run, run])


def test_rounding_keeps_three_digits_and_no_minus_zero() -> None:
    assert _rounded(torch.tensor([123.456, -0.01])) == [123.5, 0.0]
    assert _rounded(torch.tensor([0.0123456])) == [0.01235]
    assert json.dumps(_rounded(torch.tensor([1.0, -0.00001]))) == "[1.0, 0.0]"
    assert _rounded(torch.empty(0, 2)) == []
