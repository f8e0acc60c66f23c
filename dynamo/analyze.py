"""`dynamo analyze KIND --run RUN ...`: one analysis of finished runs, as a picture and as JSON."""

from __future__ import annotations

import argparse
import logging
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from datamodules.base import IndexedDataModule
from dynamo.analysis import (
    PCA,
    accuracy_at,
    averaged_weights,
    bundle_accuracy,
    group_distances,
    mean_points,
    pca,
    permutation_test,
    procrustes_align,
    spread_over_time,
)
from dynamo.cli import load_run
from dynamo.figures import embedding_plane, embedding_row, map_panel, save_png
from dynamo.figures.map_panel import trajectories
from dynamo.meta import MetaTask
from dynamo.runs import RunFolder
from dynamo.types import TaskBatch, UserError

log = logging.getLogger(__name__)


def embedding(task: MetaTask, data: IndexedDataModule, permutations: int) -> dict[str, Any]:
    """Do the groups lie apart on the map (Figures 3 and 9 of the paper)?

    Silhouette of the grouping in theta and on the plane of the first two components, each against the null of
    shuffled labels; components for 95 % of the variance; distances between groups; the coordinates themselves.
    """
    answer = pca(task.theta)
    members = task.members
    groups = [member.group for member in members]
    found: dict[str, Any] = {
        "dims_95": answer.components_for(0.95),
        "spectrum": answer.spectrum.tolist(),
        "output_weight": task.output_weight,
        "permutations": permutations,
    }
    if len(set(groups)) > 1:
        for where, points in (("theta", task.theta), ("plane", answer.coordinates[:, :2])):
            test = permutation_test(points, groups, permutations)
            found[f"silhouette_{where}"] = test.statistic
            found[f"p_{where}"] = test.p_value
            found[f"null_mean_{where}"], found[f"null_std_{where}"] = test.null_mean, test.null_std
        distances = group_distances(task.theta, groups)
        found["groups"] = list(distances.groups)
        found["distance_between_groups"] = distances.between.tolist()
        found["distance_within_groups"] = [None if w != w else w for w in distances.within.tolist()]
    if trajectories(members) is not None:
        time = spread_over_time(task.theta, [member.epoch or 0 for member in members])
        found |= {"epochs": list(time.epochs), "spread": time.spread.tolist()}
        found |= {"spread_early": time.early, "spread_late": time.late, "late_over_early": time.late / time.early}
    found["members"] = [
        {"name": member.name, "group": member.group, "theta": theta.tolist(), "plane": plane.tolist()}
        for member, theta, plane in zip(members, task.theta, answer.coordinates[:, :2], strict=True)
    ]
    return found


def averaging(task: MetaTask, data: IndexedDataModule, permutations: int) -> dict[str, Any]:
    """Is there a working network between the networks (abstract of the paper)?

    Test accuracy of the meta-model at the mean theta of all members and of each group, of the base models
    themselves, and of the network made of their averaged weights.
    """
    if task.output_weight == 0:
        raise UserError("averaging asks for answers, and with output_weight (lambda) 0 the readout G was not trained.")
    found: dict[str, Any] = {}
    groups = [member.group for member in task.members]
    points = mean_points(task.theta, groups)
    batches = list(test_batches(data))
    for name in dict.fromkeys(task.population.tasks):
        at = accuracy_at(task.network, torch.stack(list(points.values())), name, batches)
        bundles = [b for b, t in zip(task.population.bundles, task.population.tasks, strict=True) if t == name]
        base = torch.cat([bundle_accuracy(bundle, name, batches) for bundle in bundles])
        averages = [float(bundle_accuracy(averaged_weights(bundle), name, batches)) for bundle in bundles]
        found[name] = {
            "mean_theta": dict(zip(points, at.tolist(), strict=True)),
            "base_median": float(base.median()),
            "base_best": float(base.max()),
            "base": base.tolist(),
            "averaged_weights": averages,
        }
    return found


KINDS: dict[str, Callable[[MetaTask, IndexedDataModule, int], dict[str, Any]]] = {
    "embedding": embedding,
    "averaging": averaging,
}


def test_batches(data: IndexedDataModule) -> Iterator[dict[str, TaskBatch]]:
    """The test split, batch after batch; read only now, since not every analysis needs the data."""
    data.prepare_data()
    data.setup("test")
    for batch in data.test_dataloader():
        yield data.on_after_batch_transfer(batch, 0)


