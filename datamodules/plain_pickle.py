"""What does a pickle say, read as a description and not run as a program?

`pickle.load` calls whatever the file names, so that a file from a stranger can do anything. Here the opcodes are
taken one by one (`pickletools.genops`, which executes nothing) and only those that build plain values are known:
None, booleans, numbers, strings, bytes, lists, tuples, dicts. Of the names a pickle may call, those that stand for a
numpy array of whole numbers are understood, as marks of our own: nothing is imported and nothing looked up.
"""

from __future__ import annotations

import io
import math
import pickletools
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

MAX_BYTES: Final = 1 << 30
"""The largest file that is read; CIFAR-100's largest has 0.22 GB. No value is larger than the file it came from."""
MAX_OPCODES: Final = 4_000_000
"""The most opcodes that are followed, as each makes an object of up to some 100 bytes; CIFAR-100 has 0.3 million."""

_NUMBERS = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"})
_TEXTS = frozenset({"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"})
_BYTES = frozenset({"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"})
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_KINDS = frozenset({"i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"})


class PlainPickleError(ValueError):
    """The file is no pickle of plain values and arrays; the message says why, the caller which file."""


class _Name(Enum):
    """The names a pickle may call, under which Python and numpy of any age write them."""

    RECONSTRUCT = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
    FROM_BUFFER = ("numpy.core.numeric _frombuffer", "numpy._core.numeric _frombuffer")
    NDARRAY = ("numpy ndarray",)
    DTYPE = ("numpy dtype",)
    ENCODE = ("_codecs encode",)


_NAMES = {spelling: name for name in _Name for spelling in name.value}


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
        PlainPickleError: the file is damaged, has more than `MAX_BYTES` or `MAX_OPCODES`, or calls anything else than
            what makes an array.
        OSError: there is no such file, or it cannot be read.
    """
    if path.stat().st_size > MAX_BYTES:
        raise PlainPickleError(f"it has more than {MAX_BYTES:,} bytes")
    content = path.read_bytes()
    machine = _Machine(len(content))
    try:
        for number, (opcode, value, _) in enumerate(pickletools.genops(io.BytesIO(content))):
            if number >= MAX_OPCODES:
                raise PlainPickleError(f"it has more than {MAX_OPCODES:,} opcodes")
            machine.do(opcode.name, value)
        return machine.result()
    except (IndexError, KeyError) as error:
        raise PlainPickleError("it uses a value that it has not made") from error
    except (ValueError, OverflowError) as error:  # from genops: cut off, or no pickle
        raise error if isinstance(error, PlainPickleError) else PlainPickleError(str(error)[:200]) from error


class _Machine:
    """The stack and the memo of the pickle format, see `pickletools`; knows what is harmless and nothing else."""

    def __init__(self, budget: int) -> None:
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}
        self._budget = budget  # bytes that may still be encoded: a string used twice was not written by numpy

    def do(self, name: str, value: Any) -> None:  # noqa: ANN401
        """Follow one opcode."""
        push = self._stack.append
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "BINPUT" | "LONG_BINPUT":
                self._memo[value] = self._stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._stack[-1]
            case "BINGET" | "LONG_BINGET":
                push(self._memo[value])
            case "BINSTRING" | "SHORT_BINSTRING":
                push(value.encode("latin-1"))
            case "MARK":
                self._marks.append(len(self._stack))
            case "EMPTY_LIST":
                push([])
            case "EMPTY_DICT":
                push({})
            case "TUPLE":
                push(tuple(self._since_mark()))
            case "APPEND":
                self._extend([self._stack.pop()])
            case "APPENDS":
                self._extend(self._since_mark())
            case "SETITEM":
                item = self._stack.pop()
                self._update([self._stack.pop(), item])
            case "SETITEMS":
                self._update(self._since_mark())
            case "GLOBAL":
                push(_named(value))
            case "STACK_GLOBAL":
                attribute, module = self._stack.pop(), self._stack.pop()
                push(_named(f"{module} {attribute}" if isinstance(module, str) and isinstance(attribute, str) else ""))
            case "REDUCE":
                arguments = self._stack.pop()
                push(self._call(self._stack.pop(), arguments))
            case "BUILD":
                state = self._stack.pop()
                _build(self._stack[-1], state)
            case _:
                self._simple(name, value)

    def result(self) -> object:
        """The one value that is left."""
        if len(self._stack) != 1:
            raise PlainPickleError(f"it ends with {len(self._stack)} values in place of one")
        return self._stack[0]

    def _simple(self, name: str, value: object) -> None:
        """The opcodes that push what they carry, or a short tuple."""
        if name in _NUMBERS | _TEXTS | _BYTES:
            self._stack.append(value)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            parts = [self._stack.pop() for _ in range(_TUPLES[name])]
            self._stack.append(tuple(reversed(parts)))
        else:
            raise PlainPickleError(f"its opcode {name} makes no plain value")

    def _since_mark(self) -> list[object]:
        """Take off what lies above the last mark."""
        mark = self._marks.pop()
        taken = self._stack[mark:]
        del self._stack[mark:]
        return taken

    def _extend(self, items: list[object]) -> None:
        """Put items at the end of the list on top."""
        if not isinstance(found := self._stack[-1], list):
            raise PlainPickleError("it appends to what is no list")
        found.extend(items)

    def _update(self, items: list[object]) -> None:
        """Put keys and values, in turn, into the dict on top."""
        found, keys = self._stack[-1], items[::2]
        # Strings alone: to hash nested tuples, or to keep numbers of one hash apart, can take for ever.
        if not isinstance(found, dict) or len(items) % 2 or not all(isinstance(key, (str, bytes)) for key in keys):
            raise PlainPickleError("it has a dict with keys that are no strings")
        found.update(zip(keys, items[1::2], strict=True))

    def _call(self, name: object, arguments: object) -> object:
        """What one of the known names makes of its arguments."""
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


def _named(name: str) -> _Name:
    """Our mark for "module name", where it is one that an array needs."""
    if name not in _NAMES:
        raise PlainPickleError(f"it calls {name[:80]!r}, which no list of images needs: it was not run")
    return _NAMES[name]


def _build(found: object, state: object) -> None:
    """Complete an array or its type."""
    match found, state:
        case StoredArray(), (1, shape, kind, fortran, content):
            found.shape, found.kind, found.fortran, found.content = shape, kind, fortran, content
        case _Kind(), (_, "|" | "<" | ">" | b"|" | b"<" | b">" as order, *_):
            found.order = order if isinstance(order, str) else order.decode()
        case _:
            raise PlainPickleError("it sets what no array has")
