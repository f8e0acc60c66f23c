"""From which moments can a run go on exactly, and how are they written down?

Lightning's counters can be saved at any moment, and what it makes of them on resuming differs from hook to hook:
steps are counted twice, a validation or an epoch's last hooks are left out, or the last batch is never logged. Two
moments are exact, if a few counters are set right on the way in or out: between two batches, when everything that
belongs to the first is done and nothing of the second has begun, and right before a validation.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pytorch_lightning import Trainer


class Moment(StrEnum):
    """When was a checkpoint written?"""

    BETWEEN_BATCHES = "between batches"
    """At the very start of a batch: the batch before, its log, its validation, its epoch's end are done."""
    END = "end"
    """At the end of training; a run with more epochs goes on from here as from the start of one."""
    BEFORE_VALIDATION = "before validation"
    """At the start of a validation, none of whose batches is read yet."""
    OTHER = "other"
    """Wherever somebody else called `save_checkpoint`: as Lightning has it."""


def set_counters(loops: dict[str, Any], moment: Moment) -> None:
    """Write the counters so that Lightning goes on from this moment, and not from what it takes it for.

    Args:
        loops: the entry "loops" of a checkpoint, changed in place.
        moment: when it was written.
    """
    fit = loops["fit_loop"]
    batches = fit["epoch_loop.batch_progress"]
    # As if the first batch of a validation had begun and not been finished: Lightning then starts that over.
    begun = int(moment == Moment.BEFORE_VALIDATION)
    none = {"ready": 0, "completed": 0, "started": 0, "processed": 0}
    total = {**none, "ready": begun, "started": begun}
    fit["epoch_loop.val_loop.batch_progress"] = {"total": total, "current": none, "is_last_batch": False}
    if moment in (Moment.BETWEEN_BATCHES, Moment.END):
        if moment == Moment.END:
            batches["current"] = dict.fromkeys(batches["current"], 0)
            batches["total"]["ready"] += 1  # as at the start of a batch; see `settle`
        batches["current"]["ready"] = batches["current"]["completed"]
        # Whether it is the last batch is found out again; Lightning would take the epoch for finished.
        batches["is_last_batch"] = False
        # Lightning counts a step on resuming, since where it saves itself the count has not been raised yet.
        fit["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1


def settle(trainer: Trainer, moment: Moment) -> None:
    """Set right what Lightning leaves as it was; called when training starts, after Lightning has read the counters.

    Args:
        trainer: which goes on.
        moment: when its checkpoint was written.
    """
    if moment in (Moment.BETWEEN_BATCHES, Moment.END):
        total: Any = trainer.fit_loop.epoch_loop.batch_progress.total
        total.ready = total.processed  # the batch that had been made ready is made ready again
