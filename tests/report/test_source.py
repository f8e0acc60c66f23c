"""A folder is a run, or a figure with its seeds in their order; what is neither says what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dynamo.report.source import Source, analyses_of, fidelity_of, find, sound
from dynamo.runs import RunFolder
from dynamo.types import UserError


def test_a_run_is_a_map_or_a_population(trained: Path) -> None:
    for name, maps in (("meta", True), ("population", False)):
        folder = RunFolder(trained / name)
        assert find(trained / name) == Source(folder, (folder,), maps)


def test_a_figure_has_its_seeds_in_their_order(run: RunFolder) -> None:
    figure = run.root.parent
    for name in ("seed=10", "seed=2", "other"):
        shutil.copytree(run.root, figure / name)
    assert [one.root.name for one in find(figure).runs] == ["seed=0", "seed=2", "seed=10"]


def test_a_folder_that_holds_other_runs_names_them(run: RunFolder) -> None:
    run.root.rename(run.root.parent / "meta")
    with pytest.raises(UserError, match="It holds the runs meta: name one of them"):
        find(run.root.parent)
    with pytest.raises(UserError, match="nowhere is no run"):
        find(run.root / "nowhere")


def test_a_folder_of_summaries_is_about_their_runs(run: RunFolder, tmp_path: Path) -> None:
    out = RunFolder(tmp_path / "out")
    out.write_result("averaging_summary", {"runs": [str(run.root)], "upper": {}, "lower": {}})
    with pytest.raises(UserError, match="is no run"):
        find(out.root)  # two rows are two kinds of maps
    out.write_result("embedding_summary", {"runs": [str(run.root)]})
    assert find(out.root) == Source(out, (run,), maps=True)


def test_an_unfinished_run_says_how_to_go_on(run: RunFolder) -> None:
    (run.results / "fit.json").unlink()
    for folder in (run.root, run.root.parent):
        with pytest.raises(UserError, match=r"has not finished; go on with `dynamo fit -c .*--ckpt_path last"):
            find(folder)


def test_the_test_split_counts_where_it_was_measured(run: RunFolder) -> None:
    assert fidelity_of(run) == ("test", run.read_result("fidelity_test"))
    (run.results / "fidelity_test.json").unlink()
    assert fidelity_of(run) == ("val", run.read_result("fidelity_val"))


def test_analyses_are_neither_stages_nor_summaries(run: RunFolder) -> None:
    for name in ("similarity", "embedding", "embedding_summary"):
        run.write_result(name, {"name": name})
    assert list(analyses_of(run)) == ["embedding", "similarity"]


def test_unsound_numbers_are_one_line_with_the_file(run: RunFolder) -> None:
    with (
        pytest.raises(UserError, match=r"embedding\.json is damaged \(KeyError: 'p'\); delete it"),
        sound(run, "embedding"),
    ):
        {}["p"]
