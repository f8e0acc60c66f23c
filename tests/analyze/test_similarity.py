"""Distances are those of the library on the same states; errors, clusters and emulators stand beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dynamo.analysis import silhouette
from dynamo.analysis.similarity import pairwise
from dynamo.analysis.states import emulator_states, population_states
from dynamo.analyze.run import FinishedRun
from dynamo.analyze.similarity import Similarity
from dynamo.cli import main

Analysed = Callable[..., dict[str, Any]]
SMALL = ("--items", "40", "--blocks", "4", "--replicates", "20", "--permutations", "50")


@pytest.mark.parametrize("measure", ["svcca", "cka"])
def test_distances_are_those_of_the_same_states(analysed: Analysed, finished: FinishedRun, measure: str) -> None:
    found = analysed("similarity", *SMALL, "--measure", measure)
    task = finished.task
    (name,) = finished.tasks
    batch = {name: finished.batch("test", name, finished.loaded.drawn("test", name, 40))}
    states = population_states(task.population, batch)
    expected = pairwise(states, measure)  # type: ignore[arg-type]
    torch.testing.assert_close(torch.tensor(found["distances"]), expected, atol=1e-6, rtol=1e-6, check_dtype=False)
    emulators = emulator_states(task.network, task.theta, batch)
    own = [float(pairwise([a, b], measure)[0, 1]) for a, b in zip(states, emulators, strict=True)]  # type: ignore[arg-type]
    assert [row["emulator_distance"] for row in found["members"]] == pytest.approx(own, abs=1e-6)
    assert found["emulator_distance_worst"] == pytest.approx(max(own), abs=1e-6)
    clustered = silhouette(expected, finished.groups, "precomputed")
    assert found["silhouette_distances"] == pytest.approx(clustered, abs=1e-5)
    assert 0 < found["distance_error"] < found["distance_mean"]
    assert -1 <= found["theta_pearson"] <= 1


def test_too_few_samples_are_one_clear_error(run: Any, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ANN401
    with pytest.raises(SystemExit):
        main(["analyze", "similarity", "--run", str(run), "--items", "2", "--blocks", "2"])
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert "samples" in said


def test_more_memory_than_there_is_is_one_clear_error(finished: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynamo.analyze.similarity.MOST_GIGABYTES", 1e-9)
    with pytest.raises(ValueError, match=r"12 networks in 20 blocks take .* GiB; --blocks 2 would do"):
        Similarity(replicates=2).numbers(finished)
