"""The path and the curve are the numbers that were given, with start and end marked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, QuadMesh
from matplotlib.colors import to_hex, to_rgb

from dynamo.figures.label_search import END, START, LabelCurve, LabelSearch, label_search
from dynamo.figures.plane_map import PlaneMap
from dynamo.figures.style import group_styles

MEMBERS, GROUPS = [[0.5, 0.5], [1.0, 0.5], [-0.5, 0.25]], ["big", "small", "big"]
PATH = torch.stack([torch.linspace(0, 0.8, 101), torch.linspace(0, 0.4, 101) ** 2], 1)
SEARCH = LabelSearch(MEMBERS, GROUPS, PATH, title="50 labels", note="0.79 to 0.82")
CURVE = LabelCurve(
    [10, 50, 500], [0.7, 0.8, 0.82], [0.1, 0.02, 0.01], [0.5, 0.6, 0.75], [0.04, 0.03, 0.02], 0.84, 0.81, 0.65
)
MAP = PlaneMap([-3, 0, 3], [-1, 0, 1], np.eye(3), MEMBERS, GROUPS, label="loss")


def _scatter(axes: Axes) -> dict[object, PathCollection]:
    return {c.get_label(): c for c in axes.collections if isinstance(c, PathCollection)}


def _line(axes: Axes, label: str) -> np.ndarray:
    (line,) = (line for line in axes.lines if line.get_label() == label)
    return np.asarray(line.get_xydata())


def test_the_path_goes_from_start_to_end_in_red() -> None:
    figure = label_search(SEARCH, CURVE)
    left = figure.axes[0]
    np.testing.assert_allclose(_line(left, "search"), PATH, atol=1e-7)
    np.testing.assert_allclose(_line(left, "start"), PATH[:1], atol=1e-7)
    np.testing.assert_allclose(_line(left, "end"), PATH[-1:], atol=1e-7)
    red, green, blue = to_rgb(next(line for line in left.lines if line.get_label() == "search").get_color())
    assert red > 0.7 > 0.3 > max(green, blue)
    assert {text.get_text(): list(text.xy) for text in left.texts} == {  # type: ignore[attr-defined]
        START: pytest.approx(PATH[0].tolist()),
        END: pytest.approx(PATH[-1].tolist()),
    }
    legend = left.get_legend()
    assert legend is not None
    assert [text.get_text().strip() for text in legend.get_texts()] == ["big", "small", "100 iterates"]


def test_two_groups_are_white_and_orange_and_more_have_their_own_colours() -> None:
    found = _scatter(label_search(SEARCH, CURVE).axes[0])
    np.testing.assert_allclose(found["big"].get_offsets(), [[0.5, 0.5], [-0.5, 0.25]])
    assert [to_hex(found[name].get_facecolor()[0]) for name in ("big", "small")] == ["#ffffff", "#e69f00"]
    groups = ["a", "b", "c"]
    found = _scatter(label_search(replace(SEARCH, groups=groups), CURVE).axes[0])
    for name, style in group_styles(groups).items():
        np.testing.assert_allclose(found[name].get_facecolor()[0, :3], to_rgb(style.colour))
    one = _scatter(label_search(replace(SEARCH, groups=["a"] * 3), CURVE).axes[0])
    assert list(one) == ["a"]


def test_the_background_lies_below_and_everything_is_seen() -> None:
    far = torch.cat([PATH, torch.tensor([[0.0, 2.5]])])
    axes = label_search(replace(SEARCH, background=MAP, path=far), CURVE).axes[0]
    (mesh,) = (c for c in axes.collections if isinstance(c, QuadMesh))
    np.testing.assert_allclose(np.asarray(mesh.get_array()).reshape(3, 3), np.eye(3))
    assert axes.child_axes[0].get_ylabel() == "loss"
    np.testing.assert_allclose(axes.get_xlim(), (-4.5, 4.5))
    assert axes.get_ylim()[0] == -1.5
    assert axes.get_ylim()[1] > 2.5
    assert axes.get_xlabel() == "θ 1"


def test_curves_have_their_means_and_spreads_over_the_counts() -> None:
    right = label_search(SEARCH, CURVE).axes[1]
    assert right.get_xscale() == "log"
    assert [label.get_text() for label in right.get_xticklabels()] == ["10", "50", "500"]
    bars = dict(zip(("search over θ", "from scratch"), right.containers, strict=True))
    for label, mean, spread in (
        ("search over θ", CURVE.search_mean, CURVE.search_std),
        ("from scratch", CURVE.scratch_mean, CURVE.scratch_std),
    ):
        assert bars[label].get_label() == label
        line, _, (upright,) = bars[label]
        np.testing.assert_allclose(line.get_ydata(), mean)
        np.testing.assert_allclose(line.get_xdata(), CURVE.counts, rtol=0.02)  # moved aside a little
        assert isinstance(upright, LineCollection)
        ends = np.array([segment[:, 1] for segment in upright.get_segments()])
        np.testing.assert_allclose(ends.mean(1), mean)
        np.testing.assert_allclose(np.ptp(ends, axis=1) / 2, spread)


def test_levels_stand_where_the_base_models_are() -> None:
    right = label_search(SEARCH, CURVE).axes[1]
    for label, level in (("best base model", 0.84), ("median base model", 0.81), ("θ = 0", 0.65)):
        assert _line(right, f" {label}")[:, 1].tolist() == [level, level]
    low, high = right.get_ylim()
    assert low < 0.46
    assert high > 0.84


def test_missing_numbers_and_a_single_count_can_be_drawn() -> None:
    nothing = [np.nan]
    single = LabelCurve([10], [0.7], nothing, nothing, nothing, 0.84, 0.81, 0.65)
    figure = label_search(SEARCH, single)
    figure.draw_without_rendering()
    line = figure.axes[1].containers[0][0]
    np.testing.assert_allclose(line.get_ydata(), [0.7])


def test_everything_is_inside_the_picture() -> None:
    for search in (SEARCH, replace(SEARCH, background=MAP, groups=[f"a long name {i}" for i in range(3)])):
        figure = label_search(search, CURVE)
        box = figure.get_tightbbox()
        assert min(box.x0, box.y0) >= -0.01
        assert box.x1 <= figure.get_figwidth() + 0.01
        assert box.y1 <= figure.get_figheight() + 0.01
        frame = figure.axes[0].get_window_extent()
        assert all(frame.contains(*text.get_window_extent().min) for text in figure.axes[0].texts)


def test_refuses_what_does_not_fit() -> None:
    for path in (PATH[:1], PATH[:, :1], PATH.unsqueeze(0)):
        with pytest.raises(ValueError, match=r"path .* must be"):
            label_search(replace(SEARCH, path=path), CURVE)
    with pytest.raises(ValueError, match="diverged"):
        label_search(replace(SEARCH, path=PATH * torch.nan), CURVE)
    with pytest.raises(ValueError, match="one group each, not 2"):
        label_search(replace(SEARCH, groups=GROUPS[:2]), CURVE)
    for counts in ([10, 5, 50], [0, 5, 50], [], [[10, 20, 30]]):
        with pytest.raises(ValueError, match="increasing order"):
            label_search(SEARCH, replace(CURVE, counts=counts))
    with pytest.raises(ValueError, match="each of the 3 counts"):
        label_search(SEARCH, replace(CURVE, scratch_std=[0.1]))
