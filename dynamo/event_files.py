"""Do the TensorBoard events of a run that was interrupted read as those of one that never was?

What a killed process had logged after its last checkpoint is logged once more when the run goes on from there. So a
checkpoint notes how long the event files were, and a run that goes on cuts them to that length first.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_BLOB_SEQUENCE, DATA_CLASS_SCALAR, SummaryMetadata
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar import metadata as scalar_metadata
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.writer import FileWriter

from dynamo.files import flush

log = logging.getLogger(__name__)

PATTERN: Final = "events.out.tfevents.*"
KINDS: Final[dict[str, Any]] = {
    "simple_value": SummaryMetadata(
        data_class=DATA_CLASS_SCALAR,
        plugin_data=scalar_metadata.create_summary_metadata("", "").plugin_data,
    ),
    "image": SummaryMetadata(
        data_class=DATA_CLASS_BLOB_SEQUENCE,
        plugin_data=image_metadata.create_summary_metadata("", "", converted_to_tensor=True).plugin_data,
    ),
}
"""What has to be said of a number and of a picture, where torch says nothing, for their captions to be read."""


class Caption(NamedTuple):
    """What is written above a curve or a picture, and behind its (i); the text is Markdown."""

    title: str
    text: str


def no_caption(tag: str) -> Caption | None:
    """Tags speak for themselves."""
    return None


class CaptionedFile(FileWriter):
    """An event file in which the first entry of every tag says what the tag is; TensorBoard reads no other."""

    def __init__(self, folder: str, caption: Callable[[str], Caption | None]) -> None:
        super().__init__(folder)
        self._caption = caption
        self._seen: set[str] = set()

    def add_summary(self, summary: Any, global_step: int | None = None, walltime: float | None = None) -> None:  # noqa: ANN401
        """Write an entry, with its caption if it is the first of its tag."""
        for value in summary.value:
            if value.tag not in self._seen and (caption := self._caption(value.tag)) is not None:
                value.metadata.MergeFrom(KINDS.get(value.WhichOneof("value"), SummaryMetadata()))
                value.metadata.display_name, value.metadata.summary_description = caption
            self._seen.add(value.tag)
        super().add_summary(summary, global_step, walltime)


class CaptionedWriter(SummaryWriter):
    """A `SummaryWriter` into such a file."""

    file_writer: Any
    all_writers: Any

    def __init__(self, folder: str, caption: Callable[[str], Caption | None]) -> None:
        self._caption = caption
        super().__init__(folder)

    def add_summary(self, summary: Any, global_step: int) -> None:  # noqa: ANN401 - a protobuf
        """Write what `SummaryWriter` has no method for."""
        self._get_file_writer().add_summary(summary, global_step)

    def _get_file_writer(self) -> FileWriter:
        """The file; a new one after `close`."""
        if self.file_writer is None:
            self.file_writer = CaptionedFile(self.log_dir, self._caption)
            self.all_writers = {self.log_dir: self.file_writer}
        writer: FileWriter = self.file_writer
        return writer


class RunBoard(TensorBoardLogger):
    """Logs into the run folder itself, and knows which event files other processes had left there before.

    Args:
        run: the run folder.
        caption: what a tag is; None for one that speaks for itself.
    """

    def __init__(self, run: str, caption: Callable[[str], Caption | None] = no_caption) -> None:
        super().__init__(run, name="", version="", default_hp_metric=False)
        self.caption = caption
        self.earlier: tuple[str, ...] | None = None
        """Names of the event files that were there before this process wrote one; None before it has."""
        self.measured_at: int | None = None
        """The step of weights that are measured and not trained; Lightning would write 0. None in training."""

    @property
    def experiment(self) -> CaptionedWriter:
        """The writer, made when it is first asked for; on other ranks than 0 one that does nothing."""
        if self.earlier is None and getattr(rank_zero_only, "rank", 0) == 0:
            self.earlier = tuple(event_files(Path(self.log_dir)))
            self._experiment = CaptionedWriter(self.log_dir, self.caption)  # Lightning's would have no captions
        board: CaptionedWriter = super().experiment
        return board

    @property
    def continued(self) -> bool:
        """Whether an event file of an earlier process is left: what stands at the beginning of a run is in it."""
        return bool(event_files(Path(self.log_dir)).keys() & set(self.earlier or ()))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers; `epoch`, which Lightning adds to all of them, would be a curve of no use."""
        own = {tag: value for tag, value in metrics.items() if tag != "epoch"}
        super().log_metrics(own, step if self.measured_at is None else self.measured_at)

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
