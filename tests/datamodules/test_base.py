"""Do Lightning's loops read exactly the promised batches, resumed or not, with members or without?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from datamodules import SyntheticSentimentDataModule
from datamodules.schedule import IndexBatch
from dynamo.types import HasReaders, Reader, TaskBatch


class Recorder(pl.LightningModule):
    """Learns nothing worth knowing and writes down what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[str] = []
        self.validated: list[dict[str, TaskBatch]] = []

    def training_step(self, batch: dict[str, TaskBatch], batch_idx: int) -> Tensor:
        found = hashlib.sha256()
        for task, part in batch.items():
            assert isinstance(part, TaskBatch)
            for tensor in part:
                found.update(f"{task} {tuple(tensor.shape)} {tensor.tolist()}".encode())
        self.seen.append(found.hexdigest())
        return self.weight * 1.0

    def validation_step(self, batch: dict[str, TaskBatch], batch_idx: int) -> None:
        self.validated.append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Population(Recorder):
    """Three members that read what they please."""

    def __init__(self, readers: Sequence[Reader]) -> None:
        super().__init__()
        self._readers = readers
        self.shapes: set[tuple[int, ...]] = set()

    @property
    def readers(self) -> Sequence[Reader]:
        return self._readers

    def training_step(self, batch: dict[str, TaskBatch], batch_idx: int) -> Tensor:
        self.shapes.add(tuple(batch["synthetic"].targets.shape))
        return super().training_step(batch, batch_idx)


READERS = [Reader("synthetic", 1.0, 0), Reader("synthetic", 0.5, 1), Reader("synthetic", 0.25, 2)]


def data(**options: Any) -> SyntheticSentimentDataModule:  # noqa: ANN401
    return SyntheticSentimentDataModule(
        **{"train_size": 200, "test_size": 50, "batch_size": 16, "window": 3, **options}
    )


def ready(**options: Any) -> SyntheticSentimentDataModule:  # noqa: ANN401
    found = data(**options)
    found.setup("fit")
    return found


def trainer(folder: Path, **options: Any) -> pl.Trainer:  # noqa: ANN401
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "default_root_dir": folder,
        "max_epochs": 3,
    }
    return pl.Trainer(**{**quiet, **options})


def fit(
    module: Recorder,
    folder: Path,
    options: dict[str, Any] | None = None,
    ckpt_path: str | None = None,
    **more: Any,  # noqa: ANN401
) -> Recorder:
    trainer(folder, **more).fit(module, datamodule=data(**(options or {})), ckpt_path=ckpt_path)
    return module


@pytest.mark.parametrize("members", [False, True])
@pytest.mark.parametrize("every", [5, 12])  # in the middle of an epoch of 12 batches, and at its last batch
@pytest.mark.parametrize("keep", ["tail", "random"])
def test_a_resumed_run_reads_what_an_uninterrupted_one_would(
    tmp_path: Path, members: bool, every: int, keep: str
) -> None:
    def make() -> Recorder:
        return Population(READERS) if members else Recorder()

    options = {"keep": keep, "max_length": 20}
    whole = fit(make(), tmp_path, options)
    assert len(whole.seen) == len(set(whole.seen)) == 36
    kept: dict[str, Any] = {"enable_checkpointing": True}

    def savers() -> list[pl.Callback]:
        return [ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=every, save_top_k=-1)]

    first = fit(make(), tmp_path, options, callbacks=savers(), max_steps=every + 2, max_epochs=-1, **kept)
    assert first.seen == whole.seen[: every + 2]
    checkpoint = str(tmp_path / f"step={every}.ckpt")
    rest = fit(make(), tmp_path, options, checkpoint, callbacks=savers(), **kept)
    assert rest.seen == whole.seen[every:]


def test_accumulation_and_validation_in_between_do_not_shift_the_batches(tmp_path: Path) -> None:
    whole = fit(Recorder(), tmp_path)
    other = fit(Recorder(), tmp_path, accumulate_grad_batches=3, val_check_interval=5)
    assert other.seen == whole.seen


def test_limiting_the_epoch_does_not_repeat_batches(tmp_path: Path) -> None:
    whole = fit(Recorder(), tmp_path)
    assert fit(Recorder(), tmp_path, limit_train_batches=7, max_epochs=4).seen == whole.seen[:28]


