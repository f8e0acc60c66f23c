"""The table is what one gets by counting over the split oneself, however the members are dealt out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks import FidelityTable
from datamodules import DigitsDataModule, SyntheticSentimentDataModule
from dynamo.analysis import Fidelity, FidelitySums
from dynamo.meta import MetaTask
from dynamo.population import PopulationTask

Fit = Callable[..., Trainer]


@torch.inference_mode()
def counted(task: MetaTask, data: SyntheticSentimentDataModule) -> list[Fidelity]:
    """Fidelity of every bundle over the validation split, in one go."""
    sums = [FidelitySums(2, (6,)), FidelitySums(2, (4,))]
    for indices in data.val_dataloader():
        batch = data.on_after_batch_transfer(indices, 0)
        for found in task.compare(batch):
            part = found.batch
            arguments = (found.original, found.mapped, found.emulated, part.targets, part.real_steps(), part.lengths)
            sums[found.bundle].update(*arguments)
    return [one.result() for one in sums]


def table(tmp_path: Path, stage: str = "val") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((tmp_path / f"run/results/fidelity_{stage}.json").read_text())
    return content


@pytest.mark.parametrize("members_at_once", [1, 2, 32])
def test_equals_a_direct_count(
    task: MetaTask, data: SyntheticSentimentDataModule, fit: Fit, tmp_path: Path, members_at_once: int
) -> None:
    trainer = fit(task, FidelityTable(members_at_once=members_at_once))
    expected = counted(task, data)
    found = table(tmp_path)
    assert [row["name"] for row in found["members"]] == ["wide-0", "wide-1", "narrow-0", "narrow-1"]
    for key in expected[0].columns():
        values = torch.cat([getattr(one, key) for one in expected])
        assert [row[key] for row in found["members"]] == pytest.approx(values.tolist(), rel=1e-5, abs=1e-9)
        assert found["mean"][key] == pytest.approx(float(values.mean()), rel=1e-5)
        assert float(trainer.callback_metrics[f"val/{key}"]) == pytest.approx(float(values.mean()), rel=1e-5)
    assert not [key for key in found["mean"] if "stage" in key]  # one stage is no stage
    agreement = torch.cat([one.agreement for one in expected])
    assert found["worst"] == found["members"][int(agreement.argmin())]["name"]
    assert float(trainer.callback_metrics["val/agreement_worst"]) == pytest.approx(float(agreement.min()))
    narrow = float(expected[1].variance_explained.mean())
    assert float(trainer.callback_metrics["val/variance_explained/narrow"]) == pytest.approx(narrow, rel=1e-5)
    loss = 1 - found["mean"]["variance_explained"] + task.output_weight * found["mean"]["kl"]
    assert float(trainer.callback_metrics["val/loss"]) == pytest.approx(loss, rel=1e-5)
    assert (tmp_path / "run/figures/fidelity_val.png").is_file()


def test_images_are_counted_stage_by_stage(
    image_task: MetaTask, digits: DigitsDataModule, fit: Fit, tmp_path: Path
) -> None:
    trainer = fit(image_task, FidelityTable(members_at_once=1), on=digits)
    found, metrics = table(tmp_path), trainer.callback_metrics
    batch = {"digits": digits.batch("val", "digits", digits.drawn("val", "digits", 50))}
    rows = iter(found["members"])
    with torch.inference_mode():
        for part in image_task.compare(batch):
            for n in range(2):
                row, stages = next(rows), []
                for h, v in zip(part.original.hidden, part.mapped, strict=True):
                    truth = h[n].double()
                    spread = (truth - truth.mean((0, 2, 3), keepdim=True)).square().sum()
                    stages.append(1 - float((truth - v[n].double()).square().sum() / spread))
                told = [row[f"variance_explained_stage{number}"] for number in range(1, 5)]
                assert told == pytest.approx(stages, abs=1e-4)
                assert row["variance_explained"] == pytest.approx(sum(stages) / 4, abs=1e-4)
                agree = part.original.output[n].argmax(-1) == part.emulated[n].argmax(-1)
                assert row["agreement"] == pytest.approx(float(agree.double().mean()))
    for number in range(1, 5):
        key = f"variance_explained_stage{number}"
        assert float(metrics[f"val/{key}"]) == pytest.approx(found["mean"][key], rel=1e-5)
    assert not [key for key in metrics if key.endswith(("stage0", "stage5", "stage_variance_explained"))]
    assert (tmp_path / "run/figures/fidelity_val.png").is_file()


def test_test_items_are_counted_too(
    task: MetaTask, data: SyntheticSentimentDataModule, fit: Fit, tmp_path: Path
) -> None:
    trainer = fit(task, FidelityTable())
    trainer.test(task, datamodule=data, verbose=False)
    assert table(tmp_path, "test")["mean"] != table(tmp_path)["mean"]
    assert float(trainer.callback_metrics["test/agreement"]) == pytest.approx(
        table(tmp_path, "test")["mean"]["agreement"]
    )


def test_zero_turns_it_off_and_there_is_no_best(task: MetaTask, fit: Fit, tmp_path: Path) -> None:
    trainer = fit(task, FidelityTable(every_n_epochs=0))
    assert not [name for name in trainer.callback_metrics if name.startswith("val")]
    assert not (tmp_path / "run/figures").exists()
    assert [file.name for file in (tmp_path / "run/checkpoints").iterdir()] == ["last.ckpt"]


def test_every_other_epoch_and_the_last(task: MetaTask, fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs: list[int] = []
    monkeypatch.setattr(FidelityTable, "_write", lambda self, trainer, *_: epochs.append(trainer.current_epoch))
    fit(task, FidelityTable(every_n_epochs=2), epochs=5)
    assert epochs == [1, 3, 4]


def pictures(tmp_path: Path) -> list[int]:
    """The steps at which there is one."""
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"images": 0})
    events.Reload()
    return [image.step for image in events.Images("map/4_fidelity")] if events.Tags()["images"] else []


@pytest.fixture
def _small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callbacks.fidelity.fidelity_bars", lambda *_, **__: Figure((0.5, 0.5)))


@pytest.mark.usefixtures("_small_pictures")
@pytest.mark.parametrize(
    ("every", "options", "steps"),
    [
        (1, {}, [6, 10, 14]),  # two batches an epoch
        (2, {}, [8, 12, 14]),
        (1, {"check_val_every_n_epoch": 2}, [8, 12]),
        (3, {"check_val_every_n_epoch": 2}, [12]),
        (1, {"val_check_interval": 1}, [6, 10, 14]),  # two validations an epoch
        (1, {"check_val_every_n_epoch": None, "val_check_interval": 3}, [6, 10, 14]),  # measured at 6, 9, 12
        (1, {"max_epochs": -1, "max_steps": 9}, [4, 8]),  # the last epoch has no validation
        (1, {"max_epochs": -1, "max_steps": 11}, [4, 8, 11]),  # nor here: that of the epoch before is shown
    ],
)
def test_a_long_run_has_few_pictures_and_the_last(
    task: MetaTask,
    data: SyntheticSentimentDataModule,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    every: int,
    options: dict[str, Any],
    steps: list[int],
) -> None:
    monkeypatch.setattr("callbacks.pictures.MOST_PICTURES", 3)
    trainer = Trainer(
        accelerator="cpu",
        limit_train_batches=2,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path / "run",
        logger=TensorBoardLogger(tmp_path / "run", name="", version="", default_hp_metric=False),
        callbacks=[FidelityTable(every)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **{"max_epochs": 7, **options},
    )
    trainer.fit(task, datamodule=data)
    assert pictures(tmp_path) == steps


def test_inert_for_a_population(members: PopulationTask, fit: Fit, tmp_path: Path) -> None:
    fit(members, FidelityTable())
    assert not (tmp_path / "run/results").exists()


def test_refuses_options_out_of_range() -> None:
    with pytest.raises(ValueError, match="0 turns it off"):
        FidelityTable(every_n_epochs=-1)
    with pytest.raises(ValueError, match="at least 1"):
        FidelityTable(members_at_once=0)
