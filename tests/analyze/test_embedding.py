"""The numbers are those of the library, and stand for the picture too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dynamo.analysis import pca, silhouette
from dynamo.analyze.base import Result, members_of, title_of
from dynamo.analyze.run import FinishedRun
from dynamo.runs import RunFolder

Analysed = Callable[..., dict[str, Any]]


def test_the_embedding_in_numbers_and_as_a_picture(analysed: Analysed, finished: FinishedRun) -> None:
    found = analysed("embedding", "--permutations", "50")
    task = finished.task
    assert found["silhouette_theta"] == pytest.approx(silhouette(task.theta, finished.groups), abs=1e-5)
    assert found["dims_95"] == pca(task.theta).components_for(0.95)
    assert 0 < found["p_plane"] <= 1
    assert found["distance"] == "l2"
    assert found["options"] == {"permutations": 50}
    assert [row["name"] for row in found["members"]] == [member.name for member in task.members]
    assert torch.tensor([row["theta"] for row in found["members"]]).equal(task.theta)
    assert [(m.name, m.group, m.task) for m in members_of(found)] == [(m.name, m.group, m.task) for m in task.members]


def test_a_title_tells_what_differs_from_the_default() -> None:
    folder = RunFolder(Path("runs/fig10/seed=2"))
    assert title_of(Result(folder, {"output_weight": 1.0})) == "fig10, seed 2, λ = 1"
    assert title_of(Result(folder, {"output_weight": 0.0, "distance": "l2"})) == "fig10, seed 2, λ = 0"
    assert title_of(Result(folder, {"output_weight": 0.5, "distance": "l1"})) == "fig10, seed 2, λ = 0.5, L1"
