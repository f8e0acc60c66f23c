"""Data of your own: inputs and classes that are tensors already, in memory or in a file of arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile, ZipFile
from zlib import error

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from datamodules.base import IndexedDataModule, check_at_least
from datamodules.basic_english import words_digest
from datamodules.resident import TaskData, tensors_digest
from datamodules.schedule import check_val_fraction, hold_out
from dynamo.plain_file import open_plain
from dynamo.types import SEQUENTIAL, OptionError, TaskBatch, reads_of

LARGEST = 2**31
"""No more token ids than this."""
MOST_BYTES = 2**36
"""A file of arrays that unpacks to more is none that fits a machine's memory."""
Numbers = Tensor | npt.NDArray[Any]
"""What items are given as."""


@dataclass(frozen=True)
class TensorSplit:
    """One split of one task: items as they are, all of one size.

    Attributes:
        inputs: token ids `[items, T]`, signals `[items, T, F]`, vectors `[items, F]`, or images
            `[items, channels, h, w]`.
        labels: int64 `[items]`, -1 where nobody knows the class.
        lengths: real steps of every item, int64 `[items]`.
    """

    inputs: Tensor
    labels: Tensor
    lengths: Tensor

    def to(self, device: torch.device) -> Self:
        """The same items on `device`."""
        return replace(
            self,
            inputs=self.inputs.to(device),
            labels=self.labels.to(device),
            lengths=self.lengths.to(device),
        )

    def select(self, items: Tensor) -> TensorSplit:
        """The items at `items`, in that order, copied."""
        return TensorSplit(self.inputs[items], self.labels[items], self.lengths[items])

    def digest(self) -> str:
        """The sha256 of inputs, classes and lengths."""
        return tensors_digest(self.inputs, self.labels, self.lengths)

    def gather(self, indices: Tensor, longest: int, rngs: Iterable[np.random.Generator] | None) -> TaskBatch:
        """The items at `indices` (`[B]` or `[N, B]`), `longest` steps wide."""
        inputs, lengths = self.inputs[indices], self.lengths[indices]
        batch = TaskBatch(inputs, self.labels[indices], lengths)
        if batch.sequential and indices.dim() == 1:
            batch = batch._replace(inputs=inputs[:, :longest])
        return batch


