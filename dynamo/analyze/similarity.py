"""`dynamo analyze similarity`: distances between representations, beside those of the map (Figure 5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dynamo.analysis import euclidean_distances, pca, permutation_test
from dynamo.analysis.bootstrap import Bootstrap
from dynamo.analysis.mds import classical_mds, smacof_mds
from dynamo.analysis.similarity import Kind, distance_correlation
from dynamo.analysis.similarity_sums import SimilaritySums
from dynamo.analysis.states import emulator_states, population_states, state_sizes
from dynamo.analyze.base import Analysis, Content, Result, check_at_least, described, members_of, title_of
from dynamo.analyze.run import FinishedRun
from dynamo.figures import EmbeddingPanel, map_panel
from dynamo.figures.distance_panels import distance_panels
from dynamo.types import TaskBatch

MOST_GIGABYTES = 16.0
"""What the streamed products of all pairs may take; with more, the analysis says what to lower."""


@dataclass(frozen=True)
class Similarity(Analysis):
    """Do networks whose representations are alike lie together, and on the map too (Figure 5 of the paper)?

    Distances between the hidden states of the base models on the same test items, their two-dimensional
    multidimensional scaling, the clustering numbers of both, and how the distances agree with those of theta. Where
    the networks have several stages, these are compared one by one: the distance is the mean over stages, and
    the numbers of each stand beside it.

    Args:
        measure: svcca, pwcca, cka or procrustes.
        variance: share of the variance that SVCCA and PWCCA keep.
        items: test items of each task that all networks read; every real step of an item is a sample, of feature maps
            at most 64 positions of an image.
        blocks: into how many parts the items are cut for the bootstrap's error bars.
        replicates: of the bootstrap.
        scaling: classical or smacof.
        permutations: shuffles of the permutation tests.

    Raises:
        ValueError: an option out of its range.
    """

    name: ClassVar[str] = "similarity"
    measure: Kind = "svcca"
    variance: float = 0.99
    items: int = 160
    blocks: int = 20
    replicates: int = 200
    scaling: Literal["classical", "smacof"] = "smacof"
    permutations: int = 10_000

    def __post_init__(self) -> None:
        """Refuse what cannot be computed."""
        if not 0 < self.variance <= 1:
            raise ValueError(f"variance is {self.variance}; it has to lie in (0, 1].")
        if self.items < self.blocks or self.blocks < 2:
            raise ValueError(f"items is {self.items} in {self.blocks} blocks: at least 2 blocks of at least 1 item.")
        check_at_least(1, self, "permutations")
        check_at_least(2, self, "replicates")

    def numbers(self, run: FinishedRun) -> Content:
        """See `Analysis.numbers`."""
        members, groups, theta = run.task.members, run.groups, run.task.theta
        if len(members) < 3:
            raise ValueError(f"{len(members)} networks have no map of distances; a population of 3 or more has.")
        sums, to_emulators = self._sums(run)
        each = [stage.distances(self.measure, self.variance) for stage in sums]
        drawn = [stage.replicates(self.measure, self.variance, self.replicates) for stage in sums]
        boot = Bootstrap.around(torch.stack(each).mean(0), torch.stack(drawn).mean(0))
        distances = boot.distances
        scaled = (classical_mds if self.scaling == "classical" else smacof_mds)(distances)
        answer = pca(theta)
        found: Content = {
            "distance_mean": _pairs(distances).mean().item(),
            "distance_error": _pairs(boot.std).mean().item(),
            "emulator_distance_mean": to_emulators.mean().item(),
            "emulator_distance_worst": to_emulators.mean(0).max().item(),
            "stress": scaled.stress,
            "negative_share": scaled.negative_share,
        }
        if bool((theta != theta[0]).any()):
            agreement = distance_correlation(distances, euclidean_distances(theta), self.permutations)
            found |= {"theta_pearson": agreement.pearson, "theta_spearman": agreement.spearman}
            found["theta_p"] = agreement.p_value
        if 1 < len(set(groups)) < len(groups):
            found |= self._clustering("distances", distances, groups, "precomputed")
            found |= self._clustering("mds", scaled.coordinates, groups, "euclidean")
            found |= self._clustering("theta", theta, groups, "euclidean")
            found |= self._clustering("plane", answer.coordinates[:, :2], groups, "euclidean")
        found |= {"distances": distances.tolist(), "std": boot.std.tolist()}
        if len(each) > 1:
            parts = zip(each, drawn, to_emulators, strict=True)
            found["stages"] = [self._stage(stage, *part, groups) for stage, part in enumerate(parts, start=1)]
        mean = to_emulators.mean(0)
        found["members"] = described(members, theta=theta, mds=scaled.coordinates, emulator_distance=mean)
        return found

    def _stage(
        self, number: int, distances: Tensor, replicates: Tensor, to_emulators: Tensor, groups: Sequence[str]
    ) -> Content:
        """What is told of one stage by itself."""
        found: Content = {
            "stage": number,
            "distance_mean": _pairs(distances).mean().item(),
            "distance_error": _pairs(replicates.std(0)).mean().item(),
            "emulator_distance_mean": to_emulators.mean().item(),
        }
        if 1 < len(set(groups)) < len(groups):
            found |= self._clustering("distances", distances, groups, "precomputed")
        return found | {"distances": distances.tolist(), "emulator_distances": to_emulators.tolist()}

    def _sums(self, run: FinishedRun) -> tuple[list[SimilaritySums], Tensor]:
        """The sums over all base models, stage by stage, and how far emulators are from originals `[stages, N]`."""
        population, network, theta = run.task.population, run.task.network, run.task.theta
        sizes = state_sizes(population)
        gigabytes = 8 * sum(sum(stage) ** 2 for stage in sizes) * self.blocks / 2**30
        if gigabytes > MOST_GIGABYTES:
            raise ValueError(
                f"the products of {len(sizes[0])} networks in {self.blocks} blocks take {gigabytes:.0f} GiB; "
                f"--blocks {max(2, int(self.blocks * MOST_GIGABYTES / gigabytes))} would do, or fewer members."
            )
        base = [SimilaritySums(stage, self.blocks) for stage in sizes]
        pairs = [
            [SimilaritySums([size, units]) for size in stage]
            for stage, units in zip(sizes, network.hidden_sizes, strict=True)
        ]
        for block, batch in enumerate(self._blocks(run)):
            originals = population_states(population, batch, run.task.burn_in)
            emulators = emulator_states(network, theta, batch, run.task.burn_in)
            for sums, states, own_pairs, emulated in zip(base, originals, pairs, emulators, strict=True):
                sums.update(states, block)
                for pair, *of_both in zip(own_pairs, states, emulated, strict=True):
                    pair.update(of_both)
        found = [[pair.distances(self.measure, self.variance)[0, 1] for pair in stage] for stage in pairs]
        return base, torch.stack([torch.stack(stage) for stage in found])

    def _blocks(self, run: FinishedRun) -> Iterator[dict[str, TaskBatch]]:
        """The items in as many parts as there are blocks, each with items of every task and of every length."""
        drawn = {task: run.loaded.drawn("test", task, self.items) for task in run.tasks}
        for task, positions in drawn.items():
            if len(positions) < self.blocks:
                raise ValueError(
                    f"{task} has {len(positions)} test items, too few for {self.blocks} blocks; lower --blocks."
                )
        for block in range(self.blocks):
            yield {task: run.batch("test", task, places[block :: self.blocks]) for task, places in drawn.items()}

    def _clustering(self, where: str, points: Tensor, groups: Sequence[str], metric: Any) -> Content:  # noqa: ANN401
        test = permutation_test(points, groups, self.permutations, metric=metric)
        return {f"silhouette_{where}": test.statistic, f"p_{where}": test.p_value}

    def draw(self, rows: Sequence[Sequence[Result]]) -> Figure:
        """The scaling beside the plane of theta, of the first run."""
        result = rows[0][0]
        found = result.content
        members, measure, stages = members_of(found), found["options"]["measure"].upper(), len(found.get("stages", [0]))
        theta = torch.tensor([row["theta"] for row in found["members"]])
        places = EmbeddingPanel(
            coordinates=torch.tensor([row["mds"] for row in found["members"]]),
            groups=[member.group for member in members],
            title=f"{measure} distances" + (f", mean of {stages} stages" if stages > 1 else ""),
            note=_note(found, "distances"),
            axis_name="MDS",
        )
        note = f"r = {found['theta_pearson']:.2f} (p = {found['theta_p']:.2g})" if "theta_p" in found else None
        return distance_panels(
            places,
            map_panel(pca(theta), members, title_of(result), _note(found, "theta")),
            torch.tensor(found["distances"]),
            euclidean_distances(theta),
            note,
            emulators=torch.tensor([row["emulator_distance"] for row in found["members"]]),
            label_a=f"{measure} distance",
        )


def _pairs(distances: Tensor) -> Tensor:
    """Every pair of models once."""
    return distances[tuple(torch.triu_indices(len(distances), len(distances), offset=1))]


def _note(found: Content, where: str) -> str | None:
    if f"silhouette_{where}" not in found:
        return None
    return f"silhouette {found[f'silhouette_{where}']:.2f} (p = {found[f'p_{where}']:.2g})"