def summary(per_run: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over runs of every number that all of them have."""
    found: dict[str, Any] = {}
    for key, value in per_run[0].items():
        values = [one[key] for one in per_run if key in one]
        if len(values) < len(per_run) or key == "permutations":
            continue
        if isinstance(value, dict):
            found[key] = summary(values)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            spread = statistics.stdev(values) if len(values) > 1 else None
            found[key] = {"mean": statistics.fmean(values), "std": spread, "values": values}
    return found


def fidelity(folder: RunFolder) -> dict[str, Any]:
    """The means over members that `dynamo test` wrote, where it was run."""
    return {"fidelity": folder.read_result("fidelity_test")["mean"]} if folder.done("fidelity_test") else {}


def note(found: dict[str, Any]) -> str | None:
    """The small print of a panel."""
    if "spread_late" in found:
        return f"faint: early; seeds lie {found['spread_early']:.2f} → {found['spread_late']:.2f} apart"
    if "silhouette_plane" not in found:
        return None
    return f"silhouette {found['silhouette_plane']:.2f} (p = {found['p_plane']:.2g})"


def row_of(folders: Sequence[RunFolder]) -> tuple[list[Any], list[PCA]]:
    """One panel per run, from its checkpoint and its results."""
    panels, answers = [], []
    for folder in folders:
        task = load_run(folder).model
        assert isinstance(task, MetaTask)
        answer = pca(task.theta)
        numbers = folder.read_result("embedding")
        title = f"{folder.root.parent.name}, {folder.root.name.replace('=', ' ')}, λ = {task.output_weight:g}"
        panels.append(map_panel(answer, task.members, title, note(numbers)))
        answers.append(answer)
    return panels, answers


def draw_embeddings(rows: Sequence[Sequence[RunFolder]], path: Path) -> dict[str, Any]:
    """The maps of several runs beside each other, and how far theta moves between them.

    Args:
        rows: runs per row of the picture.
        path: of the picture.

    Returns:
        Mean distance of a member's point between two runs of the first row, after alignment, and the size of the map
        (root mean square distance from its middle) to compare it with. Nothing where the runs have other members.
    """
    drawn = [row_of(row) for row in rows]
    panels = [panels for panels, _ in drawn]
    alone = len(panels) == len(panels[0]) == 1
    save_png(embedding_plane(**vars(panels[0][0])) if alone else embedding_row(*panels), path)
    names = [[member["name"] for member in folder.read_result("embedding")["members"]] for folder in rows[0]]
    if any(other != names[0] for other in names):
        return {}
    maps = [answer.coordinates for answer in drawn[0][1]]
    moved = [float(procrustes_align(a, b).residual.mean()) for i, a in enumerate(maps) for b in maps[i + 1 :]]
    size = statistics.fmean(float(m.square().sum(1).mean().sqrt()) for m in maps)
    return {"moved_between_runs": statistics.fmean(moved) if moved else None, "map_size": size}


def main(args: Sequence[str]) -> None:
    """Run the command line `dynamo analyze`."""
    parser = argparse.ArgumentParser("dynamo analyze", description=__doc__, allow_abbrev=False)
    parser.add_argument("kind", choices=sorted(KINDS), help="what to ask")
    parser.add_argument("--run", nargs="+", required=True, type=Path, help="run folders; several for a summary")
    parser.add_argument("--below", nargs="*", default=[], type=Path, help="runs drawn in a second row (Figure 9)")
    parser.add_argument("--out", type=Path, help="folder of the summary of several runs; default: of the first run")
    parser.add_argument("--permutations", type=int, default=10_000, help="of the permutation test")
    options = parser.parse_args(list(args))
    if options.below and len(options.below) != len(options.run):
        raise UserError(f"--run names {len(options.run)} runs, --below {len(options.below)}: a row each, equally long.")
    upper, lower = ([RunFolder(path) for path in paths] for paths in (options.run, options.below))
    per_run = [analyze_run(options.kind, folder, options.permutations) for folder in [*upper, *lower]]
    if options.kind == "embedding":  # a map is worth what its emulators are
        per_run = [numbers | fidelity(folder) for numbers, folder in zip(per_run, [*upper, *lower], strict=True)]
    out = RunFolder(options.out) if options.out else upper[0]
    content: dict[str, Any] = {"runs": [str(folder.root) for folder in [*upper, *lower]]}
    content |= summary(per_run[: len(upper)])
    if options.kind == "embedding":
        picture = out.figures / "embedding.png"
        content |= draw_embeddings([upper, lower] if lower else [upper], picture)
        log.info(f"picture: {picture}")
    if len(per_run) > 1 or options.out:
        if lower:
            content = {
                "runs": content.pop("runs"),
                "upper": content,
                "lower": summary(per_run[len(upper) :]),
            }
        log.info(f"summary: {out.write_result(f'{options.kind}_summary', content)}")


def analyze_run(kind: str, folder: RunFolder, permutations: int) -> dict[str, Any]:
    """One run's numbers: computed and written, or read where they are there already and still hold."""
    if not _holds(kind, folder, permutations):
        cli = load_run(folder)
        if not isinstance(cli.model, MetaTask) or not isinstance(cli.datamodule, IndexedDataModule):
            raise UserError(f"{folder.root} is not the run of a meta-model; `analyze` needs one (configs/meta).")
        content = KINDS[kind](cli.model, cli.datamodule, permutations)
        log.info(f"numbers: {folder.write_result(kind, content)}")
    return folder.read_result(kind)


def _holds(kind: str, folder: RunFolder, permutations: int) -> bool:
    """Whether a run's numbers are there, are about its weights as they are now, and were asked for like this."""
    if not folder.done(kind) or folder.newer_weights(kind):
        return False
    return bool(folder.read_result(kind).get("permutations", permutations) == permutations)
