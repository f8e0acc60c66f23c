"""The command line `dynamo analyze KIND --run RUN ...`: one analysis of finished runs, as a picture and as JSON."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from dynamo.analyze.accuracy_map import AccuracyMap
from dynamo.analyze.averaging import Averaging
from dynamo.analyze.base import Analysis, Content, Result
from dynamo.analyze.embed import Embed
from dynamo.analyze.embedding import Embedding
from dynamo.analyze.fixed_points import FixedPoints
from dynamo.analyze.leave_one_out import LeaveOneOut
from dynamo.analyze.run import FinishedRun
from dynamo.analyze.semi_supervised import SemiSupervised
from dynamo.analyze.similarity import Similarity
from dynamo.analyze.word_scores import WordScores
from dynamo.figures import save_png
from dynamo.next_steps import after_analysis
from dynamo.options import PlainParser
from dynamo.runs import RunFolder
from dynamo.types import UserError

log = logging.getLogger(__name__)

ANALYSES: tuple[type[Analysis], ...] = (
    Embedding,
    Similarity,
    AccuracyMap,
    Averaging,
    SemiSupervised,
    FixedPoints,
    WordScores,
    Embed,
    LeaveOneOut,
)

HELP = "usage: dynamo analyze KIND --run RUN [RUN ...]\n\n{kinds}\n\n`dynamo analyze KIND --help` tells its options.\n"


def main(args: Sequence[str]) -> None:
    """Run the command line `dynamo analyze`.

    Raises:
        UserError: an unknown kind, runs that cannot be analysed, or rows of unequal length.
    """
    known = {kind.name: kind for kind in ANALYSES}
    if not args or args[0] in ("-h", "--help"):
        lines = [f"  {name:<16} {(kind.__doc__ or '').splitlines()[0]}" for name, kind in known.items()]
        log.info(HELP.format(kinds="\n".join(lines)))
        return
    if args[0] not in known:
        raise UserError(f"there is no analysis {args[0]!r}; choose one of {', '.join(known)}.")
    analysis, options = parse(known[args[0]], args[1:])
    if options["below"] and len(options["below"]) != len(options["run"]):
        raise UserError(
            f"--run names {len(options['run'])} runs, --below {len(options['below'])}: a row each, equally long."
        )
    rows = [
        [Result(folder, analyse_run(analysis, folder, options["device"])) for folder in map(RunFolder, map(Path, row))]
        for row in (options["run"], options["below"])
        if row
    ]
    report(analysis, rows, RunFolder(Path(options["out"])) if options["out"] else None)
    results = [result for row in rows for result in row]
    answers = all(result.content["output_weight"] for result in results)
    kinds = [kind.name for kind in answerable(answers)]
    if further := after_analysis(kinds, [result.folder for result in results]):
        log.info(further)


def answerable(answers: bool) -> list[type[Analysis]]:
    """What can be asked of maps that show answers, or of those of lambda = 0, which show states alone."""
    return [kind for kind in ANALYSES if answers or not kind.of_answers]


def parse(kind: type[Analysis], args: Sequence[str]) -> tuple[Analysis, dict[str, Any]]:
    """The analysis with its own options, and the options that all kinds have.

    Raises:
        UserError: an option out of its range.
    """
    parser = PlainParser(prog=f"dynamo analyze {kind.name}", description=kind.__doc__ or "", allow_abbrev=False)
    parser.add_argument("--run", nargs="+", type=str, required=True, help="Run folders; several for a summary.")
    parser.add_argument("--below", nargs="*", type=str, default=[], help="Runs drawn in a second row (Figure 9).")
    parser.add_argument("--out", type=str, help="Folder of the summary of several runs; default: of the first run.")
    parser.add_argument("--device", type=str, default="auto", help="cpu, cuda, or auto: a GPU where there is one.")
    for option in kind.folders:
        parser.add_argument(f"--{option}", nargs="+", type=str, required=True, help="Run folders, or patterns of them.")
    parser.add_class_arguments(kind, skip=set(kind.folders))
    found = parser.instantiate_classes(parser.parse_args(list(args)), instantiate_groups=False)
    try:
        analysis = kind(**{field.name: found[field.name] for field in fields(kind)})  # type: ignore[arg-type]
    except ValueError as error:
        raise UserError(f"dynamo analyze {kind.name}: {error}") from error
    return analysis, {key: found[key] for key in ("run", "below", "out", "device")}


def analyse_run(analysis: Analysis, folder: RunFolder, device: str = "auto") -> Content:
    """One run's numbers: computed and written, or read where they are there already and still hold.

    Raises:
        UserError: the run cannot be analysed in this way.
    """
    if holds(analysis, folder):
        log.info(f"{folder.results / analysis.name}.json holds: same options, same weights")
        return folder.read_result(analysis.name)
    run = FinishedRun.load(folder, device)
    try:
        content = analysis.content(run)
    except ValueError as error:
        raise UserError(f"{folder.root}: {error}") from error
    log.info(f"numbers: {folder.write_result(analysis.name, content)}")
    return folder.read_result(analysis.name)


def holds(analysis: Analysis, folder: RunFolder) -> bool:
    """Whether a run's numbers are there, rest on its weights and results as they are, and were asked for like this."""
    if not folder.done(analysis.name) or folder.newer_weights(analysis.name):
        return False
    if any(folder.newer_result(analysis.name, needed) for needed in analysis.needs):
        return False
    return bool(folder.read_result(analysis.name).get("options") == analysis.options())


