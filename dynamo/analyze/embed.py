"""`dynamo analyze embed`: networks on a finished map that was made without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import ClassVar

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dynamo.analysis import (
    Fidelity,
    Fit,
    compare_newcomers,
    distances_to,
    distances_to_groups,
    embed_newcomers,
    emulation,
    pca,
)
from dynamo.analysis.newcomers import check_newcomers
from dynamo.analyze.base import Analysis, Content, Result, check_at_least, described, members_of, title_of
from dynamo.analyze.run import FinishedRun
from dynamo.figures import NewcomersPanel, map_panel, newcomers_plane
from dynamo.meta.checks import check_data, check_inputs
from dynamo.population import Population, PopulationError, load_populations
from dynamo.population.identity import digest
from dynamo.population.sources import keep

LAST = 20
"""Over so many of the last steps the loss that is told is a mean."""


@dataclass(frozen=True)
class Embed(Analysis):
    """Where on a finished map do networks lie that it was made without?

    The meta-model stays as it is; theta and V of the newcomers alone are fitted, all at once, by the loss of the map,
    on its training items (no label is used). Told of every newcomer: theta, how well it is emulated on test items
    (beside the mean of the map's own members), its nearest members, and the nearest group: the one to whose members its
    mean distance in theta is least. `own_group` counts how often that is the newcomer's own group, among newcomers
    whose weights are not on the map already.

    Leave-one-out: train a map with `--model.init_args.leave_out "[NAME, ...]"`, then embed these on it, or the whole
    population; `dynamo analyze leave_one_out` puts several such maps together.

    Args:
        population: folder of the newcomers' population, or a pattern of folders; or the import path of a function that
            returns one, such as `my_networks.population`.
        only: names of the newcomers among its members; by default all of them come.
        steps: optimiser steps.
        lr: learning rate of V; by default that of the run.
        theta_lr: learning rate of theta; by default that of the run.
        neighbours: how many of the nearest members are told.
        seed: of the first V and of the order of the items.

    Raises:
        ValueError: an option out of its range.
    """

    population: Population | str
    name: ClassVar[str] = "embed"
    only: list[str] = field(default_factory=list)
    steps: int = 500
    lr: float | None = None
    theta_lr: float | None = None
    neighbours: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be fitted."""
        check_at_least(1, self, "steps", "neighbours")
        check_at_least(0, self, "seed")
        for option in ("lr", "theta_lr"):
            value = getattr(self, option)
            if value is not None and not value > 0:
                raise ValueError(f"{option} is {value}; it has to be above 0.")

    @cached_property
    def newcomers(self) -> Population:
        """The networks that come; read when they are first asked for."""
        everyone = load_populations(self.population)
        return keep(everyone, self.only) if self.only else everyone

    def options(self) -> Content:
        """What is asked, the weights of the newcomers included: another population may stand in the same folder."""
        asked = {field.name: getattr(self, field.name) for field in fields(self)}
        return asked | {"population": self._called, "weights": digest(self.newcomers)}

    @property
    def _called(self) -> str:
        """What the newcomers are called where they are told of."""
        return self.population if isinstance(self.population, str) else "a population of modules"

    def numbers(self, run: FinishedRun) -> Content:
        """See `Analysis.numbers`."""
        newcomers, network = self.newcomers.to(run.device), run.task.network
        fit = self._fit(run)
        self._check(run, fit)
        found = embed_newcomers(network, newcomers, run.calibration_batch, run.training_stream(self.seed), fit)
        compare = compare_newcomers(network, newcomers, found, fit)
        fidelity = emulation(newcomers, compare, run.test_batches, fit.burn_in)
        own = emulation(run.task.population, run.task.compare, run.test_batches, fit.burn_in)
        plane = pca(run.task.theta)
        members = described(run.task.members, theta=run.task.theta, plane=plane.coordinates[:, :2])
        columns = {
            "theta": found.theta,
            "plane": plane.project(found.theta)[:, :2],
            "loss": found.losses[-LAST:].mean(0),
        }
        rows = described(newcomers.members, **columns, **fidelity.columns())
        rows = [row | near for row, near in zip(rows, self._near(run, found.theta), strict=True)]
        known = set(_weights(run.task.population))
        rows = [row | {"on_map": one in known} for row, one in zip(rows, _weights(newcomers), strict=True)]
        return {
            "fidelity": _means(fidelity),
            "fidelity_of_members": _means(own),
            "own_group": own_group(rows, run.groups),
            "curve": found.losses.mean(1).tolist(),
            "newcomers": rows,
            "members": members,
        }

    def _check(self, run: FinishedRun, fit: Fit) -> None:
        """Refuse newcomers that this map has no place for, with the remedy that is left when a map is finished."""
        try:
            check_inputs(self.newcomers, run.data.vocab_size)
            check_newcomers(run.task.network, self.newcomers, fit.output_weight)
            check_data(self.newcomers, run.loaded.fingerprint, run.loaded.classes, run.loaded.calibration_batch(2))
        except PopulationError as error:
            what, _, _ = str(error).partition(";")
            raise PopulationError(
                f"{self._called} does not fit the map of {run.folder.root}: {what}; choose networks that were "
                "trained for the same tasks, with the data options of the run."
            ) from error

    def _fit(self, run: FinishedRun) -> Fit:
        """The recipe of the map, with this analysis' options."""
        task = run.task
        return Fit(
            alignment=task.alignment,
            distance=task.distance,
            normalise=task.normalise,
            output_weight=task.output_weight,
            burn_in=task.burn_in,
            steps=self.steps,
            lr=self.lr or task.lr,
            theta_lr=self.theta_lr or task.theta_lr,
            alignment_weight_decay=task.alignment_weight_decay,
            clip=task.clip,
            schedule=task.schedule,
            warmup_steps=task.warmup_steps,
            seed=self.seed,
        )

    def _near(self, run: FinishedRun, theta: Tensor) -> list[Content]:
        """The nearest members and the nearest group of every newcomer."""
        distances = distances_to(theta, run.task.theta)
        to_groups = distances_to_groups(distances, run.groups)
        found: list[Content] = []
        for index, row in enumerate(distances):
            means = {name: float(values[index]) for name, values in to_groups.items()}
            nearest = [
                {"name": run.task.members[i].name, "group": run.groups[i], "distance": float(row[i])}
                for i in row.argsort()[: self.neighbours].tolist()
            ]
            group = min(means, key=means.__getitem__)
            found.append({"nearest": nearest, "nearest_group": group, "distance_to_groups": means})
        return found

    def draw(self, rows: Sequence[Sequence[Result]]) -> Figure:
        """The planes of the maps' own members, and the newcomers on them."""
        return newcomers_plane(*([_panel(result) for result in row] for row in rows))


def own_group(newcomers: Sequence[Content], groups: Sequence[str]) -> Content:
    """How often is the nearest group the newcomer's own?

    Args:
        newcomers: their rows.
        groups: of the map's members.

    Returns:
        `nearest` of `count` newcomers who are not on the map, and whose group is; `share`, None where there are none.
    """
    judged = [row for row in newcomers if not row["on_map"] and row["group"] in groups]
    right = sum(row["nearest_group"] == row["group"] for row in judged)
    return {"nearest": right, "count": len(judged), "share": right / len(judged) if judged else None}


def _means(fidelity: Fidelity) -> dict[str, float]:
    return {key: float(values.mean()) for key, values in fidelity.columns().items()}


def _weights(population: Population) -> list[str]:
    """A hash of every member's weights, whatever it is called."""
    return [
        digest(Population([bundle.take([index])], [[member]]))
        for bundle, members in zip(population.bundles, population.bundle_members, strict=True)
        for index, member in enumerate(members)
    ]


def _panel(result: Result) -> NewcomersPanel:
    content = result.content
    answer = pca(torch.tensor([member["theta"] for member in content["members"]]))
    rows, told, own = content["newcomers"], content["fidelity"], content["fidelity_of_members"]
    note = f"variance explained {told['variance_explained']:.2f} (members {own['variance_explained']:.2f})" + (
        f", agreement {told['agreement']:.2f} ({own['agreement']:.2f})" if "agreement" in told else ""
    )
    return NewcomersPanel(
        map_panel(answer, members_of(content), title_of(result), note),
        answer.project(torch.tensor([row["theta"] for row in rows]))[:, :2],
        [row["name"] for row in rows],
        [row["group"] for row in rows],
    )
