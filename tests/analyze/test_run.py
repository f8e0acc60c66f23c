"""Every analysis answers for networks of anybody's make as it does for a population that was read from disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn

from datamodules import SyntheticSentimentDataModule
from dynamo.analyze.accuracy_map import AccuracyMap
from dynamo.analyze.averaging import Averaging
from dynamo.analyze.base import Analysis, Result
from dynamo.analyze.embedding import Embedding
from dynamo.analyze.fixed_points import FixedPoints
from dynamo.analyze.run import FinishedRun
from dynamo.analyze.semi_supervised import SemiSupervised
from dynamo.analyze.similarity import Similarity
from dynamo.analyze.word_scores import WordScores
from dynamo.meta import MetaTask, RecurrentMetaModel
from dynamo.population import Population, RecurrentClassifier
from dynamo.runs import RunFolder
from dynamo.types import UserError

ANALYSES: tuple[Analysis, ...] = (
    Embedding(permutations=20),
    Similarity(items=40, blocks=4, replicates=5, permutations=20, measure="cka"),
    AccuracyMap(size=2, search_size=2, rounds=1, candidates=2),
    Averaging(steps=2),
    SemiSupervised(counts=[4], draws=2, steps=2, scratch_steps=2),
    FixedPoints(seeds=6, items=4),
    WordScores(size=2, seeds=4, items=4, lexicon_size=10, least=20),
)


class Foreign(nn.Module):
    """A network as somebody else would write it: another shape, other names, two layers."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.words = nn.Embedding(64, 7)
        self.core = nn.LSTM(7, hidden, num_layers=2, batch_first=True)
        self.answer = nn.Linear(hidden, 2)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        hidden, _ = self.core(self.words(tokens))
        return hidden, self.answer(hidden)


def networks(kind: str) -> list[nn.Module]:
    """Six networks, three of each size."""
    sizes = [5, 5, 5, 6, 6, 6]
    if kind == "foreign":
        return [Foreign(size) for size in sizes]
    return [RecurrentClassifier("gru", 64, 7, size, 2) for size in sizes]


@pytest.fixture(params=["disk", "modules", "foreign", "one group"])
def in_hand(request: pytest.FixtureRequest, tmp_path: Path) -> FinishedRun:
    """A map of six networks in two groups, hardly trained."""
    data = SyntheticSentimentDataModule(train_size=600, test_size=80, batch_size=4, max_length=12)
    data.setup()
    sizes = ["small"] * 3 + ["large"] * 3
    names = [f"{size}-{index}" for index, size in enumerate(sizes)]
    groups = ["one"] * 6 if request.param == "one group" else sizes
    modules = networks(request.param)
    population = Population.from_modules(
        modules, names=names, groups=groups, task="synthetic", class_names=data.classes, fingerprint=data.fingerprint
    )
    if request.param == "disk":
        population = Population.load(population.save(tmp_path / "population"))

    def network(vocab_size: int, classes: dict[str, int], dimensions: int) -> RecurrentMetaModel:
        return RecurrentMetaModel(vocab_size, classes, dimensions, 9, 8)

    task = MetaTask(population, data.vocab_size, network=network, dimensions=3, theta_lr=0.1, warmup_steps=1)  # type: ignore[arg-type]
    trainer = Trainer(
        accelerator="cpu",
        max_steps=4,
        logger=False,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(task, datamodule=data)
    task.eval()
    return FinishedRun(RunFolder(tmp_path / "run"), task, data, torch.device("cpu"))


def test_every_analysis_works_on_it(in_hand: FinishedRun) -> None:
    for analysis in ANALYSES:
        content = analysis.content(in_hand)
        in_hand.folder.write_result(analysis.name, content)
        result = Result(in_hand.folder, in_hand.folder.read_result(analysis.name))
        assert analysis.draw([[result]]).axes
        assert [row["name"] for row in result.content["members"]] == [m.name for m in in_hand.task.members]


def test_members_are_found_by_name_and_by_row(in_hand: FinishedRun) -> None:
    assert [in_hand.place_of(row) for row in range(6)] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert in_hand.index_of("large-4") == 4
    with pytest.raises(UserError, match="no member 'large-9'; the population has small-0, small-1"):
        in_hand.index_of("large-9")


def test_one_dimension_is_no_plane(in_hand: FinishedRun) -> None:
    task = MetaTask(in_hand.task.population, 64, dimensions=1)
    flat = FinishedRun(in_hand.folder, task.eval(), in_hand.data, in_hand.device)
    with torch.no_grad():
        task.embedding.theta.normal_()
    flat.folder.write_result("accuracy_map", {"x_theta": [0.0]})
    for analysis in ANALYSES:
        if analysis.name in ("accuracy_map", "semi_supervised", "fixed_points", "word_scores"):
            with pytest.raises(ValueError, match="a plane needs two dimensions"):
                analysis.numbers(flat)
    assert json.dumps(Embedding(permutations=5).numbers(flat)["dims_95"]) == "1"


def test_a_training_that_did_not_finish_is_refused(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "meta", tmp_path / "run")
    (tmp_path / "run/results/fit.json").unlink()
    with pytest.raises(UserError, match="has not finished; go on with `dynamo fit"):
        FinishedRun.load(RunFolder(tmp_path / "run"))


def test_fewer_items_than_blocks_is_a_clear_error(in_hand: FinishedRun) -> None:
    with pytest.raises(ValueError, match="80 test items, too few for 90 blocks"):
        Similarity(items=100, blocks=90).numbers(in_hand)


def test_a_run_that_never_began_is_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run"):
        FinishedRun.load(RunFolder(tmp_path / "none"))
    with pytest.raises(UserError, match="is not the run of a meta-model"):
        FinishedRun.load(RunFolder(trained / "population"))
