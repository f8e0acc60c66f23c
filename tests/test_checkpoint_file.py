"""Is a checkpoint read as torch reads it, and is one that is damaged, foreign or made to do harm refused?"""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dynamo.checkpoint_file import CheckpointError, read_checkpoint
from dynamo.checkpointing import AtomicCheckpointIO

InChild = Callable[..., str]
PARTS = {"loops": {}, "pytorch-lightning_version": "2.6.6"}


def write(path: Path, **parts: Any) -> Path:  # noqa: ANN401
    AtomicCheckpointIO().save_checkpoint({**PARTS, "state_dict": {"w": torch.ones(3)}, **parts}, path)
    return path


def assert_same(one: Any, other: Any) -> None:  # noqa: ANN401
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert (one.dtype, one.shape, one.stride(), one.storage_offset(), one.requires_grad) == (
            other.dtype, other.shape, other.stride(), other.storage_offset(), other.requires_grad,
        )  # fmt: skip
        assert one.equal(other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        assert getattr(one, "_metadata", None) == getattr(other, "_metadata", None)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            assert_same(mine, theirs)
    else:
        assert one == other


@pytest.mark.parametrize("kind", ["population", "meta"])
@pytest.mark.parametrize("name", ["last", "best"])
def test_the_checkpoints_of_real_runs_are_read_as_torch_reads_them(trained: Path, kind: str, name: str) -> None:
    path = trained / kind / "checkpoints" / f"{name}.ckpt"
    found = read_checkpoint(path)
    assert_same(found, torch.load(path, map_location="cpu", weights_only=True))
    assert len(found["optimizer_states"][0]["state"]) > 0


@pytest.mark.parametrize(
    "dtype", ["float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
)
def test_every_kind_of_number_comes_back(tmp_path: Path, dtype: str) -> None:
    numbers = torch.arange(24).view(2, 3, 4).to(getattr(torch, dtype))
    state: dict[str, torch.Tensor] = OrderedDict(
        whole=numbers, part=numbers[1, 1:], across=numbers.permute(2, 0, 1), wide=numbers[:1, :1, :1].expand(5, 7, 1),
        none=numbers[:0], scalar=numbers[0, 0, 1],
        channels_last=torch.ones(2, 4, 3, 3).contiguous(memory_format=torch.channels_last),
    )  # fmt: skip
    path = write(
        tmp_path / "x.ckpt", state_dict=state, more=[torch.nn.Parameter(torch.ones(2)), (1, -1, 2.5, "é", None)]
    )
    found = read_checkpoint(path)
    assert_same(found, torch.load(path, weights_only=True))
    found["state_dict"]["whole"].zero_()  # they still share their memory
    assert not found["state_dict"]["part"].any()


def test_modules_keep_their_version(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    state = read_checkpoint(write(tmp_path / "x.ckpt", state_dict=module.state_dict()))["state_dict"]
    assert state._metadata == module.state_dict()._metadata != {}
    assert state._metadata["1"] == {"version": 2}
    module.load_state_dict(state)


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        ({"state_dict": 3}, "'state_dict' is no table of tensors"),
        ({"state_dict": {"w": 3}}, "'state_dict' is no table of tensors"),
        ({"state_dict": {1: torch.ones(1)}}, "'state_dict' is no table of tensors"),
        ({"state_dict": {"w.x": torch.tensor([1.0, float("nan")])}}, r"'w\.x' are not finite"),
        ({"state_dict": {"w": torch.tensor([[float("inf"), float("-inf")]]).half()}}, "'w' are not finite"),
        ({"loops": []}, "'loops' is no table"),
        ({"pytorch-lightning_version": "x"}, "'x', and that is no version"),
        ({"pytorch-lightning_version": "2" * 10_000}, "that is no version"),
        ({"pytorch-lightning_version": 2}, "'2', and that is no version"),
        ({"more": 1 << 70}, "holds a int where only plain values belong"),
        ({"more": {1 << 40: 1}}, "keys that are no strings"),
        ({"more": np.float64(1)}, "calls 'numpy.*, which no checkpoint needs: it was not run"),
        ({"more": np.zeros(2)}, "calls 'numpy.*, which no checkpoint needs: it was not run"),
        ({"more": {1, 2}}, "calls '.* set', which no checkpoint needs"),
        ({"more": torch.float32}, "calls 'torch float32', which no checkpoint needs"),
        ({"more": torch.nn.Linear(1, 1)}, "calls 'torch.nn.*, which no checkpoint needs: it was not run"),
    ],
)
def test_what_no_run_writes_is_refused(tmp_path: Path, parts: dict[str, Any], match: str) -> None:
    path = write(tmp_path / "x.ckpt", **parts)
    with pytest.raises(CheckpointError, match=rf"x\.ckpt is no checkpoint of a run: .*{match}.*--ckpt_path") as caught:
        read_checkpoint(path)
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


def test_numbers_whose_sum_is_too_large_are_finite_all_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "x.ckpt", state_dict={"w": torch.full((9,), 3e38)})
    assert read_checkpoint(path)["state_dict"]["w"].isfinite().all()


