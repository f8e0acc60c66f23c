"""`manifest.json`: the description that makes a folder of weights a population, and how it is checked."""

from __future__ import annotations

import hashlib
import json
import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from dynamo.files import write_text
from dynamo.plain_file import open_plain, read_plain
from dynamo.population.members import Member
from dynamo.types import UserError

FORMAT = 1
"""Version of the folder's layout; a reader refuses what it does not know."""

NAME = "manifest.json"
LARGEST_MANIFEST = 64 * 2**20
"""Bytes; 100,000 members fit in, a file made to exhaust memory does not."""


class PopulationError(UserError):
    """A population folder is missing, damaged, or not what it says it is.

    Examples:
        >>> from dynamo.population import Population, PopulationError
        >>> try:
        ...     Population.load("runs/none/population")
        ... except PopulationError as error:
        ...     print(error)
        No population at runs/none/population: manifest.json is missing. Train one first ...
    """


@dataclass(frozen=True)
class BundleEntry:
    """One bundle's line in the manifest.

    Attributes:
        file: name of the weights file inside the folder.
        kind: which `Bundle` subclass it is.
        task: what its members were trained on.
        settings: what `Bundle.build` needs beside the count.
        members: its members, in the order of the stacked weights.
        sha256: of the weights file.
    """

    file: str
    kind: str
    task: str
    settings: dict[str, Any]
    members: tuple[Member, ...]
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Everything about a population but its weights.

    Attributes:
        bundles: one entry per bundle.
        fingerprint: hash of the vocabulary and of the data the members were trained on.
        class_names: the classes of every task.
        config: how the population was trained, for people to read.
    """

    bundles: tuple[BundleEntry, ...]
    fingerprint: dict[str, str] = field(default_factory=dict)
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read and check a folder's manifest.

        Raises:
            PopulationError: it is not there, not JSON, of another format version, or its content is not sound.
        """
        path = folder / NAME
        try:
            content = json.loads(read_plain(path, LARGEST_MANIFEST).decode("utf-8"))
        except FileNotFoundError:
            raise PopulationError(
                f"No population at {folder}: {NAME} is missing. Train one first "
                "(dynamo fit -c configs/population/...yaml), or correct the path."
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise PopulationError(f"{path} cannot be read ({error}); copy or train the population again.") from error
        try:
            return _parse(content)
        except KeyError as error:
            raise PopulationError(f"{path} is not a sound manifest: {error} is missing.") from error
        except (TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
            raise PopulationError(f"{path} is not a sound manifest: {error}.") from error


def _parse(content: Any) -> Manifest:  # noqa: ANN401 - whatever JSON held
    found = content["format"]
    if found != FORMAT:
        raise ValueError(
            f"its format version is {short(found)}, this release reads {FORMAT}; use the release that wrote it"
        )
    bundles = tuple(_parse_bundle(entry) for entry in content["bundles"])
    names = [member.name for entry in bundles for member in entry.members]
    if not names:
        raise ValueError("it has no members")
    if len(set(names)) < len(names):
        raise ValueError("two members have the same name")
    class_names = {str(task): tuple(map(str, classes)) for task, classes in content["class_names"].items()}
    fingerprint = {str(key): str(value) for key, value in content["fingerprint"].items()}
    return Manifest(bundles, fingerprint, class_names, dict(content["config"]))


def _parse_bundle(entry: Mapping[str, Any]) -> BundleEntry:
    file = str(entry["file"])
    if Path(file).name != file or not file.endswith(".safetensors"):
        raise ValueError(f"{short(file)} is not the name of a weights file inside the folder")
    members = tuple(_parse_member(member) for member in entry["members"])
    task = str(entry["task"])
    for member in members:
        if member.task != task:
            raise ValueError(f"member {short(member.name)} of task {short(member.task)} stands in one of {short(task)}")
    return BundleEntry(file, str(entry["kind"]), task, dict(entry["settings"]), members, str(entry["sha256"]))


def _parse_member(entry: Mapping[str, Any]) -> Member:
    unknown = set(entry) - {f.name for f in fields(Member)}
    if unknown:
        raise ValueError(f"a member has unknown fields {short(sorted(unknown))}")
    member = Member(**entry)
    for text in (member.name, member.group, member.task, member.policy):
        if not isinstance(text, str):
            raise TypeError(f"{short(text)} should be a text")
    for whole in (member.seed, member.subset_seed, 0 if member.epoch is None else member.epoch):
        if type(whole) is not int or abs(whole) >= 2**63:
            raise TypeError(f"member {short(member.name)}: {short(whole)} should be a whole number")
    measured = [a for a in (member.val_accuracy, member.test_accuracy) if a is not None]
    for number in (member.fraction, *measured):
        if not (isinstance(number, int | float) and math.isfinite(number)):
            raise TypeError(f"member {short(member.name)}: {short(number)} should be a finite number")
    return member


def short(value: object) -> str:
    """What a file said, for an error: as Python writes it, but neither endless nor deep."""
    return reprlib.repr(value)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits.

    Raises:
        OSError: it is missing, no ordinary file, or may not be read.
    """
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rewrite_members(folder: Path, members: Sequence[Sequence[Member]]) -> None:
    """Bring a saved population's manifest up to date (accuracies measured later); its weights stay as they are.

    Args:
        folder: of the population.
        members: one list per bundle.
    """
    saved = Manifest.read(folder)
    entries = [replace(e, members=tuple(m)) for e, m in zip(saved.bundles, members, strict=True)]
    write_text(folder / NAME, replace(saved, bundles=tuple(entries)).to_json())


def difference(first: Mapping[str, str], other: Mapping[str, str]) -> str:
    """In which of their hashes do two fingerprints differ? Their names and beginnings."""
    keys = [key for key in sorted({*first, *other}) if first.get(key) != other.get(key)]
    return ", ".join(f"{key} {first.get(key, 'none')[:8]} and {other.get(key, 'none')[:8]}" for key in keys)
