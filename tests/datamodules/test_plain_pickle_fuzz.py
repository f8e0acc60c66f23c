"""Whatever happens to a pickle of images: it is read as plain values or refused, and nothing is run."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from datamodules.plain_pickle import StoredArray, read_plain_pickle
from dynamo.pickle_machine import PlainPickleError

BrokenCopies = Callable[[bytes, int], Iterator[bytes]]


class Exploit:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("exploited", [False, True])
def test_a_broken_pickle_is_plain_or_refused(
    tmp_path: Path, broken_copies: BrokenCopies, protocol: int, exploited: bool
) -> None:
    images = {"data": np.arange(300, dtype=np.uint8).reshape(3, 100), "labels": [1, 2, 3], "more": ("é", b"x", None)}
    mark, path, refused = tmp_path / "mark", tmp_path / "file", 0
    content = pickle.dumps({**images, "run": Exploit(mark)} if exploited else images, protocol)
    for copy in broken_copies(content, 500):
        path.write_bytes(copy)
        try:
            found = read_plain_pickle(path)
            if isinstance(found, dict) and isinstance(array := found.get("data"), StoredArray):
                assert array.values().nbytes <= len(copy)
        except PlainPickleError:
            refused += 1
    assert refused > (450 if exploited else 150)
    assert not mark.exists()
