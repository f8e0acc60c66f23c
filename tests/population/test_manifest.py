"""Is a manifest read as it was written, and is anything else refused with one clear error?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dynamo.population import Member, PopulationError
from dynamo.population.manifest import FORMAT, LARGEST_MANIFEST, NAME, BundleEntry, Manifest, file_hash

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
    with pytest.raises(PopulationError, match="larger than any manifest"):
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
        (lambda c: c["bundles"][0].update(task="ag_news"), "member 'a-0' of task 'imdb' stands in a bundle of"),
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
