"""Titles of one row stand at one height, above legend and small print, and inside the picture."""

from __future__ import annotations

from itertools import pairwise

from matplotlib.colors import to_hex
from matplotlib.lines import Line2D

from dynamo.figures.headings import Heading, group_handles, place_headings
from dynamo.figures.style import group_styles, new_figure


def test_handles_look_like_their_groups() -> None:
    groups = ["b", "a", "b"]
    handles = group_handles(groups, "black")
    assert [handle.get_label() for handle in handles] == ["b", "a"]
    for handle, style in zip(handles, group_styles(groups).values(), strict=True):
        assert isinstance(handle, Line2D)
        assert (handle.get_marker(), handle.get_color()) == (style.marker, style.colour)
        assert handle.get_markeredgecolor() == "black"


def test_titles_stand_at_one_height_however_high_the_legends_are() -> None:
    figure = new_figure(9, 4)
    row = list(figure.subplots(1, 3))
    many = [Line2D([], [], color=to_hex("C0"), label=f"a rather long name {i}") for i in range(6)]
    headings = [Heading(many, "many", "small print"), Heading((), "none"), Heading(many[:1], None, "no title")]
    place_headings(row, headings)
    figure.draw_without_rendering()
    first, second = row[0].title.get_window_extent(), row[1].title.get_window_extent()
    assert round(first.y0) == round(second.y0)
    legend = row[0].get_legend()
    assert legend is not None
    assert legend.get_title().get_text() == "small print"
    box = legend.get_window_extent()
    assert row[0].get_window_extent().y1 <= box.y0 < box.y1 <= first.y0 < first.y1 <= figure.bbox.y1
    assert row[2].get_title() == ""


def test_entries_stand_in_fewer_columns_where_names_are_long() -> None:
    tops = []
    for length in (1, 30):
        axes = new_figure(4, 4).subplots()
        place_headings([axes], [Heading([Line2D([], [], label="m" * length) for _ in range(4)])])
        legend = axes.get_legend()
        assert legend is not None
        tops.append(len({round(text.get_window_extent().y0) for text in legend.get_texts()}))
    assert tops == [1, 4]
    assert all(one < other for one, other in pairwise(tops))


def test_a_title_wider_than_its_axes_takes_a_second_line() -> None:
    figure = new_figure(6, 4)
    row = list(figure.subplots(1, 2))
    place_headings(row, [Heading((), "a_rather_long_name, seed 0, λ = 1"), Heading((), "short, seed 0, λ = 1")])
    figure.draw_without_rendering()
    first, second = (axes.get_title() for axes in row)
    assert second == "short, seed 0, λ = 1"
    assert [line.replace("\N{NO-BREAK SPACE}", " ") for line in first.split("\n")] == [
        "a_rather_long_name, seed 0,",
        "λ = 1",
    ]
    assert row[0].title.get_window_extent().width <= 1.1 * row[0].get_window_extent().width
