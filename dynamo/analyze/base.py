"""What every kind of `dynamo analyze` shares: options, numbers of one run, a picture of one or several."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar, NamedTuple

from matplotlib.figure import Figure
from torch import Tensor

from dynamo.analyze.run import FinishedRun
from dynamo.population import Member
from dynamo.runs import RunFolder

Content = dict[str, Any]


class Result(NamedTuple):
    """One run's numbers, as they stand in `results/KIND.json`.

    Attributes:
        folder: of the run.
        content: the numbers; pictures are drawn from them alone.
    """

    folder: RunFolder
    content: Content


class Analysis(ABC):
    """One question to a finished run; a subclass is a frozen dataclass whose fields are its options.

    The numbers of a run are kept in its folder, together with the options, until either changes.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    """Analyses whose numbers this one rests on; they come first."""
    folders: ClassVar[tuple[str, ...]] = ()
    """Options that name one folder or several, word by word, as a shell writes a pattern out; required."""

    of_answers: ClassVar[bool] = False
    """Whether it is about what the networks answer, which a map of lambda = 0 does not show."""

    @abstractmethod
    def numbers(self, run: FinishedRun) -> Content:
        """The answer in numbers: plain values, lists and dicts, or tensors."""

    def options(self) -> Content:
        """What is asked, as it stands beside the numbers."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    def content(self, run: FinishedRun) -> Content:
        """What stands in `results/KIND.json`: what was asked, of which kind of meta-model, and the numbers."""
        about = {"options": self.options(), "output_weight": run.task.output_weight, "distance": run.task.distance}
        return about | self.numbers(run)

    @abstractmethod
    def draw(self, rows: Sequence[Sequence[Result]]) -> Figure:
        """The answer as a picture: of one run, or of several beside (and below) each other."""

    def across(self, rows: Sequence[Sequence[Result]]) -> Content:
        """What can be said of several runs only, besides mean and spread of the numbers."""
        return {}


def check_at_least(least: float, analysis: Analysis, *options: str) -> None:
    """Refuse options of an analysis that are below `least`, or no numbers.

    Raises:
        ValueError: naming option and value.
    """
    for option in options:
        if not getattr(analysis, option) >= least:
            raise ValueError(f"{option} is {getattr(analysis, option)}; it has to be at least {least}.")


def title_of(result: Result) -> str:
    """Which run is this, with which lambda, and with L1 if it is not L2?"""
    root, weight = result.folder.root, result.content["output_weight"]
    other = ", L1" if result.content.get("distance") == "l1" else ""
    return f"{root.parent.name}, {root.name.replace('=', ' ')}, λ = {weight:g}{other}"


def axis_name(dimensions: int) -> str:
    """What the axes of the plane are called: those of a map of two dimensions are theta itself."""
    return "θ" if dimensions == 2 else "PC"


def described(members: Sequence[Member], **columns: Tensor) -> list[Content]:
    """The members as they stand in the numbers of an analysis, with a row of each further column `[N, ...]`.

    The policy of augmentation is told where a member has one.
    """
    rows: list[Content] = [{"name": m.name, "group": m.group, "task": m.task, "epoch": m.epoch} for m in members]
    if any(member.policy != "none" for member in members):
        rows = [row | {"policy": member.policy} for row, member in zip(rows, members, strict=True)]
    return [row | {key: values[i].tolist() for key, values in columns.items()} for i, row in enumerate(rows)]


def members_of(content: Content) -> list[Member]:
    """The members that the numbers of an analysis are about."""
    return [
        Member(row["name"], row["group"], row["task"], epoch=row["epoch"], policy=row.get("policy", "none"))
        for row in content["members"]
    ]
