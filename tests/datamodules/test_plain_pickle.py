"""Are plain values and arrays read as pickle reads them, and is nothing else ever followed?"""

from __future__ import annotations

import os
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules import plain_pickle
from datamodules.plain_pickle import StoredArray, read_plain_pickle
from dynamo.pickle_machine import PlainPickleError

PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)
BILLION = b"\x80\x02)" + b"q\x00h\x00\x86" * 100  # a tuple of twice a tuple of twice ...: 2 ** 100 leaves


def read(tmp_path: Path, content: bytes) -> Any:  # noqa: ANN401
    path = tmp_path / "file"
    path.write_bytes(content)
    return read_plain_pickle(path)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values_come_as_pickle_reads_them(tmp_path: Path, protocol: int) -> None:
    shared = ["x", "é", "\u4e2d"]
    value = {"a": [1, -7, 300, 70_000, 1 << 40, -(1 << 70)], "b": (), "c": (1,), "d": (1, 2, 3, [None, True, False])}
    value |= {"e": 0.1, "f": {"again": shared, "and": (shared, shared)}, "g": b"\x00\xff\n" * 100, "h": [[]] * 3000}
    assert read(tmp_path, pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dtype", ["u1", "i8", ">i4", "<u2"])
def test_arrays_of_whole_numbers_come_back(tmp_path: Path, protocol: int, dtype: str) -> None:
    array = np.arange(-300, 300).reshape(5, 3, 40).astype(dtype)
    for one in (array, np.asfortranarray(array), array[:, :, 0]):
        found = read(tmp_path, pickle.dumps({"data": one}, protocol))["data"].values()
        np.testing.assert_array_equal(found, one)
        assert found.dtype == one.dtype


class Exploit:
    def __init__(self, call: Any, *arguments: Any) -> None:  # noqa: ANN401
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_in_a_pickle_is_never_run(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "trace"
    for exploit in (Exploit(os.mkdir, str(trace)), Exploit(exec, f"__import__('os').mkdir({str(trace)!r})")):
        content = pickle.dumps({"data": np.zeros(3, np.uint8), "labels": [exploit]}, protocol)
        pickle.loads(content)
        assert trace.exists()  # it works, where it is let
        trace.rmdir()
        with pytest.raises(PlainPickleError, match=r"it was not run|makes no plain value"):
            read(tmp_path, content)
        assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"\x80\x02cos\nsystem\nU\x04trueb.", "calls 'os system'"),
        (b"\x80\x02(U\x04trueios\nsystem\n.", "opcode INST"),
        (b"\x80\x02(cnumpy\ndtype\nU\x02u1o.", "opcode OBJ"),
        (b"\x80\x02cnumpy\ndtype\nU\x02u1\x85\x81.", "opcode NEWOBJ"),
        (b"\x80\x02\x82\x01.", "opcode EXT1"),
        (b"\x80\x02U\x01aQ.", "opcode BINPERSID"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", "calls 'builtins eval'"),
        (b"\x80\x02cnumpy\ndtype\nU\x01O\x85R.", "of type 'O', no whole numbers"),
        (b"\x80\x02cnumpy\ndtype\n)R.", "a call that no array needs"),
        (b"\x80\x02U\x01aU\x01b\x85R.", "a call that no array needs"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x06\x00\x00\x00base64\x86R.", "a call that no array needs"),
        (b"\x80\x02]}b.", "sets what no array has"),
        (b"\x80\x02}K\x01a.", "appends to what is no list"),
        (b"\x80\x02]K\x01K\x02s.", "no strings"),
        (b"\x80\x02}K\x01K\x02s.", "no strings"),
        (b"\x80\x02}(U\x01au.", "no strings"),
        (b"\x80\x02h\x07.", "that it has not made"),
        (b"\x80\x020.", "opcode POP"),
        (b"\x80\x02e.", "that it has not made"),
        (b"\x80\x02\x93.", "that it has not made"),
        (b"\x80\x02]].", "ends with 2 values"),
        (b"\x80\x02.", "ends with 0 values"),
        (b"", "exhausted"),
        (b"no pickle", "."),
        (b"\x80\x02]", "exhausted"),
        (b"\x80\x02}" + BILLION[2:] + b"Ns.", "no strings"),  # hashing it would take for ever
        (b"\x80\x04" + BILLION[2:] + b"\x8c\x01a\x93.", "calls ''"),  # and so would writing it down
    ],
)
def test_what_no_list_of_images_needs_is_refused(tmp_path: Path, content: bytes, match: str) -> None:
    with pytest.raises(PlainPickleError, match=match):
        read(tmp_path, content)


def stored(shape: bytes, raw: bytes = b"U\x02ab", dtype: bytes = b"U\x02u1") -> bytes:
    """A protocol 2 pickle of one array with everything as claimed."""
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    return b"\x80\x02" + array + b"(K\x01" + shape + b"cnumpy\ndtype\n" + dtype + b"\x85R\x89" + raw + b"tb."


def test_an_array_is_what_its_bytes_say(tmp_path: Path) -> None:
    assert read(tmp_path, stored(b"K\x02\x85")).values().tolist() == [97, 98]
    assert read(tmp_path, stored(b"K\x01K\x02\x86")).values().shape == (1, 2)
    fault = "does not fit its 2 bytes"
    for shape in (b"K\x03\x85", b"J\xff\xff\xff\xff\x85", b"N\x85", b"K\x02", b"\x8a\x08" + b"\xff" * 7 + b"\x7f\x85"):
        with pytest.raises(PlainPickleError, match=fault):
            read(tmp_path, stored(shape)).values()
    with pytest.raises(PlainPickleError, match="does not fit its 0 bytes"):  # nothing times something enormous
        read(tmp_path, stored(b"K\x00\x8a\x08" + b"\xff" * 7 + b"\x7f\x86", b"U\x00")).values()
    with pytest.raises(PlainPickleError, match=fault):
        read(tmp_path, stored(BILLION[2:])).values()
    with pytest.raises(PlainPickleError, match="no content"):
        read(tmp_path, stored(b"K\x02\x85", b"]")).values()
    with pytest.raises(PlainPickleError, match="no type"):
        StoredArray().values()


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8e" + (1 << 60).to_bytes(8, "little") + b"abc.",  # BINBYTES8
        b"\x80\x04\x8d" + (1 << 40).to_bytes(8, "little") + b"abc.",  # BINUNICODE8
        b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"abc.",  # BYTEARRAY8
        b"\x80\x04\x95" + (1 << 40).to_bytes(8, "little") + b"].",  # FRAME
        b"\x80\x02T\xff\xff\xff\x7fabc.",  # BINSTRING
        b"\x80\x02\x8b\xff\xff\xff\x7fabc.",  # LONG4
        b"\x80\x02]r\xff\xff\xff\xff.",  # LONG_BINPUT, at which pickle makes room for all places before
        b"\x80\x02X\x10\x27\x00\x00" + b"a" * 10_000 + b"q\x000"  # one text, encoded again and again
        + b"]" + b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86Ra" * 9_000 + b".",
    ],
)  # fmt: skip
def test_no_claim_makes_it_take_memory(tmp_path: Path, content: bytes) -> None:
    content = content.replace(b"q\x000]", b"q\x00]")  # the text stays below: an error in the end in any case
    (tmp_path / "file").write_bytes(content)
    tracemalloc.start()
    try:
        read_plain_pickle(tmp_path / "file")
    except PlainPickleError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 200_000 + 12 * len(content)


def test_deep_nesting_is_read_without_recursion(tmp_path: Path) -> None:
    assert isinstance(read(tmp_path, b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."), list)


def test_size_and_opcodes_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = pickle.dumps(list(range(100)), 2)
    monkeypatch.setattr(plain_pickle, "MAX_OPCODES", 50)
    with pytest.raises(PlainPickleError, match="more than 50 opcodes"):
        read(tmp_path, content)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(plain_pickle.MAX_BYTES + 1)  # takes no place on the disk
    with pytest.raises(PlainPickleError, match="more than 1,073,741,824 bytes"):
        read_plain_pickle(tmp_path / "large")


def test_a_file_that_is_not_there_is_left_to_the_caller(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_plain_pickle(tmp_path / "none")
