"""What is this run? What TensorBoard tells beside curves and pictures: a text, a comparison, charts put together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Final

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from callbacks.base import run_board, steps_of
from callbacks.comparison import columns, line
from dynamo.event_files import CaptionedWriter
from dynamo.meta import MetaTask
from dynamo.population import Member, PopulationTask

Charts = dict[str, dict[str, list[str]]]
"""Category -> chart -> regular expressions of the tags that it shows, matched from their beginning."""

MAP_CHARTS: Final[Charts] = {
    "Loss of a map": {
        "Terms: loss = hidden + lambda * output": ["train/loss$", "train/hidden$", "train/output$"],
        "By group": ["train/loss/.+"],
        "On held-out items": ["val/loss$"],
    },
    "Fidelity of the emulators": {
        "Agreement: mean and worst": ["val/agreement$", "val/agreement_worst$"],
        "Agreement by group": ["val/agreement/.+"],
        "Variance explained by group": ["val/variance_explained/.+"],
        "Accuracy: emulators and originals": ["val/accuracy$", "val/original_accuracy$"],
    },
    "The map": {
        "Silhouette of the groups: all dimensions and plane": ["map/silhouette"],
        "Accuracy / best member's: at X and at the mean of all theta": ["map/accuracy_"],
        "Components that hold 95 % of the variance": ["map/dims_95$"],
        "Distances in theta against distances of hidden states: r": ["similarity/theta_r$"],
    },
    "Time": {"Share of the epoch that each callback took": ["cost/.+"]},
}
POPULATION_CHARTS: Final[Charts] = {
    "Training of a population": {
        "Loss: training and validation": ["train/loss$", "val/loss$"],
        "Loss by group": ["train/loss/.+"],
        "Validation accuracy by group": ["val/accuracy/.+"],
        "Validation accuracy of every member": ["val_members/accuracy/.+"],
    }
}


class Introduction(Callback):
    """What is this run, and how does it compare with others?

    Writes at the beginning of a run, once: the text `run/about` (who is on the map, or in the population), the
    layout of the Custom Scalars tab, and for a map the columns of the HParams tab and this run's line in it, see
    `callbacks/comparison.py`. It needs the logger of the command line, `dynamo.event_files.RunBoard`.
    Hooks: the start of training, of validation and of test. Cost: none.

    Args:
        enabled: False turns it off.

    Examples:
        >>> from callbacks.introduction import configuration
        >>> print(configuration("trainer: {max_epochs: 3}", files=[]))
        ```yaml
        trainer: {max_epochs: 3}
        ```
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write all of it, if nothing of this run is there yet."""
        if (logger := run_board(trainer)) is not None:
            logger.measured_at = None
        board = first_page(trainer)
        if board is None or not self.enabled or not isinstance(pl_module, MetaTask | PopulationTask):
            return
        charts = MAP_CHARTS if isinstance(pl_module, MetaTask) else POPULATION_CHARTS
        board.add_text("run/about", about(pl_module), global_step=0)
        layout = {title: {name: ["Multiline", tags] for name, tags in own.items()} for title, own in charts.items()}
        board.add_custom_scalars(layout)
        if isinstance(pl_module, MetaTask):
            for summary in (columns(), line(trainer, pl_module)):
                board.add_summary(summary, 0)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What is measured now, and is no part of a training, belongs to the step at which the weights were saved."""
        if trainer.state.fn != TrainerFn.FITTING and (logger := run_board(trainer)) is not None:
            logger.measured_at = steps_of(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same."""
        self.on_validation_start(trainer, pl_module)


def first_page(trainer: Trainer) -> CaptionedWriter | None:
    """The writer where a run begins; None on other ranks than 0, and where a run goes on that began before."""
    logger = run_board(trainer)
    if logger is None:
        return None
    board = logger.experiment  # asked for first: it finds out what was there before
    return None if logger.continued else board


def configuration(options: str, files: Sequence[Path]) -> str:
    """What was asked for: Markdown.

    Args:
        options: YAML.
        files: it was put together from; what they say of themselves in their first lines stands above the options.
    """
    told = []
    for file in files:
        told += [f"# {file}", *takewhile(lambda text: text.startswith("#"), file.read_text("utf-8").splitlines())]
    return "\n".join(["```yaml", *told, options.rstrip(), "```"])


def about(task: MetaTask | PopulationTask) -> str:
    """Who is on the map, or in the population: Markdown."""
    if isinstance(task, PopulationTask):
        title = f"**A population of {len(task.members)} networks**, trained one beside the other."
    else:
        states = "hidden states alone" if task.output_weight == 0 else "hidden states and outputs"
        title = (
            f"**A map of {len(task.members)} networks in {task.theta.shape[1]} dimensions.** "
            f"A {type(task.network).__name__} learns to emulate their {states} (lambda = {task.output_weight:g}); "
            "close points compute alike."
        )
    return f"{title}\n\n{_table(task.members)}"


def _table(members: Sequence[Member]) -> str:
    """One line per group; of what nothing is known, or is nowhere used, no column."""
    columns: dict[str, list[str]] = {"group": [], "networks": []}
    for name in dict.fromkeys(member.group for member in members):
        own = [member for member in members if member.group == name]
        columns["group"].append(name)
        columns["networks"].append(str(len(own)))
        for title, field in (("task", "task"), ("share of the training data", "fraction"), ("augmentation", "policy")):
            values = ", ".join(dict.fromkeys(str(getattr(member, field)) for member in own))
            columns.setdefault(title, []).append(values)
        known = [member.val_accuracy for member in own if member.val_accuracy is not None]
        span = f"{min(known):.3f} to {max(known):.3f}" if known else ""
        columns.setdefault("validation accuracy", []).append(span)
    shown = {title: cells for title, cells in columns.items() if set(cells) - {"", "none"}}
    rows = [list(shown), ["---"] * len(shown), *map(list, zip(*shown.values(), strict=True))]
    return "\n".join(" | ".join(row) for row in rows)
