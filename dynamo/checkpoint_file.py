"""How is a checkpoint read that may be damaged, or made to do harm?

`torch.load(weights_only=True)` runs no foreign code, but it does not compare checksums, so that a flipped bit of a
weight goes unnoticed, and it makes room for whatever a file claims. Here a checkpoint is a zip archive whose checksums
are compared, its pickle is followed without being run (`dynamo.pickle_machine`), and a tensor is made of the bytes that
are there. To check first and call `torch.load` afterwards would read everything twice, by two readers that may
understand one file in two ways. The result is the same, bit for bit.
"""

from __future__ import annotations

import math
import re
import sys
from collections import OrderedDict
from collections.abc import Iterable
from enum import Enum, auto
from pathlib import Path
from typing import Any, ClassVar, Final

import torch
from torch import Tensor

from dynamo.expansion import check_expansion
from dynamo.pickle_machine import Calls, PlainPickleError, follow
from dynamo.plain_file import open_plain
from dynamo.stored_zip import StoredZip, StoredZipError
from dynamo.types import UserError

MAX_PICKLE: Final = 64 * 2**20
"""Bytes of the description of everything but the numbers in tensors; ours have some 10,000."""
MAX_OPCODES: Final = 4_000_000
MAX_THINGS, MAX_DEPTH = 1_000_000, 100
MAX_EXPANDED: Final = 2**20
"""Numbers that a tensor may show of fewer (`expand`)."""
_LIGHTNING = ("state_dict", "loops", "pytorch-lightning_version")
_VERSION = re.compile(r"\d{1,4}(\.\d{1,4}){1,3}((a|b|rc)\d{1,4})?(\.(post|dev)\d{1,9})?(\+[a-z0-9]{1,40})?")


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or not one of ours."""


class _Foreign(ValueError):
    """What the checkpoint of a run would not hold; the message is the end of a sentence."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Everything that a checkpoint holds, on the CPU; nothing in it is executed.

    As `torch.load(path, map_location="cpu", weights_only=True)`, in twice its time: 0.5 s for 500 MB.

    Raises:
        CheckpointError: it is missing, cannot be read, is damaged, or is no checkpoint of a run; the message names it.
    """
    other = "Take another one with --ckpt_path"
    try:
        with open_plain(path) as file:
            archive = StoredZip(file)
            _check_order(archive)
            pickle = archive.read("data.pkl", MAX_PICKLE)
            return _checked(follow(pickle, _TensorCalls(archive), MAX_OPCODES))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} is missing: train the run first, name another --run, or another --ckpt_path."
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error}). {other}, or set its permissions.") from error
    except StoredZipError as error:
        raise CheckpointError(f"{path} is damaged: it is no whole checkpoint ({error}). {other}.") from error
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:300]
        raise CheckpointError(
            f"{path} is no checkpoint of a run: {reason}. {other}, one that `dynamo fit` wrote."
        ) from error


class _Mark(Enum):
    """The functions that a checkpoint names."""

    DICT = auto()
    TENSOR = auto()
    PARAMETER = auto()


class _TensorCalls(Calls):
    """What makes a tensor: the types of storages stand for themselves, a storage is read when it is first named."""

    names: ClassVar = {
        "collections OrderedDict": _Mark.DICT,
        "torch._utils _rebuild_tensor_v2": _Mark.TENSOR,
        "torch._utils _rebuild_parameter": _Mark.PARAMETER,
        "torch FloatStorage": torch.float32,
        "torch DoubleStorage": torch.float64,
        "torch HalfStorage": torch.float16,
        "torch BFloat16Storage": torch.bfloat16,
        "torch LongStorage": torch.int64,
        "torch IntStorage": torch.int32,
        "torch ShortStorage": torch.int16,
        "torch CharStorage": torch.int8,
        "torch ByteStorage": torch.uint8,
        "torch BoolStorage": torch.bool,
    }
    needed_by: ClassVar = "checkpoint"
    whole_keys: ClassVar = True

    def __init__(self, archive: StoredZip) -> None:
        self._archive = archive
        self._storages: dict[str, _Storage] = {}

    def stored(self, key: object) -> object:
        """See `Calls.stored`."""
        match key:
            case ("storage", torch.dtype() as dtype, str() as name, str(), int() as count) if count >= 0:
                if name not in self._storages:
                    self._storages[name] = _Storage(self._read(f"data/{name}", count * dtype.itemsize), dtype)
                found = self._storages[name]
                if found.dtype != dtype or found.raw.numel() != count * dtype.itemsize:
                    raise PlainPickleError(f"its storage {name[:40]!r} is of two types")
                return found
        raise PlainPickleError("it names a storage as no checkpoint does")

    def _read(self, name: str, size: int) -> Tensor:
        """The bytes of a storage; memory is taken for what is there, not for what is claimed."""
        if self._archive.sizes.get(name) != size:
            raise PlainPickleError(f"a tensor's part {name[:40]!r} has not the {size} bytes that it needs")
        content = torch.empty(size, dtype=torch.uint8)
        self._archive.fill(content.numpy().data, name)
        return content

    def call(self, name: object, arguments: object) -> object:
        """See `Calls.call`."""
        match name, arguments:
            case _Mark.DICT, ():
                return OrderedDict()
            case _Mark.TENSOR, (_Storage() as storage, offset, tuple() as size, tuple() as strides, bool() as grad, {}):
                return storage.view(offset, size, strides).requires_grad_(grad)
            case _Mark.PARAMETER, (Tensor() as tensor, bool() as grad, {}):
                return torch.nn.Parameter(tensor.detach(), grad)
        raise PlainPickleError("it makes a call that no checkpoint needs: it was not run")

    def build(self, found: object, state: object) -> None:
        """See `Calls.build`: the `_metadata` of a state dict, which says how old its modules are."""
        match found, state:
            case OrderedDict(), {"_metadata": OrderedDict() as metadata, **more} if not more:
                found._metadata = metadata  # type: ignore[attr-defined]  # noqa: SLF001 - as torch has it
            case _:
                raise PlainPickleError("it sets what no state dict has")


class _Storage:
    """The bytes that one or several tensors show."""

    def __init__(self, raw: Tensor, dtype: torch.dtype) -> None:
        if dtype == torch.bool and raw.numel() and int(raw.max()) > 1:
            raise PlainPickleError("a truth value is neither true nor false")
        self.raw, self.dtype = raw, dtype

    def view(self, offset: object, size: tuple[object, ...], strides: tuple[object, ...]) -> Tensor:
        """What a tensor of this shape shows of it.

        Raises:
            PlainPickleError: it would show what lies beside.
        """
        flat = self.raw.view(self.dtype)
        numbers = [n for n in (offset, *size, *strides) if type(n) is int and 0 <= n < 2**40]
        if len(numbers) != 1 + len(size) + len(strides) or len(size) != len(strides) or len(size) > 32:
            raise PlainPickleError("a tensor has no shape")
        first, sizes, steps = numbers[0], numbers[1 : 1 + len(size)], numbers[1 + len(size) :]
        count = math.prod(sizes)
        last = first + sum((n - 1) * step for n, step in zip(sizes, steps, strict=True)) if count else first - 1
        if last >= len(flat) or count > max(len(flat), MAX_EXPANDED):
            raise PlainPickleError(f"a tensor of shape {sizes} does not fit the {len(flat)} numbers that it shows")
        return flat.as_strided(sizes, steps, first)


def _check_order(archive: StoredZip) -> None:
    """Refuse a checkpoint of a machine whose numbers are written the other way round."""
    order = archive.read("byteorder", 6).decode("latin-1") if "byteorder" in archive.sizes else "little"
    if order != sys.byteorder:
        raise _Foreign(f"its numbers are written {order!r} end first, those of this machine {sys.byteorder!r}")


def _parts(thing: Any) -> Iterable[Any]:  # noqa: ANN401 - whatever a pickle held
    """What a thing in a checkpoint consists of, and whether it belongs there."""
    match thing:
        case dict():
            return thing.values()
        case list() | tuple():
            return thing
        case None | bool() | float() | str() | bytes() | Tensor():
            return ()
        case int() if abs(thing) < 2**64:
            return ()
    raise _Foreign(f"it holds a {type(thing).__name__.strip('_')} where only plain values belong")


def _checked(content: object) -> dict[str, Any]:
    """The content, if it is what Lightning writes and finite."""
    if not isinstance(content, dict) or any(not isinstance(key, str) for key in content):
        raise _Foreign("it is no table of a run's parts")
    missing = [name for name in _LIGHTNING if name not in content]
    if missing:
        raise _Foreign(f"{missing[0]!r} is missing")
    check_expansion(content, _parts, MAX_THINGS, MAX_DEPTH)
    version, state = content["pytorch-lightning_version"], content["state_dict"]
    if not (isinstance(version, str) and _VERSION.fullmatch(version)):
        raise _Foreign(f"pytorch-lightning_version is {str(version)[:40]!r}, and that is no version")
    if not isinstance(content["loops"], dict):
        raise _Foreign("'loops' is no table")
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise _Foreign("'state_dict' is no table of tensors")
    metadata = getattr(state, "_metadata", {})
    check_expansion(metadata, _parts, MAX_THINGS, MAX_DEPTH)
    if not all(isinstance(key, str) and isinstance(value, dict) for key, value in metadata.items()):
        raise _Foreign("'state_dict' has no sound _metadata")
    for name, tensor in state.items():
        # The sum tells most of the time, eight times as fast: what is not finite makes it so too.
        if not (tensor.sum().isfinite() or tensor.isfinite().all()):
            raise _Foreign(f"its weights {name[:80]!r} are not finite numbers, the training had diverged")
    return content
