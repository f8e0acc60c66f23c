"""Analyses of a finished run: the numbers are those of the library, kept while they hold, and summed up over runs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import dynamo.analyze
from dynamo.analysis import pca, silhouette
from dynamo.analyze import summary
from dynamo.cli import load_run, main
from dynamo.meta import MetaTask
from dynamo.runs import RunFolder

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained meta-model's run."""
    shutil.copytree(trained / "meta", tmp_path / "seed=0")
    return tmp_path / "seed=0"


def test_the_embedding_in_numbers_and_as_a_picture(run: Path) -> None:
    main(["analyze", "embedding", "--run", str(run), "--permutations", "50"])
    found = RunFolder(run).read_result("embedding")
    task = load_run(RunFolder(run)).model
    assert isinstance(task, MetaTask)
    groups = [member.group for member in task.members]
    assert found["silhouette_theta"] == pytest.approx(silhouette(task.theta, groups), abs=1e-5)
    assert found["dims_95"] == pca(task.theta).components_for(0.95)
    assert 0 < found["p_plane"] <= 1
    assert [row["name"] for row in found["members"]] == [member.name for member in task.members]
    assert [row["theta"] for row in found["members"]] == task.theta.tolist()
    assert (run / "figures/embedding.png").read_bytes().startswith(PNG)


def test_averaging_knows_the_accuracy_of_the_base_models(run: Path) -> None:
    main(["analyze", "averaging", "--run", str(run)])
    (found,) = RunFolder(run).read_result("averaging").values()
    tested = json.loads((run / "results/fidelity_test.json").read_text())
    originals = [row["original_accuracy"] for row in tested["members"]]
    assert found["base"] == pytest.approx(originals)
    assert found["base_best"] == pytest.approx(max(originals))
    assert next(iter(found["mean_theta"])) == "all"
    assert len(found["averaged_weights"]) == 1
    assert all(0 <= value <= 1 for value in [*found["mean_theta"].values(), *found["averaged_weights"]])


def test_several_runs_in_two_rows(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "seed=1")
    words = ["analyze", "embedding", "--permutations", "20", "--out", str(tmp_path / "out")]
    main([*words, "--run", str(run), str(tmp_path / "seed=1"), "--below", str(run), str(run)])
    found = RunFolder(tmp_path / "out").read_result("embedding_summary")
    assert found["runs"] == [str(run), str(tmp_path / "seed=1"), str(run), str(run)]
    assert found["upper"]["silhouette_theta"]["std"] == 0  # twice the same run
    assert found["upper"]["moved_between_runs"] == pytest.approx(0, abs=1e-5)
    assert found["lower"]["silhouette_theta"]["values"] == found["upper"]["silhouette_theta"]["values"]
    assert (tmp_path / "out/figures/embedding.png").read_bytes().startswith(PNG)


def test_numbers_are_kept_while_they_hold(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def kind(task: object, data: object, permutations: int) -> dict[str, int]:
        asked.append(permutations)
        return {"permutations": permutations}

    monkeypatch.setitem(dynamo.analyze.KINDS, "averaging", kind)
    words = ["analyze", "averaging", "--run", str(run), "--permutations"]
    for permutations in ("10", "10", "20"):
        main([*words, permutations])
    assert asked == [10, 20]
    later = (run / "results/averaging.json").stat().st_mtime + 5
    os.utime(run / "checkpoints/last.ckpt", (later, later))
    main([*words, "20"])
    assert asked == [10, 20, 20]


def test_summary_is_mean_and_spread_of_what_all_have() -> None:
    runs = [
        {"a": 1, "flag": True, "name": "x", "deep": {"b": 2.0}, "permutations": 9, "only": 1},
        {"a": 3, "flag": True, "name": "y", "deep": {"b": 4.0}, "permutations": 9},
    ]
    assert summary(runs) == {
        "a": {"mean": 2.0, "std": pytest.approx(2**0.5), "values": [1, 3]},
        "deep": {"b": {"mean": 3.0, "std": pytest.approx(2**0.5), "values": [2.0, 4.0]}},
    }
    assert summary(runs[:1])["a"] == {"mean": 1.0, "std": None, "values": [1]}
