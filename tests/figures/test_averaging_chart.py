"""Members, means and ways between members stand at their accuracies, in the columns of their groups."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb

from dynamo.figures.averaging_chart import AveragingChart, averaging_chart
from dynamo.figures.style import INK, group_styles

SHARES = torch.linspace(0, 1, 5)
CHART = AveragingChart(
    members={"big": torch.tensor([0.84, 0.82, 0.83]), "small": [0.7, 0.72]},
    means={"all": 0.8, "big": 0.85, "small": 0.74},
    averaged_weights={"big, small": 0.55, "small": 0.52},
    chance=0.5,
    lines=[
        ("a → b", SHARES, [0.8, 0.81, 0.82, 0.81, 0.8], [0.8, 0.6, 0.5, 0.6, 0.8]),
        ("a → c", SHARES, SHARES / 10 + 0.7, None),
    ],
    task="imdb",
)


def _scatter(axes: Axes) -> dict[object, PathCollection]:
    return {c.get_label(): c for c in axes.collections if isinstance(c, PathCollection)}


def _line(axes: Axes, label: str) -> np.ndarray:
    (line,) = (line for line in axes.lines if line.get_label() == label)
    return np.asarray(line.get_xydata())


def test_members_stand_in_the_columns_of_their_groups() -> None:
    left, _ = averaging_chart(CHART).axes
    assert [label.get_text() for label in left.get_xticklabels()] == ["big", "small", "all"]
    for column, (name, values) in enumerate(CHART.members.items()):
        found = np.asarray(_scatter(left)[name].get_offsets())
        np.testing.assert_allclose(found[:, 1], values)
        assert ((found[:, 0] > column - 0.5) & (found[:, 0] < column)).all()
        assert len(set(found[:, 0])) == len(found)


def test_weights_with_own_statistics_stand_beside_only_where_there_are_any() -> None:
    left, _ = averaging_chart(replace(CHART, own_statistics={"big, small": 0.61, "small": 0.63})).axes
    found = _scatter(left)["with own batch statistics"]
    np.testing.assert_allclose(found.get_offsets(), [[2, 0.61], [1, 0.63]])
    legend = left.get_legend()
    assert legend is not None
    assert "with own batch statistics" in [text.get_text() for text in legend.get_texts()]
    plain, _ = averaging_chart(CHART).axes
    assert "with own batch statistics" not in _scatter(plain)
    legend = plain.get_legend()
    assert legend is not None
    assert "with own batch statistics" not in [text.get_text() for text in legend.get_texts()]


def test_means_stand_beside_the_members_with_their_numbers() -> None:
    left, _ = averaging_chart(CHART).axes
    found, styles = _scatter(left), group_styles(["big", "small"])
    np.testing.assert_allclose(found["mean θ"].get_offsets(), [[2, 0.8], [0, 0.85], [1, 0.74]])
    np.testing.assert_allclose(
        found["mean θ"].get_facecolor()[:, :3], [to_rgb(c) for c in (INK, styles["big"].colour, styles["small"].colour)]
    )
    # the weights of every group together are those of all
    np.testing.assert_allclose(found["averaged weights"].get_offsets(), [[2, 0.55], [1, 0.52]])
    assert [text.get_text() for text in left.texts] == ["0.800", "0.850", "0.740", "0.550", "0.520"]
    assert _line(left, " chance")[:, 1].tolist() == [0.5, 0.5]
    np.testing.assert_allclose(_line(left, " best base model")[:, 1], 0.84)


def test_only_the_name_of_every_group_is_all() -> None:
    chart = replace(CHART, averaged_weights={"big, other": 0.6})
    assert chart.columns() == ["big", "small", "all", "big, other"]
    one = replace(CHART, members={"big": [0.8]}, means={"big": 0.8}, averaged_weights={"big": 0.6})
    assert one.columns() == ["big"]


def test_ways_are_solid_in_theta_and_dashed_in_the_weights_in_one_colour() -> None:
    left, right = averaging_chart(CHART).axes
    for label, shares, accuracy, weights in CHART.lines:
        np.testing.assert_allclose(_line(right, label), np.stack([shares, accuracy], 1), rtol=1e-6)
        if weights is not None:
            np.testing.assert_allclose(_line(right, f"{label}, weights"), np.stack([shares, weights], 1), rtol=1e-6)
    looks = {line.get_label(): (line.get_linestyle(), line.get_color()) for line in right.lines}
    assert "a → c, weights" not in looks
    assert (looks["a → b"][0], looks["a → b, weights"][0]) == ("-", "--")
    assert looks["a → b"][1] == looks["a → b, weights"][1] != looks["a → c"][1]
    assert left.get_ylim() == right.get_ylim()


def test_one_row_per_task() -> None:
    figure = averaging_chart([CHART, replace(CHART, task="ag_news", lines=[])])
    figure.draw_without_rendering()
    first, _, second, empty = figure.axes
    assert (first.get_title(), second.get_title()) == ("imdb", "ag_news")
    assert second.get_window_extent().y1 < first.get_window_extent().y0
    assert not empty.axison
    assert [text.get_text() for text in empty.texts] == ["no pair of members"]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_any_number_of_groups_stays_inside_the_picture(count: int) -> None:
    names = [f"vanilla RNN, {i} % of IMDB" for i in range(count)]
    means = dict.fromkeys([*names, "all"], 0.7)
    members = {name: [0.7, 0.8] for name in names}
    figure = averaging_chart(replace(CHART, members=members, means=means, averaged_weights={}))
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    assert min(box.x0, box.y0) >= -0.01
    assert box.x1 <= figure.get_figwidth() + 0.01
    assert box.y1 <= figure.get_figheight() + 0.01
    left = figure.axes[0]
    if count < 7:
        boxes = [label.get_window_extent() for label in left.get_xticklabels()]
        assert not any(one.overlaps(other) for one, other in pairwise(boxes))
    assert len(left.texts) == (count + 1 if count < 6 else 0)


def test_accuracies_that_are_missing_leave_a_gap() -> None:
    line = ("a → b", SHARES, [0.8, np.nan, 0.82, 0.81, 0.8], None)
    figure = averaging_chart(replace(CHART, lines=[line], members={"big": [np.nan, 0.7]}))
    figure.draw_without_rendering()
    np.testing.assert_allclose(_line(figure.axes[0], " best base model")[:, 1], 0.7)
    assert np.isnan(_line(figure.axes[1], "a → b")[:, 1]).tolist() == [False, True, False, False, False]


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="at least one chart"):
        averaging_chart([])
    for members in ({}, {"big": []}, {"big": [[0.1]]}, {"big": 0.5}):
        with pytest.raises(ValueError, match="imdb: members"):
            averaging_chart(replace(CHART, members=members))
    with pytest.raises(ValueError, match="a → b: every one of the 5 shares"):
        averaging_chart(replace(CHART, lines=[("a → b", SHARES, SHARES[:4], None)]))
    with pytest.raises(ValueError, match="imdb, a → b"):
        averaging_chart(replace(CHART, lines=[("a → b", SHARES, SHARES, SHARES[:4])]))
