"""Is the publisher's folder read whoever wrote it, and is everything that can be wrong with it named?"""

from __future__ import annotations

import io
import logging
import os
import pickle
import struct
import tarfile
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from datamodules import CIFAR100DataModule, DataError, ImageSplit, cifar100
from datamodules.cifar100 import CLASSES, FOLDER
from datamodules.download import file_md5

Content = dict[str, Any]


def made(items: int, seed: int, classes: int = 4) -> Content:
    """Images of the first classes; the first pixel of each tells its class."""
    labels = np.arange(items) % classes
    data = np.random.default_rng(seed).integers(256, size=(items, 3072), dtype=np.uint8)
    data[:, 0] = labels
    names = [f"image_s_{number:06}.png" for number in range(items)]
    return {"data": data, "fine_labels": labels.tolist(), "filenames": names, "batch_label": "one of one"}


def by_python_2(content: Content) -> bytes:
    """What Python 2's cPickle made of such a dict at protocol 2: every string as bytes, the array by its old name."""

    def text(value: bytes) -> bytes:
        return (b"U" + bytes([len(value)]) if len(value) < 256 else b"T" + struct.pack("<i", len(value))) + value

    def one(value: Any) -> bytes:  # noqa: ANN401
        match value:
            case int():
                return b"K" + bytes([value])
            case str():
                return text(value.encode())
            case list():
                return b"](" + b"".join(map(one, value)) + b"e"
            case np.ndarray():
                new = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
                dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
                shape = b"".join(b"J" + struct.pack("<i", size) for size in value.shape) + b"\x86"
                return new + b"(K\x01" + shape + dtype + b"\x89" + text(value.tobytes()) + b"tb"
        raise TypeError(type(value))

    return b"\x80\x02}q\x01(" + b"".join(text(k.encode()) + one(v) for k, v in content.items()) + b"u."


def write(root: Path, train: Content | bytes, test: Content | bytes | None = None, names: Any = CLASSES) -> Path:  # noqa: ANN401
    """A folder of the publisher's layout, made by this Python."""
    folder = root / FOLDER
    folder.mkdir()
    files = {"train": train, "test": test or made(8, 1), "meta": {"fine_label_names": list(names)}}
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, 2))
    return folder


def module(root: Path, **options: Any) -> CIFAR100DataModule:  # noqa: ANN401
    return CIFAR100DataModule(**{"root": str(root), "verify": False, "subset": 4, "val_fraction": 0.25, **options})


def loaded(root: Path, **options: Any) -> tuple[ImageSplit, ImageSplit, ImageSplit]:  # noqa: ANN401
    data = module(root, **options)
    data.setup()
    found = data.data["cifar100"]
    assert isinstance(found.train, ImageSplit)
    assert isinstance(found.val, ImageSplit)
    assert isinstance(found.test, ImageSplit)
    return found.train, found.val, found.test


@pytest.mark.parametrize("protocol", [2, 3, 4, 5, "Python 2"])
def test_images_and_labels_are_read_whoever_wrote_them(tmp_path: Path, protocol: int | str) -> None:
    content, other = made(40, 0), made(8, 1)
    dump = by_python_2 if isinstance(protocol, str) else lambda value: pickle.dumps(value, protocol)
    folder = write(tmp_path, dump(content), dump(other))
    (folder / "meta").write_bytes(dump({"fine_label_names": list(CLASSES)}))
    if isinstance(protocol, str):  # the imitation is what pickle takes it for
        again = pickle.loads(dump(content), encoding="bytes")
        np.testing.assert_array_equal(again[b"data"], content["data"])
        assert again[b"fine_labels"] == content["fine_labels"]
    train, val, test = loaded(tmp_path)
    assert test.images.equal(torch.from_numpy(other["data"]).view(-1, 3, 32, 32))  # red, green, blue, row by row
    assert test.labels.tolist() == other["fine_labels"]
    images, labels = torch.cat([train.images, val.images]), torch.cat([train.labels, val.labels])
    assert labels.equal(images[:, 0, 0, 0].long())
    expected = {row.tobytes() for row in content["data"]}
    assert {image.numpy().tobytes() for image in images} == expected
    assert val.labels.bincount().tolist() == [2] * 4  # 2.5, rounded


def test_labels_may_be_an_array_and_keys_bytes(tmp_path: Path) -> None:
    content = made(8, 1)
    changed = {key.encode(): value for key, value in content.items()} | {b"fine_labels": np.array([0, 1, 2, 3] * 2)}
    write(tmp_path, made(40, 0), pickle.dumps(changed, 2))
    assert loaded(tmp_path)[2].labels.tolist() == content["fine_labels"]


