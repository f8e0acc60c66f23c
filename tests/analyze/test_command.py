"""The command line of the analyses: numbers are kept while they hold, and summed up over runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

import dynamo.analyze.command
from dynamo.analyze.averaging import Averaging
from dynamo.analyze.command import ANALYSES, answerable, holds, summary
from dynamo.analyze.fixed_points import FixedPoints
from dynamo.analyze.run import FinishedRun
from dynamo.cli import main
from dynamo.runs import RunFolder, read_config

PNG = b"\x89PNG\r\n\x1a\n"
Analysed = Callable[..., dict[str, Any]]


def test_several_runs_in_two_rows(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "seed=1")
    words = ["analyze", "embedding", "--permutations", "20", "--out", str(tmp_path / "out")]
    main([*words, "--run", str(run), str(tmp_path / "seed=1"), "--below", str(run), str(run)])
    found = RunFolder(tmp_path / "out").read_result("embedding_summary")
    assert found["runs"] == [str(run), str(tmp_path / "seed=1"), str(run), str(run)]
    assert found["upper"]["silhouette_theta"]["std"] == 0  # twice the same run
    assert found["upper"]["moved_between_runs"] == pytest.approx(0, abs=1e-5)
    assert found["lower"]["silhouette_theta"]["values"] == found["upper"]["silhouette_theta"]["values"]
    assert "agreement" in found["upper"]["fidelity"]
    for folder in (tmp_path / "out", run, tmp_path / "seed=1"):
        assert (folder / "figures/embedding.png").read_bytes().startswith(PNG)


def test_numbers_are_kept_while_they_hold(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    @dataclass(frozen=True)
    class Asking(Averaging):
        """Which number of steps was asked for?

        Args:
            steps: as asked.
        """

        name: ClassVar[str] = "averaging"
        steps: int = 3

        def numbers(self, run: FinishedRun) -> dict[str, Any]:
            asked.append(self.steps)
            return Averaging(steps=2).numbers(run)

    monkeypatch.setattr(dynamo.analyze.command, "ANALYSES", (Asking,))
    words = ["analyze", "averaging", "--run", str(run), "--steps"]
    for steps in ("10", "10", "20"):
        main([*words, steps])
    assert asked == [10, 20]
    later = (run / "results/averaging.json").stat().st_mtime + 5
    os.utime(run / "checkpoints/last.ckpt", (later, later))
    main([*words, "20"])
    assert asked == [10, 20, 20]


def test_summary_is_mean_and_spread_of_what_all_have() -> None:
    runs = [
        {"a": 1, "flag": True, "name": "x", "deep": {"b": 2.0}, "options": {"permutations": 9}, "only": 1},
        {"a": 3, "flag": True, "name": "y", "deep": {"b": 4.0}, "options": {"permutations": 9}},
    ]
    assert summary(runs) == {
        "a": {"mean": 2.0, "std": pytest.approx(2**0.5), "values": [1, 3]},
        "deep": {"b": {"mean": 3.0, "std": pytest.approx(2**0.5), "values": [2.0, 4.0]}},
    }
    assert summary(runs[:1])["a"] == {"mean": 1.0, "std": None, "values": [1]}


def test_summary_of_what_is_infinite_or_unknown_has_no_mean() -> None:
    runs: list[dict[str, Any]] = [
        {"a": float("inf"), "b": None, "deep": {"c": 1.0}, "d": None, "e": {"f": 1}},
        {"a": 1.0, "b": 2.0, "deep": {"c": 3.0}, "d": None, "e": None},
    ]
    assert summary(runs) == {
        "a": {"mean": None, "std": None, "values": [float("inf"), 1.0]},
        "b": {"mean": None, "std": None, "values": [None, 2.0]},
        "deep": {"c": {"mean": 2.0, "std": pytest.approx(2**0.5), "values": [1.0, 3.0]}},
    }


def test_numbers_that_rest_on_others_hold_as_long_as_those(run: Path) -> None:
    analysis, folder = FixedPoints(), RunFolder(run)
    folder.write_result("accuracy_map", {})
    written = folder.write_result("fixed_points", {"options": analysis.options()})
    os.utime(written, ((run / "results/accuracy_map.json").stat().st_mtime + 5,) * 2)
    assert holds(analysis, folder)
    os.utime(run / "results/accuracy_map.json", (written.stat().st_mtime + 5,) * 2)
    assert not holds(analysis, folder)


def test_help_lists_every_kind_with_its_question(capsys: pytest.CaptureFixture[str]) -> None:
    main(["analyze", "--help"])
    said = capsys.readouterr().out
    for kind in ANALYSES:
        assert f"  {kind.name} " in said
        assert (kind.__doc__ or "").splitlines()[0] in said


def test_help_of_a_kind_lists_its_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["analyze", "accuracy_map", "--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert "--search_size" in said
    assert "--run" in said


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["colours", "--run", "x"], "no analysis 'colours'; choose one of embedding, similarity"),
        (["accuracy_map", "--run", "x", "--size", "1"], "size is 1; it has to be at least 2"),
        (["averaging", "--run", "x", "--between", "[one]"], "'one' is no pair of names"),
        (["semi_supervised", "--run", "x", "--counts", "[50, 10]"], "increasing order"),
        (["similarity", "--run", "x", "--variance", "2"], "variance is 2.0"),
        (["fixed_points", "--run", "x", "--tolerance", "0"], "must be positive"),
        (["word_scores", "--run", "x", "--seeds", "0"], "seeds is 0"),
        (["embedding", "--run", "x"], "x is no run"),
        (["embedding", "--run", "x", "--permutations", "0"], "permutations is 0"),
        (["accuracy_map", "--run", "x", "--margin=-1"], "margin is -1.0"),
        (["word_scores", "--run", "x", "--lexicon_size", "7"], "lexicon_size 7 even"),
    ],
)
def test_wrong_words_are_one_line(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["analyze", *words])
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert complaint in said


def test_a_device_that_is_not_there_is_one_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["analyze", "averaging", "--run", str(run), "--device", "abacus"])
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "--device abacus cannot be used here" in said


def test_a_wrong_option_names_itself(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["analyze", "accuracy_map", "--run", str(run), "--siz", "3"])
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert "siz" in said


def test_a_map_of_states_alone_is_asked_about_states(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [kind.name for kind in answerable(answers=True)] == [kind.name for kind in ANALYSES]
    assert [kind.name for kind in answerable(answers=False)] == ["embedding", "similarity", "embed", "leave_one_out"]
    config = read_config(RunFolder(run).config)
    config["model"]["init_args"]["output_weight"] = 0.0
    RunFolder(run).config.write_text(yaml.safe_dump(config), encoding="utf-8")
    main(["analyze", "embedding", "--run", str(run), "--permutations", "20"])
    assert "KIND: similarity, embed, leave_one_out" in capsys.readouterr().out