@pytest.mark.parametrize("name", ["state_dict", "loops", "pytorch-lightning_version"])
def test_a_torch_file_of_something_else_is_refused(tmp_path: Path, name: str) -> None:
    parts = {**PARTS, "state_dict": {}}
    del parts[name]
    torch.save(parts, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=rf"x\.pt is no checkpoint of a run: '{name}' is missing"):
        read_checkpoint(tmp_path / "x.pt")
    torch.save([torch.ones(2)], tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="it is no table of a run's parts"):
        read_checkpoint(tmp_path / "x.pt")


def test_a_file_of_another_kind_is_refused(tmp_path: Path, in_child: InChild) -> None:
    path = tmp_path / "x.ckpt"
    with pytest.raises(CheckpointError, match=r"x\.ckpt is missing: train the run first"):
        read_checkpoint(path)
    for content in (b"", b"text", pickle.dumps(PARTS), b"PK\5\6" + bytes(18)):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"x\.ckpt is damaged: it is no whole checkpoint .*--ckpt_path"):
            read_checkpoint(path)
    path.unlink()
    os.mkfifo(path)
    for other in (path, tmp_path, Path("/dev/zero"), tmp_path / ("x" * 300)):
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_checkpoint(other)
    write(tmp_path / "locked").chmod(0)
    said = in_child(lambda: read_checkpoint(Path("locked")), tmp_path, locked=True)
    assert said.startswith("CheckpointError: locked cannot be read ([Errno 13] Permission denied")
    (tmp_path / "locked").chmod(0o644)
    assert in_child(lambda: read_checkpoint(Path("locked")), tmp_path, locked=True) == "returned"


