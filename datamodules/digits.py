"""Which digit did somebody write? scikit-learn's real digits of Alpaydin and Kaynak (1998): they need no file."""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as nnf

from datamodules.images import SIZE, Colour, ImageDataModule
from datamodules.resident import TaskData
from datamodules.schedule import subset_indices

TEST_FRACTION: Final = 0.25
TEST_SEED: Final = 0


class DigitsDataModule(ImageDataModule):
    """1,797 handwritten digits of 8x8 pixels, enlarged (bilinear) to 32x32 and grey in three equal colours.

    A quarter of every class, always the same, is for testing. A mirrored 2 or 5 is no digit, so that nothing is
    mirrored here: `flip_crop` crops, and what builds on it crops first.

    Args:
        policy: see `ImageDataModule`, as for all that follow.
        val_fraction: share of the training images held back for validation.
        split_seed: decides which images are held back.
        batch_size: items per member, step and process in training.
        eval_batch_size: items per batch in evaluation.
        seed: decides the order of the items and all augmentation.
        val_items: see `IndexedDataModule`, as for test_items.
        test_items: see `IndexedDataModule`.

    Raises:
        ValueError: as `ImageDataModule`.

    Examples:
        >>> from datamodules import DigitsDataModule
        >>> data = DigitsDataModule()
        >>> data.setup()
        >>> sum(len(data.data["digits"].split(name).labels) for name in ("train", "val", "test"))
        1797
        >>> data.batch("test", "digits", [0, 1]).inputs.shape
        torch.Size([2, 3, 32, 32])
    """

    task: ClassVar[str] = "digits"
    flips: ClassVar[bool] = False
    mean: ClassVar[Colour] = (0.31, 0.31, 0.31)
    std: ClassVar[Colour] = (0.32, 0.32, 0.32)

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
        super().__init__(policy, val_fraction, split_seed, batch_size, eval_batch_size, seed, val_items, test_items)
        self.classes = {self.task: tuple("0123456789")}

    def load(self) -> dict[str, TaskData]:
        """Enlarge the digits and split them."""
        found = load_digits()
        # 0..16 to 0..255; the CPU's interpolation of float64 is the same on every machine but for the last bit.
        small = torch.from_numpy(found.images).double().mul(255 / 16).unsqueeze(1)
        large = nnf.interpolate(small, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
        images = large.round().to(torch.uint8).expand(-1, 3, -1, -1).numpy()
        labels = np.asarray(found.target, dtype=np.int64)
        test = subset_indices(labels, TEST_FRACTION, TEST_SEED)
        train = np.setdiff1d(np.arange(len(labels)), test)
        return {self.task: self.task_data(*(self.split(images[part], labels[part]) for part in (train, test)))}
