"""Panels stand in their places with their own points and spectra."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection

from dynamo.figures.embedding_plane import EmbeddingPanel
from dynamo.figures.embedding_row import embedding_row


def _panel(seed: int, **options: object) -> EmbeddingPanel:
    points = torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))
    spectrum = [0.5, 0.3, 0.15, 0.05]
    return EmbeddingPanel(points, list("aabbcc"), spectrum, dims_95=3, title=f"panel {seed}", **options)  # type: ignore[arg-type]


def _offsets(axes: Axes) -> np.ndarray:
    return np.concatenate([c.get_offsets() for c in axes.collections if isinstance(c, PathCollection)])


def test_planes_above_spectra_from_left_to_right() -> None:
    panels = [_panel(seed) for seed in range(3)]
    figure = embedding_row(panels)
    figure.draw_without_rendering()
    planes, spectra = figure.axes[:3], figure.axes[3:]
    assert len(spectra) == 3
    for plane, below, panel in zip(planes, spectra, panels, strict=True):
        np.testing.assert_allclose(_offsets(plane), panel.points())
        assert plane.get_title() == panel.title
        assert len(below.patches) == 4
        assert [line.get_xdata()[0] for line in below.lines] == [3.5]  # type: ignore[index]
        assert below.get_window_extent().y1 < plane.get_window_extent().y0
    edges = [plane.get_window_extent().x0 for plane in planes]
    assert edges == sorted(edges)
    assert len({round(plane.title.get_window_extent().y0) for plane in planes}) == 1


def test_second_row_stands_below_the_first_with_its_title() -> None:
    above, below = [_panel(0), _panel(1, names=list("uvwxyz"))], [_panel(2), _panel(3)]
    figure = embedding_row(above, below, row_titles=["λ = 1", "λ = 0"])
    figure.draw_without_rendering()
    assert [band.get_supylabel() for band in figure.subfigs] == ["λ = 1", "λ = 0"]
    for band, row in zip(figure.subfigs, (above, below), strict=True):
        for plane, panel in zip(band.axes[:2], row, strict=True):
            np.testing.assert_allclose(_offsets(plane), panel.points())
    low, high = figure.subfigs[1].axes[0].get_window_extent(), figure.subfigs[0].axes[2].get_window_extent()
    assert low.y1 < high.y0


def test_panel_without_spectrum_leaves_its_place_empty() -> None:
    mds = EmbeddingPanel(torch.randn(6, 2), list("aabbcc"), axis_name="MDS")
    figure = embedding_row([_panel(0), mds])
    assert [axes.axison for axes in figure.axes] == [True, True, True, False]


def test_refuses_uneven_rows() -> None:
    with pytest.raises(ValueError, match=r"\[2, 1\]"):
        embedding_row([_panel(0), _panel(1)], [_panel(2)])
    with pytest.raises(ValueError, match="equally many"):
        embedding_row()
    with pytest.raises(ValueError, match="1 titles for 2 rows"):
        embedding_row([_panel(0)], [_panel(1)], row_titles=["only"])
