"""A run folder: where its parts lie, and which stages of it are done."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamo.files import write_text
from dynamo.types import UserError


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

    def done(self, stage: str) -> bool:
        """Whether a stage (fit, test, an analysis) has finished: its results are written last, and whole."""
        return (self.results / f"{stage}.json").is_file()

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
            UserError: the stage has not finished.
        """
        path = self.results / f"{stage}.json"
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{path} is missing: the stage {stage!r} of this run has not finished.") from None
        except json.JSONDecodeError as error:
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


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever JSON does not know
    """Tensors and arrays as lists, paths as texts."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
