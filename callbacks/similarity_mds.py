"""Which networks represent the items alike, and does the map say the same? SVCCA, its MDS, and theta beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from callbacks.base import MapCallback, NothingToShowError, held_out, show, writer
from dynamo.analysis import PCA, pca
from dynamo.analysis.mds import MDS, smacof_mds
from dynamo.analysis.similarity import Kind, distance_correlation
from dynamo.analysis.similarity_sums import SimilaritySums
from dynamo.analysis.states import emulator_states, population_states
from dynamo.figures import EmbeddingPanel, map_panel
from dynamo.figures.distance_panels import distance_panels
from dynamo.meta import MetaTask


@dataclass(frozen=True)
class Similarities:
    """What one epoch has to say.

    Attributes:
        distances: between the base models' hidden states `[N, N]`.
        scaled: their two-dimensional scaling.
        emulators: distance of every emulator's states to those of its original `[N]`.
        theta: distances between the points of the map `[N, N]`.
        plane: PCA of theta.
    """

    distances: Tensor
    scaled: MDS
    emulators: Tensor
    theta: Tensor
    plane: PCA


class SimilarityMDS(MapCallback):
    """Does the map agree with the distances between representations (Figure 5 of the paper)?

    Logs the figure `map/similarity` (MDS of the distances between base models, the PCA plane of theta beside it, and
    one kind of distance against the other), and the scalars `similarity/theta_r` (correlation of the two over all
    pairs), `similarity/emulators` and `similarity/emulators_worst` (mean and largest distance of an emulator to its
    original). Hook: the end of a training epoch. Many processes share the items and put their sums together. Cost: one
    pass of members and emulators over `items` validation items, N products of their states, and a picture.

    Args:
        every_n_epochs: how often; 0 turns it off.
        items: validation items of each task that all networks read; every real step of an item is a sample.
        measure: svcca, pwcca, cka or procrustes.
        variance: share of the variance that SVCCA and PWCCA keep.
    """

    name: ClassVar[str] = "similarity_mds"

    def __init__(
        self, every_n_epochs: int = 1, items: int = 32, measure: Kind = "svcca", variance: float = 0.99
    ) -> None:
        super().__init__(every_n_epochs)
        if items < 1 or not 0 < variance <= 1:
            raise ValueError(f"{self.name}: items is {items} (at least 1), variance {variance} (in (0, 1]).")
        self.items, self.measure, self.variance = items, measure, variance
        self._base: tuple[Tensor, MDS] | None = None  # the base models are frozen: once is enough

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget what was measured of another population."""
        self._base = None

    def compute(self, trainer: Trainer, task: MetaTask) -> Similarities:
        """The distances; every rank reads its share of the items and adds up the sums of all."""
        if len(task.members) < 3:
            raise NothingToShowError("distances between fewer than three networks are no map")
        sizes = [bundle.hidden_sizes[0] for bundle in task.population.bundles for _ in range(bundle.count)]
        base = SimilaritySums(sizes)
        pairs = [SimilaritySums([size, task.network.hidden_size]) for size in sizes]
        batch = held_out(trainer, task, self.items, trainer.global_rank, trainer.world_size)
        if batch:
            originals = population_states(task.population, batch, task.burn_in)
            emulators = emulator_states(task.network, task.theta, batch, task.burn_in)
            if self._base is None:
                base.update(originals)
            for pair, original, emulator in zip(pairs, originals, emulators, strict=True):
                pair.update([original, emulator])
        try:
            if self._base is None:
                distances = _of_all(task, base).distances(self.measure, self.variance)
                self._base = distances, smacof_mds(distances)
            to_originals = [_of_all(task, pair).distances(self.measure, self.variance)[0, 1] for pair in pairs]
        except ValueError as error:
            raise NothingToShowError(f"{error} (similarity_mds.items is {self.items})") from error
        theta = task.theta.double().cpu()
        return Similarities(*self._base, torch.stack(to_originals), torch.cdist(theta, theta), pca(theta))

    def draw(self, trainer: Trainer, task: MetaTask, answer: Similarities) -> None:
        """The two planes and the scatter, and the scalars."""
        board = writer(trainer)
        note = None
        scalars = {"emulators": answer.emulators.mean(), "emulators_worst": answer.emulators.max()}
        if bool((answer.theta > 0).any()):
            agreement = distance_correlation(answer.distances, answer.theta, permutations=200)
            scalars["theta_r"] = torch.tensor(agreement.pearson)
            note = f"r = {agreement.pearson:.2f}"
        places = EmbeddingPanel(
            coordinates=answer.scaled.coordinates,
            groups=[member.group for member in task.members],
            title=f"{self.measure.upper()} of hidden states",
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
                label_a=f"{self.measure.upper()} distance",
            ),
        )
        if board is not None:
            for tag, value in scalars.items():
                board.add_scalar(f"similarity/{tag}", float(value), global_step=trainer.global_step)


def _of_all(task: MetaTask, sums: SimilaritySums) -> SimilaritySums:
    """The sums of all ranks together."""
    gathered = task.all_gather(sums.as_tensor().to(task.device))
    assert isinstance(gathered, Tensor)
    return SimilaritySums.from_tensor(gathered.cpu())
