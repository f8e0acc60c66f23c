"""Is a manifest read as it was written, and is anything else refused with one clear error?"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dynamo.population import Member, PopulationError
from dynamo.population.manifest import FORMAT, LARGEST_MANIFEST, NAME, BundleEntry, Manifest, file_hash

InChild = Callable[..., str]
MEMBER = Member("a-0", "a", "imdb", 3, 0.5, 1, "flip", 7, 0.75, 0.7)
ENTRY = BundleEntry("bundle-0.safetensors", "recurrent", "imdb", {"hidden_size": 5}, (MEMBER,), "abc")
MANIFEST = Manifest((ENTRY,), {"vocabulary": "12"}, {"imdb": ("neg", "pos")}, {"lr": 0.1, "deep": {"list": [1]}})


def written(folder: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> Path:
    content = json.loads(MANIFEST.to_json())
    change(content)
    (folder / NAME).write_text(json.dumps(content))
    return folder


def test_read_is_what_was_written(tmp_path: Path) -> None:
    assert Manifest.read(written(tmp_path)) == MANIFEST
    assert json.loads(MANIFEST.to_json())["format"] == FORMAT


def test_names_may_be_of_any_script(tmp_path: Path) -> None:
    def rename(content: dict[str, Any]) -> None:
        content["bundles"][0]["members"][0]["name"] = "größe-0 模型"

    assert Manifest.read(written(tmp_path, rename)).bundles[0].members[0].name == "größe-0 模型"


def test_a_missing_folder_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(PopulationError, match=r"No population at .*/here: manifest.json is missing. Train one first"):
        Manifest.read(tmp_path / "here")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\x80\x81", b"[" * 100_000, b'{"format": ' + b"1" * 5000 + b"}", b"\x80\x04K\x01."],
    ids=["empty", "cut off", "not text", "nested", "endless number", "pickle"],
)
def test_garbage_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(PopulationError, match=r"manifest.json cannot be read"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize("content", ["1", "null", '"text"', "[]", "{}", '[{"format": 1}]'])
def test_json_that_is_no_manifest(tmp_path: Path, content: str) -> None:
    (tmp_path / NAME).write_text(content)
    with pytest.raises(PopulationError, match=r"manifest.json is not a sound manifest"):
        Manifest.read(tmp_path)


def test_a_file_made_to_exhaust_memory_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / NAME).open("wb") as file:
        file.truncate(LARGEST_MANIFEST + 1)  # sparse
    with pytest.raises(PopulationError, match=r"manifest.json cannot be read .it has more than 67,108,864 bytes"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize("file", ["../x.safetensors", "/etc/x.safetensors", "a/b.safetensors", "x.pt", "..", ""])
def test_a_weights_file_lies_in_the_folder(tmp_path: Path, file: str) -> None:
    written(tmp_path, lambda content: content["bundles"][0].update(file=file))
    with pytest.raises(PopulationError, match="is not the name of a weights file inside the folder") as caught:
        Manifest.read(tmp_path)
    assert repr(file) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: c.update(format=2), "format version is 2, this release reads 1"),
        (lambda c: c.update(format="1"), "format version is '1'"),
        (lambda c: c.pop("format"), "'format' is missing"),
        (lambda c: c.pop("bundles"), "'bundles' is missing"),
        (lambda c: c.pop("fingerprint"), "'fingerprint' is missing"),
        (lambda c: c["bundles"][0].pop("sha256"), "'sha256' is missing"),
        (lambda c: c.update(bundles=[]), "it has no members"),
        (lambda c: c.update(bundles=7), "not a sound manifest"),
        (lambda c: c.update(class_names=[1]), "not a sound manifest"),
        (lambda c: c.update(config=[1]), "not a sound manifest"),
        (lambda c: c["bundles"][0].update(settings=3), "not a sound manifest"),
        (lambda c: c["bundles"][0].update(task="ag_news"), "member 'a-0' of task 'imdb' stands in one of 'ag_news'"),
        (lambda c: c["bundles"].append(c["bundles"][0]), "two members have the same name"),
    ],
)
def test_an_unsound_manifest_is_refused(tmp_path: Path, change: Callable[[Any], object], match: str) -> None:
    with pytest.raises(PopulationError, match=f"manifest.json is not a sound manifest: .*{match}|{match}"):
        Manifest.read(written(tmp_path, change))


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("name", 3, "3 should be a text"),
        ("group", None, "None should be a text"),
        ("policy", ["x"], r"\['x'\] should be a text"),
        ("seed", "0", "member 'a-0': '0' should be a whole number"),
        ("seed", None, "member 'a-0': None should be a whole number"),
        ("subset_seed", 0.5, "member 'a-0': 0.5 should be a whole number"),
        ("epoch", "", "member 'a-0': '' should be a whole number"),
        ("fraction", None, "member 'a-0': None should be a finite number"),
        ("fraction", "1", "member 'a-0': '1' should be a finite number"),
        ("test_accuracy", float("nan"), "member 'a-0': nan should be a finite number"),
        ("val_accuracy", float("inf"), "member 'a-0': inf should be a finite number"),
        ("val_accuracy", 10**400, "not a sound manifest"),
        ("code", "x", r"unknown fields \['code'\]"),
    ],
)
def test_a_member_s_fields_are_checked(tmp_path: Path, field: str, value: object, match: str) -> None:
    written(tmp_path, lambda content: content["bundles"][0]["members"][0].update({field: value}))
    with pytest.raises(PopulationError, match=match):
        Manifest.read(tmp_path)


def test_what_was_never_measured_may_be_missing(tmp_path: Path) -> None:
    def forget(content: dict[str, Any]) -> None:
        member = content["bundles"][0]["members"][0]
        del member["val_accuracy"]
        member.update(test_accuracy=None, epoch=None)

    (member,) = Manifest.read(written(tmp_path, forget)).bundles[0].members
    assert (member.val_accuracy, member.test_accuracy, member.epoch) == (None, None, None)


def test_file_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert file_hash(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path, in_child: InChild) -> None:
    (tmp_path / NAME).symlink_to("/dev/zero")
    said = in_child(lambda: Manifest.read(tmp_path), tmp_path, memory=64 << 20)
    assert said.startswith("PopulationError")
    assert "it is a device, not an ordinary file" in said
    (tmp_path / NAME).unlink()
    os.mkfifo(tmp_path / NAME)
    with pytest.raises(PopulationError, match=r"manifest.json cannot be read \(it is a pipe"):
        Manifest.read(tmp_path)
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).mkdir()
    with pytest.raises(PopulationError, match=r"manifest.json cannot be read \(it is a folder"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize("place", ["a\0b", "\ud800", "x" * 300, "manifest.json"])
def test_an_impossible_folder_is_named(tmp_path: Path, place: str) -> None:
    written(tmp_path)
    with pytest.raises(PopulationError, match=r"manifest.json cannot be read"):
        Manifest.read(tmp_path / place)


def test_without_permission_it_is_said(tmp_path: Path, in_child: InChild) -> None:
    written(tmp_path)
    (tmp_path / NAME).chmod(0)
    said = in_child(lambda: Manifest.read(Path()), tmp_path, locked=True)
    assert said.startswith("PopulationError: manifest.json cannot be read ([Errno 13]")


@pytest.mark.parametrize("depth", range(100, 1000, 50))
def test_depth_is_no_more_than_an_error(tmp_path: Path, depth: int) -> None:
    deep = "[" * depth + "]" * depth
    for name in ("format", "class_names", "fingerprint"):
        (tmp_path / NAME).write_text(json.dumps(json.loads(MANIFEST.to_json()) | {name: "X"}).replace('"X"', deep))
        with pytest.raises(PopulationError, match=r"manifest.json (is not a sound|cannot be read)"):
            Manifest.read(tmp_path)
    member = json.dumps(json.loads(MANIFEST.to_json())).replace('"a-0"', deep)
    (tmp_path / NAME).write_text(member)
    with pytest.raises(PopulationError, match=r"manifest.json (is not a sound|cannot be read)"):
        Manifest.read(tmp_path)


def test_an_error_is_short_whatever_the_file_says(tmp_path: Path) -> None:
    for field in ("name", "seed", "fraction", "x" * 10_000):
        written(tmp_path, lambda c: c["bundles"][0]["members"][0].update({field: ["x" * 10_000] * 100}))  # noqa: B023
        with pytest.raises(PopulationError) as caught:
            Manifest.read(tmp_path)
        assert len(str(caught.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize("seed", [2**63, -(2**63), True, 1.0])
def test_a_seed_is_a_number_that_a_generator_takes(tmp_path: Path, seed: object) -> None:
    written(tmp_path, lambda content: content["bundles"][0]["members"][0].update(seed=seed))
    with pytest.raises(PopulationError, match="should be a whole number"):
        Manifest.read(tmp_path)
