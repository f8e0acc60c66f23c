"""A trained population: `Population`, in memory and as a folder of one manifest and one weights file per bundle."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from dynamo.files import folder_written_whole
from dynamo.population.base import Bundle
from dynamo.population.bundle_file import check_storable, read_bundle, write_bundle
from dynamo.population.hooks import Observe, Probe, ReadOut, call, reader
from dynamo.population.intake import take_in
from dynamo.population.manifest import NAME, Manifest, PopulationError, difference
from dynamo.population.members import Member
from dynamo.population.parts import KEY, complete
from dynamo.types import TaskBatch, Trajectory


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

    Examples:
        >>> import torch
        >>> from dynamo import Population
        >>> from dynamo.population import RecurrentClassifier
        >>> networks = [RecurrentClassifier(kind, 9, 4, hidden_size=3, classes=2) for kind in ("gru", "rnn")]
        >>> population = Population.from_modules(networks, groups=["GRU", "RNN"], task="film")
        >>> again = Population.load(population.save("runs/mine/population"))
        >>> words = torch.tensor([[2, 3, 4]])
        >>> bool(torch.equal(again.module("RNN-0")(words)[0], networks[1](words)[0]))  # on disk and back, bit for bit
        True
        >>> [member.group for member in Population.join([population, again.only({"GRU": "gated"})]).members]
        Traceback (most recent call last):
        dynamo.population.manifest.PopulationError: Several members are called GRU-0; names have to be unique.
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
        classes: dict[str, int] = {}
        for bundle, part in zip(self.bundles, self.bundle_members, strict=True):
            if bundle.count != len(part):
                raise PopulationError(f"A bundle of {bundle.count} networks was given {len(part)} members.")
            if len({member.task for member in part}) != 1:
                raise PopulationError("The members of a bundle have to share one task.")
            task = part[0].task
            if classes.setdefault(task, bundle.classes) != bundle.classes:
                raise PopulationError(
                    f"{part[0].name!r} tells {bundle.classes} classes apart, others of task {task!r} {classes[task]}; "
                    "networks of other classes need a task of their own."
                )
            bundle.requires_grad_(False).eval()
        names = Counter(member.name for member in self.members)
        twice = sorted(name for name, count in names.items() if count > 1)
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

    @classmethod
    def from_modules(
        cls,
        modules: Iterable[nn.Module],
        observe: Observe | None = None,
        *,
        read_out: ReadOut | str | None = None,
        example: Tensor | None = None,
        names: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        task: str | Sequence[str] = "task",
        class_names: Mapping[str, Sequence[str]] | None = None,
        fingerprint: Mapping[str, str] | None = None,
    ) -> Population:
        """Bring your own networks: trained modules of any make.

        They are copied and left as they were found. `RecurrentClassifier`s without `observe` run batched and can be
        saved; all others run one after the other in evaluation mode, and live in memory only. Members stand bundle
        after bundle, the order of theta: networks of one task and form (and, where they run batched, architecture)
        together, in the order given; `members` tells who. What reads step by step must not know what is to come.

        Args:
            modules: the networks.
            observe: how to look into them: `dynamo.observe("layer1", "layer2")`, or a function of a module and inputs.
                It returns the states of a stage or of several, and logits (None without answers): of token ids
                `[B, T]` and signals `[B, T, F]` states `[B, T, H]` and logits `[B, T, C]` or `[B, C]`; of vectors
                `[B, F]` and images `[B, channels, h, w]` states `[B, H]` or `[B, channels, h, w]` and logits `[B, C]`.
                Without it, their forward returns both. Bare `nn.LSTM`, `nn.GRU` and `nn.RNN` have states alone.
            read_out: the layer, or a function of a module and states of the last stage, that gives logits; needed
                where lambda is 0, and where a network that reads step by step answers only once but ought to be
                compared at every step.
            example: a few real inputs, B and T different, that all networks can read; else three token ids.
            names: one per network; `GROUP-0`, `GROUP-1`, ... by default.
            groups: one per network; by default its architecture or class.
            task: what they were trained on, all or each.
            class_names: the classes of every task.
            fingerprint: hashes of the vocabulary and the data, as a data module has them.

        Raises:
            PopulationError: a network cannot be studied, or names and groups do not fit; the message names it.
        """
        probe = Probe(observe or call, reader(read_out) if isinstance(read_out, str) else read_out)
        bundles, members = take_in(modules, probe, example, names, groups, task, class_names or {})
        return cls(bundles, members, fingerprint=fingerprint, class_names=class_names)

    def save(self, folder: str | Path) -> Path:
        """Write the population as a folder; whole or not at all.

        Raises:
            FileExistsError: the folder is there already; nothing finished is overwritten.
            PopulationError: it holds networks of your own, whose code no folder can hold.
        """
        folder = Path(folder)
        for bundle, members in zip(self.bundles, self.bundle_members, strict=True):
            check_storable(bundle, members)
        if folder.exists():
            raise FileExistsError(f"{folder} exists; choose another folder or remove it first.")
        with folder_written_whole(folder) as part:
            entries = []
            for index, (bundle, members) in enumerate(zip(self.bundles, self.bundle_members, strict=True)):
                entries.append(write_bundle(part / f"bundle-{index}.safetensors", bundle, members))
            manifest = Manifest(tuple(entries), self.fingerprint, self.class_names, self.config)
            (part / NAME).write_text(manifest.to_json(), encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Population:
        """Read a population folder; nothing in it is executed.

        Raises:
            PopulationError: the folder is missing, damaged or of another format; the message names the file.
        """
        folder = Path(folder)
        manifest = Manifest.read(folder)
        bundles = [read_bundle(folder, entry) for entry in manifest.bundles]
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

        Parts of one population become that population, in its order, whatever order they are given in.

        Raises:
            PopulationError: they were trained on different vocabularies or data, share a member's name, or lack parts.
        """
        first, *others = populations = complete(populations)
        for other in others:
            if other.fingerprint != first.fingerprint:
                raise PopulationError(
                    "The populations were trained on different vocabularies or data "
                    f"({difference(first.fingerprint, other.fingerprint)}); their inputs cannot be compared."
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
            config={"joined": [population.config for population in populations]} if others else first.config,
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
        chosen = self.filtered(lambda member: member.group in groups)
        renamed = [[replace(m, group=groups[m.group]) for m in part] for part in chosen.bundle_members]
        return chosen.with_members(renamed)

    def filtered(self, wanted: Callable[[Member], bool]) -> Population:
        """The members that are wanted, in the same order."""
        bundles, members = [], []
        for bundle, part in zip(self.bundles, self.bundle_members, strict=True):
            chosen = [index for index, member in enumerate(part) if wanted(member)]
            if chosen:
                bundles.append(bundle.take(chosen))
                members.append([part[index] for index in chosen])
        return self.with_members(members, bundles)

    def with_members(self, members: Sequence[Sequence[Member]], bundles: Sequence[Bundle] | None = None) -> Population:
        """The same population under other descriptions of its members, or with other bundles of the same origin.

        Args:
            members: one list per bundle.
            bundles: as they are by default; shared, not copied. With others it is no part any more.
        """
        return Population(
            self.bundles if bundles is None else bundles,
            members,
            fingerprint=self.fingerprint,
            class_names=self.class_names,
            config={k: v for k, v in self.config.items() if bundles is None or k != KEY},
        )

    def with_accuracies(self, stage: str, accuracies: Sequence[float]) -> Population:
        """The same population whose members know their accuracies `[N]` on a stage, val or test; NaN: unknown."""
        known: Iterator[dict[str, Any]] = (
            {f"{stage}_accuracy": value if math.isfinite(value) else None} for value in accuracies
        )
        return self.with_members([[replace(m, **next(known)) for m in part] for part in self.bundle_members])
