"""Newcomers that lie where they were agree wholly with the map of all; those put elsewhere do not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dynamo.analysis import euclidean_distances, pca
from dynamo.analyze.leave_one_out import LeaveOneOut
from dynamo.analyze.run import FinishedRun
from dynamo.cli import main
from dynamo.reproduce import done
from dynamo.runs import RunFolder

Make = Callable[..., RunFolder]
OTHERS = ["100%-3", "50%-0"]


def changed(folder: RunFolder, name: str, theta: list[float]) -> None:
    """Put a newcomer elsewhere."""
    content = folder.read_result("embed")
    for row in content["newcomers"]:
        if row["name"] == name:
            row["theta"] = theta
    folder.write_result("embed", content)


def test_who_lies_where_it_was_agrees_wholly(finished: FinishedRun, fold: Make) -> None:
    folders = [str(fold().root), str(fold("fold=1", OTHERS).root)]
    found = LeaveOneOut(folders, permutations=500).numbers(finished)
    assert found["left_out"] == 5
    assert found["group_agreement"] == found["neighbour_agreement"] == 1
    assert found["own_group"] == found["own_group_before"]
    assert found["neighbour_chance"] == pytest.approx((3 * 3 / 9 + 2 * 3 / 10) / 5)
    assert found["distance_change"] == pytest.approx(0, abs=1e-4)
    assert found["p_neighbour"] == pytest.approx(1 / 501)
    own = found["of_members"]
    assert (own["group_agreement"], own["neighbour_agreement"]) == (1, 1)
    assert found["fidelity"] == {"variance_explained": 0.5, "agreement": 0.75}
    assert own["fidelity"] == {"variance_explained": 0.75, "agreement": 1.0}
    plane = pca(finished.task.theta).coordinates[:, :2]
    for row in found["networks"]:
        torch.testing.assert_close(
            torch.tensor(row["plane"]).double(), plane[finished.index_of(row["name"])], atol=1e-5, rtol=1e-4
        )


def test_neighbours_are_those_of_the_map_without_who_was_left_out_with_it(finished: FinishedRun, fold: Make) -> None:
    found = LeaveOneOut([str(fold().root)], neighbours=2, permutations=10).numbers(finished)
    distances = euclidean_distances(finished.task.theta)
    gone = {row["name"] for row in found["networks"]}
    for row in found["networks"]:
        order = distances[finished.index_of(row["name"])].argsort().tolist()
        names = [finished.task.members[i].name for i in order]
        assert row["nearest_before"] == row["nearest"] == [name for name in names if name not in gone][:2]
        assert row["shared"] == 2


def test_who_lies_elsewhere_has_other_neighbours(finished: FinishedRun, fold: Make) -> None:
    folder = fold()
    (theta,) = (one["theta"] for one in folder.read_result("embed")["members"] if one["name"] == "20%-3")
    changed(folder, "100%-0", theta)  # among strangers, exactly where one of them is
    found = LeaveOneOut([str(folder.root)], neighbours=1, permutations=10).numbers(finished)
    row = found["networks"][0]
    assert (row["name"], row["nearest"]) == ("100%-0", ["20%-3"])
    assert row["shared"] == int(row["nearest_before"] == ["20%-3"])
    assert found["neighbour_agreement"] == pytest.approx((2 + row["shared"]) / 3)
    assert found["distance_change"] > 0.01


def test_the_whole_road(run: Path, fold: Make, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """From the command line, words or a pattern; asked again when a fold has other newcomers, and only then."""
    folders = [fold(), fold("fold=1", OTHERS)]
    words = ["analyze", "leave_one_out", "--run", str(run), "--permutations", "20", "--out", str(tmp_path / "out")]
    several = [*words, "--folds", *(str(folder.root) for folder in folders)]
    out = RunFolder(tmp_path / "out")
    assert not done(several, out)
    main(several)
    assert (run / "figures/leave_one_out.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert out.read_result("leave_one_out_summary")["group_agreement"]["values"] == [1]
    assert done(several, out)
    main([*words, "--folds", str(tmp_path / "fold=*")])
    assert RunFolder(run).read_result("leave_one_out")["folds"] == [str(folder.root) for folder in folders]
    main(several)
    capsys.readouterr()
    main(several)
    assert "leave_one_out.json holds" in capsys.readouterr().out
    changed(folders[0], "100%-0", folders[0].read_result("embed")["members"][-1]["theta"])
    assert not done(several, out)
    main(several)
    assert out.read_result("leave_one_out_summary")["distance_change"]["values"][0] > 0.01


def test_who_is_on_no_map_is_refused(run: Path, fold: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fold()
    content: dict[str, Any] = folder.read_result("embed")
    content["newcomers"][0]["name"] = "stranger"
    folder.write_result("embed", content)
    with pytest.raises(SystemExit):
        main(["analyze", "leave_one_out", "--run", str(run), "--folds", str(folder.root)])
    assert "'stranger' is not on the map of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], r'required: folds|"folds" is required'),
        (["--folds", "x", "--neighbours", "0"], "neighbours is 0; it has to be at least 1"),
        (["--folds", "x", "--permutations", "0"], "permutations is 0"),
        (["--folds", "nowhere*"], r"no folder matches 'nowhere\*'; train the folds first"),
        (["--folds", "x"], "x is no run: it has no config.yaml"),
    ],
)
def test_wrong_words_are_one_line(
    run: Path, words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["analyze", "leave_one_out", "--run", str(run), *words])
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert re.search(complaint, said)


def test_more_neighbours_than_say_something_are_refused(
    run: Path, fold: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["analyze", "leave_one_out", "--run", str(run), "--folds", str(fold().root), "--neighbours", "9"])
    assert "with so many members up to 8 say something" in capsys.readouterr().err


def test_no_fold_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="folds names no run"):
        LeaveOneOut([])
