"""`dynamo analyze embedding`: the map, its clusters, and how far it moves between runs (Figures 3 and 9)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from matplotlib.figure import Figure

from dynamo.analysis import PCA, group_distances, pca, permutation_test, procrustes_align, spread_over_time
from dynamo.analyze.base import Analysis, Content, Result, check_at_least, described, members_of, title_of
from dynamo.analyze.run import FinishedRun
from dynamo.figures import EmbeddingPanel, embedding_plane, embedding_row, map_panel
from dynamo.figures.map_panel import trajectories


@dataclass(frozen=True)
class Embedding(Analysis):
    """Do the groups lie apart on the map (Figures 3 and 9 of the paper)?

    Silhouette of the grouping in theta and on the plane of the first two components, each against the null of
    shuffled labels; components for 95 % of the variance; distances between groups; the coordinates themselves.

    Args:
        permutations: shuffles of the permutation test.

    Raises:
        ValueError: an option out of its range.
    """

    name: ClassVar[str] = "embedding"
    permutations: int = 10_000

    def __post_init__(self) -> None:
        """Refuse what is no test."""
        check_at_least(1, self, "permutations")

    def numbers(self, run: FinishedRun) -> Content:
        """See `Analysis.numbers`."""
        theta, members, groups = run.task.theta, run.task.members, run.groups
        answer = pca(theta)
        found: Content = {
            "dims_95": answer.components_for(0.95),
            "spectrum": answer.spectrum.tolist(),
        }
        if 1 < len(set(groups)) < len(groups):
            for where, points in (("theta", theta), ("plane", answer.coordinates[:, :2])):
                test = permutation_test(points, groups, self.permutations)
                found[f"silhouette_{where}"] = test.statistic
                found[f"p_{where}"] = test.p_value
                found[f"null_mean_{where}"], found[f"null_std_{where}"] = test.null_mean, test.null_std
            distances = group_distances(theta, groups)
            found["groups"] = list(distances.groups)
            found["distance_between_groups"] = distances.between.tolist()
            found["distance_within_groups"] = [None if w != w else w for w in distances.within.tolist()]
        if trajectories(members) is not None:
            time = spread_over_time(theta, [member.epoch or 0 for member in members])
            found |= {"epochs": list(time.epochs), "spread": time.spread.tolist()}
            found |= {"spread_early": time.early, "spread_late": time.late, "late_over_early": time.late / time.early}
        found["members"] = described(members, theta=theta, plane=answer.coordinates[:, :2])
        return found

    def draw(self, rows: Sequence[Sequence[Result]]) -> Figure:
        """The maps beside each other; a second row below the first (Figure 9)."""
        panels = [[_panel(result) for result in row] for row in rows]
        alone = len(panels) == len(panels[0]) == 1
        return embedding_plane(**vars(panels[0][0])) if alone else embedding_row(*panels)

    def across(self, rows: Sequence[Sequence[Result]]) -> Content:
        """How far does theta move between the runs of the first row, after alignment, on a map of which size?

        Nothing where the runs have other members.
        """
        names = [[member["name"] for member in result.content["members"]] for result in rows[0]]
        if any(other != names[0] for other in names):
            return {}
        maps = [_pca(result.content).coordinates for result in rows[0]]
        moved = [float(procrustes_align(a, b).residual.mean()) for i, a in enumerate(maps) for b in maps[i + 1 :]]
        size = statistics.fmean(float(m.square().sum(1).mean().sqrt()) for m in maps)
        return {"moved_between_runs": statistics.fmean(moved) if moved else None, "map_size": size}


def _pca(content: Content) -> PCA:
    return pca(torch.tensor([member["theta"] for member in content["members"]]))


def _panel(result: Result) -> EmbeddingPanel:
    content = result.content
    return map_panel(_pca(content), members_of(content), title_of(result), _note(content))


def _note(found: Content) -> str | None:
    """The small print of a panel."""
    if "spread_late" in found:
        return f"faint: early; seeds lie {found['spread_early']:.2f} → {found['spread_late']:.2f} apart"
    if "silhouette_plane" not in found:
        return None
    return f"silhouette {found['silhouette_plane']:.2f} (p = {found['p_plane']:.2g})"
