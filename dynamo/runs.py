"""A run folder: where its parts lie, and which stages of it are done."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from dynamo.expansion import check_expansion
from dynamo.files import write_text
from dynamo.plain_file import read_plain
from dynamo.types import UserError

LARGEST_RESULT: Final = 256 * 2**20
LARGEST_CONFIG: Final = 256 * 2**10
"""Bytes; ours have up to 5,000, and a larger one takes seconds to be read."""
MAX_OPTIONS, MAX_DEPTH = 20_000, 50
UNSOUND = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What PyYAML's constructors raise beside its own errors, of `!!timestamp x`, `!!int ''`, `!!bool x` and the like."""


@dataclass(frozen=True)
class RunFolder:
    """Where does a run keep its things?

    Attributes:
        root: the folder.
    """

    root: Path

    @property
    def config(self) -> Path:
        """The configuration `fit` was started with; serves `test` and `analyze` too."""
        return self.root / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        """Folder of `last.ckpt` and `best.ckpt`."""
        return self.root / "checkpoints"

    @property
    def results(self) -> Path:
        """Folder of the numbers, as JSON."""
        return self.root / "results"

    @property
    def figures(self) -> Path:
        """Folder of the pictures, as PNG."""
        return self.root / "figures"

    def checkpoint(self, name: str) -> Path:
        """The file of a checkpoint by its short name ("last", "best")."""
        return self.checkpoints / f"{name}.ckpt"

    def check_is_run(self, remedy: str = "") -> None:
        """Refuse a folder that no `dynamo fit` has made.

        Args:
            remedy: what to do about it; where it is empty, one is found.

        Raises:
            UserError: telling so.
        """
        if self.config.is_file():
            return
        from_python = any(map(Path.is_dir, (self.results, self.figures, self.root / "lightning_logs")))
        known = (
            "What a Trainer has left there from Python can be looked at, not asked: train by `dynamo fit`, with "
            "population: my_networks.population (docs/how_to/own_networks.md)."
        )
        remedy = remedy or (known if from_python else "Runs lie under runs/.")
        raise UserError(f"{self.root} is no run: {self.config.name} is missing. {remedy}")

    def check_finished(self) -> None:
        """Refuse a run whose training has not finished.

        Raises:
            UserError: naming the command that goes on with it.
        """
        if not self.done("fit"):
            command = f"dynamo fit -c {self.config} --ckpt_path last"
            raise UserError(f"{self.root}: the training has not finished; go on with `{command}`.")

    def done(self, stage: str) -> bool:
        """Whether a stage (fit, test, an analysis) has finished: its results are written last, and whole.

        Raises:
            UserError: nobody may look.
        """
        path = self.results / f"{stage}.json"
        try:
            return path.is_file()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error}): set the permissions of the folder.") from error

    def newer_weights(self, stage: str, other: RunFolder | None = None) -> bool:
        """Whether this run, or `other`, has written a checkpoint since a finished stage of this one."""
        last = (other or self).checkpoint("last")
        return last.is_file() and last.stat().st_mtime > (self.results / f"{stage}.json").stat().st_mtime

    def newer_result(self, stage: str, needed: str) -> bool:
        """Whether the numbers that a finished stage rests on were written anew since."""
        path = self.results / f"{needed}.json"
        return path.is_file() and path.stat().st_mtime > (self.results / f"{stage}.json").stat().st_mtime

    def write_result(self, stage: str, content: dict[str, Any]) -> Path:
        """Write a stage's numbers, whole or not at all."""
        path = self.results / f"{stage}.json"
        write_text(path, json.dumps(content, indent=1, default=_plain) + "\n")
        return path

    def read_result(self, stage: str) -> dict[str, Any]:
        """A finished stage's numbers.

        Raises:
            UserError: the stage has not finished, or its file is damaged or cannot be read.
        """
        path = self.results / f"{stage}.json"
        try:
            content = json.loads(read_plain(path, LARGEST_RESULT).decode("utf-8"))
            if not isinstance(content, dict):
                raise ValueError(f"it holds a {type(content).__name__} in place of a table")
        except FileNotFoundError:
            raise UserError(f"{path} is missing: the stage {stage!r} of this run has not finished.") from None
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error}); run the stage {stage!r} again.") from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is damaged ({error}); delete it and run the stage {stage!r} again.") from None
        return content

    def sweep(self) -> None:
        """Remove what a killed process left half-written; for the one process that may write here."""
        for pattern in ("*.tmp", ".*.tmp", "*/*.tmp", "*/.*.tmp", ".population-*", "snapshots/.epoch=*"):
            for path in self.root.glob(pattern):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def started(self) -> bool:
        """Whether a `fit` was ever started here."""
        return self.config.exists() or self.checkpoints.exists()


def read_config(path: Path) -> dict[str, Any]:
    """The options that a configuration file sets, read without building anything that it names.

    Raises:
        UserError: it is missing, no YAML of plain values, larger than any configuration, or endless once it is written
            out.
    """
    remedy = "Correct it, or take another one."
    try:
        text = read_plain(path, LARGEST_CONFIG).decode("utf-8")
        loader = yaml.SafeLoader(text)
        try:
            if (node := loader.get_single_node()) is not None:
                check_expansion(node, _parts, MAX_OPTIONS, MAX_DEPTH)
            content = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except FileNotFoundError:
        raise UserError(f"{path} is missing: there is no such configuration. Ours stand in configs/.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}). {remedy}") from error
    except (yaml.YAMLError, *UNSOUND) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{path} is no sound configuration ({reason}). {remedy}") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"{path} is no configuration: it holds no table of options. {remedy}")
    return content


def _parts(node: yaml.Node) -> list[yaml.Node]:
    """What a piece of YAML consists of; what an alias refers to is part of it each time."""
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever JSON does not know
    """Tensors and arrays as lists, paths as texts."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