class TensorDataModule(IndexedDataModule):
    """Which items do networks read that were trained elsewhere? Yours: tensors, or a file of them.

    One task. A part of the items is held back for validation, another for the test; the rest trains the meta-model,
    which reads no label. Token ids are whole numbers from 1, 0 is padding on the right; floats are signals, vectors or
    images, by their number of axes.

    Args:
        inputs: `[items, T]` token ids, `[items, T, F]` signals, `[items, F]` vectors, `[items, channels, h, w]`
            images; or a `.npz` or `.safetensors` file with the array `inputs`, and `targets` and `lengths` where there
            are any. Arrays of numpy are taken for tensors, here and below.
        targets: the class of every item, `[items]`; without it nothing is said about being right or wrong.
        lengths: real steps of every item, `[items]`; by default all, and of token ids all but the zeros at the end (at
            least one): zeros before another id count as ids.
        class_names: names of the classes; by default their numbers.
        vocab_size: number of token ids that the networks know; by default those that occur.
        task: what the members call the task.
        val_fraction: share held back for validation of the items that are not held back for the test, the same for
            every class.
        test_fraction: share of the items held back for the test, the same for every class.
        split_seed: decides which.
        batch_size: items per step and process in training.
        eval_batch_size: items per batch in evaluation.
        seed: decides the order of the items.
        val_items: how many items validation reads; all by default.
        test_items: the same for the test.

    Raises:
        OptionError: tensors that do not fit together, or a file that cannot be read.

    Examples:
        >>> import torch
        >>> from datamodules import TensorDataModule
        >>> data = TensorDataModule(torch.randn(100, 7, 3), torch.arange(100) % 2, batch_size=10)
        >>> data.setup()
        >>> batch = data.batch("val", "task", [0, 1])
        >>> batch.reads, list(batch.inputs.shape), data.classes
        ('signals', [2, 7, 3], {'task': ('0', '1')})
    """

    def __init__(
        self,
        inputs: Tensor | str,
        targets: Tensor | None = None,
        lengths: Tensor | None = None,
        class_names: list[str] | None = None,
        vocab_size: int | None = None,
        task: str = "task",
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        split_seed: int = 0,
        batch_size: int = 64,
        eval_batch_size: int = 256,
        seed: int = 0,
        val_items: int | None = None,
        test_items: int | None = None,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, seed, 50, val_items, test_items)
        check_val_fraction(val_fraction)
        check_val_fraction(test_fraction, "test_fraction")
        if val_fraction + test_fraction >= 1:
            raise OptionError(
                f"val_fraction {val_fraction} and test_fraction {test_fraction} have to stay below 1 together, so that "
                "items to train on are left: take less, such as 0.1 and 0.1."
            )
        check_at_least(0, split_seed=split_seed)
        self.val_fraction, self.test_fraction, self.split_seed = val_fraction, test_fraction, split_seed
        if isinstance(inputs, str):
            arrays = read_arrays(Path(inputs))
            inputs, targets, lengths = arrays["inputs"], arrays.get("targets", targets), arrays.get("lengths", lengths)
        self.items = as_items(inputs, targets, lengths)
        self.reads = reads_of(self.items.inputs)
        count = int(self.items.labels.max()) + 1
        names = tuple(class_names or (str(index) for index in range(count)))
        if len(names) < count:
            raise OptionError(f"class_names names {len(names)} classes, and targets has class {count - 1}.")
        self.classes = {task: names}
        seen = int(self.items.inputs.max()) + 1 if self.reads == "tokens" else 0
        if vocab_size is not None and (vocab_size < seen or not seen):
            raise OptionError(f"vocab_size is {vocab_size}, and inputs are {self.reads} up to {max(0, seen - 1)}.")
        self.vocab_size = vocab_size or seen

    def load(self) -> dict[str, TaskData]:
        """Deal the items out to training, validation and test."""
        labels = self.items.labels
        rest, test = hold_out(labels, self.test_fraction, self.split_seed, "item", "test_fraction")
        kept, held = hold_out(labels[rest], self.val_fraction, self.split_seed, "item")
        train, val, tested = (self.items.select(places) for places in (rest[kept], rest[held], test))
        digest = words_digest([split.digest() for split in (train, val, tested)])
        return {task: TaskData(train, val, tested, digest) for task in self.classes}

    def vocabulary_digest(self) -> str:
        """The sha256 of what gives inputs and classes their meaning, as far as it is known: their form and names."""
        form = f"{self.reads} {list(self.items.inputs.shape[2 if self.reads == 'signals' else 1 :])}"
        names = (f"{task}: {' '.join(classes)}" for task, classes in self.classes.items())
        return words_digest([form if self.reads != "tokens" else f"tokens {self.vocab_size}", *names])


def read_arrays(file: Path) -> Mapping[str, Tensor]:
    """What does a file of arrays hold? Nothing in it is executed.

    Args:
        file: `.npz` (numpy) or `.safetensors`.

    Raises:
        OptionError: it is missing, damaged, of another kind, or has no `inputs`.
    """
    if file.suffix not in (".npz", ".safetensors"):
        raise OptionError(f"{file} is neither .npz nor .safetensors; save the arrays as one of them.")
    try:
        with open_plain(file) as opened:
            if file.suffix == ".safetensors":
                arrays: Mapping[str, Tensor] = load(opened.read())
            else:
                with ZipFile(opened) as archive:
                    if sum(entry.file_size for entry in archive.infolist()) > MOST_BYTES:
                        raise ValueError(f"it unpacks to more than {MOST_BYTES >> 30} GiB")
                opened.seek(0)
                with np.load(opened, allow_pickle=False) as found:
                    arrays = {name: torch.from_numpy(found[name]) for name in found.files}
    except (OSError, ValueError, TypeError, EOFError, KeyError, SafetensorError, BadZipFile, error) as problem:
        raise OptionError(f"{file} cannot be read: {problem}; save the arrays anew.") from problem
    if "inputs" not in arrays:
        raise OptionError(f"{file} has the arrays {', '.join(arrays) or 'none'}; one has to be called inputs.")
    return arrays


