"""Does a run of many epochs need no more memory than one of few, and how large do its event files become?

    python -m pytest -q benchmarks/bench_long_run.py     # some minutes on two cores

The population and the meta-model of the demo by the real command, 201 epochs each, all callbacks at every epoch as
they are configured; scaled down per epoch, to 5 batches of 8 and few validation items. Every run is a process of its
own, which tells after some epochs its resident memory, what of it is in use (the rest is free, and glibc keeps it: see
`dynamo/memory.py`), how many objects Python has, and its open files. Compared are epoch 20 and the last.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib import pyplot as plt
from pytorch_lightning import Callback, LightningModule, Trainer
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event

from dynamo.cli import main

ROOT = Path(__file__).resolve().parents[1]
EPOCHS, MARKS = 201, (20, 50, 100, 200)  # not after the last: it has the projector tab to fill
MORE_RESIDENT, MORE_IN_USE, MORE_OBJECTS = 80e6, 10e6, 500
"""What epoch 200 may have more than epoch 20: bytes, bytes, and Python objects; configs/README.md says why."""
PICTURE, NUMBER = 100e3, 100
"""The bound of configs/README.md: bytes of a picture of a dozen networks, of which a tag has 100, and of a number."""


class MallInfo(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33 and later."""

    _fields_ = [(name, ctypes.c_size_t) for name in (*"abcdefg", "used", "free", "keep")]


def in_use() -> int:
    """Bytes that are allocated and not freed."""
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = MallInfo
    return int(ask().used)


class Watch(Callback):
    """Tells on standard error how much there is of everything, before some epochs begin."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch in MARKS:
            tell(trainer.current_epoch)


def tell(epochs: int) -> None:
    """One line of JSON."""
    gc.collect()
    found = {
        "epochs": epochs,
        "resident": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
        "in_use": in_use(),
        "objects": len(gc.get_objects()),
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "figures": len(plt.get_fignums()),
    }
    sys.stderr.write(f"{json.dumps(found)}\n")


def event_bytes(run: Path) -> tuple[Counter[str], Counter[str]]:
    """Bytes and number of entries in the event files, by tag for pictures, "numbers" for all others."""
    size: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for file in run.glob("events.*"):
        for raw in RawEventFileLoader(str(file)).Load():
            for value in Event.FromString(raw).summary.value:
                kind = value.tag if value.HasField("image") else "numbers"
                size[kind] += len(raw) + 16  # length and checksums
                count[kind] += 1
    return size, count


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("long")


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33 and /proc")
@pytest.mark.parametrize("kind", ["population", "meta"])  # in this order: the map is of that population
def test_long_run(kind: str, place: Path, table: Callable[[str], None]) -> None:
    words = ["-c", str(ROOT / f"configs/{kind}/demo.yaml"), "--run", str(place / kind)]
    words += ["--trainer.accelerator", "cpu", "--trainer.max_epochs", str(EPOCHS), "--trainer.limit_train_batches", "5"]
    words += ["--data.init_args.batch_size=8", "--data.init_args.val_items=40", "--trainer.callbacks+=__main__.Watch"]
    words += ["--accuracy_map.items=20", "--similarity_mds.items=12"]
    if kind == "meta":
        words += [f"--model.init_args.population={place}/population/population"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, __file__, *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    marks = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert [mark["epochs"] for mark in marks] == list(MARKS)
    for mark in marks:
        told = f"{mark['resident'] / 1e6:.0f} MB, {mark['in_use'] / 1e6:.1f} MB of it in use"
        table(f"{kind}, {mark['epochs']} epochs: {told}, {mark['objects']} objects, {mark['files']} files")
    size, count = event_bytes(place / kind)
    for name, entries in sorted(count.items()):
        table(f"{kind}, events: {entries} {name}, {size[name] / 1e6:.2f} MB, {size[name] / entries:.0f} bytes each")
    table(f"{kind}, events: {sum(file.stat().st_size for file in (place / kind).glob('events.*')) / 1e6:.1f} MB in all")
    first, last = marks[0], marks[-1]
    assert last["resident"] - first["resident"] < MORE_RESIDENT
    assert last["in_use"] - first["in_use"] < MORE_IN_USE
    assert last["objects"] - first["objects"] < MORE_OBJECTS
    assert (last["files"], last["figures"]) == (first["files"], 0)
    for name, entries in count.items():
        assert size[name] <= entries * (NUMBER if name == "numbers" else PICTURE)
        assert name == "numbers" or entries <= 100
    assert len(count) == (1 if kind == "population" else 5)


if __name__ == "__main__":
    main(["fit", *sys.argv[1:]])
