"""A report holds what its run has, in the order in which it is read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from dynamo.report.content import gather
from dynamo.report.source import find
from dynamo.runs import RunFolder


def test_a_map(attractors: RunFolder) -> None:
    later = (attractors.results / "fixed_points.json").stat().st_mtime + 5
    os.utime(attractors.checkpoint("last"), (later, later))
    report = gather(find(attractors.root))
    assert report.kind == "map"
    assert list(report.configurations) == ["The map", "Its population"]
    (found,) = report.found
    assert (found.name, found.options, found.older) == ("fixed_points", "seeds 96", True)
    assert found.question.startswith("Is there a line attractor")
    assert {"converged_share", "dimension", "length"} < set(found.tables[0].columns)
    assert "embedding" in {one.name for one in report.missing}


def test_a_figure_is_about_all_its_seeds(run: RunFolder) -> None:
    run.write_result("embedding", {"options": {}, "silhouette_theta": 0.5, "p_theta": 0.01})
    shutil.copytree(run.root, run.root.parent / "seed=1")
    RunFolder(run.root.parent / "seed=1").write_result(
        "embedding", {"options": {}, "silhouette_theta": 0.3, "p_theta": 0.02}
    )
    report = gather(find(run.root.parent))
    assert report.map is not None
    assert [one["name"] for one in report.map["runs"]] == ["seed 0", "seed 1"]
    assert report.found[0].tables[0].rows[0][1].text == "0.400 ± 0.141"
    assert {picture.where for picture in report.pictures} == {"seed 0"}
    assert report.differing == []


def test_a_population(trained: Path) -> None:
    report = gather(find(trained / "population"))
    assert (report.kind, report.map, report.found) == ("population", None, [])
    assert len(report.members.rows) == 12
    assert report.groups is not None
    hashes = {row[0].text for row in report.hashes.rows}
    assert {"vocabulary", "data"} < hashes
