"""What does one do with what a command has made? Where it lies, and the commands that go on from there."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from pytorch_lightning import LightningModule

from dynamo.meta import MetaTask
from dynamo.population import PopulationTask
from dynamo.runs import RunFolder

STAGE: Final = "DYNAMO_STAGE"
"""Set in the environment of a command that is one of many, whose next step is the next of them: it names none."""

MOST_NUMBERS = 24
"""So many numbers of one summary are told at the end; the rest stands in its file."""

Steps = Mapping[str, str]
"""A command -> what it is for."""


def after(command: str, folder: RunFolder, module: LightningModule, configs: Iterable[Path] = ()) -> str:
    """Where is what `dynamo fit`, `validate` or `test` has made, and what comes next?

    Args:
        command: which of the three.
        folder: of the run.
        module: what was trained or measured; of one that is no task of ours the place alone is told.
        configs: the configurations that were given, by which that of a meta-model is found.
    """
    where = {
        "fit": f"results: {folder.root}   watch: tensorboard --logdir {folder.root}",
        "validate": "results: above, of the validation split; the next step measures on the test split",
        "test": f"results: {folder.results}",
    }
    told, population = [where[command]], folder.root / "population"
    steps: dict[str, str] = {}
    if command != "test":
        steps[f"dynamo test -c {_word(folder.config)}"] = "measures it on the test split"
    if isinstance(module, PopulationTask) and population.is_dir():
        told += [f"networks: {population}"]
        steps[f"dynamo fit -c {_word(map_config(configs))} --model.init_args.population {_word(population)}"] = (
            "trains the meta-model on it: the map"
        )
    elif isinstance(module, MetaTask):
        steps[f"dynamo analyze embedding --run {_word(folder.root)}"] = "the map, as a picture and in numbers"
        steps["dynamo analyze"] = "what else can be asked"
        steps[f"dynamo report {_word(folder.root)}"] = "all of it on one page"
    known = isinstance(module, PopulationTask | MetaTask) and folder.config.is_file()
    return "\n".join([*told, *listed(steps if known else {})])


def after_analysis(kinds: Iterable[str], folders: Iterable[RunFolder]) -> str:
    """What else can be asked of these runs? Empty where every kind of analysis has been.

    Args:
        kinds: names of all analyses.
        folders: of the runs.
    """
    folders = list(folders)
    left = [kind for kind in kinds if not all(folder.done(kind) for folder in folders)]
    runs = " ".join(_word(folder.root) for folder in folders)
    return "\n".join(listed({f"dynamo analyze KIND --run {runs}": f"KIND: {', '.join(left)}"} if left else {}))


def after_figure(figure: str, folder: RunFolder, seconds: float) -> str:
    """What a person wants to know at the end: the numbers, the picture, and where to look further."""
    lines = [f"\n{figure}: done in {seconds:.0f} s"]
    for path in sorted(folder.results.glob("*_summary.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        numbers = [f"  {name:<32} {value}" for name, value in _numbers(content)]
        more = [f"  ... and {len(numbers) - MOST_NUMBERS} more in {path}"] if len(numbers) > MOST_NUMBERS else []
        lines += numbers[:MOST_NUMBERS] + more
    lines += [f"  picture: {path}" for path in sorted(folder.figures.glob("*.png"))]
    lines += [f"  numbers: {folder.results}/*.json"]
    steps = {"tensorboard --logdir runs": "look around", "dynamo analyze": "what else can be asked"}
    if folder.config.is_file() or any(folder.root.glob("seed=*/config.yaml")):
        steps = {f"dynamo report {_word(folder.root)}": "all of it on one page", **steps}
    return "\n".join([*lines, *(f"  {line}" for line in listed(steps))])


def map_config(configs: Iterable[Path]) -> Path:
    """The configuration of a meta-model on the population of some others: it has the same name, in `meta/` beside."""
    for file in configs:
        beside = file.parent.parent / "meta" / file.name
        if file.parent.name == "population" and beside.is_file():
            return beside
    return Path("configs/meta/NAME.yaml")


def listed(steps: Steps) -> list[str]:
    """The commands below each other; none where this command is a stage of another."""
    if os.environ.get(STAGE):
        return []
    return [f"{'      ' if number else 'next: '}{words}   # {why}" for number, (words, why) in enumerate(steps.items())]


def _word(path: Path) -> str:
    """A path as it is typed."""
    return shlex.quote(str(path))


def _numbers(content: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """The scalars of a summary as `mean ± std`, nested names joined by dots."""
    found = []
    for key, value in content.items():
        if isinstance(value, dict) and set(value) == {"mean", "std", "values"}:
            if value["mean"] is not None:  # None: infinite or unknown in one of the runs
                spread = "" if value["std"] is None else f" ± {value['std']:.2g}"
                found.append((f"{prefix}{key}", f"{value['mean']:.4g}{spread}"))
        elif isinstance(value, dict):
            found += _numbers(value, f"{prefix}{key}.")
    return found
