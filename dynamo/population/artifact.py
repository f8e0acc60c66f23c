"""A trained population: `Population`, in memory and as a folder of one manifest and one weights file per bundle."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dynamo.population.base import Bundle
from dynamo.population.manifest import NAME, BundleEntry, Manifest, PopulationError, file_hash
from dynamo.population.members import Member
from dynamo.population.recurrent import RecurrentBundle
from dynamo.types import TaskBatch, Trajectory

KINDS: dict[str, type[Bundle]] = {RecurrentBundle.kind: RecurrentBundle}
"""The bundles that can be read from disk, by the name in their manifest."""


class Population:
    """Which networks are studied? An ordered list of trained, frozen members in bundles.

    Args:
        bundles: each holds the members of one architecture and one task.
        members: one list per bundle, in the order of its weights; names are unique over all.
        fingerprint: hashes of the vocabulary and the data they were trained on.
        class_names: the classes of every task.
        config: how they were trained, for people to read.

    Raises:
        PopulationError: counts or names do not fit together.
    """

    def __init__(
        self,
        bundles: Sequence[Bundle],
        members: Sequence[Sequence[Member]],
        *,
        fingerprint: Mapping[str, str] | None = None,
        class_names: Mapping[str, Sequence[str]] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.bundles = tuple(bundles)
        self.bundle_members = tuple(tuple(part) for part in members)
        self.fingerprint = dict(fingerprint or {})
        self.class_names = {task: tuple(names) for task, names in (class_names or {}).items()}
        self.config = dict(config or {})
        for bundle, part in zip(self.bundles, self.bundle_members, strict=True):
            if bundle.count != len(part):
                raise PopulationError(f"A bundle of {bundle.count} networks was given {len(part)} members.")
            if len({member.task for member in part}) != 1:
                raise PopulationError("The members of a bundle have to share one task.")
            bundle.requires_grad_(False).eval()
        names = [member.name for member in self.members]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise PopulationError(f"Several members are called {', '.join(twice)}; names have to be unique.")

    def __len__(self) -> int:
        """N, over all bundles."""
        return sum(bundle.count for bundle in self.bundles)

    @property
    def members(self) -> tuple[Member, ...]:
        """All members, bundle after bundle: the order of theta."""
        return tuple(member for part in self.bundle_members for member in part)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The task of every bundle."""
        return tuple(part[0].task for part in self.bundle_members)

    def to(self, device: torch.device | str) -> Self:
        """Move all bundles to a device."""
        for bundle in self.bundles:
            bundle.to(device)
        return self

    @torch.inference_mode()
    def run(self, batch: Mapping[str, TaskBatch], select: Sequence[Tensor] | None = None) -> list[Trajectory | None]:
        """What do the members do on a batch?

        Args:
            batch: a `TaskBatch` per task.
            select: for every bundle the indices of the members that run; all by default.

        Returns:
            A `Trajectory` per bundle; None where its task is not in the batch or none of it is selected.
        """
        trajectories: list[Trajectory | None] = []
        for index, (bundle, task) in enumerate(zip(self.bundles, self.tasks, strict=True)):
            chosen = None if select is None else select[index]
            idle = task not in batch or (chosen is not None and len(chosen) == 0)
            trajectories.append(None if idle else bundle(batch[task], chosen))
        return trajectories

    def module(self, name: str) -> nn.Module:
        """One member, by name, as an ordinary module.

        Raises:
            KeyError: there is no such member.
        """
        for bundle, part in zip(self.bundles, self.bundle_members, strict=True):
            for index, member in enumerate(part):
                if member.name == name:
                    return bundle.member(index)
        raise KeyError(f"No member {name!r}; the population has {', '.join(m.name for m in self.members)}.")

    def save(self, folder: str | Path) -> Path:
        """Write the population as a folder; whole or not at all.

        Raises:
            FileExistsError: the folder is there already; nothing finished is overwritten.
        """
        folder = Path(folder)
        if folder.exists():
            raise FileExistsError(f"{folder} exists; choose another folder or remove it first.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            entries = []
            for index, (bundle, members) in enumerate(zip(self.bundles, self.bundle_members, strict=True)):
                path = part / f"bundle-{index}.safetensors"
                save_file({k: v.detach().cpu().contiguous() for k, v in bundle.state_dict().items()}, path)
                entries.append(
                    BundleEntry(path.name, bundle.kind, members[0].task, bundle.settings, members, file_hash(path))
                )
            manifest = Manifest(tuple(entries), self.fingerprint, self.class_names, self.config)
            (part / NAME).write_text(manifest.to_json(), encoding="utf-8")
            part.chmod(0o755)  # mkdtemp makes folders that only their owner may read
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Population:
        """Read a population folder; nothing in it is executed.

        Raises:
            PopulationError: the folder is missing, damaged or of another format; the message names the file.
        """
        folder = Path(folder)
        manifest = Manifest.read(folder)
        bundles = [_load_bundle(folder, entry) for entry in manifest.bundles]
        return cls(
            bundles,
            [entry.members for entry in manifest.bundles],
            fingerprint=manifest.fingerprint,
            class_names=manifest.class_names,
            config=manifest.config,
        )

    @classmethod
    def join(cls, populations: Sequence[Population]) -> Population:
        """One population of the members of several; bundles of the same architecture, sizes and task are merged.

        Raises:
            PopulationError: they were trained on different vocabularies or data, or share a member's name.
        """
        first = populations[0]
        for other in populations[1:]:
            if other.fingerprint != first.fingerprint:
                raise PopulationError(
                    "The populations were trained on different vocabularies or data "
                    f"({_difference(first.fingerprint, other.fingerprint)}); their inputs cannot be compared."
                )
        alike: dict[str, tuple[list[Bundle], list[Member]]] = {}
        class_names: dict[str, tuple[str, ...]] = {}
        for population in populations:
            class_names |= population.class_names
            for bundle, members in zip(population.bundles, population.bundle_members, strict=True):
                key = json.dumps([bundle.kind, members[0].task, bundle.settings], sort_keys=True)
                bundles, joined = alike.setdefault(key, ([], []))
                bundles.append(bundle)
                joined.extend(members)
        return cls(
            [bundles[0].join(bundles[1:]) for bundles, _ in alike.values()],
            [members for _, members in alike.values()],
            fingerprint=first.fingerprint,
            class_names=class_names,
            config={"joined": [population.config for population in populations]},
        )

    def only(self, groups: Mapping[str, str]) -> Population:
        """The members of some groups, under new group names.

        Args:
            groups: group of this population -> what it is called from now on.

        Raises:
            PopulationError: there is no such group.
        """
        known = {member.group for member in self.members}
        missing = [name for name in groups if name not in known]
        if missing:
            raise PopulationError(f"No group {missing[0]!r}; the population has {', '.join(sorted(known))}.")
        bundles, members = [], []
        for bundle, part in zip(self.bundles, self.bundle_members, strict=True):
            chosen = [index for index, member in enumerate(part) if member.group in groups]
            if chosen:
                bundles.append(bundle.take(chosen))
                members.append([replace(part[i], group=groups[part[i].group]) for i in chosen])
        return Population(
            bundles, members, fingerprint=self.fingerprint, class_names=self.class_names, config=self.config
        )

    def with_accuracies(self, stage: str, accuracies: Sequence[float]) -> Population:
        """The same population whose members know their accuracy on a stage ("val" or "test").

        Args:
            stage: which split was measured.
            accuracies: `[N]`, in the order of the members; NaN where no item was read.
        """
        known: Iterator[dict[str, Any]] = (
            {f"{stage}_accuracy": value if math.isfinite(value) else None} for value in accuracies
        )
        members = [[replace(m, **next(known)) for m in part] for part in self.bundle_members]
        return Population(
            self.bundles, members, fingerprint=self.fingerprint, class_names=self.class_names, config=self.config
        )


def rewrite_manifest(folder: Path, population: Population) -> None:
    """Bring a saved population's manifest up to date (accuracies measured later); its weights stay as they are."""
    saved = Manifest.read(folder)
    entries = [replace(e, members=m) for e, m in zip(saved.bundles, population.bundle_members, strict=True)]
    part = folder / f"{NAME}.tmp"
    part.write_text(replace(saved, bundles=tuple(entries)).to_json(), encoding="utf-8")
    part.replace(folder / NAME)


def _load_bundle(folder: Path, entry: BundleEntry) -> Bundle:
    """Build a bundle without memory, then give it the file's tensors if they are what the manifest promises."""
    path = folder / entry.file
    if entry.kind not in KINDS:
        raise PopulationError(f"{folder}: bundles of kind {entry.kind!r} are unknown to this release.")
    if not path.is_file():
        raise PopulationError(f"{path} is missing; copy the whole folder again.")
    if file_hash(path) != entry.sha256:
        raise PopulationError(f"{path} is damaged: it is not the file the manifest describes. Copy the folder again.")
    try:
        tensors = load_file(path)
        if {tensor.dtype for tensor in tensors.values()} != {torch.float32}:
            raise TypeError("weights have to be of type float32")
        with torch.device("meta"):
            bundle = KINDS[entry.kind].build(len(entry.members), entry.settings)
        bundle.load_state_dict(tensors, assign=True)
    except (SafetensorError, RuntimeError, ArithmeticError, TypeError, ValueError, KeyError, OSError) as error:
        raise PopulationError(f"{path} does not hold what its manifest says: {error}") from error
    for name, tensor in tensors.items():
        sound = tensor.isfinite().flatten(1).all(1)
        if not sound.all():
            culprit = entry.members[int((~sound).nonzero()[0])].name
            raise PopulationError(f"{path}: member {culprit!r} has weights ({name}) that are not finite numbers.")
    return bundle


def _difference(first: Mapping[str, str], other: Mapping[str, str]) -> str:
    keys = [key for key in sorted({*first, *other}) if first.get(key) != other.get(key)]
    return ", ".join(f"{key} {first.get(key, 'none')[:8]} and {other.get(key, 'none')[:8]}" for key in keys)
