"""What is the folder that a report is asked of: the run of a map, of a population, or a figure with several seeds?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dynamo.population.manifest import NAME, Manifest
from dynamo.runs import UNSOUND, RunFolder
from dynamo.types import UserError

Content = dict[str, Any]
NO_ANALYSES: Final = ("overrides", "fit", "test", "fidelity_val", "fidelity_test")
"""Results of other commands than `dynamo analyze`."""
SUMMARY: Final = "_summary"
"""What the name of an analysis' results over several runs ends in."""


@dataclass(frozen=True)
class Source:
    """Whose report is it?

    Attributes:
        root: the folder that was named.
        runs: the runs it is about, finished: one, or the seeds of a figure in their order.
        maps: whether they are maps; else there is one, of a population.
    """

    root: RunFolder
    runs: tuple[RunFolder, ...]
    maps: bool


def find(folder: Path) -> Source:
    """Look what a folder is.

    Raises:
        UserError: it is no run and holds none, or a run has not finished.
    """
    root = RunFolder(folder)
    if root.config.is_file():
        root.check_finished()
        return Source(root, (root,), maps=not (folder / "population" / NAME).is_file())
    inside = [RunFolder(path) for path in sorted(folder.glob("*"), key=_naturally)]
    inside = [run for run in inside if run.config.is_file()]
    seeds = tuple(run for run in inside if run.root.name.startswith("seed=")) or _summed_up(root)
    if not seeds:
        names = ", ".join(run.root.name for run in inside)
        root.check_is_run(f"It holds the runs {names}: name one of them." if inside else "")
    for run in seeds:
        run.check_finished()
    return Source(root, seeds, maps=True)


def _summed_up(root: RunFolder) -> tuple[RunFolder, ...]:
    """The runs of an analysis that was asked with `--out`: of one row, and where they are still there."""
    for path in sorted(root.results.glob(f"*{SUMMARY}.json")):
        with sound(root, path.stem):
            content = root.read_result(path.stem)
            runs = tuple(RunFolder(Path(run)) for run in content.get("runs", ()))
            if "upper" not in content and all(run.config.is_file() for run in runs):
                return runs
    return ()


def manifest_of(run: RunFolder) -> Manifest:
    """Everything about the population that a run has trained, but its weights."""
    return Manifest.read(run.root / "population")


def analyses_of(run: RunFolder) -> dict[str, Content]:
    """The numbers of every analysis of a run, by kind, in the order of their names.

    Raises:
        UserError: a file of them is damaged.
    """
    names = sorted(path.stem for path in run.results.glob("*.json"))
    return {name: run.read_result(name) for name in names if name not in NO_ANALYSES and not name.endswith(SUMMARY)}


def fidelity_of(run: RunFolder) -> tuple[str, Content] | None:
    """The split on which the emulators were measured, the test split if that was, and the numbers."""
    for split in ("test", "val"):
        if run.done(f"fidelity_{split}"):
            return split, run.read_result(f"fidelity_{split}")
    return None


@contextmanager
def sound(run: RunFolder, stage: str) -> Iterator[None]:
    """Turns what is raised by numbers that are not what they should be into one line.

    Raises:
        UserError: naming the file.
    """
    try:
        yield
    except UNSOUND as error:
        path, reason = run.results / f"{stage}.json", " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"{path} is damaged ({reason}); delete it and run the stage {stage!r} again.") from error


def _naturally(path: Path) -> list[int | str]:
    """seed=10 comes after seed=2."""
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if part.isdecimal() and number % 2 else part for number, part in enumerate(parts)]
