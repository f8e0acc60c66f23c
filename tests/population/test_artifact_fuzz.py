"""Whatever happens to a population folder: its networks are those that were saved, or it is refused; nothing is run."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dynamo.population import Member, Population, PopulationError, RecurrentBundle
from dynamo.population.manifest import file_hash

BrokenCopies = Callable[[bytes, int], Iterator[bytes]]
InChild = Callable[..., str]
WEIGHTS = "bundle-0.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Population]:
    settings = {"vocab_size": 5, "embedding_size": 2, "hidden_size": 3, "classes": 2, "architecture": "gru"}
    bundle = RecurrentBundle.build(2, settings)
    bundle.initialise([1, 2])
    members = [Member(f"m-{seed}", "m", "t", seed, 0.5, val_accuracy=0.5) for seed in (1, 2)]
    population = Population([bundle], [members], class_names={"t": ("a", "b")}, config={"lr": 0.1})
    return population.save(tmp_path_factory.mktemp("saved") / "whole"), population


@pytest.fixture
def folder(saved: tuple[Path, Population], tmp_path: Path) -> Path:
    """A copy to be broken."""
    for file in saved[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def same_networks(found: Population, population: Population) -> bool:
    mine, theirs = (one.bundles[0].state_dict() for one in (found, population))
    return len(found.bundles) == 1 and all(mine[name].equal(theirs[name]) for name in theirs)


def vouch(folder: Path) -> None:
    """Let the manifest say that the weights are what they are."""
    content = json.loads((folder / "manifest.json").read_text())
    content["bundles"][0]["sha256"] = file_hash(folder / WEIGHTS)
    (folder / "manifest.json").write_text(json.dumps(content))


def test_a_broken_weights_file_is_refused(folder: Path, broken_copies: BrokenCopies) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    for copy in broken_copies(whole, 1200):
        (folder / WEIGHTS).write_bytes(copy)
        if copy == whole:
            continue
        with pytest.raises(PopulationError, match=r"bundle-0\.safetensors is damaged"):
            Population.load(folder)


def test_a_broken_weights_file_that_its_manifest_vouches_for(folder: Path, broken_copies: BrokenCopies) -> None:
    refused = 0
    for copy in broken_copies((folder / WEIGHTS).read_bytes(), 1000):
        (folder / WEIGHTS).write_bytes(copy)
        vouch(folder)
        try:
            found = Population.load(folder)
        except PopulationError:
            refused += 1
        else:
            state = found.bundles[0].state_dict()
            assert all(tensor.isfinite().all() and tensor.dtype == torch.float32 for tensor in state.values())
            assert len(found) == 2
    assert refused > 500


def is_refused(folder: Path, manifest: bytes, written: Population) -> bool:
    """Whether a folder with this manifest is refused; otherwise it has to hold the networks that were written."""
    (folder / "manifest.json").write_bytes(manifest)
    try:
        found = Population.load(folder)
    except PopulationError:
        return True
    assert same_networks(found, written)
    return False


def test_a_broken_manifest_is_refused_or_describes_the_same_networks(
    saved: tuple[Path, Population], folder: Path, broken_copies: BrokenCopies
) -> None:
    copies = broken_copies((folder / "manifest.json").read_bytes(), 2000)
    assert sum(is_refused(folder, copy, saved[1]) for copy in copies) > 1000


ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 0.5, -0.5, 1e308, float("nan"), float("inf"), 2**31, 2**63, 2**64, 10**30, 10**400,
    "", "0", "gru", "x" * 1000, "a\0b", "\ud800", "../x", "/etc/passwd", "bundle-0.safetensors", "residual", [], [[]],
    [1], ["a"], [None], [{}], [0] * 1000, [["a", "b"]], [[[[[[]]]]]], {}, {"": None}, {"a": 1}, {"name": "x"},
    {"t": ["a"]}, {"t": 5}, {"t": [1]}, {"members": []}, {"a": {}}, 10**19, "1", "nan",
]  # fmt: skip


def places(content: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401
    """The path of everything in the manifest."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inner:
        yield (*above, key)
        yield from places(value, (*above, key))


