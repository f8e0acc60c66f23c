"""A finished run of the real command, and one of networks that are known."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules import DigitsDataModule
from dynamo.analyze.run import FinishedRun
from dynamo.cli import main
from dynamo.meta import MetaTask, ResidualMetaModel
from dynamo.population import Member, Population, ResidualBundle
from dynamo.runs import RunFolder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained meta-model's run."""
    shutil.copytree(trained / "meta", tmp_path / "seed=0")
    return tmp_path / "seed=0"


@pytest.fixture
def finished(run: Path) -> FinishedRun:
    """The same run as the analyses see it."""
    return FinishedRun.load(str(run), "cpu")


@pytest.fixture
def analysed(run: Path) -> Callable[..., dict[str, Any]]:
    """Runs `dynamo analyze KIND` with options on the run, and reads the numbers."""

    def call(kind: str, *options: str) -> dict[str, Any]:
        main(["analyze", kind, "--run", str(run), *options])
        assert (run / f"figures/{kind}.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        return RunFolder(run).read_result(kind)

    return call


@pytest.fixture
def pictures(tmp_path: Path) -> FinishedRun:
    """An untrained map of four ResNets, of two policies, on 60 of the digits."""
    bundle = ResidualBundle(4, [4, 6, 8, 10], [1, 1, 1, 1], 10)
    bundle.initialise(range(4))
    members = [Member(f"{name}-{i}", name, "digits", policy=name) for name in ("crop", "plain") for i in range(2)]

    def network(vocab_size: int, classes: Mapping[str, int], dimensions: int) -> ResidualMetaModel:
        return ResidualMetaModel(vocab_size, classes, dimensions, [5, 6, 7, 8], [1, 1, 1, 1])

    task = MetaTask(Population([bundle], [members]), 0, network=network, dimensions=3).eval()
    torch.nn.init.normal_(task.embedding.theta)
    return FinishedRun(RunFolder(tmp_path), task, DigitsDataModule(test_items=60), torch.device("cpu"))
