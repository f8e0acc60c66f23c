"""`dynamo analyze fixed_points`: the line attractors at points of the map (Figure 8)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dynamo.analysis import pca
from dynamo.analysis.averaging import group_means
from dynamo.analysis.fixed_points import FixedPoints as Solution
from dynamo.analysis.line_attractor import LineAttractor, angle, line_attractor
from dynamo.analysis.linearisation import Step, linearise
from dynamo.analysis.plane import PlaneAxes, plane_of
from dynamo.analyze.accuracy_map import AccuracyMap
from dynamo.analyze.attractors import (
    Attractors,
    RestingInput,
    attractors_at,
    best_theta,
    binary_task,
    original_at,
    readout_of,
    recurrent_network,
)
from dynamo.analyze.base import Analysis, Content, Result, axis_name, check_at_least, described, title_of
from dynamo.analyze.run import FinishedRun
from dynamo.figures.line_attractors import AttractorPanel, Kind, PlanePoints, line_attractors

BEST = "X"


class PointOfInterest(NamedTuple):
    """A place of the map whose attractor is looked at.

    Attributes:
        name: what the picture calls it.
        kind: best, centroid, interpolated or member.
        theta: where it lies `[D]`.
        group: whose colour it has; None for none.
        member: row of theta that it is; None where it is no base model.
    """

    name: str
    kind: Kind
    theta: Tensor
    group: str | None = None
    member: int | None = None


@dataclass(frozen=True)
class FixedPoints(Analysis):
    """Is there a line attractor at every point of the map (Figure 8 of the paper)?

    Approximate fixed points of h -> F(theta, x*, h) at X, at the centroids, between them, and at two members of every
    group; their number, residual, spectrum and dimension, length and tilt of the line they form; for the members
    the same of the original network. Needs `dynamo analyze accuracy_map`, which finds X.

    Args:
        resting_input: x*: the mean word vector of the held-out items, or zero.
        seeds: visited states that the search begins at, per point.
        items: held-out items that they are drawn from.
        tolerance: of q = 1/2 ||h - F(h)||^2; 1e-4 is a drift of 0.014 a step, for states of size 1.7 at laptop scale.
            A stricter one leaves out parts of the line that drift very slowly; seeds there run on until they stay.
        radius: points closer than this share of the states' root-mean-square size count as one.
        slow: time constant in steps above which a mode is slow.
        task: whose readout; by default the first task with two classes.

    Raises:
        ValueError: an option out of its range.
    """

    name: ClassVar[str] = "fixed_points"
    of_answers: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = (AccuracyMap.name,)
    resting_input: RestingInput = "mean"
    seeds: int = 256
    items: int = 32
    tolerance: float = 1e-4
    radius: float = 0.1
    slow: float = 10.0
    task: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be solved."""
        check_at_least(2, self, "seeds", "items")
        check_at_least(0, self, "radius")
        if not (self.tolerance > 0 and self.slow > 0):
            raise ValueError(f"tolerance {self.tolerance} and slow {self.slow} must be positive.")

    def numbers(self, run: FinishedRun) -> Content:
        """See `Analysis.numbers`."""
        recurrent_network(run)
        run.need_answers(self.name)
        task, plane = binary_task(run, self.task), plane_of(run.task.theta)
        places = points_of_interest(run, plane)
        thetas = torch.stack([place.theta for place in places])
        found = attractors_at(run, thetas, task, self.resting_input, self.seeds, self.items, self.tolerance)
        readout = readout_of(run, task)
        lines = [self._line(found.found, found.converged(i), found.step, readout) for i in range(len(places))]
        reference = lines[0][0]
        content: Content = {
            "task": task,
            "dimensions": len(run.task.theta[0]),
            "converged_share": float(found.found.converged.double().mean()),
            "iterations_median": float(found.found.iterations.double().median()),
            "points": {},
        }
        drawn = _Axes(found, readout)
        for index, (place, (line, spectrum)) in enumerate(zip(places, lines, strict=True)):
            mine = found.seeds.owner == index
            one: Content = _measures(found.found, mine, line, spectrum)
            if line is not None and reference is not None:
                one["tilt_to_x"] = angle(line.direction, reference.direction)
            if place.member is not None:
                one["base"] = self._original(run, place.member, task)
            content["points"][place.name] = one | {
                "kind": place.kind,
                "group": place.group,
                "member": None if place.member is None else run.task.members[place.member].name,
                "plane": plane.project(place.theta).tolist(),
                "fixed": drawn.project(found.found.states[found.converged(index)]).tolist(),
                "logits": drawn.logits(found.found.states[found.converged(index)]).tolist(),
                "visited": drawn.project(found.seeds.states[mine]).tolist(),
            }
        content["line_shares"] = drawn.shares
        content["members"] = described(run.task.members, plane=plane.members)
        return content

    def _line(
        self, found: Solution, chosen: Tensor, step: Step, readout: Tensor
    ) -> tuple[LineAttractor | None, Sequence[str]]:
        """Measures of the representatives of some fixed points, and the stability of each; None where there is none."""
        if not len(chosen):
            return None, ()
        part = found.take(chosen)
        size = float(part.states.double().square().sum(1).mean().sqrt())
        kept = part.unique(self.radius * size)
        context = None if part.context is None else part.context[kept]
        linear = linearise(step, part.states[kept], context)
        return line_attractor(part.states[kept], linear, readout, self.slow), linear.stability

    def _original(self, run: FinishedRun, member: int, task: str) -> Content | None:
        """The same of the base model itself; None where its step is not known, or not its task."""
        solved = original_at(run, member, task, self.resting_input, self.seeds, self.items, self.tolerance)
        if solved is None:
            return None
        number, index = run.place_of(member)
        weight = run.task.population.bundles[number].get_buffer_or_parameter("readout_weight")[index].detach()
        found = solved.found
        line, spectrum = self._line(found, found.converged.nonzero().flatten(), solved.step, weight[1] - weight[0])
        return _measures(found, torch.ones_like(found.converged), line, spectrum)

    def draw(self, rows: Sequence[Sequence[Result]]) -> Figure:
        """The plane and the attractors of the first run."""
        found = rows[0][0].content
        panels, marks = [], {}
        for name, one in found["points"].items():
            marks[name] = (one["plane"], one["kind"])
            note = "no fixed point"
            if one["count"]:
                note = f"dim {one['dimension']:.2f}, length {one['length']:.1f}, {one['converged_share']:.0%} converged"
            panels.append(
                AttractorPanel(
                    points=torch.tensor(one["fixed"]).reshape(-1, 2),
                    values=torch.tensor(one["logits"]),
                    name=name,
                    note=note.replace("%", " %"),
                    group=one["group"],
                    trajectories=one["visited"],
                )
            )
        plane = PlanePoints(
            members=[member["plane"] for member in found["members"]],
            groups=[member["group"] for member in found["members"]],
            marks=marks,
            title=title_of(rows[0][0]),
            axis_name=axis_name(found["dimensions"]),
        )
        return line_attractors(plane, panels, "positive minus negative logit")


