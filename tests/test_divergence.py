"""A run whose member diverges stops at once, names it, and leaves the last good checkpoint: by the real command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer

from callbacks import EpochLine
from dynamo.cli import main
from dynamo.meta import MetaTask
from dynamo.population import PopulationTask
from dynamo.population.optimisation import FUSED
from dynamo.runs import RunFolder

Commands = dict[str, list[str]]
CULPRIT = 5  # the second member of the second group of the demo
NAME = "50%-1"


def diverges(words: list[str], run: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a run says which has to stop."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["fit", *words, "--run", str(run)])
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("dynamo: ")]
    assert not RunFolder(run).done("fit")
    return line


def checkpoint(run: Path) -> dict[str, Any]:
    """The last checkpoint, which has finite weights alone."""
    found: dict[str, Any] = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert all(bool(tensor.isfinite().all()) for tensor in found["state_dict"].values())
    return found


def poison(module: LightningModule) -> None:
    """Spoil one number of one member."""
    with torch.no_grad():
        if isinstance(module, PopulationTask):
            module.bundles[0].readout_bias[CULPRIT, 0] = torch.nan
        else:
            assert isinstance(module, MetaTask)
            module.embedding.theta[CULPRIT, 0] = torch.nan


@pytest.mark.parametrize("kind", ["population", "meta"])
def test_a_member_that_diverges_is_named_at_once(
    trained: Path,
    commands: Commands,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    steps: list[int] = []

    def spoil(self: EpochLine, trainer: Trainer, module: LightningModule, *_: object) -> None:
        steps.append(trainer.global_step)
        if trainer.global_step == 4:
            poison(module)

    monkeypatch.setattr(EpochLine, "on_train_batch_start", spoil)
    run, words = tmp_path / "run", ["--trainer.limit_train_batches=3", "--trainer.max_epochs=3"]
    words += ["--fidelity.every_n_epochs=0", "--embedding_pca.every_n_epochs=0"]  # pictures take time
    words += ["--similarity_mds.every_n_epochs=0", "--accuracy_map.every_n_epochs=0"]
    line = diverges([*commands[kind], *words], run, capsys)
    assert f"The loss of {NAME} is no longer finite at step 4. Lower the learning rate" in line
    assert steps == [0, 1, 2, 3, 4]
    assert checkpoint(run)["global_step"] == 3  # that of the first epoch


NO_STEP = pytest.mark.skipif(not FUSED, reason="torch 2.3 itself refuses so long a step of Adam")


@pytest.mark.parametrize(
    ("kind", "rate"),
    [("population", "lr=3e37"), ("meta", "lr=3e37"), pytest.param("meta", "theta_lr=1e38", marks=NO_STEP)],
)
def test_an_absurd_learning_rate_stops_the_run(
    trained: Path, commands: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, rate: str
) -> None:
    # Near the largest number of float32, 3e38, which Adam of one kind divides by 1 - 0.9 first.
    words = [*commands[kind], f"--model.init_args.{rate}", "--trainer.limit_train_batches=20"]
    line = diverges([*words, "--model.init_args.warmup_steps=0"], tmp_path / "run", capsys)
    assert "is no longer finite at step 1." in line
    assert not (tmp_path / "run/checkpoints/last.ckpt").exists()
