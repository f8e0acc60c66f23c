"""What does a pickle say, read as a description and not run as a program?

`pickle.load` calls whatever the file names, so that a file from a stranger can do anything. Here the opcodes are
taken one by one (`pickletools.genops`, which executes nothing) and only those that build plain values are known:
None, booleans, numbers, strings, bytes, lists, tuples, dicts. What else a format needs, its `Calls` say: the names are
looked up in their table and nowhere else, so that nothing is imported.
"""

from __future__ import annotations

import io
import pickletools
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Final

_NUMBERS = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"})
_TEXTS = frozenset({"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"})
_BYTES = frozenset({"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"})
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_LARGEST_KEY: Final = 1 << 31
"""Whole numbers below this have hashes of their own."""


class PlainPickleError(ValueError):
    """A pickle is damaged, or of more than plain values; the message says why, the caller which file."""


class Calls(ABC):
    """Which names may the pickles of a format call, and what is made of it?

    Attributes:
        names: "module name" -> a mark of our own that stands for it on the stack.
        needed_by: what the pickle is, for the error about any other name.
        whole_keys: whether dicts may have whole numbers as keys beside strings.
    """

    names: ClassVar[Mapping[str, object]]
    needed_by: ClassVar[str]
    whole_keys: ClassVar[bool] = False

    @abstractmethod
    def call(self, name: object, arguments: object) -> object:
        """What a marked name makes of its arguments; both may be anything that was on the stack.

        Raises:
            PlainPickleError: it is no such call.
        """

    @abstractmethod
    def build(self, found: object, state: object) -> None:
        """Complete what a call has made.

        Raises:
            PlainPickleError: it has no such state.
        """

    def stored(self, key: object) -> object:
        """What the pickle keeps elsewhere, under a persistent id.

        Raises:
            PlainPickleError: there is no such thing.
        """
        raise PlainPickleError("its opcode BINPERSID makes no plain value")

    def named(self, name: str) -> object:
        """The mark of a name.

        Raises:
            PlainPickleError: it is none of ours.
        """
        if name not in self.names:
            raise PlainPickleError(f"it calls {name[:80]!r}, which no {self.needed_by} needs: it was not run")
        return self.names[name]


def follow(content: bytes, calls: Calls, most: int) -> object:
    """The value that a pickle of protocol 2 to 5 describes; of Python 2, `str` comes as bytes.

    Args:
        content: the pickle.
        calls: what it may call.
        most: opcodes that are followed; each makes an object of up to some 100 bytes.

    Raises:
        PlainPickleError: it is damaged, longer, or calls anything else.
    """
    machine = _Machine(calls)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of genops, where a damaged name has a backslash
            for number, (opcode, value, _) in enumerate(pickletools.genops(io.BytesIO(content))):
                if number >= most:
                    raise PlainPickleError(f"it has more than {most:,} opcodes")
                machine.do(opcode.name, value)
        return machine.result()
    except (IndexError, KeyError) as error:
        raise PlainPickleError("it uses a value that it has not made") from error
    except (ValueError, OverflowError) as error:  # from genops: cut off, or no pickle
        raise error if isinstance(error, PlainPickleError) else PlainPickleError(str(error)[:200]) from error


class _Machine:
    """The stack and the memo of the pickle format, see `pickletools`; knows what is harmless and nothing else."""

    def __init__(self, calls: Calls) -> None:
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}
        self._calls = calls

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
            case _:
                self._called(name, value)

    def result(self) -> object:
        """The one value that is left."""
        if len(self._stack) != 1:
            raise PlainPickleError(f"it ends with {len(self._stack)} values in place of one")
        return self._stack[0]

    def _called(self, name: str, value: str) -> None:
        """The opcodes by which a pickle calls something."""
        push = self._stack.append
        match name:
            case "GLOBAL":
                push(self._calls.named(value))
            case "STACK_GLOBAL":
                attribute, module = self._stack.pop(), self._stack.pop()
                plain = isinstance(module, str) and isinstance(attribute, str)
                push(self._calls.named(f"{module} {attribute}" if plain else ""))
            case "REDUCE":
                arguments = self._stack.pop()
                push(self._calls.call(self._stack.pop(), arguments))
            case "BUILD":
                state = self._stack.pop()
                self._calls.build(self._stack[-1], state)
            case "BINPERSID":
                push(self._calls.stored(self._stack.pop()))
            case _:
                self._simple(name, value)

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
        if not isinstance(found, dict) or len(items) % 2 or not all(map(self._is_key, keys)):
            raise PlainPickleError("it has a dict with keys that are no strings")
        found.update(zip(keys, items[1::2], strict=True))

    def _is_key(self, key: object) -> bool:
        """Strings, and small numbers: to hash nested tuples, or to keep things of one hash apart, can take for ever."""
        if isinstance(key, (str, bytes)):
            return True
        return self._calls.whole_keys and type(key) is int and abs(key) < _LARGEST_KEY
