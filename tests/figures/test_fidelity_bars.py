"""Bars have the members' values, and the worst is the one that is marked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dynamo.figures.fidelity_bars import fidelity_bars
from dynamo.figures.style import INK

NAMES, GROUPS = ["m0", "m1", "m2", "m3"], ["big", "big", "small", "small"]
EXPLAINED, AGREEMENT = [0.9, 0.8, 0.4, 0.7], [0.95, 0.85, 0.9, 0.92]
ACCURACY, ORIGINAL = [0.80, 0.79, 0.70, 0.60], [0.81, 0.80, 0.69, 0.70]


def _draw(explained: list[float] = EXPLAINED) -> Figure:
    return fidelity_bars(NAMES, GROUPS, torch.tensor(explained), AGREEMENT, ACCURACY, ORIGINAL, title="Fidelity")


def _bars(figure: Figure, panel: int) -> list[Rectangle]:
    return [patch for patch in figure.axes[panel].patches if isinstance(patch, Rectangle)]


@pytest.mark.parametrize(("panel", "values", "worst"), [(0, EXPLAINED, 2), (1, AGREEMENT, 1)])
def test_bars_are_the_values_and_the_worst_is_outlined(panel: int, values: list[float], worst: int) -> None:
    figure = _draw()
    bars = _bars(figure, panel)
    np.testing.assert_allclose([bar.get_width() for bar in bars], values, rtol=1e-6)
    assert [round(bar.get_y() + bar.get_height() / 2) for bar in bars] == [0, 1, 2, 3]
    assert [bar.get_linewidth() > 1.2 for bar in bars] == [n == worst for n in range(4)]
    assert [text.get_text() for text in figure.axes[panel].texts] == [f"{values[worst]:.2f}"]
    (mean,) = figure.axes[panel].lines
    assert np.asarray(mean.get_xdata())[0] == pytest.approx(np.mean(values))


def test_members_are_named_from_the_top() -> None:
    left = _draw().axes[0]
    assert [label.get_text() for label in left.get_yticklabels()] == NAMES
    bottom, top = left.get_ylim()
    assert bottom > top


def test_accuracies_stand_against_each_other_with_the_largest_loss_ringed() -> None:
    right = _draw().axes[2]
    points = [c for c in right.collections if isinstance(c, PathCollection)]
    big, small, ring = (np.asarray(c.get_offsets()) for c in points)
    np.testing.assert_allclose(np.concatenate([big, small]), np.stack([ORIGINAL, ACCURACY], 1))
    np.testing.assert_allclose(ring, [[0.70, 0.60]])
    assert [text.get_text() for text in right.texts] == ["m3 (-0.10)"]
    diagonal = np.asarray(right.lines[0].get_xydata())
    np.testing.assert_allclose(diagonal[:, 0], diagonal[:, 1])
    assert right.get_xlim() == right.get_ylim()


def test_legend_names_groups_and_mark() -> None:
    (legend,) = _draw().legends
    assert [text.get_text() for text in legend.get_texts()] == ["big", "small", "worst member"]
    assert legend.get_title().get_text() == "Fidelity"


def test_far_below_zero_is_cut_and_said_in_numbers() -> None:
    left = _draw([0.9, -7.0, 0.4, 0.7]).axes[0]
    assert left.get_xlim() == (-0.25, 1)
    assert left.texts[0].get_text() == "-7.00"
    assert left.texts[0].xy == (0.0, 1)
    assert left.patches[1].get_edgecolor()[:3] == pytest.approx([int(INK[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def test_equal_accuracies_of_one_member_can_be_drawn() -> None:
    fidelity_bars(["only"], ["g"], [1.0], [1.0], [0.5], [0.5]).draw_without_rendering()


def test_refuses_missing_values() -> None:
    with pytest.raises(ValueError, match="4 members"):
        fidelity_bars(NAMES, GROUPS, EXPLAINED[:3], AGREEMENT, ACCURACY, ORIGINAL)


def test_what_nobody_knows_is_said_and_not_drawn() -> None:
    unknown = [float("nan")] * 2
    figure = fidelity_bars(["a", "b"], ["g", "g"], [0.4, 0.8], unknown, unknown, unknown)
    bars, agreement, accuracy = figure.axes
    assert [bar.get_width() for bar in bars.patches] == [0.4, 0.8]
    for panel, words in ((agreement, "have no answers"), (accuracy, "no labels")):
        assert not panel.patches
        assert words in panel.texts[0].get_text()
    one = fidelity_bars(["a", "b"], ["g", "g"], [0.4, 0.8], [float("nan"), 0.5], unknown, unknown)
    assert "(mean 0.50" in one.axes[1].get_xlabel()
