"""A map's folds are those that were made as it was; what is missing for them is named with its command."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dynamo.analyze.folds import embedded, folders, folds_of
from dynamo.analyze.run import FinishedRun
from dynamo.runs import RunFolder, read_config
from dynamo.types import UserError

Make = Callable[..., RunFolder]


def test_the_folds_of_a_map_are_those_made_as_it_was(finished: FinishedRun, fold: Make) -> None:
    alike, other = fold("fold=0"), fold("fold=1", ["50%-1"], lr=0.25)
    (found,) = folds_of(finished.folder, [str(alike.root), str(other.root)])
    assert found.folder == alike
    assert found.names == ["100%-0", "50%-2", "20%-1"]
    assert len(found.members) == len(found.theta) == 9
    assert not set(found.members) & set(found.names)
    assert found.places.tolist() == [row["theta"] for row in alike.read_result("embed")["newcomers"]]
    with pytest.raises(UserError, match=r"fold=1 has model.lr 0.25, not 0.005; train some by its configuration"):
        folds_of(finished.folder, [str(other.root)])


@pytest.mark.parametrize("seen", [False, True])
def test_newcomers_that_are_not_there_are_asked_for(finished: FinishedRun, fold: Make, seen: bool) -> None:
    """Not embedded at all, or nobody who was left out."""
    folder = fold()
    if seen:
        content = folder.read_result("embed")
        folder.write_result("embed", content | {"newcomers": [r | {"on_map": True} for r in content["newcomers"]]})
    else:
        (folder.results / "embed.json").unlink()
    with pytest.raises(UserError) as caught:
        folds_of(finished.folder, [str(folder.root)])
    population = read_config(folder.config)["model"]["init_args"]["population"]
    command = f"dynamo analyze embed --run {folder.root} --population {population} --only '[100%-0, 50%-2, 20%-1]'"
    assert command in str(caught.value)


def test_newcomers_from_before_the_last_training_are_asked_for_again(finished: FinishedRun, fold: Make) -> None:
    folder = fold()
    last = folder.checkpoint("last")
    last.parent.mkdir()
    last.touch()
    later = (folder.results / "embed.json").stat().st_mtime + 5
    os.utime(last, (later, later))
    with pytest.raises(UserError, match=r"weights are newer than embed.json; run `dynamo analyze embed .* again"):
        folds_of(finished.folder, [str(folder.root)])


def test_what_folds_tell_has_a_hash_and_what_they_do_not_has_none(fold: Make) -> None:
    first, second = fold("fold=0"), fold("fold=1")
    places = [str(first.root.parent / "fold=*")]
    before = embedded(places)
    assert before[str(first.root)] == before[str(second.root)] is not None
    (second.results / "embed.json").unlink()
    assert embedded(places) == before | {str(second.root): None}


def test_patterns_and_folders_are_named_once(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
    found = folders([str(tmp_path / "b"), str(tmp_path / "*")])
    assert [folder.root.name for folder in found] == ["b", "a"]
    with pytest.raises(UserError, match="no folder matches"):
        folders([str(tmp_path / "c*")])
