"""`dynamo analyze word_scores`: how well do the networks of the plane understand words (Figure 11)?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dynamo.analysis.accuracy_map import answers_at
from dynamo.analysis.lexicon import Lexicon, lexicon, polarities
from dynamo.analysis.plane import plane_grid, plane_of
from dynamo.analysis.word_scores import base_word_effects, word_effects, word_scores
from dynamo.analyze.accuracy_map import AccuracyMap
from dynamo.analyze.attractors import (
    RestingInput,
    attractors_at,
    best_theta,
    binary_task,
    original_at,
    recurrent_network,
)
from dynamo.analyze.base import Analysis, Content, Result, axis_name, check_at_least, described, title_of
from dynamo.analyze.run import FinishedRun
from dynamo.figures.plane_map import PlaneMap, plane_map, plane_map_row
from dynamo.population import RecurrentBundle

SCORES = {"standardised": True, "logits": False}
"""The two scores that are told: divided by the spread of the effects, and in logits."""


@dataclass(frozen=True)
class WordScores(Analysis):
    """How well do the networks of the plane tell positive from negative words (Figure 11 of the paper)?

    At every point the attractor is solved for; a word's effect is what one step with it does to the logit, and the
    score how well the effects follow the words' polarity in the training items. Needs `dynamo analyze accuracy_map`,
    which finds X.

    Args:
        size: points along each axis of the map.
        margin: what the map shows around the members, as a share of their extent.
        words: words whose effect at X is told one by one, besides the lexicon.
        lexicon_size: words of the lexicon, half of each sign; the most polar ones alone are known to every network.
        least: training items that a word of the lexicon stands in.
        resting_input: x* of the attractors, as in `fixed_points`; also seeds, items, tolerance, task.
        seeds: per point.
        items: held-out items that the seeds are drawn from.
        tolerance: of q.
        standardise: draw the score divided by the spread of the words' effects, or in logits; the numbers tell both.
        task: whose readout and words; by default the first task with two classes.

    Raises:
        ValueError: an option out of its range.
    """

    name: ClassVar[str] = "word_scores"
    of_answers: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = (AccuracyMap.name,)
    size: int = 11
    margin: float = 0.25
    words: list[str] = field(default_factory=list)
    lexicon_size: int = 1000
    least: int = 50
    resting_input: RestingInput = "mean"
    seeds: int = 64
    items: int = 32
    tolerance: float = 1e-4
    standardise: bool = True
    task: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be computed."""
        check_at_least(2, self, "size", "items", "lexicon_size")
        check_at_least(1, self, "seeds", "least")
        check_at_least(0, self, "margin")
        if not self.tolerance > 0 or self.lexicon_size % 2:
            raise ValueError(f"tolerance {self.tolerance} must be positive, lexicon_size {self.lexicon_size} even.")

    def numbers(self, run: FinishedRun) -> Content:
        """See `Analysis.numbers`."""
        network = recurrent_network(run)
        run.need_answers(self.name)
        task, theta = binary_task(run, self.task), run.task.theta
        asked = [self._id(run, word) for word in self.words]
        words = self._lexicon(run, task)
        plane, grid, best = plane_of(theta), plane_grid(theta, self.size, self.margin), best_theta(run)
        points = torch.cat([grid.points, theta, best.unsqueeze(0)])
        found = attractors_at(run, points, task, self.resting_input, self.seeds, self.items, self.tolerance)
        kept = found.found.converged
        solved = torch.bincount(found.seeds.owner[kept].cpu(), minlength=len(points)) > 0
        if not bool(solved[-1]):
            raise ValueError(f"no attractor at X within tolerance {self.tolerance:g}; raise --tolerance.")
        rank = (solved.cumsum(0) - 1)[found.seeds.owner[kept].cpu()]
        ids = torch.cat([words.ids, torch.tensor(asked, dtype=torch.int64)])
        states, there = found.found.states[kept], points[solved.to(points.device)]
        effects = word_effects(network, there, states, rank, ids, task)
        originals = self._originals(run, task, words)
        accuracy = answers_at(run.task.network, points, task, run.test_batches).accuracy
        content: Content = {
            "task": task,
            "converged_share": float(kept.double().mean()),
            "words": dict(zip(self.words, effects[-1, len(words.ids) :].tolist(), strict=True)),
            "lexicon": [run.words[i] for i in words.ids.tolist()],
            "x": grid.x.tolist(),
            "y": grid.y.tolist(),
            "dimensions": theta.shape[1],
            "x_plane": plane.project(best).tolist(),
            "members": described(run.task.members, plane=plane.members),
        }
        for name, standardise in SCORES.items():
            scores = torch.full((len(points),), torch.nan, dtype=torch.float64)
            scores[solved] = word_scores(effects[:, : len(words.ids)], words, standardise)
            content[name] = _told(scores, accuracy, run.groups, self.size) | self._beside(
                run, task, originals[name], scores
            )
        return content

    def _originals(self, run: FinishedRun, task: str, words: Lexicon) -> dict[str, Tensor]:
        """Both scores of the base models themselves on their own attractors, `[N]`; NaN where none was found."""
        found = {name: torch.full((len(run.task.members),), torch.nan, dtype=torch.float64) for name in SCORES}
        for row in range(len(run.task.members)):
            number, index = run.place_of(row)
            solved = original_at(run, row, task, self.resting_input, self.seeds, self.items, self.tolerance)
            if solved is None or not bool(solved.found.converged.any()):
                continue
            bundle = run.task.population.bundles[number]
            assert isinstance(bundle, RecurrentBundle)
            states = solved.found.states[solved.found.converged]
            effects = base_word_effects(bundle, [index], states, torch.zeros(len(states), dtype=torch.int64), words.ids)
            for name, standardise in SCORES.items():
                found[name][row] = word_scores(effects, words, standardise)[0]
        return found

    def _beside(self, run: FinishedRun, task: str, originals: Tensor, scores: Tensor) -> Content:
        """How the originals' scores go with their accuracies, and with the scores of their emulators."""
        emulators = scores[self.size**2 : -1]
        accuracies = run.base_accuracies[task]
        rows = [row for row, member in enumerate(run.task.members) if member.task == task]
        return {
            "originals": _known(originals),
            "originals_accuracy_correlation": _correlation(originals[rows], accuracies),
            "originals_emulators_correlation": _correlation(originals[rows], emulators[rows]),
        }

    def _lexicon(self, run: FinishedRun, task: str) -> Lexicon:
        """The most polar frequent words of the training items."""
        reviews = (batch[task] for batch in run.loaded.batches("train") if task in batch)
        polarity, counts = polarities(reviews, run.loaded.vocab_size)
        return lexicon(polarity, counts, self.lexicon_size, self.least)

    @staticmethod
    def _id(run: FinishedRun, word: str) -> int:
        known = run.words
        if word not in known[2:]:
            raise ValueError(f"the word {word!r} is not in the vocabulary of {len(known)} words; choose another.")
        return list(known).index(word)

    def draw(self, rows: Sequence[Sequence[Result]]) -> Figure:
        """The map of one run; of several, the maps beside each other."""
        panels = [_panel(result) for row in rows for result in row]
        return plane_map(panels[0]) if len(panels) == 1 else plane_map_row(panels)


