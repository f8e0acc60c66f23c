"""Do members see their own augmented images in training, and everybody the same plain ones in evaluation?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from datamodules import ImageDataModule, ImageSplit, TaskData
from datamodules.augmentation import POLICIES
from datamodules.schedule import IndexBatch
from dynamo.types import Reader, TaskBatch

CLASSES = ("bird", "fish", "frog")


class Made(ImageDataModule):
    """Random images whose label is known, 60 to train on and 21 to test with."""

    task = "made"
    mean = (0.5, 0.25, 0.75)
    std = (0.25, 0.5, 0.125)

    def __init__(self, **options: Any) -> None:  # noqa: ANN401
        super().__init__(**{"batch_size": 6, "val_fraction": 0.2, **options})
        self.classes = {"made": CLASSES}

    def load(self) -> dict[str, TaskData]:
        def some(items: int) -> ImageSplit:
            rng = np.random.default_rng(items)
            images = rng.integers(256, size=(items, 3, 32, 32), dtype=np.uint8)
            return self.split(images, np.arange(items) % len(CLASSES))

        return {"made": self.task_data(some(60), some(21))}


class Looker(pl.LightningModule):
    """Learns nothing worth knowing and keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained: list[TaskBatch] = []
        self.validated: list[TaskBatch] = []

    def training_step(self, batch: dict[str, TaskBatch], batch_idx: int) -> Tensor:
        self.trained.append(batch["made"])
        return self.weight * 1.0

    def validation_step(self, batch: dict[str, TaskBatch], batch_idx: int) -> None:
        self.validated.append(batch["made"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Population(Looker):
    """Members that read what they please."""

    def __init__(self, readers: Sequence[Reader]) -> None:
        super().__init__()
        self._readers = readers

    @property
    def readers(self) -> Sequence[Reader]:
        return self._readers


def reader(policy: str, seed: int = 0, fraction: float = 1.0) -> Reader:
    return Reader("made", fraction, seed, policy=policy)


def fit(module: Looker, folder: Path, **options: Any) -> Made:  # noqa: ANN401
    data = Made(**options)
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, default_root_dir=folder, max_epochs=2, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return data


def ready(readers: Sequence[Reader] | None = None, rank: int = 0, **options: Any) -> Made:  # noqa: ANN401
    """Data that believes to be in training for these readers."""
    data = Made(**options)
    data.setup("fit")
    module = Looker() if readers is None else Population(readers)
    data.trainer = SimpleNamespace(global_rank=rank, world_size=1, lightning_module=module)  # type: ignore[assignment]
    return data


def seen(readers: Sequence[Reader], indices: Tensor, step: int = 5, **options: Any) -> TaskBatch:  # noqa: ANN401
    return ready(readers, **options).gather("made", IndexBatch(indices, 1, "train", step))


READERS = [reader(policy, seed) for seed, policy in enumerate(POLICIES)]
HARD = [one for one in READERS if one.policy != "mixup"]
INDICES = torch.arange(30).view(5, 6)


def test_members_train_on_their_own_images_and_are_validated_on_plain_common_ones(tmp_path: Path) -> None:
    module = Population([reader("none", 3), reader("cutout", 3, 0.5), reader("flip_crop", 1)])
    data = fit(module, tmp_path, eval_batch_size=5)
    assert len(module.trained) == 2 * 8
    for batch in module.trained:
        assert batch.reads == "images"
        assert batch.inputs.shape == (3, 6, 3, 32, 32)
        assert batch.inputs.dtype == torch.float32
        assert batch.targets.shape == batch.lengths.shape == (3, 6)
        assert batch.real_steps().shape == (3, 6, 1)
    split = data.data["made"].train
    assert isinstance(split, ImageSplit)
    plain = split.normalise(split.images).flatten(1)
    for batch in module.trained:  # the first member's images are those of the split, with their labels
        apart = torch.cdist(batch.inputs[0].flatten(1), plain, compute_mode="donot_use_mm_for_euclid_dist")
        assert float(apart.min(1).values.max()) < 1e-3
        assert split.labels[apart.argmin(1)].equal(batch.targets[0])
    known = torch.cat([batch["made"].inputs for batch in data.batches("val")])
    found = torch.cat([batch.inputs for batch in module.validated[: len(module.validated) // 2]])
    assert found.equal(known)
    assert all(batch.targets.shape == batch.inputs.shape[:1] for batch in module.validated)


def test_the_common_stream_is_augmented_by_the_datas_own_policy(tmp_path: Path) -> None:
    module = Looker()
    fit(module, tmp_path, policy="cutout")
    inputs = torch.cat([batch.inputs for batch in module.trained])
    assert inputs.shape == (2 * 8 * 6, 3, 32, 32)
    holes = (inputs == 0).all(1).sum((1, 2))
    assert int(holes.min()) >= 8 * 8
    assert int(holes.max()) == 16 * 16
    for policy in ("none", "flip_crop", "randaugment", "cutout"):
        part = IndexBatch(torch.arange(6), 1, "train", 0)
        shown = ready(policy=policy).gather("made", part)
        plain = ready().batch("train", "made", part.indices)
        assert shown.targets.equal(plain.targets)
        assert shown.inputs.equal(plain.inputs) == (policy == "none")


def test_nothing_in_evaluation_is_augmented() -> None:
    for readers in (None, READERS):
        data = ready(readers)
        for name in ("train", "val", "test"):
            split = data.data["made"].split(name)
            assert isinstance(split, ImageSplit)
            shown = data.gather("made", IndexBatch(torch.arange(7), 1, name))
            mean, std = torch.tensor(Made.mean).view(3, 1, 1), torch.tensor(Made.std).view(3, 1, 1)
            torch.testing.assert_close(shown.inputs, (split.images[:7].double() / 255 - mean).div(std).float())
            assert shown.targets.equal(split.labels[:7])
            assert shown.lengths.tolist() == [1] * 7
    assert data.calibration_batch(9)["made"].inputs.equal(ready().calibration_batch(9)["made"].inputs)
    both = data.batch("test", "made", torch.tensor([[0, 1, 2], [3, 4, 5]]))
    assert both.inputs.shape == (2, 3, 3, 32, 32)


def test_what_a_member_sees_does_not_depend_on_who_else_is_there() -> None:
    together = seen(HARD, INDICES[:4])
    for n, one in enumerate(HARD):
        alone = seen([one], INDICES[n : n + 1])
        assert alone.inputs[0].equal(together.inputs[n])
        assert alone.targets[0].equal(together.targets[n])
    turned = seen(HARD[::-1], INDICES[:4].flip(0))
    assert turned.inputs.flip(0).equal(together.inputs)
    mixed = seen(READERS, INDICES)
    assert mixed.inputs[:4].equal(together.inputs)


def test_which_images_a_member_reads_does_not_depend_on_the_others_subsets(tmp_path: Path) -> None:
    alone, together = (
        Population([reader("flip_crop", 4)]),
        Population([reader("cutout", 1, 0.25), reader("flip_crop", 4)]),
    )
    fit(alone, tmp_path)
    fit(together, tmp_path)
    for one, both in zip(alone.trained, together.trained, strict=True):
        assert one.inputs[0].equal(both.inputs[1])


def test_randomness_is_keyed_by_seed_step_rank_and_member() -> None:
    first = seen(HARD[1:], INDICES[:3])
    assert first.inputs.equal(seen(HARD[1:], INDICES[:3]).inputs)
    others: list[dict[str, Any]] = [{"step": 6}, {"seed": 1}, {"rank": 1}]
    for other in others:
        shown = seen(HARD[1:], INDICES[:3], **other)
        assert all(not a.equal(b) for a, b in zip(first.inputs, shown.inputs, strict=True))
    twins = seen([reader("flip_crop", 1), reader("flip_crop", 1), reader("flip_crop", 2)], INDICES[:1].expand(3, -1))
    assert twins.inputs[0].equal(twins.inputs[1])
    assert not twins.inputs[0].equal(twins.inputs[2])


def test_one_member_that_mixes_makes_everyones_targets_shares() -> None:
    labels = ready().data["made"].train.labels
    assert seen(HARD, INDICES[:4]).targets.equal(labels[INDICES[:4]])
    batch = seen(READERS, INDICES)
    assert batch.targets.shape == (5, 6, len(CLASSES))
    assert batch.targets.dtype == torch.float32
    assert batch.lengths.shape == (5, 6)
    assert batch.targets[:4].equal(torch.eye(3)[labels[INDICES[:4]]])
    torch.testing.assert_close(batch.targets.sum(-1), torch.ones(5, 6))
    mixed = batch.targets[4]
    assert int(((mixed > 0) & (mixed < 1)).sum()) >= 4


def test_a_mixture_of_plain_colours_shows_its_targets() -> None:
    """Each class one colour: what a mixed image shows can be read off it."""
    data = ready([reader("mixup", 2)])
    split = data.data["made"].train
    assert isinstance(split, ImageSplit)
    split.images.copy_(torch.eye(3)[split.labels].mul(255).to(torch.uint8)[..., None, None].expand_as(split.images))
    batch = data.gather("made", IndexBatch(torch.arange(6)[None], 1, "train", 0))
    middle = batch.inputs[0, :, :, 12:20, 12:20].mean((2, 3))  # which no crop can take out of sight
    torch.testing.assert_close(middle * torch.tensor(Made.std) + torch.tensor(Made.mean), batch.targets[0])


def test_the_training_images_are_kept_as_bytes_and_validation_is_balanced_and_apart() -> None:
    found = ready().data["made"]
    splits = [split for split in (found.train, found.val, found.test) if isinstance(split, ImageSplit)]
    assert [len(split.labels) for split in splits] == [48, 12, 21]
    assert all(split.images.dtype == torch.uint8 for split in splits)
    assert all(split.lengths.equal(torch.ones(len(split.labels), dtype=torch.int64)) for split in splits)
    assert splits[1].labels.bincount().tolist() == [4, 4, 4]
    rows = [{image.numpy().tobytes() for image in split.images} for split in splits]
    assert not rows[0] & rows[1]
    assert len(rows[0] | rows[1]) == 60
    assert ready(split_seed=1).data["made"].val.labels.bincount().tolist() == [4, 4, 4]
    other = ready(split_seed=1).data["made"].val
    assert isinstance(other, ImageSplit)
    assert not other.images.equal(splits[1].images)
    with pytest.raises(ValueError, match=r"val_fraction 0.99 leaves no image to train on"):
        ready(val_fraction=0.99)


def test_the_fingerprint_follows_what_gives_inputs_and_classes_their_meaning() -> None:
    first = ready().fingerprint
    assert first == ready(seed=3, policy="none").fingerprint
    otherwise = ready(split_seed=1).fingerprint  # its validation images are training images here
    assert otherwise["data"] != first["data"]
    assert otherwise["vocabulary"] == first["vocabulary"]
    other = ready()
    other.classes = {"made": ("bird", "fish", "toad")}
    assert other.vocabulary_digest() != first["vocabulary"]

    class Darker(Made):
        mean = (0.5, 0.25, 0.5)

    assert Darker().vocabulary_digest() != first["vocabulary"]
    split = other.data["made"].train
    assert isinstance(split, ImageSplit)
    digest = split.digest()
    split.images[3, 1, 2, 0] ^= 1
    assert split.digest() != digest
    assert other.vocab_size == 0


def test_an_unknown_policy_names_who_asks_for_it(tmp_path: Path) -> None:
    known = "Made knows none, flip_crop, randaugment, cutout, mixup"
    with pytest.raises(ValueError, match=rf"member 1 \(the first is 0\) has policy 'flop', but {known}: correct"):
        fit(Population([reader("none"), reader("flop")]), tmp_path)
    with pytest.raises(ValueError, match=r"policy 'flop' cannot .* one of none, flip_crop, randaugment, cutout\."):
        Made(policy="flop")
    with pytest.raises(ValueError, match=r"policy 'mixup' cannot augment the common stream, whose targets stay"):
        Made(policy="mixup")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"val_fraction": 1.0}, "val_fraction must lie in"),
        ({"split_seed": -1}, "split_seed must be at least 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"val_items": 0}, "val_items must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Made(**options)
