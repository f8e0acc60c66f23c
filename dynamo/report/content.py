"""Everything that stands in a report, gathered from a run's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dynamo.analyze.command import ANALYSES, summary
from dynamo.population import Member
from dynamo.report import provenance
from dynamo.report.maps import MapRun, load_all, page_data
from dynamo.report.member_tables import accuracy_table, fidelity_table, members_table
from dynamo.report.pictures import Missing, Picture, caption, missing_of, pictures_of
from dynamo.report.source import Content, Source, manifest_of, sound
from dynamo.report.summary import Summary, of_maps, of_population
from dynamo.report.table import Cell, Table, of_content


@dataclass(frozen=True)
class Found:
    """What an analysis has found.

    Attributes:
        name: of its kind.
        question: that it answers.
        options: that it was asked with.
        older: whether the weights were written after it.
        tables: its numbers.
    """

    name: str
    question: str
    options: str
    older: bool
    tables: list[Table]


@dataclass(frozen=True)
class Report:
    """What stands in the page, from top to bottom.

    Attributes:
        title: which run it is.
        kind: map or population.
        summary: key numbers, and what they mean.
        map: what the interactive map draws; None for a population.
        members: who the networks are.
        groups: fidelity or accuracy by group.
        pictures: of the run.
        missing: analyses that have not been run.
        found: the numbers of those that have.
        configurations: as YAML, by heading.
        differing: options that are not the same in all seeds.
        stages: times and versions.
        seeds: what the run was drawn from.
        hashes: of what it rests on.
        population: how the members were trained, as their folder tells.
        commands: that make it again.
    """

    title: str
    kind: str
    summary: Summary
    map: Content | None
    members: Table
    groups: Table | None
    pictures: list[Picture]
    missing: list[Missing]
    stages: Table
    seeds: Table
    hashes: Table
    population: Table | None
    commands: list[str]
    found: list[Found] = field(default_factory=list)
    configurations: dict[str, str] = field(default_factory=dict)
    differing: list[str] = field(default_factory=list)


def gather(source: Source) -> Report:
    """Read everything, and run a map's networks on a few items.

    Raises:
        UserError: something of it is damaged, or a map has not finished.
    """
    return _of_maps(source) if source.maps else _of_population(source)


def _of_maps(source: Source) -> Report:
    maps = load_all(source.runs)
    first = maps[0]
    single = len(maps) == 1
    name = provenance.saved_name(first.folder) if single else provenance.saved_name(first.folder).rpartition("/")[0]
    pictures = pictures_of(source.root, () if source.root == source.runs[0] else source.runs[:1])
    configurations = {"The map": provenance.configuration(first.folder)}
    if (theirs := provenance.population_configuration(first.folder)) is not None:
        configurations["Its population"] = theirs
    return Report(
        title=_title(name),
        kind="map",
        summary=of_maps(maps),
        map=page_data(maps),
        members=members_table(first.members, maps),
        groups=fidelity_table(maps),
        pictures=pictures,
        missing=missing_of(pictures, provenance.saved_name(first.folder), answers=first.output_weight > 0),
        found=_found(maps),
        configurations=configurations,
        differing=provenance.difference(source.runs) if not single else [],
        stages=provenance.stage_table(source.runs),
        seeds=provenance.seed_table(source.runs),
        hashes=provenance.hash_table(first.identity),
        population=_plain(first.population),
        commands=provenance.commands(source.runs),
    )


def _of_population(source: Source) -> Report:
    run = source.runs[0]
    manifest = manifest_of(run)
    members: list[Member] = [member for entry in manifest.bundles for member in entry.members]
    weights = {f"weights {entry.file}": entry.sha256 for entry in manifest.bundles}
    hashes = [[Cell(name), Cell(value)] for name, value in (weights | manifest.fingerprint).items()]
    return Report(
        title=_title(provenance.saved_name(run)),
        kind="population",
        summary=of_population(members),
        map=None,
        members=members_table(members),
        groups=accuracy_table(members),
        pictures=pictures_of(run),
        missing=[],
        configurations={"The population": provenance.configuration(run)},
        stages=provenance.stage_table(source.runs),
        seeds=provenance.seed_table(source.runs),
        hashes=Table("Hashes (sha256)", ("of", "hash"), hashes),
        population=_plain(manifest.config),
        commands=provenance.commands(source.runs),
    )


def _found(maps: Sequence[MapRun]) -> list[Found]:
    """The analyses that all seeds have, in the order of `dynamo analyze`."""
    order = [kind.name for kind in ANALYSES]
    names = [name for name in maps[0].analyses if all(name in one.analyses for one in maps)]
    found = []
    for name in sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name)):
        kind = next((kind for kind in ANALYSES if kind.name == name), None)
        contents = [one.analyses[name] for one in maps]
        over = f", mean ± standard deviation over {len(maps)} seeds" if len(maps) > 1 else ""
        with sound(maps[0].folder, name):
            tables = of_content(contents[0] if len(maps) == 1 else summary(contents), f"Numbers of {name}{over}")
        older = any(one.folder.newer_weights(name) for one in maps)
        options = contents[0].get("options")
        told = ", ".join(f"{key} {value}" for key, value in options.items()) if isinstance(options, dict) else ""
        found.append(Found(name, caption(kind)[0] if kind else "", told, older, tables))
    return found


def _plain(config: Mapping[str, Any]) -> Table | None:
    """How the members were trained, of what is told in plain values."""
    rows = [[Cell(key), Cell(str(value))] for key, value in config.items() if isinstance(value, str | int | float)]
    return Table("How the members were trained", ("option", "value"), rows) if rows else None


def _title(name: str) -> str:
    """The last two parts of a path: runs/fig3_sizes/seed=0 is known as fig3_sizes/seed=0."""
    return "/".join([part for part in name.split("/") if part][-2:])
