"""From a finished map to what is drawn of it: groups by colour, snapshots of one network joined and fading."""

from __future__ import annotations

from collections.abc import Sequence

from dynamo.analysis.pca import PCA
from dynamo.figures.embedding_plane import EmbeddingPanel
from dynamo.population.members import Member

SNAPSHOT_MARK = "@"
"""Stands between a member's name and its epoch in the name of a snapshot."""


def map_panel(answer: PCA, members: Sequence[Member], title: str, note: str | None = None) -> EmbeddingPanel:
    """What is drawn of one PCA of theta (a column of Figure 3 of the paper).

    Args:
        answer: PCA of theta `[N, D]`.
        members: N of them, in the order of theta.
        title: short.
        note: numbers for the small print.

    Examples:
        >>> import torch
        >>> from dynamo import Member
        >>> from dynamo.analysis import pca
        >>> from dynamo.figures import map_panel
        >>> epochs = [Member(f"GRU-0@{epoch}", "GRU", "imdb", epoch=epoch) for epoch in (1, 2)]  # of one network
        >>> panel = map_panel(pca(torch.tensor([[0.0, 0.0], [1.0, 2.0]])), epochs, title="theta")
        >>> panel.trajectories, panel.opacity, panel.dims_95  # joined by a line, early ones paler
        ([[0, 1]], [0.575, 1.0], 1)
    """
    return EmbeddingPanel(
        coordinates=answer.coordinates,
        groups=[member.group for member in members],
        spectrum=answer.spectrum,
        dims_95=answer.components_for(0.95) if bool((answer.spectrum > 0).any()) else None,
        opacity=opacities(members),
        trajectories=trajectories(members),
        title=title,
        note=note,
    )


def trajectories(members: Sequence[Member]) -> list[list[int]] | None:
    """Which points are snapshots of one network, in the order of their epochs? None where there are no snapshots."""
    paths: dict[str, list[int]] = {}
    for index, member in enumerate(members):
        name, mark, _ = member.name.rpartition(SNAPSHOT_MARK)
        if mark:
            paths.setdefault(name, []).append(index)
    found = [sorted(path, key=lambda i: members[i].epoch or 0) for path in paths.values() if len(path) > 1]
    return found or None


def opacities(members: Sequence[Member]) -> list[float] | None:
    """Opacity in (0, 1] by epoch, low for early in training; None where there are no snapshots."""
    if trajectories(members) is None:
        return None
    latest = max(member.epoch or 0 for member in members)
    return [0.15 + 0.85 * (member.epoch or 0) / max(latest, 1) for member in members]
