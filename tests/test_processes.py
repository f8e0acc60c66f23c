"""Is one process's answer that of two and of three, with counts that divide by neither? Who writes which file?

1,003 test items in 25 batches, 197 validation items in 5: two and three processes get unequally many. In each of them
`look_at_population` and `look_at_map` run, which judge the same trained networks.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks import AccuracyMap, EmbeddingPCA, FidelityTable, PopulationArtifact, SimilarityMDS, StageResults
from callbacks.base import MapCallback, NothingToShowError
from datamodules import DigitsDataModule, IndexedDataModule, SyntheticSentimentDataModule
from datamodules.resident import TaskData
from dynamo.cli import main
from dynamo.meta import MetaTask, ResidualMetaModel
from dynamo.population import MemberGroup, Population, PopulationTask
from dynamo.population.optimisation import DivergenceError
from dynamo.runs import RunFolder
from dynamo.types import OptionError, TaskBatch

Run = Callable[..., list[Any]]
WORLDS = (1, 2, 3)
LOSSES = 1e-7  # a batch is read in float32, and of 101 items three processes read smaller ones than one does
SIZES = {"wide": [4, 6, 8, 10], "narrow": [4, 5, 6, 7]}


class TwoTasks(SyntheticSentimentDataModule):
    """A second task in the same language, with fewer items in every split."""

    def __init__(self, **options: int) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.classes = {self.task: self.classes[self.task], "other": ("good", "bad")}

    def load(self) -> dict[str, TaskData]:
        (whole,) = super().load().values()
        counts = {"train": 1000, "val": 101, "test": 505}
        parts = (whole.split(name).select(torch.arange(count)) for name, count in counts.items())
        return {self.task: whole, "other": TaskData(*parts, "0" * 64)}


def words(made: type[SyntheticSentimentDataModule] = SyntheticSentimentDataModule) -> SyntheticSentimentDataModule:
    return made(train_size=2000, test_size=1003, max_length=12, batch_size=16, eval_batch_size=41, val_items=197)


class NoughtsAndOnes(DigitsDataModule):
    """Two classes alone: two items are a draw then."""

    def __init__(self, **options: int) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.classes = {self.task: ("0", "1")}

    def load(self) -> dict[str, TaskData]:
        (whole,) = super().load().values()
        parts = (split.select(torch.where(split.labels < 2)[0]) for split in (whole.train, whole.val, whole.test))
        return {self.task: TaskData(*parts, whole.digest)}


def images() -> DigitsDataModule:
    return NoughtsAndOnes(batch_size=8, eval_batch_size=5, val_items=25, test_items=53)


@dataclass(frozen=True)
class Kind:
    """Data, the networks that learn it, and their map."""

    data: Callable[[], IndexedDataModule]
    groups: tuple[MemberGroup, ...]
    network: Callable[[int, Mapping[str, int], int], Any] | None = None


def residual(vocab_size: int, classes: Mapping[str, int], dimensions: int) -> ResidualMetaModel:
    return ResidualMetaModel(vocab_size, classes, dimensions, [5, 6, 7, 8], [1, 1, 1, 1])


def gru(name: str, hidden_size: int, task: str = "synthetic") -> MemberGroup:
    return MemberGroup(name, count=2, task=task, hidden_size=hidden_size, embedding_size=4)


KINDS = {
    "words": Kind(words, (gru("wide", 6), gru("narrow", 4))),
    "tasks": Kind(partial(words, TwoTasks), (gru("first", 6), gru("second", 6, "other"))),
    "images": Kind(
        images,
        tuple(
            MemberGroup(name, count=2, architecture="resnet", widths=widths, depths=[1, 1, 1, 1])
            for name, widths in SIZES.items()
        ),
        residual,
    ),
}


def trainer(run: Path, world: int, *watching: Any, **options: Any) -> Trainer:  # noqa: ANN401
    """A quiet trainer that writes to the folder `run`."""
    seed_everything(0)
    board = TensorBoardLogger(run, name="", version="", default_hp_metric=False)
    settings = {"max_epochs": 1, "num_sanity_val_steps": 0, "log_every_n_steps": 1, "logger": board, **options}
    return Trainer(
        accelerator="cpu",
        devices=world,
        strategy="ddp" if world > 1 else "auto",
        default_root_dir=run,
        callbacks=list(watching),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **settings,
    )


def population(kind: Kind, **options: Any) -> tuple[IndexedDataModule, PopulationTask]:  # noqa: ANN401
    data = kind.data()
    return data, PopulationTask(
        list(kind.groups), data.vocab_size, data.classes, lr=0.03, embedding_scale=1.0, **options
    )


def meta(kind: Kind, place: Path, **options: Any) -> tuple[IndexedDataModule, MetaTask]:  # noqa: ANN401
    data = kind.data()
    network = {} if kind.network is None else {"network": kind.network}
    return data, MetaTask(
        str(place / "population"), data.vocab_size, dimensions=3, **{"theta_lr": 0.1, **network, **options}
    )


def train(name: str, place: Path) -> None:
    """Train a population, then a map of it, for some steps."""
    data, members = population(KINDS[name])
    run = trainer(place, 1, PopulationArtifact(), limit_train_batches=30, limit_val_batches=0, logger=False)
    run.fit(members, datamodule=data)
    torch.save(members.state_dict(), place / "members.pt")
    data, task = meta(KINDS[name], place)
    trainer(place, 1, limit_train_batches=10, limit_val_batches=0, logger=False).fit(task, datamodule=data)
    with torch.no_grad():  # answers that differ over the plane
        task.embedding.theta.copy_(torch.randn(task.embedding.theta.shape))
        for parameter in task.network.parameters():
            parameter.mul_(2)
    torch.save(task.state_dict(), place / "map.pt")


def look_at_population(name: str, place: Path, world: int) -> dict[str, Any]:
    """Validate and test the members as they were trained."""
    data, members = population(KINDS[name])
    members.load_state_dict(torch.load(place / "members.pt", weights_only=True))
    run = trainer(place / f"population{world}", world, PopulationArtifact(), StageResults())
    found = {}
    for stage, judge in (("val", run.validate), ("test", run.test)):
        judge(members, datamodule=data, verbose=False)
        found[f"{stage} accuracies"] = members.accuracies[stage]
        found |= {tag: value for tag, value in run.callback_metrics.items() if tag.startswith(stage)}
    return found


def look_at_map(name: str, place: Path, world: int) -> dict[str, Any]:
    """One step without learning, watched by all callbacks, and the test."""
    data, task = meta(KINDS[name], place, lr=0.0, theta_lr=0.0)
    task.load_state_dict(torch.load(place / "map.pt", weights_only=True))
    asked: list[MapCallback] = [EmbeddingPCA(), SimilarityMDS(items=22), AccuracyMap(size=3, items=31, chunk=2)]
    answers: dict[str, Any] = {}
    for callback in asked:
        keep(callback, answers)
        if name != "words":  # pictures take most of the time
            callback.draw = lambda *_: None  # type: ignore[method-assign]
    watching = (FidelityTable(members_at_once=1), *asked, StageResults())
    run = trainer(place / f"map{world}", world, *watching, limit_train_batches=1)
    run.fit(task, datamodule=data)
    found = {tag: value for tag, value in run.callback_metrics.items() if tag.startswith("val")}
    plane, similar, points = (answers[callback.name] for callback in asked)
    found |= {f"pca {part}": getattr(plane, part) for part in ("coordinates", "components", "spectrum", "mean")}
    found |= {f"similarity {part}": getattr(similar, part) for part in ("distances", "emulators", "theta", "agreement")}
    found |= {"similarity scaled": similar.scaled.coordinates, "similarity stress": similar.scaled.stress}
    found |= {"map relative": points.relative, "map mean_theta": points.mean_theta, "map points": points.grid.points}
    task.eval()
    few = SimilarityMDS(items=2, measure="cka").compute(run, task)  # of three processes one has none
    found |= {"few distances": few.distances, "few emulators": few.emulators}
    for number, callback in enumerate((SimilarityMDS(items=2, variance=1.0), AccuracyMap(items=1))):
        try:
            callback.compute(run, task)
        except NothingToShowError as reason:
            found[f"silence {number}"] = str(reason)
    run.test(task, datamodule=data, verbose=False)
    return found | {tag: value for tag, value in run.callback_metrics.items() if tag.startswith("test")}


def keep(callback: MapCallback, answers: dict[str, Any]) -> None:
    """Note what the callback finds, on whatever rank."""
    compute = callback.compute

    def noted(run: Trainer, task: MetaTask) -> Any:  # noqa: ANN401
        answers[callback.name] = answer = compute(run, task)
        return answer

    callback.compute = noted  # type: ignore[method-assign]


Looked = tuple[Path, dict[int, list[dict[str, Any]]]]


@pytest.fixture(scope="module", params=KINDS)
def trained_in_one(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, in_processes: Run) -> Any:  # noqa: ANN401
    """A kind, and the folder of its population and map, trained in one process."""
    place = tmp_path_factory.mktemp("trained")
    in_processes(1, train, request.param, place)
    return request.param, place


def test_a_population_is_judged_alike(trained_in_one: tuple[str, Path], in_processes: Run) -> None:
    name, place = trained_in_one
    ranks, folders = {}, {}
    for world in WORLDS:
        folders[world] = RunFolder(place / f"population{world}")
        shutil.copytree(place / "population", folders[world].root / "population")
        ranks[world] = in_processes(world, look_at_population, name, place, world)
    alone = ranks[1][0]
    assert len(alone["test accuracies"].unique()) > 1
    judged = Population.load(folders[1].root / "population").members
    assert [member.test_accuracy for member in judged] == alone["test accuracies"].tolist()
    for world in WORLDS[1:]:
        assert Population.load(folders[world].root / "population").members == judged
        for rank in ranks[world]:
            assert rank.keys() == alone.keys()
            for tag, value in alone.items():
                if tag.endswith(" accuracies"):  # counts over counts: the same to the last bit
                    assert torch.equal(rank[tag], value), tag
                else:
                    assert float(rank[tag]) == pytest.approx(float(value), rel=LOSSES), tag
        assert numbers(folders[world], "test") == pytest.approx(numbers(folders[1], "test"), rel=LOSSES)
        assert events(folders[world]) == pytest.approx(events(folders[1]), rel=1e-6)  # float32 on disk


def test_a_map_is_judged_alike(trained_in_one: tuple[str, Path], in_processes: Run) -> None:
    name, place = trained_in_one
    ranks = {world: in_processes(world, look_at_map, name, place, world) for world in WORLDS}
    folders = {world: RunFolder(place / f"map{world}") for world in WORLDS}
    alone = ranks[1][0]
    assert alone["map relative"].unique().numel() > 1
    assert 0 < float(alone["test/agreement"]) < 1
    assert ("silence 0" in alone) == (name != "images")  # whose positions are samples enough
    assert "2 or more" in alone["silence 1"]
    for world in WORLDS[1:]:
        for number, rank in enumerate(ranks[world]):
            assert rank.keys() == alone.keys()
            for tag, value in alone.items():
                same(rank[tag], value, f"{tag}, rank {number} of {world}")
        for stage in ("val", "test"):
            told = [folders[count].read_result(f"fidelity_{stage}") for count in (1, world)]
            assert told[0]["worst"] == told[1]["worst"]
            for mine, other in zip(*(table["members"] for table in told), strict=True):
                for key in ("name", "agreement", "accuracy", "original_accuracy"):  # counts over counts
                    assert mine.pop(key) == other.pop(key)
                assert mine == pytest.approx(other, rel=LOSSES, abs=1e-8)
        assert numbers(folders[world], "test") == pytest.approx(numbers(folders[1], "test"), rel=1e-6)  # float32
        assert events(folders[world]) == pytest.approx(events(folders[1]), rel=1e-5, abs=1e-6)


def same(found: Any, expected: Any, name: str) -> None:  # noqa: ANN401
    """Theta and counts have the same bits; the rest is of float32 states, whose last bits depend on the batch."""
    if isinstance(expected, str | None):
        assert found == expected, name
    elif name.startswith(("pca", "map")):
        assert torch.equal(torch.as_tensor(found), torch.as_tensor(expected)), name
    else:
        mine, other = torch.as_tensor(found).double(), torch.as_tensor(expected).double()
        torch.testing.assert_close(mine, other, rtol=0, atol=2e-6, msg=lambda text: f"{name}: {text}")


def numbers(folder: RunFolder, stage: str) -> dict[str, float]:
    """The metrics of a finished stage."""
    found: dict[str, float] = folder.read_result(stage)["metrics"]
    return found


def events(folder: RunFolder) -> dict[tuple[str, int, int], float]:
    """The scalars for TensorBoard by tag, step, and which of the scalars of their tag they are."""
    board = EventAccumulator(str(folder.root), size_guidance={"scalars": 0})
    board.Reload()
    tags = [tag for tag in board.Tags()["scalars"] if not tag.startswith(("cost/", "train/"))]
    return {(tag, e.step, number): e.value for tag in tags for number, e in enumerate(board.Scalars(tag))}


class Steps(Callback):
    """What a run reads and does, step by step."""

    def __init__(self) -> None:
        self.items: list[torch.Tensor] = []
        self.losses: list[torch.Tensor] = []
        self.gradients: dict[str, torch.Tensor] = {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: dict[str, TaskBatch], n: int
    ) -> None:
        """Note items and loss."""
        (part,) = batch.values()
        self.items.append(part.inputs.clone())
        self.losses.append(trainer.callback_metrics["train/loss"].clone())

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:  # noqa: ANN401
        """Note the gradients of the first step."""
        if trainer.global_step == 0:
            self.gradients = {name: p.grad.clone() for name, p in pl_module.named_parameters() if p.grad is not None}


def learn(what: str, place: Path, world: int) -> dict[str, Any]:
    """Six steps of a population, of a map, or of a map of which one member is drawn at a time, in double precision.

    All items are equally long for a map: each process weights its steps alike, whatever the others have.
    """
    kind = KINDS["words"]
    sizes = {"train_size": 400, "batch_size": 12 // world}
    if what == "population":
        data: IndexedDataModule = SyntheticSentimentDataModule(**sizes)  # type: ignore[arg-type]
        task: LightningModule = PopulationTask(list(kind.groups), data.vocab_size, data.classes)
    else:
        data = SyntheticSentimentDataModule(**sizes, min_length=9, max_length=9)  # type: ignore[arg-type]
        members = Population.load(place / "population")
        for bundle in members.bundles:
            bundle.double()
        task = MetaTask(members, data.vocab_size, dimensions=3, members_per_step=1 if what == "drawn" else None)
        task._check_data = lambda: None  # type: ignore[method-assign] - the population knows other reviews
    seen = Steps()
    options = {"limit_train_batches": 6, "limit_val_batches": 0, "logger": False, "precision": "64-true"}
    trainer(place / f"{what}{world}", world, seen, **options).fit(task, datamodule=data)
    weights = dict(task.named_parameters())
    return {"items": seen.items, "losses": seen.losses, "gradients": seen.gradients, "weights": weights}


@pytest.mark.parametrize("trained_in_one", ["words"], indirect=True)  # a batch norm sees its own process's items only
@pytest.mark.parametrize("what", ["population", "map", "drawn"])
def test_two_processes_learn_what_one_does_from_twice_the_batch(
    trained_in_one: tuple[str, Path], in_processes: Run, what: str
) -> None:
    _, place = trained_in_one
    (alone,), (first, second) = (in_processes(world, learn, what, place, world) for world in (1, 2))
    assert len(alone["items"]) == 6
    for step, whole in enumerate(alone["items"]):
        shared = [rows_of(rank["items"][step], whole.shape[-1]) for rank in (first, second)]
        for mine, theirs in zip(rows_of(whole, whole.shape[-1]), zip(*shared, strict=True), strict=True):
            assert sorted(mine) == sorted(theirs[0] + theirs[1])
    for part in ("gradients", "weights"):
        assert alone[part].keys() == first[part].keys()
        for key, tensor in alone[part].items():
            assert torch.equal(first[part][key], second[part][key]), key
            # Float64, summed in another order; Adam divides by the root of squares, some of which are about 0.
            torch.testing.assert_close(first[part][key], tensor, rtol=1e-8, atol=1e-10, msg=key)
    for one, mine, theirs in zip(alone["losses"], first["losses"], second["losses"], strict=True):
        assert torch.equal(mine, theirs)
        assert float(mine) == pytest.approx(float(one), rel=1e-9)


def diverge(place: Path, world: int) -> str:
    """The last of the processes gets weights that are no numbers, before its third step."""

    class Spoil(Callback):
        def on_train_batch_start(
            self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
        ) -> None:
            if batch_idx == 2 and trainer.global_rank == world - 1:
                for parameter in cast(PopulationTask, pl_module).bundles[1].parameters():
                    parameter.data.fill_(torch.nan)

    data, task = population(KINDS["words"])
    with pytest.raises(DivergenceError) as told:
        trainer(place / str(world), world, Spoil(), limit_train_batches=8, logger=False).fit(task, datamodule=data)
    return str(told.value)


def test_all_processes_stop_with_the_name_of_who_diverged_in_one(tmp_path: Path, in_processes: Run) -> None:
    (alone,), both = (in_processes(world, diverge, tmp_path, world) for world in (1, 2))
    assert "loss of narrow-0, narrow-1 is no longer finite at step 2" in alone
    assert both == [alone, alone]


def too_few(place: Path) -> str:
    """Three processes share two validation items."""
    data = SyntheticSentimentDataModule(train_size=200, val_items=2)
    task = PopulationTask(list(KINDS["words"].groups), data.vocab_size, data.classes)
    with pytest.raises(OptionError) as told:
        trainer(place, 3, limit_train_batches=2, logger=False).fit(task, datamodule=data)
    return str(told.value)


def test_fewer_items_than_processes_are_refused_by_all(tmp_path: Path, in_processes: Run) -> None:
    assert in_processes(3, too_few, tmp_path) == ["split 'val' has 2 items for 3 processes: use fewer."] * 3


def rows_of(items: torch.Tensor, width: int) -> list[list[tuple[int, ...]]]:
    """What each reader reads, as `width` ids an item: `[N, B, T]` or `[B, T]`."""
    padded = torch.nn.functional.pad(items, (0, width - items.shape[-1]))
    return [[tuple(row) for row in reader.tolist()] for reader in padded.view(-1, *padded.shape[-2:])]


def writes_of(words: list[str], place: Path) -> dict[str, list[str]]:
    """A command, in a working directory of this process alone: what it wrote below `run`.

    Python tells of files that are opened, renamed, made and removed; what libraries of other languages do is seen by
    what is there afterwards.
    """
    own, touched = place / os.environ["LOCAL_RANK"], []
    before = contents(own)
    os.chdir(own)
    sys.addaudithook(lambda event, args: touched.extend(changed(event, args)))
    with contextlib.redirect_stdout(io.StringIO()):
        main([*words, "--run", "run"])
    after = contents(own)
    inside = [
        Path(name).relative_to("run") for name in map(os.path.relpath, touched) if Path(name).is_relative_to("run")
    ]
    return {
        "touched": sorted({str(path) for path in inside}),
        "differ": [str(path) for path in sorted(after.keys() | before.keys()) if after.get(path) != before.get(path)],
    }


def changed(event: str, args: tuple[Any, ...]) -> list[str]:
    """The paths that an audit event says are created, written or removed."""
    if event == "open":
        path, mode, flags = args
        writes = bool(set(mode or "") & set("wax+")) or bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        return [os.fsdecode(path)] if writes and not isinstance(path, int) else []
    named = {
        "os.rename": 2,
        "os.remove": 1,
        "os.mkdir": 1,
        "os.rmdir": 1,
        "os.link": 2,
        "os.symlink": 2,
        "os.truncate": 1,
    }
    return [os.fsdecode(path) for path in args[: named.get(event, 0)] if not isinstance(path, int)]


def contents(folder: Path) -> dict[Path, tuple[int, int]]:
    """Every file and folder, with its size and the time of its last change."""
    found = ((path.relative_to(folder), path.stat()) for path in folder.rglob("*"))
    return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in found}


@pytest.mark.parametrize("kind", ["population", "meta"])
def test_the_second_process_writes_nothing(
    kind: str, commands: dict[str, list[str]], trained: Path, tmp_path: Path, in_processes: Run
) -> None:
    """Each has a working directory, and so a run folder, of its own: what either writes shows, by whatever means."""
    first, second = (tmp_path / str(rank) for rank in range(2))
    first.mkdir()
    second.mkdir()
    words = [*commands[kind], "--trainer.accelerator=cpu", "--trainer.strategy=ddp", "--trainer.devices=2"]
    if kind == "population":
        words += ["--snapshots.every_n_epochs=1"]
    for stage in ("fit", "test"):
        ranks = in_processes(2, writes_of, [stage, *words], tmp_path)
        assert f"results/{stage}.json.tmp" in ranks[0]["touched"]
        assert f"run/results/{stage}.json" in ranks[0]["differ"]
        assert ranks[1] == {"touched": [], "differ": []}
        shutil.rmtree(second)
        shutil.copytree(first, second)  # the test reads the weights
