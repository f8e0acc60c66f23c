"""What do originals and emulators go through on a few held-out items, in one plane for all members?"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from dynamo.analysis import pca
from dynamo.analyze.run import FinishedRun
from dynamo.meta.alignment import Alignment
from dynamo.meta.comparison import first_member, stages_of
from dynamo.population.base import Bundle
from dynamo.types import SEQUENTIAL, TaskBatch, UserError

PER_CLASS: Final = 24
MOST_ITEMS: Final = 96
"""Items of a task that are tried, the same of every class; of images, of which there are no means, a third."""
SHOWN: Final = 6
"""Items of a class whose ends are shown."""
MOMENTS: Final = 24
"""Equal shares of an item, from its first step to its last: items of unequal length have a mean."""
AT_ONCE: Final = 16
MOST_MEMBERS: Final = 500
SAMPLES: Final = 1024
KEPT: Final = 0.99
"""Of the variance of V_n(s), by the components that it is read back from; the rest would magnify noise."""


class Course(NamedTuple):
    """What one member goes through on the items of one class, on the plane of the meta states.

    Attributes:
        label: name of the class.
        emulator: mean over items of the emulator's states `[K, 2]`, at K moments of an item.
        original: the same of the original's.
        ends: where some of the items end, `[items, 2, 2]`: emulator and original.
    """

    label: str
    emulator: Tensor
    original: Tensor
    ends: Tensor


class Courses(NamedTuple):
    """What all members go through.

    Attributes:
        members: by member, in the order of theta, a course per class.
        shares: of the variance of the meta states along the two axes.
        images: whether there is one moment only, the last stage: of images and vectors.
        items: how many of each task were tried.
    """

    members: list[list[Course]]
    shares: tuple[float, float]
    images: bool
    items: int


class _States(NamedTuple):
    """The states of the members of a bundle `[n, B, K, ...]`, at K moments of B items, with the targets `[B]`."""

    meta: Tensor
    mapped: Tensor
    original: Tensor
    targets: Tensor
    task: str


def trajectories(run: FinishedRun) -> Courses | str:
    """Run all members and their emulators on a few validation items.

    The plane is that of the two principal components of the emulators' meta states. An original has no meta states: its
    own h are brought into the plane by the least-squares inverse of V_n, which is fitted on the emulator's V_n(s)
    alone. The emulator is shown by V_n(s) in the same way, so that the two differ by what h and V_n(s) differ by.
    Nothing is downloaded.

    Returns:
        The courses; or why there are none, as the end of a sentence.
    """
    if len(run.task.members) > MOST_MEMBERS:
        return f"the population has more than {MOST_MEMBERS} members"
    try:
        run.data.setup("test")
        with torch.inference_mode():
            found = [_states(run, number) for number in range(len(run.task.population.bundles))]
    except (UserError, OSError) as error:
        return f"its data is not there ({error})"
    every = torch.cat([states.meta.flatten(0, 2) for states in found])
    plane = pca(every[:: max(1, len(every) // SAMPLES)])
    names = run.task.population.class_names
    members = [
        _courses(states, index, plane.project(states.meta[index])[..., :2], names.get(states.task, ()))
        for states in found
        for index in range(len(states.meta))
    ]
    shares = [*plane.spectrum[:2].tolist(), 0.0]
    images = found[0].meta.shape[2] == 1
    return Courses(members, (shares[0], shares[1]), images, max(len(states.targets) for states in found))


def _states(run: FinishedRun, number: int) -> _States:
    """What the members of a bundle go through, and their emulators."""
    population, task = run.task.population, run.task.population.tasks[number]
    bundle, alignment = population.bundles[number], stages_of(run.task.alignments, number)[-1]
    labels = run.data.data[task].val.labels
    classes = len(labels.unique())
    wanted = min(PER_CLASS * classes, MOST_ITEMS) // (1 if bundle.reads in SEQUENTIAL else 3)
    positions = run.data.drawn("val", task, max(classes, wanted))
    batch = TaskBatch(*(part.to(run.device) for part in run.data.batch("val", task, positions)))
    theta = run.task.theta[first_member(population, number) :]
    parts = [
        _of_members(run, bundle, alignment, members, theta[members], batch, task)
        for members in torch.arange(bundle.count, device=run.device).split(AT_ONCE)
    ]
    meta, mapped, original = (torch.cat(part) for part in zip(*parts, strict=True))
    return _States(meta, mapped, original, batch.targets.cpu(), task)


def _of_members(
    run: FinishedRun,
    bundle: Bundle,
    alignment: Alignment,
    members: Tensor,
    theta: Tensor,
    batch: TaskBatch,
    task: str,
) -> tuple[Tensor, Tensor, Tensor]:
    hidden = run.task(theta, batch.inputs, task).hidden[-1]
    stages = (hidden, alignment.stage(hidden, members), bundle(batch, members).hidden[-1])
    meta, mapped, original = (_moments(stage, batch.lengths) for stage in stages)
    return meta, mapped, original


def _moments(hidden: Tensor, lengths: Tensor) -> Tensor:
    """A stage of `Trajectory.hidden` at K moments of every item, `[n, B, K, H]` float64; of maps the mean, K = 1."""
    if hidden.dim() != 4:
        return hidden.flatten(3).mean(-1).unsqueeze(2).cpu().double()
    hidden, lengths = hidden.cpu().double(), lengths.cpu()
    place = torch.linspace(0, 1, MOMENTS, dtype=torch.float64) * (lengths - 1).unsqueeze(1)
    before = place.long()
    after, items = torch.minimum(before + 1, lengths.unsqueeze(1) - 1), torch.arange(len(lengths)).unsqueeze(1)
    return torch.lerp(hidden[:, items, before], hidden[:, items, after], (place - before).unsqueeze(-1))


def _courses(states: _States, index: int, plane: Tensor, names: tuple[str, ...]) -> list[Course]:
    """One member, class by class; `plane` are its emulator's meta states on the plane, `[B, K, 2]`."""
    seen = torch.stack([states.mapped[index], states.original[index]])
    emulated, original = read_back(states.mapped[index], plane, seen)
    found = []
    for label in states.targets.unique().tolist():
        mine = states.targets == label
        ends = torch.stack([emulated[mine, -1], original[mine, -1]], dim=1)
        ends = ends[:: -(-len(ends) // SHOWN)]
        name = names[label] if 0 <= label < len(names) else f"class {label}" if label >= 0 else "unknown class"
        found.append(Course(name, emulated[mine].mean(0), original[mine].mean(0), ends))
    return found


def read_back(mapped: Tensor, plane: Tensor, states: Tensor) -> Tensor:
    """Where on the plane are a member's own states? By the least-squares inverse of V_n.

    Args:
        mapped: V_n(s) `[..., H]`.
        plane: where these s are on the plane, `[..., 2]`.
        states: of the member `[..., H]`.

    Returns:
        `[..., 2]`.
    """
    known, wanted = mapped.flatten(0, -2), plane.flatten(0, -2)
    middle, centre = known.mean(0), wanted.mean(0)
    left, singular, right = torch.linalg.svd(known - middle, full_matrices=False)
    variance = singular.square().cumsum(0)
    kept = int((variance < KEPT * variance[-1]).sum()) + 1 if variance[-1] > 0 else 0
    inverse: Tensor = right[:kept].T @ ((left[:, :kept].T @ (wanted - centre)) / singular[:kept].unsqueeze(1))
    found: Tensor = (states - middle) @ inverse + centre
    return found
