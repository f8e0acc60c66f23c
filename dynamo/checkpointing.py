"""Checkpoints that are written whole or not at all, and read without running anything that they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from dynamo.checkpoint_file import read_checkpoint
from dynamo.files import written_whole


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, flushes it to the disk, then renames it; for local paths.

    Lightning's own writer goes through TMPDIR, which may be another file system, and does not flush: a kill during
    the write can leave a truncated `last.ckpt`.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:  # noqa: ANN401
        """Write `checkpoint` to `path`.

        Raises:
            DiskFullError: there is no space left; a checkpoint that was there before is untouched.
        """
        with written_whole(Path(path)) as part, part.open("wb") as file:
            torch.save(checkpoint, file)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = None,  # noqa: ANN401 - Lightning's signature
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read one, checked from end to end, into the memory of the CPU; see `read_checkpoint`.

        Raises:
            CheckpointError: it is damaged, or no checkpoint.
        """
        return read_checkpoint(Path(path))
