"""`dynamo reproduce FIGURE`: every stage of a figure as a plain command, skipping what is done."""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from callbacks import GracefulStop
from dynamo.analyze.command import ANALYSES, parse
from dynamo.next_steps import STAGE, after_figure
from dynamo.runs import RunFolder, read_config
from dynamo.types import UserError

log = logging.getLogger(__name__)

FIGURES = Path("configs/figures")
OVERRIDES = "overrides"
"""Under which name a run notes the options that `dynamo reproduce` added to its training."""


def home() -> Path:
    """The folder that holds configs/: the working directory, or else the source tree of an editable install."""
    for folder in (Path.cwd(), Path(__file__).resolve().parent.parent):
        if (folder / FIGURES).is_dir():
            return folder
    raise UserError("configs/figures is not here; run `dynamo reproduce` in a clone of the repository.")


def stages(figure: str, scale: str, seeds: int) -> list[list[str]]:
    """The commands of a figure, in order, each as its words after `dynamo`.

    A stage that mentions `{seed}` is repeated for every seed; `{seeds:PATTERN}` stands for the pattern with each
    seed in turn; `reproduce OTHER` stands for the stages of another figure.

    Raises:
        UserError: unknown figure or scale.
    """
    folder = home() / FIGURES
    path = folder / f"{figure}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise UserError(f"There is no figure {figure!r}; choose one of {known}.")
    content = read_config(path)
    if scale not in content:
        raise UserError(f"{figure} has no scale {scale!r}, only {', '.join(content)}.")
    commands: list[list[str]] = []
    for stage in content[scale]:
        if stage.startswith("reproduce "):
            commands += stages(stage.split()[1], scale, seeds)
            continue
        words = [part for word in shlex.split(stage) for part in _each_seed(_reachable(word), seeds)]
        if any("{seed}" in word for word in words):
            commands += [[word.replace("{seed}", str(seed)) for word in words] for seed in range(seeds)]
        else:
            commands.append(words)
    return commands


def catalogue() -> str:
    """Which figures are there? As `dynamo reproduce` alone tells it, with the purpose that each file opens with."""
    lines = ["usage: dynamo reproduce FIGURE [--seeds N] [--scale full]\n"]
    for path in sorted((home() / FIGURES).glob("*.yaml")):
        purpose = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# Purpose: ")
        lines.append(f"  {path.stem:<26} {purpose}")
    return "\n".join([*lines, "\n`dynamo reproduce --help` tells its options.\n"])


def _reachable(word: str) -> str:
    """A configuration of the repository by a path that holds in the working directory."""
    outside = word.startswith("configs/") and not Path(word).is_file()
    return str(home() / word) if outside else word


def _each_seed(word: str, seeds: int) -> list[str]:
    """`{seeds:runs/x/seed=*}` -> one word per seed; any other word as it is."""
    if not (word.startswith("{seeds:") and word.endswith("}")):
        return [word]
    pattern = word.removeprefix("{seeds:").removesuffix("}")
    return [pattern.replace("*", str(seed)) for seed in range(seeds)]


def run_of(words: Sequence[str]) -> RunFolder:
    """The run folder of a stage: its `--run` (for analyses `--out`), else the last of its configs that names one."""
    for option in ("--out", "--run"):
        if option in words:
            return RunFolder(Path(words[words.index(option) + 1]))
    configs = [words[i + 1] for i, word in enumerate(words) if word in ("-c", "--config")]
    named = [read_config(Path(config)).get("run") for config in configs]
    found = [run for run in named if run]
    if not found:
        raise UserError(f"The stage `dynamo {shlex.join(words)}` names no run folder.")
    return RunFolder(Path(found[-1]))


def marker(words: Sequence[str]) -> str:
    """Under which name a stage's results stand when it is done."""
    if words[0] != "analyze":
        return words[0]
    several = "--out" in words or len(analysed(words)) > 1
    return f"{words[1]}_summary" if several else words[1]


def analysed(words: Sequence[str]) -> list[str]:
    """The runs an analysis is about: what follows `--run` and `--below`, up to the next option."""
    found, option = [], ""
    for word in words:
        if word.startswith("--"):
            option = word
        elif option in ("--run", "--below"):
            found.append(word)
    return found


def done(words: Sequence[str], folder: RunFolder) -> bool:
    """Whether a stage has finished; an analysis, whether it was of these runs as they are now, and asked like this."""
    stage = marker(words)
    if not folder.done(stage):
        return False
    if words[0] != "analyze":
        return True
    runs, found = analysed(words), folder.read_result(stage)
    if found.get("runs", runs) != runs or found.get("options") != asked(words):
        return False
    return all(_up_to_date(folder, stage, words[1], RunFolder(Path(run))) for run in runs)


def _up_to_date(folder: RunFolder, stage: str, kind: str, run: RunFolder) -> bool:
    """Whether a summary is younger than the weights of a run, and than what its numbers rest on."""
    if folder.newer_weights(stage, run):
        return False
    needs = next(analysis.needs for analysis in ANALYSES if analysis.name == kind)
    return not (run.done(kind) and any(run.newer_result(kind, needed) for needed in needs))


