"""What is said on the terminal: our own messages as they are, and of Lightning's what a person can use."""

from __future__ import annotations

import logging
import sys
import warnings


def speak_plainly() -> None:
    """Our own messages as they are; of Lightning's, not the advertisement and not the notes about its own code."""
    for name in ("dynamo", "callbacks", "datamodules"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        if not logger.handlers:
            logger.addHandler(_Stdout())
            logger.propagate = False
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(_no_advertisement)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter.*")  # `main([...])` from a notebook
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message="Grad strides do not match.*")  # of DDP and 1x1 convolutions: harmless


class _Stdout(logging.Handler):
    """Writes to standard output, whatever that is at the time: a progress bar may have put itself in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        sys.stdout.write(f"{self.format(record)}\n")


def _no_advertisement(record: logging.LogRecord) -> bool:
    noise = ("litlogger", "TPU available", "to estimate number of stepping batches", "was configured so")
    return not any(words in record.getMessage() for words in noise)