def report(analysis: Analysis, rows: Sequence[Sequence[Result]], out: RunFolder | None) -> None:
    """Draw every run, and of several the summary: mean and spread of the numbers, and one picture.

    Args:
        analysis: what was asked.
        rows: one or two rows of runs.
        out: folder of the summary; by default that of the first run.
    """
    everyone = [result for row in rows for result in row]
    pictures = {result.folder.root: [[result]] for result in everyone}
    several = len(everyone) > 1 or out is not None
    target = out or everyone[0].folder
    if several:
        pictures[target.root] = [list(row) for row in rows]
    for root, content in pictures.items():
        path = save_png(analysis.draw(content), RunFolder(root).figures / f"{analysis.name}.png")
        log.info(f"picture: {path}")
    if several:
        told = [summary([result.content for result in row]) for row in rows]
        if isinstance(analysis, Embedding):  # a map is worth what its emulators are
            told = [numbers | fidelity(row) for numbers, row in zip(told, rows, strict=True)]
        upper = told[0] | analysis.across(rows)
        if len(rows) > 1:
            upper = {"upper": upper, "lower": told[1]}
        asked = {"runs": [str(result.folder.root) for result in everyone], "options": analysis.options()}
        log.info(f"summary: {target.write_result(f'{analysis.name}_summary', asked | upper)}")


def summary(per_run: Sequence[Content]) -> Content:
    """Mean and standard deviation over runs of every number that all of them have; options are none.

    What is infinite or unknown (None) in one run has no mean: the values alone are told.
    """
    found: Content = {}
    for key in per_run[0]:
        values = [one[key] for one in per_run if key in one]
        if len(values) < len(per_run) or key == "options":
            continue
        if all(isinstance(value, dict) for value in values):
            found[key] = summary(values)
        elif any(_is_number(value) for value in values) and all(v is None or _is_number(v) for v in values):
            known = all(value is not None and math.isfinite(value) for value in values)
            spread = statistics.stdev(values) if known and len(values) > 1 else None
            found[key] = {"mean": statistics.fmean(values) if known else None, "std": spread, "values": values}
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def fidelity(row: Sequence[Result]) -> Content:
    """How good are the emulators? The means over members that `dynamo test` wrote; nothing where it was not run."""
    tested = [
        result.folder.read_result("fidelity_test")["mean"] for result in row if result.folder.done("fidelity_test")
    ]
    return {"fidelity": summary(tested)} if len(tested) == len(row) else {}
