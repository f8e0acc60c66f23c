"""The map counts what each point answers alone; X is chosen on held-out items and measured on others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dynamo.analysis import accuracy_at
from dynamo.analysis.plane import plane_of
from dynamo.analyze.accuracy_map import AccuracyMap, panels_of
from dynamo.analyze.base import Result
from dynamo.analyze.run import FinishedRun

Analysed = Callable[..., dict[str, Any]]
SMALL = ("--size", "3", "--search_size", "2", "--rounds", "2", "--candidates", "3")


def test_counts_are_those_of_the_points_one_by_one(analysed: Analysed, finished: FinishedRun) -> None:
    found = analysed("accuracy_map", *SMALL)
    (name,) = finished.tasks
    (numbers,) = found["tasks"].values()
    plane = plane_of(finished.task.theta)
    for row, y in enumerate(found["y"]):
        for column, x in enumerate(found["x"]):
            point = plane.back(torch.tensor([[x, y]], dtype=torch.float64)).float()
            accuracy = accuracy_at(finished.task.network, point, name, finished.test_batches)
            assert numbers["right"][row][column] == round(float(accuracy) * numbers["items"])
    best = accuracy_at(finished.task.network, torch.tensor([found["x_theta"]]), name, finished.test_batches)
    assert numbers["x_accuracy"] == pytest.approx(float(best))
    assert found["x_relative"] == pytest.approx(float(best) / numbers["base_best"])
    most = max(map(max, numbers["right"]))
    assert found["map_maximum"] == pytest.approx(most / numbers["items"] / numbers["base_best"])


def test_x_does_not_depend_on_the_test_items(finished: FinishedRun) -> None:
    analysis = AccuracyMap(size=2, search_size=2, rounds=1, candidates=2)
    before = analysis.numbers(finished)["x_theta"]
    del finished.__dict__["test_batches"]
    finished.data.test_items = 10
    assert len(finished.test_batches[0][finished.tasks[0]].targets) == 10
    assert analysis.numbers(finished)["x_theta"] == before


def test_two_tasks_have_a_map_each_and_one_of_both(finished: FinishedRun) -> None:
    task = {"base_best": 0.5, "x_accuracy": 0.4, "items": 10}
    content = {
        "output_weight": 1.0,
        "tasks": {"a": task | {"right": [[1, 2], [3, 4]]}, "b": task | {"right": [[5, 4], [3, 2]]}},
        "x": [0.0, 1.0],
        "y": [0.0, 1.0],
        "x_plane": [0.5, 0.5],
        "x_theta": [0.5, 0.5, 0.1],
        "members": [{"plane": [0.1, 0.2], "group": "g"}],
    }
    both, first, second = panels_of(Result(finished.folder, content))

    for panel, expected in ((both, [0.6] * 4), (first, [0.2, 0.4, 0.6, 0.8]), (second, [1.0, 0.8, 0.6, 0.4])):
        assert torch.as_tensor(panel.values).flatten().tolist() == pytest.approx(expected)


def test_images_have_a_map(pictures: FinishedRun) -> None:
    analysis = AccuracyMap(size=2, search_size=2, rounds=1, candidates=2)
    found = analysis.content(pictures)
    best = max(float(base.max()) for base in pictures.base_accuracies.values())
    at_x = accuracy_at(pictures.task.network, torch.tensor([found["x_theta"]]), "digits", pictures.test_batches)
    assert found["tasks"]["digits"]["x_accuracy"] == pytest.approx(float(at_x))
    assert found["x_relative"] == pytest.approx(float(at_x) / best)
    pictures.folder.write_result("accuracy_map", found)
    analysis.draw([[Result(pictures.folder, pictures.folder.read_result("accuracy_map"))]])
