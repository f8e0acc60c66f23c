"""Scaling, plane and pairs show the models and distances they were given."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb

from dynamo.figures.distance_panels import distance_panels
from dynamo.figures.embedding_plane import EmbeddingPanel
from dynamo.figures.style import group_styles

GROUPS = ["big", "small", "big", "small", "lone"]
MDS = EmbeddingPanel(torch.arange(10.0).view(5, 2) % 7, GROUPS, title="SVCCA", note="silhouette 0.2", axis_name="MDS")
PCA = EmbeddingPanel(torch.arange(15.0).view(5, 3) % 4, GROUPS, [0.7, 0.2, 0.1], title="theta")
FIRST = torch.tensor([[abs(i - j) / 10 for j in range(5)] for i in range(5)])
SECOND = torch.tensor([[float(i * j * (i != j)) for j in range(5)] for i in range(5)])


def _scatter(axes: Axes) -> dict[object, PathCollection]:
    return {c.get_label(): c for c in axes.collections if isinstance(c, PathCollection)}


def _sorted(points: object) -> list[list[float]]:
    return sorted(np.asarray(points).round(6).tolist())


def test_both_planes_show_their_points() -> None:
    figure = distance_panels(MDS, PCA, FIRST, SECOND)
    left, middle, _ = figure.axes
    assert (left.get_title(), middle.get_title()) == ("SVCCA", "theta")
    assert (left.get_xlabel(), middle.get_ylabel()) == ("MDS 1", "PC 2 (20 %)")
    for axes, panel in ((left, MDS), (middle, PCA)):
        for name in ("big", "small", "lone"):
            chosen = [group == name for group in GROUPS]
            np.testing.assert_allclose(_scatter(axes)[name].get_offsets(), panel.points()[chosen])


def test_every_pair_stands_once_with_the_second_distance_across() -> None:
    figure = distance_panels(MDS, PCA, FIRST, SECOND, "r = 0.62")
    right = figure.axes[2]
    found, styles = _scatter(right), group_styles(GROUPS)
    assert list(found) == ["between groups", "within big", "within small"]  # one network makes no pair
    np.testing.assert_allclose(found["within big"].get_offsets(), [[0, 0.2]])
    np.testing.assert_allclose(found["within small"].get_offsets(), [[3, 0.2]])
    between = [(0, 1), (0, 3), (0, 4), (1, 2), (1, 4), (2, 3), (2, 4), (3, 4)]
    assert _sorted(found["between groups"].get_offsets()) == _sorted([[i * j, abs(i - j) / 10] for i, j in between])
    for name in ("big", "small"):
        np.testing.assert_allclose(found[f"within {name}"].get_facecolor()[0, :3], to_rgb(styles[name].colour))
    assert (right.get_xlabel(), right.get_ylabel()) == ("distance of θ", "SVCCA distance")
    legend = right.get_legend()
    assert legend is not None
    assert legend.get_title().get_text() == "r = 0.62"
    assert [text.get_text() for text in legend.get_texts()] == list(found)


def test_the_median_emulator_is_a_line_that_is_seen() -> None:
    emulators = [0.9, 0.7, np.nan, 0.1, 0.8]
    right = distance_panels(MDS, PCA, FIRST, SECOND, emulators=emulators, label_a="CKA", label_b="θ").axes[2]
    (line,) = right.lines
    np.testing.assert_allclose(np.asarray(line.get_ydata()), [0.75, 0.75])
    assert line.get_linestyle() == "--"
    assert right.get_ylim()[1] > 0.75
    assert (right.get_xlabel(), right.get_ylabel()) == ("θ", "CKA")
    assert len(distance_panels(MDS, PCA, FIRST, SECOND, emulators=[np.nan] * 5).axes[2].lines) == 0


def test_pairs_without_distance_are_left_away() -> None:
    first = FIRST.clone()
    first[0, 2] = first[2, 0] = float("nan")
    found = _scatter(distance_panels(MDS, PCA, first, SECOND).axes[2])
    assert list(found) == ["between groups", "within small"]
    assert len(found["between groups"].get_offsets()) == 8


def test_one_group_has_no_pair_between() -> None:
    one = ["one"] * 5
    figure = distance_panels(replace(MDS, groups=one), replace(PCA, groups=one), FIRST, SECOND)
    found = _scatter(figure.axes[2])
    assert list(found) == ["within one"]
    assert len(found["within one"].get_offsets()) == 10


@pytest.mark.parametrize("count", [2, 7])
def test_legends_and_titles_stay_inside_the_picture(count: int) -> None:
    groups = [f"augmentation {i % count}" for i in range(21)]
    rng = np.random.default_rng(0)
    panel = EmbeddingPanel(rng.normal(size=(21, 2)), groups, title="a title", note="small print")
    distances = rng.uniform(size=(21, 21))
    figure = distance_panels(panel, panel, distances, distances, "r = 1", emulators=rng.uniform(size=21))
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    assert min(box.x0, box.y0) >= -0.01
    assert box.x1 <= figure.get_figwidth() + 0.01
    assert box.y1 <= figure.get_figheight() + 0.01
    legends = [axes.get_legend() for axes in figure.axes]
    boxes = [legend.get_window_extent() for legend in legends if legend is not None]
    assert len(boxes) == 3
    assert not any(one.overlaps(other) for one, other in pairwise(boxes))
    assert len({round(axes.title.get_window_extent().y0) for axes in figure.axes}) == 1


def test_names_are_written_in_both_planes() -> None:
    named = replace(MDS, names=list("abcde"))
    left, middle, _ = distance_panels(named, replace(PCA, names=list("vwxyz")), FIRST, SECOND).axes
    assert {text.get_text() for text in left.texts} <= set("abcde")
    assert len(left.texts) > 2
    assert {text.get_text() for text in middle.texts} <= set("vwxyz")


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="same two or more models"):
        distance_panels(MDS, replace(PCA, groups=GROUPS[::-1]), FIRST, SECOND)
    alone = EmbeddingPanel(torch.zeros(1, 2), ["a"])
    with pytest.raises(ValueError, match="two or more"):
        distance_panels(alone, alone, torch.zeros(1, 1), torch.zeros(1, 1))
    with pytest.raises(ValueError, match=r"distances_a \[4, 5\] must be \[N, N\] of the 5 models"):
        distance_panels(MDS, PCA, FIRST[:4], SECOND)
    with pytest.raises(ValueError, match="distances_b"):
        distance_panels(MDS, PCA, FIRST, SECOND[:, :4])
    with pytest.raises(ValueError, match=r"emulators \[4\] must be one distance for each of 5"):
        distance_panels(MDS, PCA, FIRST, SECOND, emulators=[0.1] * 4)
