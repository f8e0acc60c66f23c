"""How is a pickle of plain values and arrays of whole numbers, as CIFAR's archives hold, read without running it?

`dynamo.pickle_machine` follows it. Of the names it may call, those that stand for a numpy array of whole numbers are
understood, as marks of our own: nothing is imported and nothing looked up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from dynamo.pickle_machine import Calls, PlainPickleError, follow
from dynamo.plain_file import PlainFileError, read_plain

MAX_BYTES: Final = 1 << 30
"""The largest file that is read; CIFAR-100's largest has 0.22 GB. No value is larger than the file it came from."""
MAX_OPCODES: Final = 4_000_000
"""The most opcodes that are followed; CIFAR-100 has 0.3 million."""

_KINDS = frozenset({"i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"})


class _Name(Enum):
    """The names a pickle may call, under which Python and numpy of any age write them."""

    RECONSTRUCT = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
    FROM_BUFFER = ("numpy.core.numeric _frombuffer", "numpy._core.numeric _frombuffer")
    NDARRAY = ("numpy ndarray",)
    DTYPE = ("numpy dtype",)
    ENCODE = ("_codecs encode",)


@dataclass
class _Kind:
    """A dtype of whole numbers, as "u1"; its byte order comes after it in the file."""

    code: str
    order: str = "|"


@dataclass
class StoredArray:
    """What a pickle says of an array; nothing is believed before `values`."""

    shape: object = ()
    kind: object = None
    fortran: object = False
    content: object = b""

    def values(self) -> npt.NDArray[Any]:
        """The array of whole numbers, a view of what was read.

        Raises:
            PlainPickleError: shape, type and content do not fit each other.
        """
        if not isinstance(self.kind, _Kind) or not isinstance(self.content, (bytes, bytearray)):
            raise PlainPickleError("an array has no type of whole numbers, or no content")
        size = len(self.content)
        shape = self.shape if isinstance(self.shape, tuple) else (-1,)
        dtype = np.dtype(self.kind.order + self.kind.code)
        fits = len(shape) <= 8 and all(type(n) is int and 0 <= n <= size for n in shape)
        if not fits or math.prod(shape) * dtype.itemsize != size:
            raise PlainPickleError(f"an array's shape does not fit its {size} bytes")
        return np.frombuffer(self.content, dtype).reshape(shape, order="F" if self.fortran else "C")


def read_plain_pickle(path: Path) -> object:
    """The value a pickle of protocol 2 to 5 describes; of Python 2, `str` comes as bytes.

    An array comes as a `StoredArray`. Memory: up to some three times the file.

    Raises:
        PlainPickleError: the file is damaged, has more than `MAX_BYTES` or `MAX_OPCODES`, calls anything else than
            what makes an array, or is no ordinary file.
        OSError: there is no such file, or it cannot be read.
    """
    try:
        content = read_plain(path, MAX_BYTES)
    except PlainFileError as error:
        raise PlainPickleError(str(error)) from error
    return follow(content, _ArrayCalls(len(content)), MAX_OPCODES)


class _ArrayCalls(Calls):
    """What makes an array.

    Args:
        budget: bytes that may be encoded: a string used twice was not written by numpy.
    """

    names: ClassVar = {spelling: name for name in _Name for spelling in name.value}
    needed_by: ClassVar = "list of images"

    def __init__(self, budget: int) -> None:
        self._budget = budget

    def call(self, name: object, arguments: object) -> object:
        """See `Calls.call`."""
        match name, arguments:
            case _Name.RECONSTRUCT, (_Name.NDARRAY, tuple(), bytes()):
                return StoredArray()
            case _Name.FROM_BUFFER, (bytes() | bytearray() as content, kind, shape, "C" | "F" as order):
                return StoredArray(shape, kind, order == "F", content)
            case _Name.DTYPE, (str() | bytes() as code, *_):
                plain = code if isinstance(code, str) else code.decode("latin-1")
                if plain not in _KINDS:
                    raise PlainPickleError(f"an array is of type {plain[:20]!r}, no whole numbers")
                return _Kind(plain)
            case _Name.ENCODE, (str() as text, "latin1" | "latin-1") if len(text) <= self._budget:
                self._budget -= len(text)
                return text.encode("latin-1")
        raise PlainPickleError("it makes a call that no array needs")

    def build(self, found: object, state: object) -> None:
        """See `Calls.build`."""
        match found, state:
            case StoredArray(), (1, shape, kind, fortran, content):
                found.shape, found.kind, found.fortran, found.content = shape, kind, fortran, content
            case _Kind(), (_, "|" | "<" | ">" | b"|" | b"<" | b">" as order, *_):
                found.order = order if isinstance(order, str) else order.decode()
            case _:
                raise PlainPickleError("it sets what no array has")
