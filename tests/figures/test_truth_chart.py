"""Does the chart show the points it was given, the line through them, and how well they follow the truth?"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dynamo.figures import truth_chart

LABELS = {"known_label": "valence", "measured_label": "effect"}


def test_points_lines_and_numbers_are_those_of_the_series() -> None:
    truth = torch.tensor([-2.0, 0.0, 1.0, 5.0])
    bent = [3.0, -1.0, 0.5, -2.0]
    axes = truth_chart(truth, {"straight": 1 - 0.5 * truth, "bent": bent}, title="words", **LABELS).axes[0]
    drawn = [np.asarray(points.get_offsets()) for points in axes.collections]
    np.testing.assert_allclose(drawn[0], np.stack([truth, 1 - 0.5 * truth], 1))
    np.testing.assert_allclose(drawn[1], np.stack([truth, bent], 1))
    straight, other = axes.lines[2:]  # after the two axes through 0
    np.testing.assert_allclose(straight.get_xydata(), [[-2, 2], [5, -1.5]], atol=1e-12)
    slope, height = np.polyfit(truth.numpy(), bent, 1)
    np.testing.assert_allclose(other.get_xydata(), [[-2, height - 2 * slope], [5, height + 5 * slope]], atol=1e-6)
    correlation = np.corrcoef(truth.numpy(), bent)[0, 1]
    legend = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert legend == ["straight: slope -0.50, r = -1.00", f"bent: slope {slope:.2f}, r = {correlation:.2f}"]


def test_a_series_that_does_not_vary_follows_nothing() -> None:
    figure = truth_chart([0.0, 1.0], {"flat": [2.0, 2.0]}, **LABELS)
    assert figure.legends[0].get_texts()[0].get_text() == "flat: slope 0.00, r = 0.00"


@pytest.mark.parametrize(
    ("known", "measured", "what"),
    [
        ([0.0, 1.0], {}, "one value for each"),
        ([0.0, 1.0], {"a": [1.0, 2.0, 3.0]}, "one value for each"),
        ([1.0, 1.0], {"a": [1.0, 2.0]}, "same everywhere"),
        ([0.0, 1.0], {"a": [1.0, float("nan")]}, "finite"),
    ],
)
def test_what_cannot_be_drawn_is_refused(known: list[float], measured: dict[str, list[float]], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        truth_chart(known, measured, **LABELS)