def test_classes_can_be_chosen_and_are_numbered_anew(tmp_path: Path) -> None:
    write(tmp_path, made(80, 0, 8), made(16, 1, 8))
    assert module(tmp_path, subset=3).classes == {"cifar100": ("apple", "aquarium_fish", "baby")}
    assert len(loaded(tmp_path, subset=3)[2].labels) == 6
    chosen = module(tmp_path, subset=["bear", "apple", "bed"])
    assert chosen.classes == {"cifar100": ("bear", "apple", "bed")}  # known before anything is read
    for split in loaded(tmp_path, subset=["bear", "apple", "bed"]):
        assert split.labels.equal(torch.tensor([1, 9, 9, 0, 9, 2])[split.images[:, 0, 0, 0].long()])
    assert module(tmp_path, subset=None).classes == {"cifar100": CLASSES}
    assert len(CLASSES) == 100
    assert list(CLASSES) == sorted(CLASSES)


def test_training_items_are_a_balanced_draw_before_validation_is_held_back(tmp_path: Path) -> None:
    write(tmp_path, made(80, 0))
    train, val, test = loaded(tmp_path, train_items=32)
    assert train.labels.bincount().tolist() == [6] * 4
    assert val.labels.bincount().tolist() == [2] * 4
    assert len(test.labels) == 8
    again, *_ = loaded(tmp_path, train_items=32)
    other, *_ = loaded(tmp_path, train_items=32, split_seed=1)
    assert again.images.equal(train.images)
    assert not other.images.equal(train.images)
    assert len(loaded(tmp_path, train_items=80)[0].labels) == 60
    with pytest.raises(ValueError, match=r"train_items is 81, but .*train has 80 images of these 4 classes"):
        loaded(tmp_path, train_items=81)
    with pytest.raises(ValueError, match="train_items must be at least 4, got 3"):
        module(tmp_path, train_items=3)


@pytest.mark.parametrize(
    ("subset", "match"),
    [
        (101, "subset must be 2 to 100 classes, or names of classes, got 101"),
        (1, "subset must be 2 to 100 classes"),
        (["apple", "unicorn", "zebra"], "subset names 'unicorn', 'zebra', which CIFAR-100 does not have: its classes"),
        (["apple", "apple"], "two or more different classes"),
        (["apple"], "two or more different classes"),
        ([], "two or more different classes"),
    ],
)
def test_classes_that_there_are_not_are_refused_at_once(subset: int | list[str], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        CIFAR100DataModule(subset=subset)


def test_another_checksum_is_refused_or_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write(tmp_path, made(40, 0))
    match = rf"{folder / 'train'} has MD5 .* set data.init_args.verify: false to use it as it is"
    with pytest.raises(DataError, match=match):
        module(tmp_path, verify=True).prepare_data()
    with caplog.at_level(logging.INFO):
        data = module(tmp_path)
        data.prepare_data()
        data.prepare_data()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"{folder}: the checksums of train, test, meta are not the publisher's" in record.getMessage()
    caplog.clear()
    monkeypatch.setattr(cifar100, "FILES", {name: file_md5(folder / name) for name in ("train", "test", "meta")})
    for verify in (True, False):
        module(tmp_path, verify=verify).prepare_data()
    assert not caplog.records


def test_an_archive_placed_by_hand_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path, made(40, 0))
    archive = tmp_path / "cifar-100-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, FOLDER)
    folder.rename(tmp_path / "before")
    with pytest.raises(DataError, match=r"cifar-100-python.tar.gz has MD5 .*, expected eb9058c3a382ffc7"):
        module(tmp_path).prepare_data()
    monkeypatch.setattr(cifar100, "MD5", file_md5(archive))
    module(tmp_path).prepare_data()
    assert len(loaded(tmp_path)[2].labels) == 8
    folder.rename(tmp_path / "again")
    archive.write_bytes(archive.read_bytes()[:3000])
    monkeypatch.setattr(cifar100, "MD5", file_md5(archive))
    with pytest.raises(DataError, match=r"cifar-100-python.tar.gz cannot be unpacked"):
        module(tmp_path).prepare_data()
    assert not folder.exists()


def test_offline_the_error_names_url_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str, timeout: float) -> io.BytesIO:
        raise OSError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(DataError, match=rf"{cifar100.URL} .*no route.* into {tmp_path} as cifar-100-python.tar.gz"):
        module(tmp_path).prepare_data()


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path, made(40, 0))
    (folder / name).unlink()
    for use in (module(tmp_path).prepare_data, module(tmp_path).setup):
        with pytest.raises(DataError, match=rf"{folder / name} is missing: delete {folder} to fetch it anew"):
            use()


def without(key: str) -> Content:
    return {name: value for name, value in made(40, 0).items() if name != key}


