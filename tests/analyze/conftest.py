"""A finished run of the real command, and one of networks that are known."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from datamodules import DigitsDataModule
from dynamo.analyze.base import described
from dynamo.analyze.run import FinishedRun
from dynamo.cli import main
from dynamo.meta import MetaTask, ResidualMetaModel
from dynamo.population import Member, Population, ResidualBundle
from dynamo.runs import RunFolder, read_config


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


GONE = ["100%-0", "50%-2", "20%-1"]
"""Who is not on the map of `fold`."""


@pytest.fixture
def fold(finished: FinishedRun, tmp_path: Path) -> Callable[..., RunFolder]:
    """Makes a fold of the trained run: its own map turned and moved, on which the absent lie where they are put."""

    def make(name: str = "fold=0", gone: Sequence[str] = GONE, **changed: Any) -> RunFolder:  # noqa: ANN401
        folder = RunFolder(tmp_path / name)
        config = read_config(finished.folder.config)
        config["model"]["init_args"] |= {"leave_out": list(gone)} | changed
        folder.root.mkdir()
        folder.config.write_text(yaml.safe_dump(config), encoding="utf-8")
        theta = finished.task.theta.detach().double()
        turn = torch.linalg.qr(torch.randn(*theta.shape[1:] * 2, generator=torch.Generator().manual_seed(3)).double())[
            0
        ]
        rows = described(finished.task.members, theta=theta @ turn + 2.0)
        told = {"variance_explained": 0.5, "agreement": 0.75, "on_map": False}
        newcomers = [next(row for row in rows if row["name"] == name) | told for name in gone]
        members = [row for row in rows if row["name"] not in gone]
        own = {"variance_explained": 0.75, "agreement": 1.0}
        folder.write_result("embed", {"members": members, "newcomers": newcomers, "fidelity_of_members": own})
        return folder

    return make
