"""The first paragraph: what the run is, and whether its numbers are good, for somebody who has never seen one."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dynamo.analysis import least_p
from dynamo.population import Member
from dynamo.report.maps import MapRun
from dynamo.report.source import sound
from dynamo.report.table import spread
from dynamo.report.words import Grade, Verdict, of_fidelity, of_mean, of_silhouette


class Card(NamedTuple):
    """A key number.

    Attributes:
        label: what it is.
        value: as it is read.
        note: what it is beside.
        verdict: what is to be thought of it; None where nothing is.
    """

    label: str
    value: str
    note: str = ""
    verdict: Verdict | None = None


class Sentence(NamedTuple):
    """A sentence or two about one thing, which is named at their head."""

    head: str
    text: str


class Summary(NamedTuple):
    """What stands at the top: the key numbers, and sentences that say what they mean."""

    cards: list[Card]
    sentences: list[Sentence]


def of_population(members: Sequence[Member]) -> Summary:
    """What is there to be told of a population that has no map yet?"""
    groups, tasks = _each(member.group for member in members), _each(member.task for member in members)
    measured = [m.test_accuracy for m in members if m.test_accuracy is not None]
    split = "test" if measured else "validation"
    measured = measured or [m.val_accuracy for m in members if m.val_accuracy is not None]
    cards = [Card("networks", str(len(members))), Card("groups", str(len(groups))), Card("tasks", ", ".join(tasks))]
    what = (
        f"This is a population of {_count(len(members), 'trained network')} in {_count(len(groups), 'group')} "
        f"({_listed(groups)}), before a map has been made of it."
    )
    if measured:
        low, middle, high = min(measured), statistics.median(measured), max(measured)
        cards.append(Card("accuracy", f"{middle:.3f}", f"median, on {split} items"))
        known = f"They answer {low:.1%} to {high:.1%} of the {split} items rightly, the median {middle:.1%}."
    else:
        known = "Not measured yet: `dynamo test` with the run's config.yaml does that."
    further = "Train a meta-model on it (`dynamo fit -c configs/meta/...yaml`), and ask for a report of that run."
    return Summary(cards, [Sentence("", what), Sentence("Accuracy", known), Sentence("Next", further)])


def of_maps(maps: Sequence[MapRun]) -> Summary:
    """How many networks, in how many groups and dimensions; may the map be trusted, and what does it show?"""
    first = maps[0]
    groups = _each(member.group for member in first.members)
    weight, dimensions = first.output_weight, first.answer.coordinates.shape[1]
    compared = "hidden states and outputs were compared" if weight else "hidden states alone were compared"
    distance = " by the L1 distance" if first.distance == "l1" else ""
    seeds = f" {len(maps)} such maps were trained, from a seed each; numbers are mean ± standard deviation over them."
    what = (
        f"This is a map of {_count(len(first.members), 'trained network')} in {_count(len(groups), 'group')} "
        f"({_listed(groups)}). Every point is one network; points that lie close compute alike. One meta-model, given "
        f"a point of {_count(dimensions, 'dimension')}, emulates the network of that point. It was shown what the "
        f"networks do (λ = {weight:g}: {compared}{distance}), and neither their groups nor any label."
        f"{seeds if len(maps) > 1 else ''}"
    )
    cards = [
        Card("networks", str(len(first.members))),
        Card("groups", str(len(groups))),
        Card("dimensions D", str(dimensions)),
        Card("λ", f"{weight:g}"),
    ]
    told = [_fidelity(maps), _silhouette(maps, len(groups)), *_means(maps)]
    return Summary([*cards, *(card for card, _ in told)], [Sentence("", what), *(sentence for _, sentence in told)])


def _fidelity(maps: Sequence[MapRun]) -> tuple[Card, Sentence]:
    if any(not one.fidelity for one in maps):
        return _unknown("fidelity", "Fidelity", "how well the emulators follow their originals", "dynamo test")
    explained = [statistics.fmean(row["variance_explained"] for row in one.fidelity) for one in maps]
    items = "test" if all(one.split == "test" for one in maps) else "validation"
    if any("agreement" not in row for one in maps for row in one.fidelity):  # networks without answers
        verdict = of_fidelity(1.0, statistics.fmean(explained))
        text = (
            f"on {items} items the emulators account for {_percent(explained)} of the variance of the hidden states. "
            f"{verdict.text}"
        )
        return Card("fidelity", spread(explained).text, "of the variance", verdict), Sentence("Fidelity", text)
    agreement = [statistics.fmean(row["agreement"] for row in one.fidelity) for one in maps]
    verdict = of_fidelity(statistics.fmean(agreement), statistics.fmean(explained))
    text = (
        f"on {items} items an emulator gives its original's answer in {_percent(agreement)} of the cases, and accounts "
        f"for {_percent(explained)} of the variance of its hidden states. {verdict.text}"
    )
    note = f"agreement; {spread(explained).text} of the variance"
    return Card("fidelity", spread(agreement).text, note, verdict), Sentence("Fidelity", text)


def _silhouette(maps: Sequence[MapRun], groups: int) -> tuple[Card, Sentence]:
    if groups < 2:
        text = "all networks are of one group, so there is no grouping to be measured."
        return Card("silhouette", "–", "one group"), Sentence("Grouping", text)
    if any("embedding" not in one.analyses for one in maps):
        return _unknown("silhouette", "Grouping", "whether the groups lie apart", "dynamo analyze embedding")
    found = [one.analyses["embedding"] for one in maps]
    if any("silhouette_theta" not in one for one in found):
        text = "no two networks are of one group, so there is no grouping to be measured."
        return Card("silhouette", "–", "groups of one"), Sentence("Grouping", text)
    with sound(maps[0].folder, "embedding"):
        values = [float(one["silhouette_theta"]) for one in found]
        p = max(float(one["p_theta"]) for one in found)
    least = least_p([member.group for member in maps[0].members])
    verdict = of_silhouette(statistics.fmean(values), p, least)
    largest = "the largest " if len(maps) > 1 else ""
    text = (
        f"the silhouette of the groups is {spread(values).text} (from -1 to 1, where 0 is no grouping; {largest}"
        f"p = {p:.2g} is the share of shuffled group names that reach it). {verdict.text}"
    )
    return Card("silhouette", spread(values).text, f"{largest}p = {p:.2g}", verdict), Sentence("Grouping", text)


def _means(maps: Sequence[MapRun]) -> list[tuple[Card, Sentence]]:
    """One card per task."""
    if any(one.output_weight == 0 for one in maps):
        text = "with λ = 0 the meta-model gives no answers, so the network at the mean of the map has no accuracy."
        return [(Card("mean of all", "–", "no answers at λ = 0"), Sentence("Averaging", text))]
    if any("averaging" not in one.analyses for one in maps):
        return [
            _unknown(
                "mean of all", "Averaging", "the accuracy of the network in the middle", "dynamo analyze averaging"
            )
        ]
    told = []
    with sound(maps[0].folder, "averaging"):
        tasks = list(maps[0].analyses["averaging"]["tasks"])
        for task in tasks:
            found = [one.analyses["averaging"]["tasks"][task] for one in maps]
            mean = [float(one["mean_theta"]["all"]) for one in found]
            median = [float(one["base_median"]) for one in found]
            chance = float(found[0]["chance"]) if "chance" in found[0] else None
            verdict = of_mean(statistics.fmean(mean), statistics.fmean(median), chance)
            guess = f", guessing {chance:.3g}" if chance is not None else ""
            text = (
                f"at the mean of all theta the accuracy is {spread(mean).text} (the median member "
                f"{spread(median).text}{guess}). {verdict.text}"
            )
            of_task = f", {task}" if len(tasks) > 1 else ""
            note = f"accuracy; median member {spread(median).text}"
            told.append(
                (Card(f"mean of all{of_task}", spread(mean).text, note, verdict), Sentence(f"Averaging{of_task}", text))
            )
    return told


def _unknown(label: str, head: str, what: str, command: str) -> tuple[Card, Sentence]:
    grade: Grade = "unknown"
    card = Card(label, "–", verdict=Verdict(grade, "not measured", ""))
    return card, Sentence(head, f"not measured is {what} (`{command}` does that).")


def _percent(values: Sequence[float]) -> str:
    mean = f"{100 * statistics.fmean(values):.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f} %" if len(values) > 1 else f"{mean} %"


def _each(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _listed(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
