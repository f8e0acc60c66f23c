"""Distances are those of the library on the same states; errors, clusters and emulators stand beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dynamo.analysis import silhouette
from dynamo.analysis.similarity import pairwise
from dynamo.analysis.states import emulator_states, population_states
from dynamo.analyze.base import Result
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
    (states,) = population_states(task.population, batch)
    expected = pairwise(states, measure)  # type: ignore[arg-type]
    torch.testing.assert_close(torch.tensor(found["distances"]), expected, atol=1e-6, rtol=1e-6, check_dtype=False)
    (emulators,) = emulator_states(task.network, task.theta, batch)
    own = [float(pairwise([a, b], measure)[0, 1]) for a, b in zip(states, emulators, strict=True)]  # type: ignore[arg-type]
    assert [row["emulator_distance"] for row in found["members"]] == pytest.approx(own, abs=1e-6)
    assert found["emulator_distance_worst"] == pytest.approx(max(own), abs=1e-6)
    clustered = silhouette(expected, finished.groups, "precomputed")
    assert found["silhouette_distances"] == pytest.approx(clustered, abs=1e-5)
    assert 0 < found["distance_error"] < found["distance_mean"]
    assert -1 <= found["theta_pearson"] <= 1


def test_stages_are_told_one_by_one_and_averaged(pictures: FinishedRun) -> None:
    analysis = Similarity(items=40, blocks=4, replicates=20, permutations=50)
    found = analysis.content(pictures)
    batch = {"digits": pictures.batch("test", "digits", pictures.loaded.drawn("test", "digits", 40))}
    task = pictures.task
    originals = population_states(task.population, batch)
    emulators = emulator_states(task.network, task.theta, batch)
    each = torch.stack([pairwise(stage) for stage in originals])
    torch.testing.assert_close(torch.tensor(found["distances"]).double(), each.mean(0), atol=1e-6, rtol=0)
    for stage, expected, own, emulated in zip(found["stages"], each, originals, emulators, strict=True):
        torch.testing.assert_close(torch.tensor(stage["distances"]).double(), expected, atol=1e-6, rtol=0)
        assert stage["silhouette_distances"] == pytest.approx(silhouette(expected, pictures.groups, "precomputed"))
        to_original = [float(pairwise([a, b])[0, 1]) for a, b in zip(own, emulated, strict=True)]
        assert stage["emulator_distances"] == pytest.approx(to_original, abs=1e-6)
    means = torch.tensor([stage["emulator_distances"] for stage in found["stages"]]).mean(0)
    assert [row["emulator_distance"] for row in found["members"]] == pytest.approx(means.tolist(), abs=1e-6)
    errors = [stage["distance_error"] for stage in found["stages"]]
    assert 0 < found["distance_error"] < max(errors)  # of a mean of stages, not the mean of their errors
    assert [row["policy"] for row in found["members"]] == ["crop", "crop", "plain", "plain"]
    picture = analysis.draw([[_as_written(pictures, analysis, found)]])
    assert picture.axes[0].get_title() == "SVCCA distances, mean of 4 stages"


def test_one_stage_is_no_stage(analysed: Analysed) -> None:
    found = analysed("similarity", *SMALL)
    assert "stages" not in found
    assert "policy" not in found["members"][0]


def _as_written(run: FinishedRun, analysis: Similarity, found: dict[str, Any]) -> Result:
    run.folder.write_result("similarity", found)
    return Result(run.folder, run.folder.read_result("similarity"))


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
