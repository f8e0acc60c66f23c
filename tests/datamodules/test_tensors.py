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


def test_token_ids_end_where_their_padding_begins() -> None:
    items = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0], [0, 7, 0, 8], [0, 9, 0, 0], [0, 0, 0, 0]])
    expected = torch.tensor([4, 2, 4, 2, 1])
    assert torch.equal(TensorDataModule(items).items.lengths, expected)
    given = torch.tensor([4, 4, 3, 2, 2])
    assert torch.equal(TensorDataModule(items, lengths=given).items.lengths, given)
    zeros = torch.zeros(3, 4, 2)
    assert TensorDataModule(zeros).items.lengths.tolist() == [4, 4, 4]  # a signal may be 0


def test_arrays_of_numpy_are_taken_for_tensors() -> None:
    labels, lengths = LABELS.numpy()[::-1], np.full(N, T - 1, dtype=np.int32)
    labels.flags.writeable = False
    inputs: Any = SIGNALS.numpy().astype(np.float64)
    items = TensorDataModule(inputs, labels, lengths).items  # type: ignore[arg-type]
    assert torch.equal(items.inputs, SIGNALS)
    assert torch.equal(items.labels, LABELS.flip(0))
    assert items.lengths.tolist() == [T - 1] * N
    inputs[:] = 0.0
    assert torch.equal(items.inputs, SIGNALS)


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
        ({"targets": LABELS.tolist()}, r"targets has to be 50 whole numbers.*not list; make it a tensor or an array"),
        ({"targets": np.array(["a"] * N)}, r"targets is an array of <U1; make it int64 or float32"),
        ({"targets": LABELS.numpy() / 2}, "targets has to be 50 whole numbers"),
        ({"val_fraction": 1.0}, "val_fraction must lie in"),
        ({"test_fraction": 1.0}, "test_fraction must lie in"),
        (
            {"val_fraction": 0.5, "test_fraction": 0.5},
            "val_fraction 0.5 and test_fraction 0.5 have to stay below 1 together",
        ),
    ],
)
def test_what_does_not_fit_is_named(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        TensorDataModule(**{"inputs": SIGNALS, **options})


def test_the_share_that_leaves_nothing_is_named() -> None:
    labels = torch.tensor([0] * 40 + [1] * 3)
    for option, other in (("val_fraction", "test_fraction"), ("test_fraction", "val_fraction")):
        data = TensorDataModule(SIGNALS[:43], labels, **{option: 0.1, other: 0.4})
        with pytest.raises(OptionError, match=f"^{option} 0.1 of the [23] items of class 1 leaves none: take at least"):
            data.load()
    with pytest.raises(OptionError, match=r"^test_fraction 0.1 of the 3 items leaves none: take at least 0.33"):
        TensorDataModule(SIGNALS[:3]).load()
