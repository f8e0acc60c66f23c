"""Training from Python, in a notebook or a script, without the command line: nothing on the disk, nothing said."""

from __future__ import annotations

import logging
import warnings

from pytorch_lightning import Trainer

from dynamo.console import speak_plainly


def quiet_trainer(max_epochs: int | None = None, max_steps: int = -1, max_time: str | None = None) -> Trainer:
    """How is a population, or its meta-model, trained where nothing should be left behind?

    By an ordinary Lightning Trainer that logs nothing, keeps no checkpoint and shows no progress: what was trained is
    in the module that it was given. A run that has to outlive the process, or to be watched in TensorBoard, is started
    by `dynamo fit`. From here on Lightning speaks up only to warn.

    Args:
        max_epochs: passes over the training items of the member with most of them.
        max_steps: optimiser steps; -1 for no limit but that of the epochs.
        max_time: as "00:00:02:00", after which training stops.

    Raises:
        ValueError: nothing says when to stop.

    Examples:
        >>> from datamodules import SyntheticSentimentDataModule
        >>> from dynamo import MemberGroup, PopulationTask
        >>> data = SyntheticSentimentDataModule(train_size=200)
        >>> groups = [MemberGroup("GRU", 2, hidden_size=4, embedding_size=3)]
        >>> task = PopulationTask(groups, data.vocab_size, data.classes)
        >>> quiet_trainer(max_steps=2).fit(task, data)
        >>> [member.name for member in task.population().members]
        ['GRU-0', 'GRU-1']
    """
    if max_epochs is None and max_steps == -1 and max_time is None:
        raise ValueError("nothing says when to stop: set max_epochs, max_steps or max_time.")
    speak_plainly()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # batches are indices: nothing to do
    return Trainer(
        max_epochs=max_epochs,
        max_steps=max_steps,
        max_time=max_time,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
