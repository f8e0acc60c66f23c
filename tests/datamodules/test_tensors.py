"""Are the items of a `TensorDataModule` those that were given, each in one split, and is what does not fit named?"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from datamodules import TensorDataModule
from dynamo.types import OptionError

N, T, F = 50, 6, 2
SIGNALS = torch.randn(N, T, F, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(N) % 3


def test_every_item_is_in_one_split_with_its_own_class() -> None:
    data = TensorDataModule(SIGNALS, LABELS, val_fraction=0.2, test_fraction=0.2, class_names=["a", "b", "c"])
    data.setup()
    seen = []
    for name in ("train", "val", "test"):
        split = data.data["task"].split(name)
        batch = data.batch(name, "task", range(len(split.labels)))
        for signal, label in zip(batch.inputs, batch.targets, strict=True):
            (place,) = (signal == SIGNALS).all((1, 2)).nonzero().flatten().tolist()
            assert LABELS[place] == label
            seen.append(place)
    assert sorted(seen) == list(range(N))
    assert (data.classes, data.vocab_size, data.reads) == ({"task": ("a", "b", "c")}, 0, "signals")


def test_batches_are_cut_to_the_longest_item_in_them() -> None:
    lengths = torch.arange(N) % T + 1
    data = TensorDataModule(torch.ones(N, T).long(), lengths=lengths, batch_size=4)
    data.setup()
    chosen = (data.data["task"].train.lengths <= 2).nonzero().flatten()
    batch = data.batch("train", "task", chosen)
    assert (batch.inputs.shape[1], batch.reads) == (2, "tokens")
    assert int(batch.targets.max()) == -1


def test_splits_and_hash_follow_from_seed_and_items() -> None:
    def prints(**options: Any) -> dict[str, str]:  # noqa: ANN401
        data = TensorDataModule(**{"inputs": SIGNALS, "targets": LABELS, **options})
        data.setup()
        return data.fingerprint

    assert prints() == prints()
    assert prints()["data"] != prints(split_seed=1)["data"]
    assert prints()["data"] != prints(inputs=SIGNALS.roll(1, 0))["data"]
    assert prints()["vocabulary"] == prints(inputs=SIGNALS.roll(1, 0))["vocabulary"]
    assert prints()["vocabulary"] != prints(inputs=SIGNALS[:, :, :1])["vocabulary"]


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_files_of_arrays_give_the_same_items(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"data.{suffix}"
    if suffix == "npz":
        np.savez_compressed(file, inputs=SIGNALS.numpy(), targets=LABELS.numpy())
    else:
        save_file({"inputs": SIGNALS, "targets": LABELS}, file)
    one, other = TensorDataModule(str(file)), TensorDataModule(SIGNALS, LABELS)
    for data in (one, other):
        data.setup()
    assert one.fingerprint == other.fingerprint


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"x.npz cannot be read"):
        TensorDataModule(str(tmp_path / "x.npz"))
    (tmp_path / "x.csv").touch()
    with pytest.raises(OptionError, match=r"x.csv is neither .npz nor .safetensors"):
        TensorDataModule(str(tmp_path / "x.csv"))
    np.savez(tmp_path / "y.npz", outputs=np.zeros(3))
    with pytest.raises(OptionError, match="has the arrays outputs; one has to be called inputs"):
        TensorDataModule(str(tmp_path / "y.npz"))
    np.savez(tmp_path / "z.npz", inputs=np.array([{}, {}], dtype=object))
    with pytest.raises(OptionError, match=r"z.npz cannot be read: .*allow_pickle"):
        TensorDataModule(str(tmp_path / "z.npz"))
    for kind in ("npz", "safetensors"):
        good = tmp_path / f"good.{kind}"
        if kind == "npz":
            np.savez(good, inputs=SIGNALS.numpy())
        else:
            save_file({"inputs": SIGNALS}, good)
        whole = good.read_bytes()
        for length in (0, 1, 30, len(whole) // 2, len(whole) - 1):
            (tmp_path / f"half.{kind}").write_bytes(whole[:length])
            with pytest.raises(OptionError, match=f"half.{kind} cannot be read"):
                TensorDataModule(str(tmp_path / f"half.{kind}"))


def test_a_file_that_would_unpack_to_more_than_memory_is_refused_before(tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("inputs.npy", b"0")
        archive.infolist()[0].file_size = 2**40
    (tmp_path / "bomb.npz").write_bytes(content.getvalue())
    with pytest.raises(OptionError, match=r"bomb.npz cannot be read: it unpacks to more than 64 GiB"):
        TensorDataModule(str(tmp_path / "bomb.npz"))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"inputs": SIGNALS[0, 0]}, r"inputs has to be token ids .*not \[2\]"),
        ({"inputs": SIGNALS.long()}, r"whole numbers \[50, 6, 2\] .*make them floats"),
        ({"inputs": -torch.ones(N, T).long()}, "token ids .* of at least 0"),
        ({"inputs": SIGNALS / 0}, "values that are not finite"),
        ({"targets": LABELS[1:]}, r"targets has to be 50 whole numbers, one for each item, not \[49\]"),
        ({"targets": LABELS / 2}, "targets has to be 50 whole numbers"),
        ({"targets": LABELS - 2}, "targets has class -2"),
        ({"lengths": LABELS}, r"lengths has to lie between 1 and 6; it is 0 to 2"),
        ({"class_names": ["a"], "targets": LABELS}, "class_names names 1 classes, and targets has class 2"),
        ({"vocab_size": 5}, "vocab_size is 5, and inputs are signals"),
        ({"val_fraction": 1.0}, "val_fraction must lie in"),
    ],
)
def test_what_does_not_fit_is_named(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        TensorDataModule(**{"inputs": SIGNALS, **options})