def _told(scores: Tensor, accuracy: Tensor, groups: Sequence[str], size: int) -> Content:
    """What is said of scores of the grid's points, the members and X, in this order; NaN where there is none."""
    on_map, members, best = scores.split([size**2, len(groups), 1])
    map_accuracy, member_accuracy, _ = accuracy.split([size**2, len(groups), 1])
    known, own = ~on_map.isnan(), ~members.isnan()
    by_group = {
        name: members[[i for i, group in enumerate(groups) if group == name]].nanmean()
        for name in dict.fromkeys(groups)
    }
    return {
        "at_x": float(best),
        "members_mean": _number(members.nanmean()),
        "members_best": _number(members[own].max()) if bool(own.any()) else None,
        "map_maximum": _number(on_map[known].max()) if bool(known.any()) else None,
        "map_minimum": _number(on_map[known].min()) if bool(known.any()) else None,
        "accuracy_correlation_map": _correlation(on_map[known], map_accuracy[known]),
        "accuracy_correlation_members": _correlation(members[own], member_accuracy[own]),
        "groups": {name: _number(mean) for name, mean in by_group.items()},
        "members": _known(members),
        "map": [_known(row) for row in on_map.view(size, size)],
    }


def _number(value: Tensor) -> float | None:
    """A number as JSON has it: no NaN."""
    return None if bool(value.isnan()) else float(value)


def _known(values: Tensor) -> list[float | None]:
    """Numbers as JSON has them: no NaN."""
    return [None if value != value else value for value in values.tolist()]


def _panel(result: Result) -> PlaneMap:
    found = result.content
    told = found["standardised" if found["options"]["standardise"] else "logits"]
    return PlaneMap(
        x=found["x"],
        y=found["y"],
        values=torch.tensor([[float("nan") if v is None else v for v in row] for row in told["map"]]),
        members=[member["plane"] for member in found["members"]],
        groups=[member["group"] for member in found["members"]],
        best=found["x_plane"],
        title=title_of(result),
        note=f"score at × {told['at_x']:.3f}, best member {told['members_best']:.3f}",
        axis_name=axis_name(found["dimensions"]),
        label="word score" if found["options"]["standardise"] else "word score in logits",
    )


def _correlation(a: Tensor, b: Tensor) -> float | None:
    """Pearson's, of what is known of both; None where one of them does not vary."""
    known = ~(a.isnan() | b.isnan())
    if int(known.sum()) < 2:
        return None
    return _number(torch.corrcoef(torch.stack([a[known].double(), b[known].double()]))[0, 1])