def test_a_manifest_with_anything_anywhere(saved: tuple[Path, Population], folder: Path) -> None:
    text = (saved[0] / "manifest.json").read_text()
    tried = refused = 0
    for *path, key in places(json.loads(text)):
        for value in ODD:
            content = part = json.loads(text)
            for step in path:
                part = part[step]
            part[key] = value
            tried += 1
            refused += is_refused(folder, json.dumps(content).encode(), saved[1])
    assert tried > 1900
    assert refused > 1000


HEADERS = [
    struct.pack("<Q", 1 << 62),
    struct.pack("<Q", 100_000_000) + b"{",
    b'{"w":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}',
    b'{"w":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,0]}}',
    b'{"w":{"dtype":"F32","shape":[0],"data_offsets":[18446744073709551615,0]}}',
    b"[" * 100_000,
    b'{"w":' * 10_000,
]


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
def test_a_header_that_claims_terabytes_takes_no_memory(folder: Path, in_child: InChild, header: bytes) -> None:
    content = header if header[:1] not in b"[{" else struct.pack("<Q", len(header)) + header
    (folder / WEIGHTS).write_bytes(content)
    vouch(folder)
    said = in_child(lambda: Population.load(folder), folder, memory=256 << 20)
    assert said.startswith("PopulationError"), said


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("recurrent", {"architecture": "gru", "vocab_size": 1 << 40, "embedding_size": 1, "hidden_size": 1,
                       "classes": 1}),
        ("residual", {"widths": [4096] * 4, "depths": [256] * 4, "classes": 1 << 40}),
        ("residual", {"widths": [1] * 4, "depths": [4096] * 4, "classes": 1}),
        ("residual", {"widths": [1] * 10**6, "depths": [1] * 4, "classes": 1}),
        ("residual", {"widths": 4, "depths": "4444", "classes": 1}),
        ("residual", {"widths": [1] * 4, "depths": [1] * 4, "classes": -1}),
    ],
)  # fmt: skip
def test_sizes_without_end_take_neither_memory_nor_time(
    folder: Path, in_child: InChild, kind: str, settings: dict[str, Any]
) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    content["bundles"][0].update(kind=kind, settings=settings)
    (folder / "manifest.json").write_text(json.dumps(content))
    said = in_child(lambda: Population.load(folder), folder, memory=512 << 20, seconds=30)
    assert said.startswith("PopulationError"), said
    assert len(said) < 3000


def test_a_hundred_thousand_names_are_compared_in_no_time(tmp_path: Path, in_child: InChild) -> None:
    sizes = dict.fromkeys(("vocab_size", "embedding_size", "hidden_size", "classes"), 1)
    many = RecurrentBundle.build(100_000, {"architecture": "rnn", **sizes})
    members = [Member(str(number), "m", "t") for number in range(100_000)]
    assert in_child(lambda: Population([many], [members]), tmp_path, seconds=30) == "returned"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["embedding", "readout_bias"])
def test_weights_that_are_no_numbers_name_their_member(folder: Path, saved: Any, name: str, number: float) -> None:  # noqa: ANN401
    state = {key: value.clone() for key, value in saved[1].bundles[0].state_dict().items()}
    state[name][1].view(-1)[-1] = number
    save_file(state, folder / WEIGHTS)
    vouch(folder)
    with pytest.raises(PopulationError, match=rf"'m-2' has weights \({name}\) that are not finite numbers"):
        Population.load(folder)


def test_a_weights_file_that_is_none(folder: Path, in_child: InChild) -> None:
    path = folder / WEIGHTS
    path.chmod(0)
    (folder / "manifest.json").chmod(0o644)
    said = in_child(lambda: Population.load(Path()), folder, locked=True)
    assert said.startswith("PopulationError: bundle-0.safetensors cannot be read ([Errno 13]")
    for make in (
        os.mkfifo,
        os.mkdir,
        lambda place: place.symlink_to("/dev/zero"),
        lambda place: place.symlink_to(place),
    ):
        path.rmdir() if path.is_dir() else path.unlink()
        make(path)
        with pytest.raises(PopulationError, match=r"bundle-0\.safetensors cannot be read"):
            Population.load(folder)
    content = json.loads((folder / "manifest.json").read_text())
    for name in ("x" * 300, "\ud800", "a\0b"):
        content["bundles"][0]["file"] = f"{name}.safetensors"
        (folder / "manifest.json").write_text(json.dumps(content))
        with pytest.raises(PopulationError, match=r"safetensors cannot be read"):
            Population.load(folder)
