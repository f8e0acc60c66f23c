"""A finished run of the real command, and one of networks that are known."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dynamo.analyze.run import FinishedRun
from dynamo.cli import main
from dynamo.runs import RunFolder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained meta-model's run."""
    shutil.copytree(trained / "meta", tmp_path / "seed=0")
    return tmp_path / "seed=0"


@pytest.fixture
def finished(run: Path) -> FinishedRun:
    """The same run as the analyses see it."""
    return FinishedRun.load(RunFolder(run), "cpu")


@pytest.fixture
def analysed(run: Path) -> Callable[..., dict[str, Any]]:
    """Runs `dynamo analyze KIND` with options on the run, and reads the numbers."""

    def call(kind: str, *options: str) -> dict[str, Any]:
        main(["analyze", kind, "--run", str(run), *options])
        assert (run / f"figures/{kind}.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        return RunFolder(run).read_result(kind)

    return call
