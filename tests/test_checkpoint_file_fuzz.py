"""Whatever happens to a checkpoint: it is read as it was written, or refused with our own error, and nothing is run."""

from __future__ import annotations

import os
import random
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dynamo.checkpoint_file import CheckpointError, read_checkpoint
from dynamo.checkpointing import AtomicCheckpointIO

BrokenCopies = Callable[[bytes, int], Iterator[bytes]]
FUZZ = settings(
    max_examples=2000,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint with all that the large ones have, by the writer of the runs."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.randn(4, 2)).sum().backward()
    optimizer.step()
    content = {
        "epoch": 1,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": module.state_dict(),
        "loops": {"fit_loop": {"epoch_progress": {"total": {"ready": 2}}}},
        "callbacks": {"RunCheckpoint": {"best": 1.5}},
        "optimizer_states": [optimizer.state_dict()],
    }
    path = tmp_path_factory.mktemp("whole") / "whole.ckpt"
    AtomicCheckpointIO().save_checkpoint(content, path)
    return path


def equal(one: Any, other: Any) -> bool:  # noqa: ANN401
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and one.equal(other)
    if isinstance(one, dict):
        keys = isinstance(other, dict) and list(one) == list(other)
        return keys and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and one == other


def tried(folder: Path, content: dict[str, Any], copies: Iterable[bytes]) -> tuple[int, int]:
    """How many copies were refused, how many read as the original."""
    refused = read = 0
    for number, copy in enumerate(copies):
        (folder / "x.ckpt").write_bytes(copy)
        try:
            found = read_checkpoint(folder / "x.ckpt")
        except CheckpointError:
            refused += 1
        else:
            assert equal(found, content), f"copy {number} was read as something else"
            read += 1
    return refused, read


def test_a_broken_copy_is_noticed_or_harmless(whole: Path, tmp_path: Path, broken_copies: BrokenCopies) -> None:
    refused, read = tried(tmp_path, read_checkpoint(whole), broken_copies(whole.read_bytes(), 2000))
    assert refused + read == 2000
    assert refused > 1200  # what is read was broken in the padding before a part, which holds nothing


@pytest.mark.slow
def test_every_single_flipped_bit_and_every_cut(whole: Path, tmp_path: Path) -> None:
    content = whole.read_bytes()
    flipped = (
        content[: bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1 :]
        for bit in range(8 * len(content))
    )
    refused, read = tried(tmp_path, read_checkpoint(whole), flipped)
    assert refused + read == 8 * len(content)
    cuts = (content[:length] for length in range(len(content)))
    assert tried(tmp_path, read_checkpoint(whole), cuts) == (len(content), 0)


def parts_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path: Path, parts: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def is_sound(content: dict[str, Any]) -> bool:
    """Whether all that was read can be used: no tensor reaches beyond its memory."""
    tensors = [value for value in content["state_dict"].values() if isinstance(value, torch.Tensor)]
    return all(
        tensor.isfinite().all()
        and tensor.numel() <= 1 << 20
        and sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True)) * tensor.element_size()
        < max(tensor.untyped_storage().nbytes(), 1)
        for tensor in tensors
    )


def test_a_broken_description_with_the_right_checksums(
    whole: Path, tmp_path: Path, broken_copies: BrokenCopies
) -> None:
    parts = parts_of(whole)
    (name,) = [name for name in parts if name.endswith("data.pkl")]
    for copy in broken_copies(parts[name], 2000):
        try:
            found = read_checkpoint(packed(tmp_path / "x.ckpt", {**parts, name: copy}))
        except CheckpointError:
            continue
        assert is_sound(found)


def test_a_broken_table_of_contents(whole: Path, tmp_path: Path, broken_copies: BrokenCopies) -> None:
    content, original = whole.read_bytes(), read_checkpoint(whole)
    place = content.index(b"PK\1\2")
    copies = (content[:place] + copy for copy in broken_copies(content[place:], 1500))
    refused, read = tried(tmp_path, original, copies)
    assert refused > 700
    assert refused + read == 1500


# Pieces of pickles, made to meet: what is called, with what, and what is done to the result.
TRACE = b"DYNAMO_TRACE"
PIECES = [
    b"cos\nmkdir\n", b"cbuiltins\nexec\n", b"cposix\nsystem\n", b"cbuiltins\nbytearray\n", b"ctorch\nFloatStorage\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n", b"\x8c\x02os\x8c\x05mkdir\x93",
    b"X\x0c\0\0\0" + TRACE, b"(X\x0c\0\0\0" + TRACE + b"ios\nmkdir\n", b"X\x09\0\0\0_metadata", b"X\x07\0\0\0storage",
    b"X\x01\0\0\x000", b"X\x03\0\0\0cpu", b"K\x00", b"K\x03", b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"N",
    b"\x88", b"\x89", b"}", b"]", b")", b"(", b"t", b"\x85", b"\x86", b"\x87", b"R", b"b", b"Q", b"s", b"u", b"a", b"e",
    b"q\x00", b"h\x00", b"\x81", b"\x93", b"0", b"2",
]  # fmt: skip
STATE = b"X\x0a\0\0\0state_dict}X\x05\0\0\0loops}X\x19\0\0\0pytorch-lightning_versionX\x05\0\0\x002.6.6u"


@FUZZ
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=25), inside=st.booleans())
@example([b"cos\nmkdir\n", b"X\x0c\0\0\0" + TRACE, b"\x85", b"R"], True)
def test_no_meeting_of_opcodes_runs_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces: list[bytes], inside: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    data = b"".join(pieces)
    data = b"\x80\x02}(" + STATE + b"X\x01\0\0\0x" + data + b"s." if inside else b"\x80\x02" + data + b"."
    try:
        found = read_checkpoint(packed(tmp_path / "x.ckpt", {"x/data.pkl": data, "x/data/0": bytes(12)}))
    except CheckpointError:
        pass
    else:
        assert is_sound(found)
    assert os.listdir(tmp_path) == ["x.ckpt"]  # noqa: PTH208 - ten times as fast


def test_noise_is_refused(tmp_path: Path) -> None:
    rng = random.Random(0)
    for number in range(500):
        (tmp_path / "x.ckpt").write_bytes((b"PK\3\4" if number % 2 else b"") + rng.randbytes(rng.randrange(300)))
        with pytest.raises(CheckpointError):
            read_checkpoint(tmp_path / "x.ckpt")