def as_items(inputs: Numbers, targets: Numbers | None, lengths: Numbers | None) -> TensorSplit:
    """Tensors, or arrays of numpy, as items, if they fit together.

    Raises:
        OptionError: naming the tensor, and what it has to be.
    """
    inputs = _as_tensor("inputs", inputs)
    targets = None if targets is None else _as_tensor("targets", targets)
    lengths = None if lengths is None else _as_tensor("lengths", lengths)
    if not isinstance(inputs, Tensor) or inputs.dim() not in (2, 3, 4) or 0 in inputs.shape:
        raise OptionError(
            "inputs has to be token ids [items, T], signals [items, T, F], vectors [items, F] or images "
            f"[items, channels, h, w], not {_told(inputs)}."
        )
    count = len(inputs)
    inputs = inputs.detach().float() if inputs.is_floating_point() else inputs.detach().long()
    if not inputs.is_floating_point() and (inputs.dim() != 2 or int(inputs.min()) < 0 or int(inputs.max()) >= LARGEST):
        raise OptionError(
            f"inputs are whole numbers {_told(inputs)} from {int(inputs.min())} to {int(inputs.max())}, and would be "
            "token ids [items, T] of at least 0; make them floats if they are something else."
        )
    if not inputs.isfinite().all():
        raise OptionError("inputs has values that are not finite numbers; leave these items out.")
    steps = inputs.shape[1] if reads_of(inputs) in SEQUENTIAL else 1
    for name, values in (("targets", targets), ("lengths", lengths)):
        if values is None:
            continue
        if not isinstance(values, Tensor) or values.shape != (count,) or values.is_floating_point():
            raise OptionError(
                f"{name} has to be {count} whole numbers, one for each item, not {_told(values)}; make it a tensor or "
                "an array of integers."
            )
    labels = torch.full((count,), -1) if targets is None else targets.detach().long()
    if int(labels.min()) < -1:
        raise OptionError(f"targets has class {int(labels.min())}; classes are numbered from 0, -1 is unknown.")
    real = _real_steps(inputs, steps) if lengths is None else lengths.detach().long()
    if int(real.min()) < 1 or int(real.max()) > steps:
        raise OptionError(f"lengths has to lie between 1 and {steps}; it is {int(real.min())} to {int(real.max())}.")
    return TensorSplit(inputs, labels, real)


def _as_tensor(name: str, values: Numbers) -> Tensor:
    """An array of numpy as a tensor with its own memory (it may be read-only, or run backwards); all else as it is."""
    if isinstance(values, Tensor) or not isinstance(values, np.ndarray):
        return values
    try:
        return torch.from_numpy(np.array(values, order="C"))
    except (TypeError, ValueError) as problem:
        raise OptionError(f"{name} is an array of {values.dtype}; make it int64 or float32.") from problem


def _real_steps(inputs: Tensor, steps: int) -> Tensor:
    """How many steps of each item are real, where nobody says so: of token ids those up to the last that is not 0."""
    if reads_of(inputs) != "tokens":
        return torch.full((len(inputs),), steps)
    last: Tensor = ((inputs != 0) * torch.arange(1, steps + 1, device=inputs.device)).amax(1)
    return last.clamp(min=1)


def _told(values: object) -> str:
    """What something is, in a word or two."""
    return f"{list(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
