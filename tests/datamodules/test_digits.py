"""Are the digits scikit-learn's own, enlarged and split the same way every time?"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from sklearn.datasets import load_digits

from datamodules import DigitsDataModule, ImageSplit
from datamodules.schedule import IndexBatch


def ready(**options: int) -> DigitsDataModule:
    data = DigitsDataModule(**options)
    data.prepare_data()
    data.setup("fit")
    return data


def split(data: DigitsDataModule, name: str) -> ImageSplit:
    found = data.data["digits"].split(name)
    assert isinstance(found, ImageSplit)
    return found


def test_all_digits_are_there_once_and_the_test_split_is_fixed_and_balanced() -> None:
    first, other = ready(), ready(split_seed=3, seed=2)
    assert first.classes == {"digits": tuple("0123456789")}
    assert first.vocab_size == 0
    sizes = [len(split(first, name).labels) for name in ("train", "val", "test")]
    assert sum(sizes) == 1797
    assert sizes[2] == 450
    assert split(first, "test").images.equal(split(other, "test").images)
    assert not split(first, "val").images.equal(split(other, "val").images)
    for name, share in (("test", 0.25), ("val", 0.075)):
        counts = split(first, name).labels.bincount().numpy()
        np.testing.assert_allclose(counts / np.bincount(load_digits().target), share, atol=4e-3)
    assert first.fingerprint["vocabulary"] == other.fingerprint["vocabulary"]
    assert first.fingerprint == ready(seed=2).fingerprint


def test_digits_are_enlarged_in_three_equal_colours() -> None:
    data = ready()
    for name in ("train", "val", "test"):
        images = split(data, name).images
        assert images.shape[1:] == (3, 32, 32)
        assert images.dtype == torch.uint8
        assert (images == images[:, :1]).all()
    # A pixel of the small image is 4x4 pixels of the large one, whose mean is close to it.
    large = torch.cat([split(data, name).images for name in ("train", "val", "test")])[:, 0].double()
    small = large.unfold(1, 4, 4).unfold(2, 4, 4).mean((-1, -2)) * 16 / 255
    digits = torch.from_numpy(load_digits().images)
    nearest = torch.cdist(small.flatten(1), digits.flatten(1)).argmin(1)
    labels = torch.cat([split(data, name).labels for name in ("train", "val", "test")])
    assert nearest.unique().numel() > 1790  # each digit is one of the small ones, its own
    assert labels.equal(torch.from_numpy(load_digits().target)[nearest])


def test_the_training_images_have_about_mean_0_and_deviation_1() -> None:
    data = ready()
    found = data.batch("train", "digits", range(len(split(data, "train").labels))).inputs
    assert abs(float(found.mean())) < 0.03
    assert abs(float(found.std()) - 1) < 0.03


def test_no_digit_is_mirrored_but_all_are_cropped() -> None:
    """An image whose left half is black and whose right half is white stays so, wherever it is cut."""
    data = ready()
    images = split(data, "train").images
    images[:, :, :, :16], images[:, :, :, 16:] = 0, 255
    data.trainer = SimpleNamespace(global_rank=0, world_size=1, lightning_module=None)  # type: ignore[assignment]
    shown = data.gather("digits", IndexBatch(torch.arange(200), 1, "train", 0)).inputs
    rows = shown[:, 0, 12:20, 8:24]  # between the padding of every crop
    assert (rows.diff(dim=-1) >= 0).all()
    assert len({row.numpy().tobytes() for row in rows}) > 5
