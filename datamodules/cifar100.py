"""What does a small photograph show? CIFAR-100 of Krizhevsky (2009), 50,000 + 10,000 images in a hundred classes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from datamodules.base import check_at_least
from datamodules.download import DataError, fetch_archive, file_md5, resolve_root
from datamodules.images import SIZE, Colour, ImageDataModule, ImageSplit
from datamodules.plain_pickle import StoredArray, read_plain_pickle
from datamodules.resident import TaskData
from datamodules.schedule import subset_indices
from dynamo.pickle_machine import PlainPickleError
from dynamo.types import OptionError

URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
MD5 = "eb9058c3a382ffc7106e4002c42a8d85"
UNPACKED: Final = 1 << 29
"""Bytes; the archive comes to 186 million."""
FOLDER = "cifar-100-python"
FILES = {
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}
_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm
"""
CLASSES: Final = tuple(_NAMES.split())
"""In the order of the publisher's indices, which is alphabetical; compared with the file `meta`."""

Labels = npt.NDArray[np.int64]
log = logging.getLogger(__name__)


class CIFAR100DataModule(ImageDataModule):
    """Photographs: `<root>/cifar-100-python/{train,test,meta}`, as the publisher's archive unpacks.

    A folder that is there is used, and so is an archive after its checksum; else the archive is downloaded. The files
    are pickles and are read without running them (`datamodules.plain_pickle`), so that a copy from elsewhere can do
    no harm. Reading all of it takes some 2 s and, while it lasts, 0.6 GB of memory; 0.19 GB stay.

    Args:
        root: where the publisher's folder lies; default: the environment variable DYNAMO_DATA, else
            ~/.cache/dynamo.
        verify: refuse files whose checksums are not the publisher's; else one warning is given and they are used.
        subset: the first so many classes, in alphabetical order, or the names of the classes; they are numbered
            anew from 0, in this order. Default: all.
        train_items: how many training images there are, those held back for validation included: a draw by
            `split_seed`, the same share of every class, rounded class by class. Default: all.
        policy: see `ImageDataModule`, as for all that follow.
        val_fraction: share of the training images held back for validation.
        split_seed: decides which images are held back.
        batch_size: items per member, step and process in training.
        eval_batch_size: items per batch in evaluation.
        seed: decides the order of the items and all augmentation.
        val_items: see `IndexedDataModule`, as for test_items.
        test_items: see `IndexedDataModule`.

    Raises:
        ValueError: classes that CIFAR-100 does not have, or a number out of its range.

    Examples:
        >>> from datamodules import CIFAR100DataModule
        >>> CIFAR100DataModule(subset=["whale", "dolphin"]).classes  # numbered anew, in this order
        {'cifar100': ('whale', 'dolphin')}
        >>> len(CIFAR100DataModule().classes["cifar100"])
        100
    """

    task: ClassVar[str] = "cifar100"
    mean: ClassVar[Colour] = (0.5071, 0.4865, 0.4409)
    std: ClassVar[Colour] = (0.2673, 0.2564, 0.2762)

    def __init__(
        self,
        root: str | None = None,
        verify: bool = True,
        subset: int | list[str] | None = None,
        train_items: int | None = None,
        policy: str = "flip_crop",
        val_fraction: float = 0.1,
        split_seed: int = 0,
        batch_size: int = 64,
        eval_batch_size: int = 256,
        seed: int = 0,
        val_items: int | None = None,
        test_items: int | None = None,
    ) -> None:
        super().__init__(policy, val_fraction, split_seed, batch_size, eval_batch_size, seed, val_items, test_items)
        names = _chosen_classes(subset)
        if train_items is not None:
            check_at_least(len(names), train_items=train_items)
        self.folder = resolve_root(root) / FOLDER
        self.verify, self.train_items = verify, train_items
        self.classes = {self.task: names}
        self._checked = False

    def prepare_data(self) -> None:
        """Download what is absent and compare the checksums; runs in one process per node.

        Raises:
            DataError: naming the file that is absent or, with `verify`, not the publisher's.
        """
        if self._checked:
            return
        fetch_archive(self.folder.parent, FOLDER, URL, MD5, UNPACKED)
        others = []
        for name, expected in FILES.items():
            path = self.folder / name
            if not path.is_file():
                raise _problem(path, "is missing")
            if (found := file_md5(path)) != expected:
                others.append(name)
                if self.verify:
                    raise DataError(
                        f"{path} has MD5 {found}, the publisher's has {expected}: it is damaged or another copy. "
                        f"Delete {self.folder} to fetch it anew, or set data.init_args.verify: false to use it as "
                        "it is."
                    )
        if others:
            names = ", ".join(others)
            log.warning("%s: the checksums of %s are not the publisher's; used all the same.", self.folder, names)
        self._checked = True

    def load(self) -> dict[str, TaskData]:
        """Read the images of the chosen classes and split them."""
        meta = self.folder / "meta"
        if _names(_read(meta).get("fine_label_names")) != CLASSES:
            raise _problem(meta, "holds no fine_label_names, or other ones than CIFAR-100 has")
        return {self.task: self.task_data(self._split("train"), self._split("test"))}

    def _split(self, name: str) -> ImageSplit:
        """The images of the chosen classes in one file, in its order; of "train", as many as asked for."""
        path, names = self.folder / name, self.classes[self.task]
        images, labels = _read_images(path)
        numbers = np.full(len(CLASSES), -1)
        numbers[[CLASSES.index(one) for one in names]] = np.arange(len(names))
        labels = numbers[labels]
        chosen = np.flatnonzero(labels >= 0)
        counts = np.bincount(labels[chosen], minlength=len(names))
        if counts.min() == 0:
            raise _problem(path, f"holds no image of class {names[counts.argmin()]!r}")
        if name == "train" and self.train_items is not None:
            if self.train_items > len(chosen):
                raise OptionError(
                    f"train_items is {self.train_items}, but {path} has {len(chosen)} images of these "
                    f"{len(names)} classes: set train_items to that or less."
                )
            chosen = chosen[subset_indices(labels[chosen], self.train_items / len(chosen), self.split_seed)]
        return self.split(images[chosen], labels[chosen])