class _Axes:
    """The two principal axes of all visited states, the first turned so that the readout grows along it.

    Attributes:
        shares: of the variance along the two axes.
    """

    def __init__(self, found: Attractors, readout: Tensor) -> None:
        self._pca = pca(found.seeds.states)
        self._readout = readout.cpu().double()
        self._sign = torch.sign(self._pca.components[:2] @ self._readout)
        self._sign[self._sign == 0] = 1
        self.shares = self._pca.spectrum[:2].tolist()

    def project(self, states: Tensor) -> Tensor:
        """`[U, S]` -> `[U, 2]`."""
        return self._pca.project(states)[:, :2] * self._sign

    def logits(self, states: Tensor) -> Tensor:
        """Positive minus negative logit without its bias, `[U]`."""
        return states.cpu().double() @ self._readout


def points_of_interest(run: FinishedRun, plane: PlaneAxes) -> list[PointOfInterest]:
    """Which points does Figure 8 show: X, centroids, points between them, and two members of every group?

    The points between lie on the lines from centroid to centroid: two with two groups, one with more.
    """
    theta = run.task.theta
    means = group_means(theta, run.groups)
    places = [PointOfInterest(BEST, "best", best_theta(run))]
    places += [PointOfInterest(f"{name} centroid", "centroid", mean, name) for name, mean in means.items()]
    neighbours = list(zip(means, list(means)[1:], strict=False))
    shares = (1 / 3, 2 / 3) if len(neighbours) == 1 else (1 / 2,)
    for first, second in neighbours:
        for share in shares:
            between = torch.lerp(means[first], means[second], share)
            places.append(PointOfInterest(f"{first} → {second}, {share:.2f}", "interpolated", between))
    towards = plane.members[:, 0] - plane.members[:, 1]  # grows to the bottom right
    for name in means:
        own = torch.tensor([i for i, group in enumerate(run.groups) if group == name])
        ends = {"top left": int(own[towards[own].argmin()]), "bottom right": int(own[towards[own].argmax()])}
        for where, index in ends.items():
            if where == "top left" or index != ends["top left"]:
                places.append(PointOfInterest(f"{name} {where}", "member", theta[index], name, index))
    return places


def _measures(found: Solution, mine: Tensor, line: LineAttractor | None, stability: Sequence[str]) -> Content:
    """The numbers of one attractor."""
    converged = found.converged[mine]
    numbers: Content = {
        "seeds": len(converged),
        "converged_share": float(converged.double().mean()),
        "largest_q": float(found.speed[mine][converged].max()) if bool(converged.any()) else None,
        "ran_on_share": None if found.ran_on is None else float(found.ran_on[mine].double().mean()),
        "count": 0,
    }
    if line is None:
        return numbers
    kept = ("count", "dimension", "length", "straightness", "slow_share", "slowest")
    alignments = ("readout_alignment", "mode_alignment", "selection_alignment")
    numbers |= {key: getattr(line, key) for key in (*kept, *alignments)}
    numbers["slowest"] = line.slowest if math.isfinite(line.slowest) else None  # None: a mode grows at most points
    return numbers | {kind: stability.count(kind) for kind in ("stable", "saddle", "unstable")}
