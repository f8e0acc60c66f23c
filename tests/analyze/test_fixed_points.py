"""Every point of interest has its attractor; what cannot be shown is said in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dynamo.analysis.plane import plane_of
from dynamo.analyze.attractors import states_of
from dynamo.analyze.fixed_points import FixedPoints, points_of_interest
from dynamo.analyze.run import FinishedRun
from dynamo.cli import main
from dynamo.meta import RecurrentMetaModel
from dynamo.types import TaskBatch, UserError

Analysed = Callable[..., dict[str, Any]]
MAP = ("--size", "2", "--search_size", "2", "--rounds", "1", "--candidates", "2")
SMALL = ("--seeds", "6", "--items", "4")


def test_attractors_of_all_points_of_interest(analysed: Analysed, finished: FinishedRun) -> None:
    best = analysed("accuracy_map", *MAP)
    found = analysed("fixed_points", *SMALL)
    points = found["points"]
    assert points["X"]["plane"] == pytest.approx(best["x_plane"], abs=1e-5)
    kinds = [one["kind"] for one in points.values()]
    assert [kinds.count(kind) for kind in ("best", "centroid", "interpolated", "member")] == [1, 3, 2, 6]
    for one in points.values():
        assert one["seeds"] == 6
        assert len(one["fixed"]) == len(one["logits"]) == round(one["converged_share"] * 6)
        assert one["count"] == one["stable"] + one["saddle"] + one["unstable"] if one["count"] else True
        assert one["largest_q"] is None or one["largest_q"] < 1e-4
    corner = points["100% top left"]
    assert corner["member"].startswith("100%-")
    assert corner["base"]["seeds"] == 6
    assert points["X"]["tilt_to_x"] == pytest.approx(0, abs=1e-3)
    # Members were placed by the corner of the plane that they are nearest to.
    members = {row["name"]: row["plane"] for row in found["members"] if row["group"] == "100%"}
    assert corner["member"] == min(members, key=lambda name: members[name][0] - members[name][1])


def test_x_is_needed_first(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["analyze", "fixed_points", "--run", str(run)])
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert f"dynamo analyze accuracy_map --run {run}" in said


def test_one_group_has_nothing_between(analysed: Analysed, finished: FinishedRun, monkeypatch: Any) -> None:  # noqa: ANN401
    analysed("accuracy_map", *MAP)
    monkeypatch.setattr(FinishedRun, "groups", property(lambda run: ["one"] * len(run.task.members)))
    places = points_of_interest(finished, plane_of(finished.task.theta))
    assert [place.kind for place in places] == ["best", "centroid", "member", "member"]
    torch.testing.assert_close(places[1].theta, finished.task.theta.mean(0))


@pytest.mark.parametrize("architecture", ["gru", "lstm", "rnn"])
def test_states_are_those_that_the_network_goes_through(architecture: Any) -> None:  # noqa: ANN401
    network = RecurrentMetaModel(9, {"a": 2}, 3, 5, 4, architecture=architecture)
    batch = TaskBatch(torch.randint(2, 9, (3, 4)), torch.zeros(3, dtype=torch.int64), torch.full((3,), 4))
    theta = torch.randn(2, 3)
    states = states_of(network, theta, batch, "a")
    assert states.shape == (2, 3, 4, 10 if architecture == "lstm" else 5)
    hidden = network(theta, batch.inputs, "a").hidden[0]
    torch.testing.assert_close(states[..., :5], hidden, atol=1e-5, rtol=1e-5, check_stride=False)


def test_image_networks_are_refused_before_any_work(pictures: FinishedRun) -> None:
    with pytest.raises(UserError, match=r"needs a recurrent network that reads words, and .* of a ResidualMetaModel"):
        FixedPoints().numbers(pictures)
    assert "loaded" not in vars(pictures)
