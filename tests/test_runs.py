"""Where things lie in a run folder, and when a stage counts as done."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from dynamo.runs import RunFolder
from dynamo.types import UserError


def test_results_are_written_whole_and_read_back(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "deep" / "run")
    assert not run.done("fit")
    content = {"loss": 0.5, "theta": torch.tensor([1.0, 2.0]), "counts": np.arange(2), "where": tmp_path}
    path = run.write_result("fit", content)
    assert run.done("fit")
    assert run.read_result("fit") == {"loss": 0.5, "theta": [1.0, 2.0], "counts": [0, 1], "where": str(tmp_path)}
    assert [file.name for file in path.parent.iterdir()] == ["fit.json"]


def test_a_kill_during_the_write_is_no_finished_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(tmp_path)

    def kill(self: Path, to: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", kill)
    with pytest.raises(KeyboardInterrupt):
        run.write_result("fit", {})
    assert not run.done("fit")


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(UserError, match=r"test\.json is missing: the stage 'test'"):
        run.read_result("test")
    run.write_result("test", {}).write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"test\.json is damaged.*delete it"):
        run.read_result("test")


def test_a_run_is_started_by_its_config_or_a_checkpoint(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_result("fit", {})
    assert not run.started()
    run.config.touch()
    assert run.started()
    other = RunFolder(tmp_path / "other")
    other.checkpoints.mkdir(parents=True)
    assert other.started()


def test_weights_that_are_newer_than_an_answer(tmp_path: Path) -> None:
    run, other = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "other")
    path = run.write_result("embedding", {})
    assert not run.newer_weights("embedding")  # no checkpoint: nothing newer
    for folder, seconds, newer in ((run, -5, False), (run, 5, True), (other, 5, True)):
        folder.checkpoints.mkdir(parents=True, exist_ok=True)
        last = folder.checkpoint("last")
        last.touch()
        when = path.stat().st_mtime + seconds
        os.utime(last, (when, when))
        assert run.newer_weights("embedding", folder) is newer


def test_what_python_has_left_is_no_run_and_says_how_one_is_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no run: config.yaml is missing. Runs lie under runs/"):
        RunFolder(tmp_path).check_is_run()
    (tmp_path / "figures").mkdir()
    with pytest.raises(UserError, match=r"train by `dynamo fit`, with population: my_networks.population"):
        RunFolder(tmp_path).check_is_run()
    with pytest.raises(UserError, match=r"is missing. Name another one"):
        RunFolder(tmp_path).check_is_run("Name another one.")
    (tmp_path / "config.yaml").write_text("run: x", encoding="utf-8")
    RunFolder(tmp_path).check_is_run()
