"""Do networks come out of checkpoints as they went in, and is nothing in a file executed?"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn

from dynamo.population import PopulationError, from_checkpoints
from dynamo.population.checkpoints import distinguished
from dynamo.types import TaskBatch

SIGNALS = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(0))


class Lit(LightningModule):
    """Somebody's own module, which notes its arguments."""

    def __init__(self, hidden_size: int, classes: int = 2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.rnn = nn.RNN(2, hidden_size, batch_first=True)
        self.readout = nn.Linear(hidden_size, classes)

    def forward(self, signals: Tensor) -> Tensor:
        logits: Tensor = self.readout(self.rnn(signals)[0][:, -1])
        return logits


def save(file: Path, seed: int, hidden_size: int = 4) -> Lit:
    torch.manual_seed(seed)
    module = Lit(hidden_size)
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", default_root_dir=file.parent)
    trainer.strategy.connect(module)
    file.parent.mkdir(parents=True, exist_ok=True)
    trainer.save_checkpoint(file)
    return module


def looking(**options: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"observe": ["rnn"], "read_out": "readout", "example": SIGNALS.tolist(), **options}


def test_lightning_checkpoints_bring_weights_and_arguments(tmp_path: Path) -> None:
    given = [save(tmp_path / f"v{seed}/last.ckpt", seed, 4 + seed) for seed in range(3)]
    population = from_checkpoints(str(tmp_path / "*/last.ckpt"), Lit, **looking())
    assert [(m.name, m.group) for m in population.members] == [(f"v{seed}/last", "Lit") for seed in range(3)]
    batch = TaskBatch(SIGNALS, torch.zeros(3).long(), torch.full((3,), 5))
    for module, found in zip(given, population.run({"task": batch}), strict=True):
        assert found is not None
        torch.testing.assert_close(found.output[0, :, -1], module(SIGNALS).detach())


def test_a_pattern_for_each_group_and_plain_state_dicts(tmp_path: Path) -> None:
    for seed in range(2):
        torch.manual_seed(seed)
        torch.save(Lit(4).state_dict(), tmp_path / f"{seed}.pt")
    places = {"first": str(tmp_path / "0.pt"), "second": str(tmp_path / "1.pt")}
    population = from_checkpoints(places, Lit, {"hidden_size": 4}, **looking())
    assert [(m.name, m.group) for m in population.members] == [("0", "first"), ("1", "second")]


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    save(tmp_path / "a.ckpt", 0)
    place = str(tmp_path / "a.ckpt")
    with pytest.raises(PopulationError, match=r"No checkpoint matches '.*b\*'"):
        from_checkpoints(str(tmp_path / "b*"), Lit, **looking())
    with pytest.raises(PopulationError, match=r"a.ckpt does not fit Lit: .*size mismatch.*init_args"):
        from_checkpoints(place, Lit, {"hidden_size": 5}, **looking())
    torch.save(Lit(4).state_dict(), tmp_path / "plain.pt")
    with pytest.raises(PopulationError, match=r"Lit cannot be built with no arguments: .*hidden_size.*init_args"):
        from_checkpoints(str(tmp_path / "plain.pt"), Lit, **looking())
    with pytest.raises(PopulationError, match=r"module is .*; name the class of the networks"):
        from_checkpoints(place, int, **looking())  # type: ignore[arg-type]
    with pytest.raises(PopulationError, match=r"modules\[0\] \(Lit\): there is no layer 'lstm'; it has rnn, readout"):
        from_checkpoints(place, Lit, **looking(observe=["lstm"]))
    whole = (tmp_path / "a.ckpt").read_bytes()
    (tmp_path / "half.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PopulationError, match=r"half.ckpt cannot be read as weights"):
        from_checkpoints(str(tmp_path / "half.ckpt"), Lit, **looking())


class Harm:
    """Writes a file where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.file, "harm")


def test_nothing_is_executed(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "hyper_parameters": {"a": Harm(tmp_path / "harm")}}, tmp_path / "bad.ckpt")
    (tmp_path / "bare.ckpt").write_bytes(pickle.dumps(Harm(tmp_path / "harm")))
    for name in ("bad", "bare"):
        with pytest.raises(PopulationError, match=rf"{name}.ckpt cannot be read as weights"):
            from_checkpoints(str(tmp_path / f"{name}.ckpt"), Lit, **looking())
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a/x.ckpt", "b/y.ckpt"], ["x", "y"]),
        (["r/a/last.ckpt", "r/b/last.ckpt"], ["a/last", "b/last"]),
        (["r/a/last.ckpt", "r/last.ckpt"], ["a/last", "last"]),
    ],
)
def test_names_are_what_distinguishes_the_files(files: list[str], names: list[str]) -> None:
    assert distinguished([Path(file) for file in files]) == names
