"""Do the TensorBoard events of a run that was interrupted read as those of one that never was?

What a killed process had logged after its last checkpoint is logged once more when the run goes on from there. So a
checkpoint notes how long the event files were, and a run that goes on cuts them to that length first.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from torch.utils.tensorboard import SummaryWriter

from dynamo.files import flush

log = logging.getLogger(__name__)

PATTERN: Final = "events.out.tfevents.*"


class RunBoard(TensorBoardLogger):
    """Logs into the run folder itself, and knows which event files other processes had left there before.

    Args:
        run: the run folder.
    """

    def __init__(self, run: str) -> None:
        super().__init__(run, name="", version="", default_hp_metric=False)
        self.earlier: tuple[str, ...] | None = None
        """Names of the event files that were there before this process wrote one; None before it has."""

    @property
    def experiment(self) -> SummaryWriter:
        """The writer, made when it is first asked for; on other ranks than 0 one that does nothing."""
        if self.earlier is None and getattr(rank_zero_only, "rank", 0) == 0:
            self.earlier = tuple(event_files(Path(self.log_dir)))
        board: SummaryWriter = super().experiment
        return board

    def lengths(self) -> dict[str, int]:
        """How long the event files are, everything logged so far being on the disk; name -> bytes."""
        self.experiment.flush()
        found = event_files(Path(self.log_dir))
        for path in found.values():
            flush(path)
        return {name: path.stat().st_size for name, path in found.items()}

    def rewind(self, lengths: Mapping[str, int]) -> None:
        """Take away what earlier processes logged after the moment when the files had these lengths.

        Args:
            lengths: as `lengths` gave them; files that are not among them came later.
        """
        found = event_files(Path(self.log_dir))
        for name in self.earlier or ():
            path, length = found[name], lengths.get(name)
            if length is None:
                path.unlink()
            elif (size := path.stat().st_size) > length:
                os.truncate(path, length)
            elif size < length:
                log.warning(f"{path} has lost {length - size} bytes since the checkpoint: its curves have a gap.")


def event_files(folder: Path) -> dict[str, Path]:
    """The event files of a folder, oldest first, by name."""
    return {path.name: path for path in sorted(folder.glob(PATTERN))}
