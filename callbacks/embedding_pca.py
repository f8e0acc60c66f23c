"""Where does every network lie on the map? The PCA plane of theta, its spectrum, and the projector tab."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pytorch_lightning import Trainer

from callbacks.base import MapCallback, show, writer
from callbacks.pictures import is_last, is_pictured
from callbacks.projector import SPRITE, list_embeddings
from dynamo.analysis import PCA, pca, silhouette
from dynamo.figures import embedding_plane, map_panel
from dynamo.figures.group_sprite import save_group_sprite
from dynamo.meta import MetaTask
from dynamo.population import Member


class EmbeddingPCA(MapCallback):
    """Where does every network lie on the map (Figure 3 of the paper)?

    Logs the figure `map/1_plane` (`map_pca.png`), the scalars `map/silhouette`, `map/silhouette_plane` and
    `map/dims_95`, and theta with the members' metadata and markers to the projector tab (every
    `projector_every_n_epochs`). Hook: the end of a training epoch. Cost: one SVD of `[N, D]` and a
    picture, about 0.3 s.

    Args:
        every_n_epochs: how often; 0 turns it off.
        projector_every_n_epochs: how often theta goes to the projector tab, at most a hundred times like the pictures;
            0 for at the last epoch only.

    Raises:
        ValueError: `every_n_epochs` is negative.

    Examples:
        >>> from pathlib import Path
        >>> from pytorch_lightning import Trainer
        >>> from callbacks import EmbeddingPCA
        >>> from datamodules import SyntheticSentimentDataModule
        >>> from dynamo import MetaTask, Population
        >>> from dynamo.population import RecurrentClassifier
        >>> data = SyntheticSentimentDataModule(train_size=200)
        >>> networks = [RecurrentClassifier("gru", data.vocab_size, 4, 8, 2) for _ in range(3)]
        >>> task = MetaTask(Population.from_modules(networks, task="synthetic"), data.vocab_size, dimensions=2)
        >>> quiet = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
        >>> quiet |= {"enable_progress_bar": False, "enable_model_summary": False}
        >>> Trainer(default_root_dir="run", max_epochs=1, callbacks=[EmbeddingPCA()], **quiet).fit(task, data)
        >>> [file.name for file in Path("run/figures").iterdir()]
        ['map_pca.png']
    """

    name: ClassVar[str] = "embedding_pca"

    def __init__(self, every_n_epochs: int = 1, projector_every_n_epochs: int = 0) -> None:
        super().__init__(every_n_epochs)
        self.projector_every_n_epochs = projector_every_n_epochs

    def compute(self, trainer: Trainer, task: MetaTask) -> PCA:
        """PCA of theta; theta is replicated, so every rank has the same."""
        return pca(task.theta)

    def log_numbers(self, trainer: Trainer, task: MetaTask, answer: PCA) -> None:
        """The scalars, the projector tab."""
        board = writer(trainer)
        if board is None:
            return
        for tag, value in numbers(task, answer).items():
            board.add_scalar(f"map/{tag}", value, global_step=trainer.global_step)
        if self._is_projected(trainer):
            header, rows = table(task.members)
            step, tag = trainer.global_step, "theta"
            board.add_embedding(task.theta.cpu(), rows, global_step=step, tag=tag, metadata_header=header)
            sprite = Path(board.log_dir) / f"{step:05d}/{tag}/{SPRITE}"
            save_group_sprite([member.group for member in task.members], sprite)
            list_embeddings(Path(board.log_dir))

    def draw(self, trainer: Trainer, task: MetaTask, answer: PCA) -> None:
        """The plane with the spectrum."""
        panel = map_panel(answer, task.members, f"epoch {trainer.current_epoch + 1}")
        show(trainer, "map/pca", embedding_plane(**vars(panel)))

    def _is_projected(self, trainer: Trainer) -> bool:
        """Whether theta goes to the projector tab in this epoch, in which it is asked about."""
        every = math.lcm(self.projector_every_n_epochs, self.every_n_epochs)
        due = every and (trainer.current_epoch + 1) % every == 0 and is_pictured(trainer, every)
        return is_last(trainer) or bool(due)


METADATA = ("name", "group", "task", "fraction", "policy", "seed", "epoch", "val_accuracy", "test_accuracy")
"""The columns of the projector tab: what can be read when the mouse points at a member, searched, coloured by."""


def table(members: Sequence[Member]) -> tuple[list[str], list[list[str]]]:
    """The columns of which something is known, and one row per member."""
    known = [name for name in METADATA if any(getattr(member, name) is not None for member in members)]
    return known, [["" if (v := getattr(m, name)) is None else str(v) for name in known] for m in members]


def numbers(task: MetaTask, answer: PCA) -> dict[str, float]:
    """The clustering numbers that are cheap enough for every epoch."""
    groups = [member.group for member in task.members]
    found = {"dims_95": float(answer.components_for(0.95))}
    counts = [groups.count(name) for name in set(groups)]
    if len(counts) > 1 and min(counts) > 1 and bool((answer.coordinates != 0).any()):
        found["silhouette"] = silhouette(task.theta, groups)
        found["silhouette_plane"] = silhouette(answer.coordinates[:, :2], groups)
    return found