def test_overfitting_repeats_the_same_batches(tmp_path: Path) -> None:
    seen = fit(Recorder(), tmp_path, overfit_batches=2).seen
    assert seen == seen[:2] * 3
    half = fit(Recorder(), tmp_path, {"eval_batch_size": 5}, overfit_batches=0.5).seen
    assert half == half[:6] * 3
    assert half[:2] == seen[:2]


def test_members_read_their_own_items_and_validation_is_common(tmp_path: Path) -> None:
    module = Population(READERS)
    assert isinstance(module, HasReaders)
    fit(module, tmp_path, {"eval_batch_size": 8})
    assert module.shapes == {(3, 16)}
    validated = [batch["synthetic"] for batch in module.validated[2:]]  # after the sanity check's two
    assert sum(len(batch.targets) for batch in validated) == 3 * 20
    assert all(batch.targets.ndim == 1 for batch in validated)


class Ledger(Population):
    """Writes the items of every step to a file per rank."""

    def __init__(self, folder: Path) -> None:
        super().__init__(READERS)
        self.folder = folder

    def training_step(self, batch: dict[str, TaskBatch], batch_idx: int) -> Tensor:
        self._note("train", batch["synthetic"])
        return self.weight * 1.0

    def validation_step(self, batch: dict[str, TaskBatch], batch_idx: int) -> None:
        self._note("val", batch["synthetic"])

    def _note(self, split: str, batch: TaskBatch) -> None:
        rows = [row[row != 0].tolist() for row in batch.inputs.reshape(-1, batch.inputs.shape[-1])]
        with (self.folder / f"{split}-{self.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps(rows) + "\n")


def read_ledger(folder: Path, split: str, rank: int) -> list[list[str]]:
    lines = (folder / f"{split}-{rank}.jsonl").read_text().splitlines()
    return [[str(row) for row in json.loads(line)] for line in lines]


def keep_ledger(folder: Path, options: dict[str, Any], more: dict[str, Any]) -> None:
    fit(Ledger(folder), folder, options, **more)


def test_two_processes_share_the_steps_of_one_and_no_item_is_validated_twice(
    tmp_path: Path, in_processes: Callable[..., list[Any]]
) -> None:
    """Lightning's own DistributedSampler, on by default, must find nothing to take hold of."""
    for world, batch_size in ((1, 16), (2, 8)):
        folder = tmp_path / str(world)
        folder.mkdir()
        options = {"batch_size": batch_size, "eval_batch_size": 6}
        more = {"strategy": "ddp", "devices": 2} if world == 2 else {}
        in_processes(world, keep_ledger, folder, options, {"max_epochs": 1, "num_sanity_val_steps": 0, **more})
    alone = read_ledger(tmp_path / "1", "train", 0)
    ranks = [read_ledger(tmp_path / "2", "train", rank) for rank in range(2)]
    assert len(alone) == len(ranks[0]) == len(ranks[1]) == 12
    for whole, left, right in zip(alone, *ranks, strict=True):
        assert sorted(whole) == sorted(left + right)
    everything = sorted(row for batch in read_ledger(tmp_path / "1", "val", 0) for row in batch)
    shared = [row for rank in range(2) for batch in read_ledger(tmp_path / "2", "val", rank) for row in batch]
    assert len(everything) == 20
    assert sorted(shared) == everything


def test_no_lightning_random_number_is_drawn_by_the_data(tmp_path: Path) -> None:
    found = ready()
    before = torch.random.get_rng_state()
    for batch in found.train_dataloader():
        found.on_after_batch_transfer(batch, 0)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_member_of_an_unknown_task_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a member reads task 'imdb', but the data has synthetic"):
        fit(Population([Reader("imdb")]), tmp_path)


def test_texts_are_not_augmented(tmp_path: Path) -> None:
    readers = [Reader("synthetic"), Reader("synthetic", policy="flip_crop")]
    match = r"member 1 .* has policy 'flip_crop', but SyntheticSentimentDataModule knows none: correct"
    with pytest.raises(ValueError, match=match):
        fit(Population(readers), tmp_path)


def test_a_population_without_members_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Population.readers is empty"):
        fit(Population([]), tmp_path)


def test_without_a_trainer_epochs_follow_each_other() -> None:
    found = ready()
    loader = found.train_dataloader()
    assert len(loader) == 12  # 180 items, 16 at a time
    first, second = list(loader), list(loader)
    assert [batch["synthetic"].step for batch in second] == list(range(12, 24))
    again = list(ready().train_dataloader())
    pairs = zip(first, again, strict=True)
    assert all(torch.equal(a["synthetic"].indices, b["synthetic"].indices) for a, b in pairs)


def test_the_smallest_epoch_is_one_batch() -> None:
    assert len(ready(batch_size=5000).train_dataloader()) == 1


def test_every_item_of_an_evaluation_split_once() -> None:
    found = ready(eval_batch_size=7)
    for split, loader in (("val", found.val_dataloader()), ("test", found.test_dataloader())):
        items = len(found.data["synthetic"].split(split).labels)
        batches = [batch["synthetic"] for batch in loader]
        assert len(batches) == len(loader)
        assert sorted(torch.cat([b.indices for b in batches]).tolist()) == list(range(items))
        read = [found.on_after_batch_transfer({"synthetic": b}, 0)["synthetic"] for b in batches]
        assert all(int(b.lengths.max()) == b.inputs.shape[-1] for b in read)


def test_evaluation_can_be_limited_to_a_fixed_balanced_draw() -> None:
    def drawn(**options: Any) -> tuple[list[int], list[int]]:  # noqa: ANN401
        found = ready(test_items=20, val_items=10_000, **options)
        indices = torch.cat([batch["synthetic"].indices for batch in found.test_dataloader()])
        labels = found.data["synthetic"].test.labels
        assert sum(len(batch["synthetic"].indices) for batch in found.val_dataloader()) == 20
        assert abs(int(labels[indices].sum()) / 20 - float(labels.float().mean())) < 0.05
        return indices.tolist(), labels.tolist()

    assert drawn(eval_batch_size=8) == drawn(seed=5)
    assert len(set(drawn()[0])) == 20
    with pytest.raises(ValueError, match="val_items must be at least 1, got 0"):
        data(val_items=0)


def test_an_analysis_reads_what_evaluation_reads() -> None:
    data = SyntheticSentimentDataModule(train_size=200, test_size=50, eval_batch_size=16, test_items=30)
    data.setup()
    loaded = [data.on_after_batch_transfer(batch, 0)["synthetic"] for batch in data.test_dataloader()]
    read = [batch["synthetic"] for batch in data.batches("test", 30)]
    assert [len(batch.targets) for batch in read] == [16, 14]
    for mine, theirs in zip(read, loaded, strict=True):
        assert all(a.equal(b) for a, b in zip(mine, theirs, strict=True))
    assert len(data.drawn("val", "synthetic")) == 20
    assert data.drawn("test", "synthetic", 30).sort().values.unique_consecutive().numel() == 30


def test_explicit_items_can_be_asked_for() -> None:
    found = ready()
    batch = found.batch("test", "synthetic", torch.tensor([[0, 1, 2], [3, 4, 5]]))
    assert batch.inputs.shape[:2] == batch.targets.shape == (2, 3)
    assert batch.inputs.shape[-1] == int(batch.lengths.max())
    with pytest.raises(IndexError, match=r"positions in split 'test' of 'synthetic' must lie in 0..49"):
        found.batch("test", "synthetic", [50])
    with pytest.raises(IndexError, match="must lie in"):
        found.batch("test", "synthetic", [])
    with pytest.raises(ValueError, match="unknown task 'imdb': this data module has synthetic"):
        found.batch("test", "imdb", [0])
    with pytest.raises(ValueError, match="split must be one of train, val, test, got 'dev'"):
        found.batch("dev", "synthetic", [0])


def test_calibration_is_one_fixed_draw_of_training_items() -> None:
    first, again = (ready().calibration_batch(30)["synthetic"] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert first.targets.shape == (30,)
    assert not torch.equal(first.inputs[:, :8], ready(seed=1).calibration_batch(30)["synthetic"].inputs[:, :8])
    assert len(ready().calibration_batch(10_000)["synthetic"].targets) == 180
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        ready().calibration_batch(0)


def test_the_tensors_are_moved_once() -> None:
    found = ready()
    part = IndexBatch(torch.arange(4), 32, "val")
    found.gather("synthetic", part)
    resident = dict(found._on_device)
    found.gather("synthetic", part)
    assert found._on_device == resident
    assert len(resident) == 1


def test_setup_loads_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ready()
    monkeypatch.setattr(SyntheticSentimentDataModule, "load", None)
    found.setup("test")
    assert set(found.fingerprint) == {"vocabulary", "data"}
    assert all(len(value) == 64 for value in found.fingerprint.values())