def forged(path: Path, data: bytes, **parts: bytes) -> Path:
    """A checkpoint of any pickle and parts, with the right checksums."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {"data.pkl": data, "byteorder": b"little", **parts}.items():
            archive.writestr(f"x/{name}", content)
    return path


def tensor(
    shape: bytes = b"K\x02\x85", strides: bytes = b"K\x01\x85", kind: bytes = b"Float", **claims: bytes
) -> bytes:
    """The pickle of a checkpoint with one tensor, of the storage data/0, with everything as claimed."""
    count, offset = claims.get("count", b"K\x02"), claims.get("offset", b"K\x00")
    storage = b"(X\x07\0\0\0storagectorch\n" + kind + b"Storage\nX\x01\0\0\x000X\x03\0\0\0cpu" + count + b"tQ"
    grad = claims.get("grad", b"\x89")
    made = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + shape + strides + grad + b"}tR"
    rest = b"X\x05\0\0\0loops}X\x19\0\0\0pytorch-lightning_versionX\x05\0\0\x002.6.6"
    return b"\x80\x02}(X\x0a\0\0\0state_dict}X\x01\0\0\0w" + made + b"s" + rest + b"u."


def test_a_forged_checkpoint_that_tells_the_truth_is_read(tmp_path: Path) -> None:
    path = forged(tmp_path / "x.ckpt", tensor(), **{"data/0": np.array([1, 2], "<f4").tobytes()})
    assert read_checkpoint(path)["state_dict"]["w"].tolist() == [1, 2]


HUGE = b"\x8a\x08" + (1 << 60).to_bytes(8, "little")
LARGE = b"J\xff\xff\xff\x7f"


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (tensor(shape=b"K\x03\x85"), "does not fit the 2 numbers"),
        (tensor(offset=b"K\x01"), "does not fit the 2 numbers"),
        (tensor(strides=b"K\x02\x85"), "does not fit the 2 numbers"),
        (tensor(strides=LARGE + b"\x85"), "does not fit the 2 numbers"),
        (tensor(shape=LARGE + b"\x85", strides=b"K\x00\x85"), "does not fit the 2 numbers"),
        (tensor(shape=LARGE + LARGE + b"\x86", strides=b"K\x00K\x00\x86"), "does not fit the 2 numbers"),
        (tensor(shape=HUGE + b"\x85", strides=b"K\x00\x85"), "a tensor has no shape"),
        (tensor(shape=b"J\xff\xff\xff\xff\x85"), "a tensor has no shape"),
        (tensor(offset=b"J\xff\xff\xff\xff"), "a tensor has no shape"),
        (tensor(offset=b"N"), "a tensor has no shape"),
        (tensor(shape=b"K\x01K\x02\x86"), "a tensor has no shape"),
        (tensor(shape=b"\x88\x85"), "a tensor has no shape"),
        (tensor(shape=b"]"), "a call that no checkpoint needs"),
        (tensor(grad=b"K\x01"), "a call that no checkpoint needs"),
        (tensor(count=b"K\x03"), "has not the 12 bytes"),
        (tensor(count=HUGE), "has not the .* bytes"),
        (tensor(count=b"J\xff\xff\xff\xff"), "names a storage as no checkpoint does"),
        (tensor(kind=b"Double"), "has not the 16 bytes"),
        (tensor(kind=b"Untyped"), "calls 'torch UntypedStorage'"),
        (tensor(kind=b"Long", count=b"K\x01", shape=b")", strides=b")", grad=b"\x88"), "gradients"),
        (tensor(kind=b"Bool", count=b"K\x08"), "neither true nor false"),
        (b"\x80\x02cbuiltins\nbytearray\n" + HUGE + b"\x85R.", "calls 'builtins bytearray'"),
        (b"\x80\x02ccollections\nOrderedDict\n)R}X\x04\0\0\0keysNsb.", "what no state dict has"),
        (b"\x80\x02}}X\x09\0\0\0_metadata}sb.", "what no state dict has"),
        (b"\x80\x02ctorch\nFloatStorage\n.", "no table of a run's parts"),
        (tensor().replace(b"loops}", b"loops]"), "'loops' is no table"),
        (tensor().replace(b"loops}", b"loops}X\x01\0\0\0actorch\nFloatStorage\ns"), "holds a dtype where only"),
        (tensor().replace(b"loops}", b"loops}X\x01\0\0\0accollections\nOrderedDict\ns"), "holds a Mark where only"),
        (tensor().replace(b"loops}", b"loops}q\x00X\x01\0\0\0ah\x00s"), "lies within itself"),
        (tensor().replace(b"loops}", b"loops}X\x01\0\0\0a)" + b"q\x00h\x00\x86" * 90 + b"s"), "than 1,000,000 things"),
        (tensor().replace(b"loops}", b"loops}X\x01\0\0\0a" + b"]" * 5000 + b"a" * 4999 + b"s"), "more than 100 deep"),
        (tensor()[:-1], "exhausted"),
    ],
)  # fmt: skip
def test_lies_are_refused(tmp_path: Path, in_child: InChild, data: bytes, match: str) -> None:
    path = forged(tmp_path / "x.ckpt", data, **{"data/0": bytes([0, 0, 128, 63, 0, 0, 128, 63])})
    with pytest.raises(CheckpointError, match=rf"x\.ckpt is no checkpoint of a run: .*{match}"):
        read_checkpoint(path)
    assert in_child(lambda: read_checkpoint(path), tmp_path, memory=64 << 20).startswith("CheckpointError")


def test_a_checkpoint_of_another_byte_order_is_refused(tmp_path: Path) -> None:
    path = forged(tmp_path / "x.ckpt", tensor(), byteorder=b"big", **{"data/0": bytes(8)})
    with pytest.raises(CheckpointError, match="its numbers are written 'big' end first"):
        read_checkpoint(path)


class Exploit:
    def __init__(self, *call: Any) -> None:  # noqa: ANN401
        self.call = call

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_a_checkpoint_is_never_run(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "trace"
    for exploit in (Exploit(os.mkdir, str(trace)), Exploit(exec, f"__import__('os').mkdir({str(trace)!r})")):
        memory = io.BytesIO()
        torch.save({**PARTS, "state_dict": {}, "more": [exploit]}, memory, pickle_protocol=protocol)
        memory.seek(0)
        torch.load(memory, weights_only=False)
        assert trace.exists()  # it works, where it is let
        trace.rmdir()
        (tmp_path / "x.ckpt").write_bytes(memory.getvalue())
        with pytest.raises(CheckpointError, match=r"it was not run"):
            read_checkpoint(tmp_path / "x.ckpt")
        assert not trace.exists()