def _chosen_classes(subset: int | list[str] | None) -> tuple[str, ...]:
    """The classes an option asks for, in its order."""
    if subset is None:
        return CLASSES
    if isinstance(subset, int):
        if not 2 <= subset <= len(CLASSES):
            raise ValueError(f"subset must be 2 to {len(CLASSES)} classes, or names of classes, got {subset}.")
        return CLASSES[:subset]
    unknown = [name for name in subset if name not in CLASSES]
    if unknown:
        raise ValueError(
            f"subset names {', '.join(map(repr, unknown))}, which CIFAR-100 does not have: its classes are "
            f"{', '.join(CLASSES)}."
        )
    if len(set(subset)) < max(2, len(subset)):
        raise ValueError(f"subset must name two or more different classes, got {subset}: name each once.")
    return tuple(subset)


def _read(path: Path) -> dict[str, object]:
    """The dict in one of the files; Python 2 wrote its keys as bytes."""
    try:
        found = read_plain_pickle(path)
    except FileNotFoundError as error:
        raise _problem(path, "is missing") from error
    except OSError as error:
        raise _problem(path, f"cannot be read ({error})") from error
    except PlainPickleError as error:
        raise _problem(path, f"is not what CIFAR-100's archive holds ({error})") from error
    if not isinstance(found, dict):
        raise _problem(path, f"holds a {type(found).__name__} in place of a dict")
    return {key if isinstance(key, str) else key.decode("latin-1"): value for key, value in found.items()}


def _read_images(path: Path) -> tuple[npt.NDArray[np.uint8], Labels]:
    """All images of a file, `[items, 3, 32, 32]`, with the indices of their fine classes."""
    content = _read(path)
    for key in ("data", "fine_labels"):
        if key not in content:
            raise _problem(path, f"has no {key!r}")
    try:
        data, labels = (_plain(content[key]) for key in ("data", "fine_labels"))
    except PlainPickleError as error:
        raise _problem(path, f"is damaged ({error})") from error
    row = 3 * SIZE * SIZE
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != row:
        shape = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise _problem(path, f"holds images of another size: 'data' must be rows of {row} bytes, got {shape}")
    if isinstance(labels, np.ndarray):
        labels = labels.tolist()
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < len(CLASSES) for label in labels):
        raise _problem(path, f"has a label that is none of 0..{len(CLASSES) - 1}")
    if len(labels) != len(data):
        raise _problem(path, f"has {len(data)} images and {len(labels)} labels")
    return data.reshape(-1, 3, SIZE, SIZE), np.array(labels, dtype=np.int64)


def _plain(value: object) -> object:
    """The array itself, where a pickle describes one."""
    return value.values() if isinstance(value, StoredArray) else value


def _names(value: object) -> tuple[object, ...]:
    """A list of names, as text where Python 2 wrote bytes."""
    found = value if isinstance(value, list) else []
    return tuple(name.decode("latin-1") if isinstance(name, bytes) else name for name in found)


def _problem(path: Path, what: str) -> DataError:
    """The error for a file that cannot be used."""
    return DataError(f"{path} {what}: delete {path.parent} to fetch it anew, or put the publisher's file there.")
