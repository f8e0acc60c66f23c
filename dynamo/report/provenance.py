"""Where do the numbers come from? Configuration, versions, hashes, seeds, times, and what makes them again."""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
import yaml

import dynamo
from dynamo.analyze.command import ANALYSES
from dynamo.report.source import Content, analyses_of, sound
from dynamo.report.table import Cell, Table, number
from dynamo.reproduce import OVERRIDES, run_of, stages
from dynamo.runs import RunFolder, read_config
from dynamo.types import UserError

HASHES: Final = {
    "population": "weights of the members",
    "vocabulary": "vocabulary",
    "data": "data set",
}
NOT_KNOWN: Final = "not noted"


def configuration(run: RunFolder) -> str:
    """The options of a run as YAML, without those that were left at nothing."""
    text: str = yaml.safe_dump(_set(read_config(run.config)), sort_keys=False, allow_unicode=True, width=110)
    return text


def population_configuration(run: RunFolder) -> str | None:
    """The options that the population of a map was trained with; None where its run is not there."""
    options = read_config(run.config).get("model", {}).get("init_args", {})
    place = options.get("population") if isinstance(options, dict) else None
    own = RunFolder(Path(place).parent) if isinstance(place, str) else None
    return configuration(own) if own is not None and own.config.is_file() else None


def saved_name(run: RunFolder) -> str:
    """Under which path was a run trained? It stands in its configuration, wherever its folder lies now."""
    return str(read_config(run.config).get("run") or run.root.name)


def stage_table(runs: Sequence[RunFolder]) -> Table:
    """What was trained and tested, when, for how long, with which versions."""
    rows = []
    for run in runs:
        for stage in ("fit", "test"):
            if not run.done(stage):
                continue
            with sound(run, stage):
                found = run.read_result(stage)
                seconds = found.get("seconds")
                rows.append(
                    [
                        Cell(f"{run.root.name}, {stage}"),
                        Cell(str(found.get("finished", NOT_KNOWN))),
                        number(None if seconds is None else float(seconds), 4, " s"),
                        *(number(float(found[k]) if stage == "fit" else None, 9) for k in ("epochs", "steps")),
                        *(Cell(str(found.get(name, NOT_KNOWN))) for name in ("python", "torch", "lightning", "dynamo")),
                    ]
                )
    now = (platform.python_version(), torch.__version__, version("pytorch-lightning"), dynamo.__version__)
    dash = Cell("–", -1.0)
    rows.append([Cell("this report"), Cell("–"), dash, dash, dash, *map(Cell, map(str, now))])
    columns = ("stage", "finished", "time", "epochs", "steps", "Python", "torch", "Lightning", "dynamo")
    return Table("Stages and versions", columns, rows)


def seed_table(runs: Sequence[RunFolder]) -> Table:
    """The seeds that decide a run."""
    rows = []
    for run in runs:
        config = read_config(run.config)
        found = {"seed_everything": config.get("seed_everything"), **_seeds(config)}
        rows += [[Cell(f"{run.root.name}: {name}"), Cell(str(value))] for name, value in found.items()]
    return Table("Seeds", ("seed", "value"), rows)


def hash_table(identity: Mapping[str, Any]) -> Table:
    """What the run rests on: two runs with the same hashes are about the same networks and data."""
    rows = [[Cell(text), Cell(str(identity.get(name, NOT_KNOWN)))] for name, text in HASHES.items() if name in identity]
    return Table("Hashes (sha256)", ("of", "hash"), rows)


def difference(runs: Sequence[RunFolder]) -> list[str]:
    """Which options are not the same in all runs? By their dotted names."""
    flat = [_flat(read_config(run.config)) for run in runs]
    names = dict.fromkeys(name for one in flat for name in one)
    return [name for name in names if any(one.get(name) != flat[0].get(name) for one in flat)]


def commands(runs: Sequence[RunFolder]) -> list[str]:
    """What makes the run again: by `dynamo reproduce`, if a figure of the repository is made so, and stage by stage."""
    found, name = [], saved_name(runs[0])
    if (figure := _figure(runs[0], name, len(runs))) is not None:
        found.append(figure)
    for run in runs:
        name = saved_name(run)
        found.append(f"dynamo fit -c {shlex.quote(f'{name}/config.yaml')} --run {shlex.quote(f'{name}-again')}")
        if run.done("test"):
            found.append(f"dynamo test -c {shlex.quote(f'{name}/config.yaml')} --ckpt_path last")
    done = {saved_name(run): analyses_of(run) for run in runs}
    order = [kind.name for kind in ANALYSES]  # what others rest on comes first
    kinds = dict.fromkeys(kind for one in done.values() for kind in one)
    for kind in sorted(kinds, key=lambda kind: order.index(kind) if kind in order else len(order)):
        asked = {name: one[kind] for name, one in done.items() if kind in one}
        options = _options(kind, next(iter(asked.values())).get("options"))
        found.append(" ".join([f"dynamo analyze {kind} --run", *map(shlex.quote, asked), *options]))
    return found


def _figure(run: RunFolder, name: str, seeds: int) -> str | None:
    """`dynamo reproduce FIGURE`, if one of its stages trains in this folder."""
    path = Path(name)
    overrides = run.read_result(OVERRIDES).get("options", []) if run.done(OVERRIDES) else None
    if overrides is None or not path.name.startswith("seed="):
        return None
    for scale in ("laptop", "full"):
        try:
            trained = [run_of(words).root for words in stages(path.parent.name, scale, seeds) if words[0] == "fit"]
        except UserError:  # no such figure, or no such scale of it
            continue
        if path in trained:
            more = [*(["--scale", scale] if scale != "laptop" else []), *(["--seeds", str(seeds)] if seeds > 1 else [])]
            return shlex.join(["dynamo", "reproduce", path.parent.name, *more, *map(str, overrides)])
    return None


def _options(kind: str, options: object) -> list[str]:
    """The options of an analysis that are not its defaults, as they would be typed."""
    known = next((analysis for analysis in ANALYSES if analysis.name == kind), None)
    if known is None or not isinstance(options, dict):
        return []
    typed = []
    for field in fields(known):  # type: ignore[arg-type]
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        value = options.get(field.name, default)
        if field.name in known.folders and isinstance(value, list):
            typed.append(shlex.join([f"--{field.name}", *map(str, value)]))
        elif value != default:
            typed.append(f"--{field.name} {shlex.quote(value if isinstance(value, str) else json.dumps(value))}")
    return typed


def _set(value: Any) -> Any:  # noqa: ANN401 - YAML of any depth
    """The same without options that are null."""
    if isinstance(value, dict):
        return {key: _set(part) for key, part in value.items() if part is not None}
    return value


def _flat(value: Mapping[str, Any], prefix: str = "") -> Content:
    found: Content = {}
    for key, part in value.items():
        found |= _flat(part, f"{prefix}{key}.") if isinstance(part, dict) else {f"{prefix}{key}": part}
    return found


def _seeds(config: Content) -> Content:
    return {name: value for name, value in _flat(config).items() if name.endswith("_seed") and value is not None}
