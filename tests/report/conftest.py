"""A finished run of the real command, with results that are written by hand where they need to be known."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dynamo.cli import main
from dynamo.report.maps import MapRun
from dynamo.runs import RunFolder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> RunFolder:
    """A copy of the trained meta-model's run."""
    shutil.copytree(trained / "meta", tmp_path / "figure/seed=0")
    return RunFolder(tmp_path / "figure/seed=0")


@pytest.fixture(scope="session")
def map_run(trained: Path) -> MapRun:
    """The run itself, as the report reads it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["dynamo"])  # as for every test; this fixture comes before them
        return MapRun.load(RunFolder(trained / "meta"))


@pytest.fixture
def attractors(run: RunFolder) -> RunFolder:
    """The run, with fixed points of its second member, and at X."""

    def place(member: str | None, at: float) -> dict[str, Any]:
        return {
            "kind": "best" if member is None else "member",
            "group": None,
            "member": member,
            "plane": [at, at],
            "fixed": [[at, 0.0], [0.0, 1.0], [2.0, 0.5]],
            "logits": [-1.0, 0.5, 2.0],
            "visited": [[0.0, 0.0], [1.0, 1.0]],
            "converged_share": 0.75,
            "dimension": 1.25,
            "length": 3.5,
        }

    second = run.read_result("fidelity_test")["members"][1]["name"]
    points = {"X": place(None, 0.01), "top left": place(second, 0.02)}
    run.write_result("fixed_points", {"options": {"seeds": 96}, "points": points})
    return run


@pytest.fixture
def reported() -> Callable[..., str]:
    """Runs `dynamo report` with these words, and reads the page that the first of them names or `--out` asks for."""

    def call(*words: str) -> str:
        main(["report", *words])
        out = Path(words[words.index("--out") + 1]) if "--out" in words else Path(words[0]) / "report.html"
        return out.read_text(encoding="utf-8")

    return call
