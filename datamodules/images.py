"""What does every image data module share? Splits of uint8 images on the device, augmented there for each member."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Final, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as nnf

from datamodules.augmentation import MIXING, POLICIES, augment
from datamodules.base import IndexedDataModule, check_at_least
from datamodules.basic_english import words_digest
from datamodules.resident import TaskData, tensors_digest
from datamodules.schedule import IndexBatch, check_val_fraction, hold_out
from dynamo.types import Reader, TaskBatch

SIZE: Final = 32
"""Pixels on a side of every image."""
Colour = tuple[float, float, float]
_AUGMENTATION = 14  # first word of its seeds, beside those of `base` and `schedule`


@dataclass(frozen=True)
class ImageSplit:
    """One split of one task: images as bytes, a quarter of what they are as numbers; `gather` makes them numbers.

    Attributes:
        images: uint8 `[items, 3, 32, 32]`.
        labels: int64 `[items]`.
        mean: of each colour over the training images, in 0..1, `[3, 1, 1]`.
        std: the same for the standard deviation, `[3, 1, 1]`.

    Examples:
        >>> import torch
        >>> from datamodules import ImageSplit
        >>> half, images = torch.full((3, 1, 1), 0.5), torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
        >>> split = ImageSplit(images.expand(2, 3, 32, 32), labels=torch.tensor([0, 1]), mean=half, std=half)
        >>> split.gather(torch.tensor([0, 1]), 1, None).inputs.mean((1, 2, 3))  # black is -1, white is 1
        tensor([-1.,  1.])
    """

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor

    @property
    def lengths(self) -> Tensor:
        """1 for every image, int64 `[items]`."""
        return torch.ones_like(self.labels)

    def to(self, device: torch.device) -> Self:
        """The same images on `device`."""
        mean, std = self.mean.to(device), self.std.to(device)
        return replace(self, images=self.images.to(device), labels=self.labels.to(device), mean=mean, std=std)

    def select(self, items: Tensor) -> Self:
        """The images at `items`, in that order, copied."""
        return replace(self, images=self.images[items], labels=self.labels[items])

    def digest(self) -> str:
        """The sha256 of images and labels."""
        return tensors_digest(self.images, self.labels)

    def normalise(self, images: Tensor) -> Tensor:
        """From uint8 `[..., 3, h, w]` to float32 of mean 0 and standard deviation 1, over the training images."""
        return images.float().div_(255).sub_(self.mean).div_(self.std)

    def gather(self, indices: Tensor, longest: int, rngs: Iterable[np.random.Generator] | None) -> TaskBatch:
        """The images at `indices` (`[B]` or `[N, B]`) as they are; `ImageDataModule.gather` augments."""
        labels = self.labels[indices]
        return TaskBatch(self.normalise(self.images[indices]), labels, torch.ones_like(labels))


class ImageDataModule(IndexedDataModule):
    """Images of 32x32 pixels, one task; a subclass says in `load` where they come from.

    In training every member sees its images as its `Reader.policy` has them (`datamodules.augmentation`), in
    evaluation as they are. What a member sees is a function of (seed, step, rank, its own seed), whoever else is
    there. As soon as one member of a population mixes images, the targets of all are class shares `[N, B, C]`.

    A group's `policy` decides for a population, none where it names none; the `policy` here is for the common stream.

    Args:
        policy: augments the common stream, which a module without readers (a meta-model) is trained on; it may
            show more of the space of images than those the population learned from. No labels are needed
            there, so that a policy that mixes them is refused.
        val_fraction: share of the training images that is held back for validation, the same for every class.
        split_seed: decides which images are held back.
        batch_size: items per member, step and process in training.
        eval_batch_size: items per batch in evaluation.
        seed: decides the order of the items and all augmentation.
        val_items: see `IndexedDataModule`, as for test_items.
        test_items: see `IndexedDataModule`.

    Raises:
        ValueError: a policy that mixes classes, or a number out of its range.

    Attributes:
        task: the task's name, the key of its batches.
        flips: whether a mirrored image is one of the same class; else `flip_crop` and what builds on it only crop.
        mean: of each colour over the training images, in 0..1.
        std: the same for the standard deviation.

    Examples:
        >>> from datamodules import DigitsDataModule
        >>> data = DigitsDataModule(policy="none")
        >>> data.setup()
        >>> images = data.batch("train", "digits", data.drawn("train", "digits")).inputs
        >>> round(abs(float(images.mean())), 1), round(float(images.std()), 1)  # normalised over the training images
        (0.0, 1.0)
    """

    policies: ClassVar[tuple[str, ...]] = POLICIES
    task: ClassVar[str]
    flips: ClassVar[bool] = True
    mean: ClassVar[Colour]
    std: ClassVar[Colour]
    vocab_size = 0

    def __init__(
        self,
        policy: str = "flip_crop",
        val_fraction: float = 0.1,
        split_seed: int = 0,
        batch_size: int = 64,
        eval_batch_size: int = 256,
        seed: int = 0,
        val_items: int | None = None,
        test_items: int | None = None,
    ) -> None:
        # All are equally long: with a window of one batch, a member's order does not depend on the others' subsets.
        super().__init__(batch_size, eval_batch_size, seed, 1, val_items, test_items)
        allowed = [name for name in POLICIES if name not in MIXING]
        if policy not in allowed:
            raise ValueError(
                f"policy {policy!r} cannot augment the common stream, whose targets stay classes: the data's policy "
                f"is one of {', '.join(allowed)}."
            )
        check_val_fraction(val_fraction)
        check_at_least(0, split_seed=split_seed)
        self.policy, self.val_fraction, self.split_seed = policy, val_fraction, split_seed

    def vocabulary_digest(self) -> str:
        """The sha256 of what gives inputs and classes their meaning: size, mean, deviation and names of classes."""
        names = (f"{task}: {' '.join(classes)}" for task, classes in self.classes.items())
        return words_digest([f"{SIZE}x{SIZE}", str(self.mean), str(self.std), *names])

    def split(self, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> ImageSplit:
        """Images `[items, 3, 32, 32]` and their class indices, as tensors on the same memory."""
        mean, std = (torch.tensor(colour).view(3, 1, 1) for colour in (self.mean, self.std))
        return ImageSplit(torch.from_numpy(images), torch.from_numpy(labels), mean, std)

    def task_data(self, train: ImageSplit, test: ImageSplit) -> TaskData:
        """Hold a class-balanced part of the training images back for validation."""
        places = hold_out(train.labels, self.val_fraction, self.split_seed, "image")
        trained, validated = (train.select(positions) for positions in places)
        # Which images are held back belongs to it: those of another split are training images of this one.
        digest = words_digest([trained.digest(), test.digest()])
        return TaskData(trained, validated, test, digest)

    def gather(self, task: str, batch: IndexBatch) -> TaskBatch:
        """The items an `IndexBatch` names, augmented in training, on the device of its indices."""
        if batch.step < 0:
            return super().gather(task, batch)
        split = self._resident(task, batch)
        assert isinstance(split, ImageSplit)
        readers = self._readers()
        streams = readers[task] if readers else [Reader(task, policy=self.policy)]
        indices = batch.indices if readers else batch.indices.unsqueeze(0)
        company = self._readers(whole=True) or {task: streams}
        mixed = not MIXING.isdisjoint(reader.policy for reader in company[task])
        found = self._augmented(split, indices, streams, len(self.classes[task]) if mixed else None, batch.step)
        return found if readers else TaskBatch(*(values.squeeze(0) for values in found))

    def _augmented(
        self, split: ImageSplit, indices: Tensor, streams: list[Reader], classes: int | None, step: int
    ) -> TaskBatch:
        """Items `[N, B]` as the members see them: all members of one policy in one call; class shares if `classes`."""
        rank = self._placement()[0]
        images = torch.empty(*indices.shape, *split.images.shape[1:], device=indices.device)
        targets = labels = split.labels[indices]
        policies = {reader.policy for reader in streams}
        if classes is not None:
            targets = nnf.one_hot(labels, classes).float()
        for policy in sorted(policies):
            places = [place for place, reader in enumerate(streams) if reader.policy == policy]
            rngs = [np.random.default_rng([_AUGMENTATION, self.seed, step, rank, streams[n].seed]) for n in places]
            where = torch.tensor(places).to(indices.device, non_blocking=True)
            seen = augment(split.images[indices[where]], policy, rngs, self.flips, split.normalise)
            images[where] = seen.images
            if seen.mixing is not None:
                targets[where] = seen.mixing.of(targets[where])
        return TaskBatch(images, targets, torch.ones_like(labels))
