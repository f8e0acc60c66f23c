"""A population per epoch, which join to one whose members know their epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer

from callbacks import PopulationArtifact, Snapshots
from dynamo.figures.map_panel import trajectories
from dynamo.meta import MetaTask
from dynamo.population import Population, PopulationTask
from dynamo.population.sources import load_populations

Fit = Callable[..., Trainer]


def test_snapshots_join_to_one_population(members: PopulationTask, fit: Fit, tmp_path: Path) -> None:
    fit(members, Snapshots(every_n_epochs=1), PopulationArtifact(), epochs=3)
    run = tmp_path / "run"
    joined = load_populations([str(run / "snapshots/*")])
    assert len(joined) == 12
    names = [member.name for member in joined.members]
    assert names[:4] == ["wide-0@1", "wide-1@1", "wide-0@2", "wide-1@2"]
    assert [member.epoch for member in joined.members] == [1, 1, 2, 2, 3, 3] * 2
    assert trajectories(joined.members) == [[0, 2, 4], [1, 3, 5], [6, 8, 10], [7, 9, 11]]
    last, final = Population.load(run / "snapshots/epoch=003"), Population.load(run / "population")
    for one, other in zip(last.bundles, final.bundles, strict=True):
        assert all(
            torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
        )


def test_every_other_epoch(members: PopulationTask, fit: Fit, tmp_path: Path) -> None:
    fit(members, Snapshots(every_n_epochs=2), epochs=5)
    assert sorted(p.name for p in (tmp_path / "run/snapshots").iterdir()) == ["epoch=002", "epoch=004"]


def test_off_by_default_and_inert_for_a_meta_model(
    members: PopulationTask, task: MetaTask, fit: Fit, tmp_path: Path
) -> None:
    fit(members, Snapshots(), epochs=1)
    fit(task, Snapshots(every_n_epochs=1), epochs=1)
    assert not (tmp_path / "run/snapshots").exists()


def test_refuses_a_negative_interval() -> None:
    with pytest.raises(ValueError, match="0 turns it off"):
        Snapshots(-1)