def asked(words: Sequence[str]) -> dict[str, Any]:
    """The options that an analysis is asked for with, its defaults included.

    Raises:
        UserError: there is no such analysis.
    """
    kinds = {kind.name: kind for kind in ANALYSES}
    if words[1] not in kinds:
        raise UserError(f"The stage `dynamo {shlex.join(words)}` asks for no analysis of {', '.join(kinds)}.")
    return parse(kinds[words[1]], words[2:])[0].options()


def overridden(commands: Sequence[Sequence[str]], overrides: Sequence[str]) -> list[list[str]]:
    """The stages with options of the command line added to every training and test.

    Args:
        commands: the stages.
        overrides: what `dynamo reproduce` does not know itself, such as `--data.init_args.root DIR`.

    Raises:
        UserError: it is no option of the data or the trainer, which all stages share.
    """
    names = [word for word in overrides if word.startswith("--")]
    foreign = [word for word in names if not word.startswith(("--data.", "--trainer."))]
    if foreign or (overrides and not overrides[0].startswith("--")):
        raise UserError(
            f"dynamo reproduce has no option {(foreign or overrides)[0]!r}; besides its own it takes --data.* and "
            "--trainer.*, for all trainings and tests of a figure."
        )
    return [[*words, *overrides] if words[0] in ("fit", "test") else list(words) for words in commands]


def check_same(folder: RunFolder, overrides: Sequence[str]) -> None:
    """Refuse to skip, or to go on with, a training that `dynamo reproduce` began with other options.

    Raises:
        UserError: telling both.
    """
    if folder.started() and folder.done(OVERRIDES):
        before = folder.read_result(OVERRIDES)["options"]
        if before != list(overrides):
            raise UserError(
                f"{folder.root} was begun with {shlex.join(before) or 'no options'}, not with "
                f"{shlex.join(overrides) or 'none'}; give the same again, or remove it."
            )


def resumed(words: Sequence[str], folder: RunFolder) -> list[str]:
    """The stage's command; a training that was interrupted goes on where it stopped."""
    if words[0] == "fit" and folder.started() and "--ckpt_path" not in words:
        return [*words, "--ckpt_path", "last"]
    return list(words)


def main(args: Sequence[str]) -> None:
    """Run the command line `dynamo reproduce`."""
    parser = argparse.ArgumentParser("dynamo reproduce", description=__doc__, allow_abbrev=False)
    parser.add_argument("figure", nargs="?", help="demo, fig3_sizes, ...: a file in configs/figures; none: a list")
    parser.add_argument("--scale", default="laptop", help="laptop (default) or full (GPUs)")
    parser.add_argument("--seeds", type=int, default=1, help="how many meta-models, each from its own seed")
    parser.add_argument("--dry-run", action="store_true", help="print the stages, run nothing")
    parser.epilog = "--data.* and --trainer.* go to all trainings and tests: --data.init_args.root DIR"
    options, overrides = parser.parse_known_args(list(args))
    if options.figure is None:
        log.info(catalogue())
        return
    if options.seeds < 1:
        raise UserError(f"--seeds is {options.seeds}; at least one meta-model is needed.")
    commands = overridden(stages(options.figure, options.scale, options.seeds), overrides)
    began = time.perf_counter()
    folder = RunFolder(Path())
    for number, words in enumerate(commands, start=1):
        folder = run_of(words)
        name = f"[{number}/{len(commands)}] dynamo {shlex.join(words)}"
        if words[0] == "fit" and not options.dry_run:
            check_same(folder, overrides)
        if done(words, folder) and not options.dry_run:
            log.info(f"{name}\n      done already; remove {folder.root} to run it again")
            continue
        command = resumed(words, folder)
        log.info(f"{name}{'   (goes on where it stopped)' if command != list(words) else ''}")
        if not options.dry_run:
            if words[0] == "fit":
                folder.write_result(OVERRIDES, {"options": overrides})
            _run(command)
    if not options.dry_run:
        log.info(after_figure(options.figure, folder, time.perf_counter() - began))


def _run(words: Sequence[str]) -> None:
    """Run one stage in a process of its own, which hears the signals that this one gets.

    Raises:
        UserError: it failed; what went wrong stands above, in its own words.
        SystemExit: it was stopped by a signal.
    """
    # In a group of its own, so that Ctrl-C reaches it once, through this process, and not twice.
    stage = subprocess.Popen(
        [sys.executable, "-m", "dynamo", *words],
        process_group=0,
        preexec_fn=_end_with_parent,
        env={**os.environ, STAGE: "1"},
    )
    received: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        received.append(number)
        stage.send_signal(number)

    in_charge = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, forward) for number in GracefulStop.signals} if in_charge else {}
    try:
        code = stage.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code and received:
        log.info("Interrupted. The same `dynamo reproduce` goes on from here.")
        raise SystemExit(128 + received[-1])
    if code:
        raise UserError(
            f"the stage `dynamo {shlex.join(words)}` ended with exit code {code}; mend what it says above and run the "
            "same `dynamo reproduce` again: finished stages are not repeated."
        )


def _end_with_parent() -> None:
    """In the process of a stage: get SIGTERM when `dynamo reproduce` dies, where the system can do that (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG of prctl.h
