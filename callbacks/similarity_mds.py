"""Which networks represent the items alike, and does the map say the same? SVCCA, its MDS, and theta beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from callbacks.base import MapCallback, NothingToShowError, held_out, show, writer
from dynamo.analysis import PCA, euclidean_distances, pca
from dynamo.analysis.mds import MDS, smacof_mds
from dynamo.analysis.similarity import Kind, distance_correlation
from dynamo.analysis.similarity_sums import SimilaritySums
from dynamo.analysis.states import emulator_states, population_states, state_sizes
from dynamo.figures import EmbeddingPanel, map_panel
from dynamo.figures.distance_panels import distance_panels
from dynamo.meta import MetaTask
from dynamo.population.ranks import rows_of_ranks

MOST_BYTES = 2**30
"""What the products of all pairs of networks may take in memory."""


@dataclass(frozen=True)
class Similarities:
    """What one epoch has to say.

    Attributes:
        distances: between the base models' hidden states `[N, N]`, mean over the stages where there are several.
        scaled: their two-dimensional scaling.
        emulators: distance of every emulator's states to those of its original `[N]`, mean over the stages.
        theta: distances between the points of the map `[N, N]`.
        plane: PCA of theta.
        agreement: correlation of the two kinds of distance over all pairs; None where one of them does not vary.
    """

    distances: Tensor
    scaled: MDS
    emulators: Tensor
    theta: Tensor
    plane: PCA
    agreement: float | None


class SimilarityMDS(MapCallback):
    """Does the map agree with the distances between representations (Figure 5 of the paper)?

    Logs the figure `map/3_similarity` (`map_similarity.png`: MDS of the distances between base models, the PCA plane of
    theta beside it, and one kind of distance against the other), and the scalars `similarity/theta_r` (correlation of
    the two over all pairs), `similarity/emulators` and `similarity/emulators_worst` (mean and largest distance of an
    emulator to its original). Hook: the end of a training epoch. Many processes share the items and put their sums
    together. Cost: one pass of members and emulators over `items` validation items and N products of their states (once
    also F^2 numbers, F the hidden units of all members, or the sum of this over stages; above 1 GiB the callback keeps
    still), and a picture.

    Args:
        every_n_epochs: how often; 0 turns it off.
        items: validation items of each task that all networks read; every real step of an item is a sample, of
            feature maps as many positions as `dynamo.analysis.states.POSITIONS` says.
        measure: svcca, pwcca, cka or procrustes.
        variance: share of the variance that SVCCA and PWCCA keep.

    Raises:
        ValueError: an option is out of its range.

    Examples:
        >>> from callbacks import SimilarityMDS
        >>> SimilarityMDS(every_n_epochs=5, measure="cka").measure
        'cka'
        >>> SimilarityMDS(variance=2)
        Traceback (most recent call last):
        ValueError: similarity_mds: items is 24 (at least 1), variance 2 (in (0, 1]).
    """

    name: ClassVar[str] = "similarity_mds"

    def __init__(
        self, every_n_epochs: int = 1, items: int = 24, measure: Kind = "svcca", variance: float = 0.99
    ) -> None:
        super().__init__(every_n_epochs)
        if items < 1 or not 0 < variance <= 1:
            raise ValueError(f"{self.name}: items is {items} (at least 1), variance {variance} (in (0, 1]).")
        self.items, self.measure, self.variance = items, measure, variance
        self._base: tuple[Tensor, MDS] | None = None  # the base models are frozen: once is enough

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget what was measured of another population."""
        super().on_train_start(trainer, pl_module)
        self._base = None

    def compute(self, trainer: Trainer, task: MetaTask) -> Similarities:
        """The distances; every rank reads its share of the items and adds up the sums of all."""
        sizes = state_sizes(task.population)
        if len(sizes[0]) < 3:
            raise NothingToShowError("distances between fewer than three networks are no map")
        if 8 * sum(sum(stage) ** 2 for stage in sizes) > MOST_BYTES:
            raise NothingToShowError(f"{len(sizes[0])} networks are many; `dynamo analyze similarity` compares them")
        base = [SimilaritySums(stage) for stage in sizes] if self._base is None else []
        pairs = [
            [SimilaritySums([size, units]) for size in stage]
            for stage, units in zip(sizes, task.network.hidden_sizes, strict=True)
        ]
        batch = held_out(trainer, task, self.items, trainer.global_rank, trainer.world_size)
        if batch:
            originals = population_states(task.population, batch, task.burn_in)
            emulators = emulator_states(task.network, task.theta, batch, task.burn_in)
            for one, states in zip(base, originals, strict=bool(base)):
                one.update(states)
            for stage in zip(pairs, originals, emulators, strict=True):
                for pair, original, emulator in zip(*stage, strict=True):
                    pair.update([original, emulator])
        try:
            if self._base is None:
                distances = torch.stack([self._distances(task, one) for one in base]).mean(0)
                self._base = distances, smacof_mds(distances)
            each = [torch.stack([self._distances(task, pair)[0, 1] for pair in stage]) for stage in pairs]
        except ValueError as error:
            raise NothingToShowError(f"{error} (similarity_mds.items is {self.items})") from error
        assert self._base is not None
        theta = euclidean_distances(task.theta)
        agreement = _agreement(self._base[0], theta)
        return Similarities(*self._base, torch.stack(each).mean(0), theta, pca(task.theta), agreement)

    def _distances(self, task: MetaTask, sums: SimilaritySums) -> Tensor:
        """The distances of the sums of all ranks."""
        rows = rows_of_ranks(sums.as_tensor().to(task.device))
        return SimilaritySums.from_tensor(rows).distances(self.measure, self.variance)

    def log_numbers(self, trainer: Trainer, task: MetaTask, answer: Similarities) -> None:
        """The scalars."""
        board = writer(trainer)
        scalars = {"emulators": float(answer.emulators.mean()), "emulators_worst": float(answer.emulators.max())}
        if answer.agreement is not None:
            scalars["theta_r"] = answer.agreement
        if board is not None:
            for tag, value in scalars.items():
                board.add_scalar(f"similarity/{tag}", value, global_step=trainer.global_step)

    def draw(self, trainer: Trainer, task: MetaTask, answer: Similarities) -> None:
        """The two planes and the scatter."""
        note = None if answer.agreement is None else f"r = {answer.agreement:.2f}"
        stages, measure = len(task.network.hidden_sizes), self.measure.upper()
        places = EmbeddingPanel(
            coordinates=answer.scaled.coordinates,
            groups=[member.group for member in task.members],
            title=f"{measure} of hidden states" if stages == 1 else f"{measure}, mean of {stages} stages",
            axis_name="MDS",
        )
        epoch = f"theta, epoch {trainer.current_epoch + 1}"
        panel = map_panel(answer.plane, task.members, epoch)
        show(
            trainer,
            "map/similarity",
            distance_panels(
                places,
                panel,
                answer.distances,
                answer.theta,
                note,
                emulators=answer.emulators,
                label_a=f"{measure} distance",
            ),
        )


def _agreement(distances: Tensor, theta: Tensor) -> float | None:
    """Pearson's correlation of two kinds of distance; None where one of them does not vary."""
    try:
        return distance_correlation(distances, theta, permutations=1).pearson
    except ValueError:
        return None