def images(shape: tuple[int, ...], dtype: npt.DTypeLike = np.uint8) -> Content:
    return {**made(40, 0), "data": np.zeros(shape, dtype)}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (without("fine_labels"), "has no 'fine_labels'"),
        (without("data"), "has no 'data'"),
        (images((40, 3 * 28 * 28)), r"another size: 'data' must be rows of 3072 bytes, got uint8 \(40, 2352\)"),
        (images((40, 3, 32, 32)), r"images of another size: .*got uint8 \(40, 3, 32, 32\)"),
        (images((40, 3072), np.int64), r"images of another size: .*got int64"),
        (images((40, 3072), np.float32), "of type 'f4', no whole numbers"),
        (images((39, 3072)), "has 39 images and 40 labels"),
        ({**made(40, 0), "data": [[0] * 3072] * 40}, "images of another size: .*got list"),
        ({**made(40, 0), "fine_labels": [100] * 40}, "a label that is none of 0..99"),
        ({**made(40, 0), "fine_labels": [-1] * 40}, "a label that is none of 0..99"),
        ({**made(40, 0), "fine_labels": ["1"] * 40}, "a label that is none of 0..99"),
        ({**made(40, 0), "fine_labels": [1.5] * 40}, "a label that is none of 0..99"),
        ({**made(40, 0), "fine_labels": np.full((40, 1), 2)}, "a label that is none of 0..99"),
        (made(40, 0, 3), "holds no image of class 'beaver'|holds no image of class 'bear'"),
        (pickle.dumps([1, 2]), "holds a list in place of a dict"),
        (b"", "is not what CIFAR-100's archive holds"),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 100, "is not what CIFAR-100's archive holds"),
        (pickle.dumps(made(40, 0), 2)[:-5000], r"is not what CIFAR-100's archive holds \(.*"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_in_one_line(tmp_path: Path, content: Content | bytes, match: str) -> None:
    folder = write(tmp_path, content)
    with pytest.raises(DataError, match=rf"{folder / 'train'}.*({match}).*delete {folder} to fetch it anew") as caught:
        loaded(tmp_path)
    assert "\n" not in str(caught.value)


def test_other_class_names_are_another_data_set(tmp_path: Path) -> None:
    write(tmp_path, made(40, 0), names=[*CLASSES[:99], "zebra"])
    with pytest.raises(DataError, match="meta holds no fine_label_names, or other ones"):
        loaded(tmp_path)


class Exploit:
    """Makes a folder, wherever it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("place", ["data", "fine_labels", "filenames"])
def test_a_pickle_that_runs_code_is_refused_unrun(tmp_path: Path, protocol: int, place: str) -> None:
    trace = tmp_path / "trace"
    write(tmp_path, pickle.dumps({**made(40, 0), place: Exploit(trace)}, protocol))
    with pytest.raises(DataError, match=r"train is not what CIFAR-100's archive holds \((it calls|its opcode)"):
        loaded(tmp_path)
    assert not trace.exists()


@pytest.mark.parametrize("by", ["this Python", "Python 2", "an exploit"])
def test_no_damage_does_more_than_raise_a_data_error(tmp_path: Path, by: str) -> None:
    """400 files that were cut off, or of which some bits were turned over, beside the pixels, where all goes."""
    content, trace = made(4, 0), tmp_path / "trace"
    if by == "an exploit":
        content["filenames"] = [Exploit(trace)]
    whole = by_python_2(content) if by == "Python 2" else pickle.dumps(content, 4 if by == "an exploit" else 2)
    path = write(tmp_path, whole) / "train"
    rng = np.random.default_rng(0)
    places = np.r_[0:150, len(whole) - 250 : len(whole)]
    refused = 0
    for number in range(400):
        damaged = bytearray(whole)
        if number % 4 == 0:
            del damaged[int(rng.integers(len(whole))) :]
        else:
            for place in rng.choice(places, int(rng.integers(1, 4))):
                damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            shape = cifar100._read_images(path)[0].shape
        except DataError as error:
            refused += str(path) in str(error)
        else:
            assert shape == (4, 3, 32, 32)  # what was hit is a name, or stands for another label
        assert not trace.exists()
    assert refused > 200


def test_the_real_images_are_complete(real_data: Path) -> None:
    if not (real_data / FOLDER).is_dir():
        pytest.skip(f"{real_data / FOLDER} is absent")
    data = CIFAR100DataModule(root=str(real_data), verify=False)
    data.prepare_data()
    data.setup()
    found = data.data["cifar100"]
    for split, each in ((found.train, 450), (found.val, 50), (found.test, 100)):
        assert split.labels.bincount().tolist() == [each] * 100
    shown = data.batch("train", "cifar100", range(0, 45_000, 10)).inputs
    assert shown.mean((0, 2, 3)).abs().max() < 0.03
    assert (shown.std((0, 2, 3)) - 1).abs().max() < 0.03
