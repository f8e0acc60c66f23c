"""The scalars are those of the analyses, and the projector tab has the members' own words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks import EmbeddingPCA
from callbacks.embedding_pca import METADATA, numbers, table
from dynamo.analysis import pca, silhouette
from dynamo.meta import MetaTask
from dynamo.population import PopulationTask

Fit = Callable[..., Trainer]


def test_numbers_are_those_of_the_analysis(task: MetaTask) -> None:
    theta = torch.tensor([[0.0, 0, 0], [0, 1, 0], [9, 0, 0], [9, 1, 0]])
    task.embedding.theta.data.copy_(theta)
    found = numbers(task, pca(task.theta))
    groups = ["wide", "wide", "narrow", "narrow"]
    assert found["silhouette"] == pytest.approx(silhouette(theta, groups))
    assert found["silhouette_plane"] == pytest.approx(found["silhouette"])  # the points lie in a plane
    assert found["dims_95"] == 1


def test_there_is_no_silhouette_of_a_map_of_one_point(task: MetaTask) -> None:
    task.embedding.theta.data.zero_()
    assert set(numbers(task, pca(task.theta))) == {"dims_95"}


@pytest.mark.parametrize(
    ("every", "steps"), [(0, ["00006"]), (1, ["00002", "00004", "00006"]), (2, ["00004", "00006"])]
)
def test_the_projector_tab(
    task: MetaTask, fit: Fit, tmp_path: Path, every: int, steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callbacks.embedding_pca.show", lambda *_: None)  # pictures take time
    fit(task, EmbeddingPCA(projector_every_n_epochs=every), epochs=3)
    folders = sorted(path.parent for path in (tmp_path / "run").glob("*/theta"))
    assert [folder.name for folder in folders] == steps
    header, *rows = (folders[-1] / "theta/metadata.tsv").read_text(encoding="utf-8").splitlines()
    assert header.split("\t") == [name for name in METADATA if not name.endswith("accuracy")]  # nobody measured them
    assert [line.split("\t")[0] for line in rows] == [member.name for member in task.members]
    assert rows[0].split("\t") == ["wide-0", "wide", "synthetic", "1.0", "none", "0", "0"]
    assert (folders[-1] / "theta/sprite.png").is_file()
    lines = (folders[-1] / "theta/tensors.tsv").read_text(encoding="utf-8").splitlines()
    vectors = [[float(value) for value in line.split("\t")] for line in lines]
    assert torch.allclose(torch.tensor(vectors), task.theta, atol=1e-6)


def test_what_is_known_of_some_members_has_a_column(task: MetaTask) -> None:
    first, *others = task.members
    header, rows = table([replace(first, test_accuracy=0.5), *others])
    assert header[-1] == "test_accuracy"
    assert [row[-1] for row in rows] == ["0.5", "", "", ""]


def test_the_scalars_stand_in_the_event_file(task: MetaTask, fit: Fit, tmp_path: Path) -> None:
    fit(task, EmbeddingPCA(), epochs=1)
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"scalars": 0})
    events.Reload()
    for tag, value in numbers(task, pca(task.theta)).items():
        (event,) = events.Scalars(f"map/{tag}")
        assert event.value == pytest.approx(value, abs=1e-5)


def test_inert_for_a_population(members: PopulationTask, fit: Fit, tmp_path: Path) -> None:
    fit(members, EmbeddingPCA())
    assert not (tmp_path / "run/figures").exists()
