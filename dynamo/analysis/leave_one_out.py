"""Do networks that a map was made without come to lie where they would have been? Two maps of the same members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dynamo.analysis.clustering import distances_to, euclidean_distances


class Fold(NamedTuple):
    """Where do M networks lie among N members, on the map of all and on the map that was made without them?

    Attributes:
        before: their distances to the members on the map of all `[M, N]`; NaN where one is no neighbour of another.
        after: those of their places as newcomers on the map of the members alone `[M, N]`.
        groups: of the members, one name each.
    """

    before: Tensor
    after: Tensor
    groups: Sequence[str]


class Near(NamedTuple):
    """Who is near?

    Attributes:
        group: the nearest group (least mean distance to its members), numbered in order of first appearance `[M]`.
        members: rows of the k nearest members, the nearest first `[M, k]`.
    """

    group: Tensor
    members: Tensor


class Agreement(NamedTuple):
    """How often do two maps agree on who is near, and how often would they by chance?

    Chance: the names of the members are shuffled on the map of the newcomers. Of k nearest among N members, k / N
    are then the same on average, whatever the map; how often the nearest group is, is counted.

    Attributes:
        group: share of the networks with the same nearest group on both maps.
        group_chance: mean of the same over shuffles.
        p_group: `(1 + #{shuffles >= group}) / (1 + shuffles)`, so it is never 0.
        neighbour: share of their k nearest members that are the same.
        neighbour_chance: k / N, mean over the networks.
        p_neighbour: as `p_group`.
    """

    group: float
    group_chance: float
    p_group: float
    neighbour: float
    neighbour_chance: float
    p_neighbour: float


def fold_of(before: Tensor, after: Tensor, theta: Tensor, theta_without: Tensor, groups: Sequence[str]) -> Fold:
    """The distances of those that were left out, on both maps.

    Args:
        before: their places on the map of all `[M, D]`.
        after: their places as newcomers `[M, D]`.
        theta: the members' places on the map of all `[N, D]`.
        theta_without: the members' places on the map without the M `[N, D]`.
        groups: of the members.
    """
    return Fold(distances_to(before, theta), distances_to(after, theta_without), groups)


def fold_of_members(theta: Tensor, theta_without: Tensor, groups: Sequence[str]) -> Fold:
    """The distances of the members that both maps were made of: how alike can two trainings be?"""
    found = [euclidean_distances(values).fill_diagonal_(torch.nan) for values in (theta, theta_without)]
    return Fold(found[0], found[1], groups)


def near(distances: Tensor, groups: Sequence[str], neighbours: int) -> Near:
    """Who is near each network?

    Args:
        distances: to N members, `[..., N]`; NaN for one that is no neighbour, such as the network itself.
        groups: of the members.
        neighbours: k.

    Raises:
        ValueError: not one group each, or as many neighbours as there are members: all maps agree on these.
    """
    count = distances.shape[-1]
    if len(groups) != count:
        raise ValueError(f"{len(groups)} groups for {count} members; give one each")
    most = int((~distances.isnan()).sum(-1).min()) - 1
    if not 1 <= neighbours <= most:
        raise ValueError(
            f"the {neighbours} nearest of {most + 1} members are asked for; with so many members up to {most} say "
            "something"
        )
    names = list(dict.fromkeys(groups))
    belongs = torch.nn.functional.one_hot(torch.tensor([names.index(group) for group in groups])).to(distances)
    counted = (~distances.isnan()).to(distances) @ belongs
    means = (distances.nan_to_num(0.0) @ belongs / counted).nan_to_num(torch.inf)
    return Near(means.argmin(-1), distances.argsort(-1)[..., :neighbours])


def shared(first: Tensor, second: Tensor) -> Tensor:
    """How many rows are in both? `[..., k]` and `[..., k]` -> `[...]`."""
    return (first.unsqueeze(-1) == second.unsqueeze(-2)).any(-1).sum(-1)


def agreement(folds: Sequence[Fold], neighbours: int, permutations: int = 10_000, seed: int = 0) -> Agreement:
    """Are the nearest group and the k nearest members of every network the same on both maps?

    Args:
        folds: one for every map that was made without some.
        neighbours: k.
        permutations: shuffles of the members' names, each fold by itself.
        seed: decides the shuffles.

    Raises:
        ValueError: no fold, no shuffle, or as `near`.

    Not in the paper.
    """
    if not folds or permutations < 1:
        raise ValueError(f"{len(folds)} folds and {permutations} permutations; at least one of each is needed")
    generator = torch.Generator().manual_seed(seed)
    networks = sum(len(fold.before) for fold in folds)
    same = torch.zeros(2, dtype=torch.float64)
    by_chance = torch.zeros(permutations, 2, dtype=torch.float64)
    expected = 0.0
    for fold in folds:
        rows, members = fold.before.shape
        order = torch.rand(permutations, members, generator=generator, dtype=torch.float64).argsort(1)
        one = near(fold.before, fold.groups, neighbours)
        same += _same(one, near(fold.after, fold.groups, neighbours))
        by_chance += _same(one, near(_renamed(fold.after, order), fold.groups, neighbours))
        expected += rows * neighbours / int((~fold.before[0].isnan()).sum())
    found = same / networks
    chance = by_chance / networks
    found[1], chance[:, 1] = found[1] / neighbours, chance[:, 1] / neighbours
    p = (1 + (chance >= found - 1e-9).sum(0)) / (1 + permutations)  # ties differ by rounding
    mean = float(chance[:, 0].mean())
    return Agreement(float(found[0]), mean, float(p[0]), float(found[1]), expected / networks, float(p[1]))


def _same(one: Near, other: Near) -> Tensor:
    """Over the networks: how many have the same group, and how many neighbours do they share? `[..., 2]`."""
    groups, neighbours = one.group == other.group, shared(one.members, other.members)
    return torch.stack([groups.sum(-1), neighbours.sum(-1)], -1).double()


def _renamed(distances: Tensor, order: Tensor) -> Tensor:
    """Distances `[M, N]` to members whose names are shuffled in P ways `[P, N]`: `[P, M, N]`.

    Who is no neighbour under one name is none under the other: of members among themselves, both sides are renamed.
    """
    if distances.isnan().any():
        return distances[order.unsqueeze(2), order.unsqueeze(1)]
    return distances[:, order].transpose(0, 1)
