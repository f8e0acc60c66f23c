"""`MetaTask`: trains the one network that emulates a whole population, and with it the map."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from dynamo.meta.alignment import AlignmentKind, alignments_of
from dynamo.meta.calibration import calibrate
from dynamo.meta.checks import check_data, check_inputs, check_network, check_options, check_readouts
from dynamo.meta.comparison import Comparison, compared, first_member
from dynamo.meta.draw import drawn_members
from dynamo.meta.embedding import ModelEmbedding
from dynamo.meta.losses import Distance
from dynamo.meta.matching import MetaModel, matching_network
from dynamo.population.artifact import Population
from dynamo.population.identity import IdentifiedTask, Identity, digest, fingerprint
from dynamo.population.members import Member, group_means
from dynamo.population.optimisation import (
    Schedule,
    adam,
    check_descent,
    check_finite,
    check_precision,
    check_weights,
    scheduled,
)
from dynamo.population.ranks import mean_over_ranks, nothing_of
from dynamo.population.sources import leave_out as without
from dynamo.population.sources import load_populations
from dynamo.types import TaskBatch, Trajectory, UserError

REMEDY = "Lower the learning rate (lr, theta_lr) or the gradient clipping (clip)."


class MetaTask(IdentifiedTask):
    """How does a population become a map? Fits theta_n, V_n and one meta-model to emulate every member.

    Minimises the mean over members of L_hidden(n) + lambda * L_output(n) (Figures 1 and 2 of the paper), L_hidden
    being the mean over stages where there are several. No label is used. The population is frozen, runs beside the
    meta-model, and is not part of the checkpoint.

    Logs `train/loss`, `train/hidden`, `train/output`, and `train/loss/GROUP`, the mean of the members' newest losses
    (with `members_per_step` those of earlier steps among them). What it reaches on held-out items
    is measured by the `fidelity` callback.

    Args:
        population: folder of a trained population, a list of folders, or a pattern such as
            `runs/x/snapshots/*`; several are joined. Or a `Population`, in a configuration the import path of a
            function that returns one (`my_networks.population`), or its `class_path` and `init_args`.
        vocab_size: number of token ids, 0 where the items are no words; linked from the data.
        groups: take only the members of these groups, and call the groups so: `{100%: GRU}`; all by default.
        leave_out: names of members that the map does without, to be put on it afterwards (`dynamo analyze embed`).
        network: F and G, see `dynamo.meta`; by default one that matches the members (`dynamo.meta.matching`).
        dimensions: D.
        alignment: V_n: affine, identity or mlp.
        distance: d in L_hidden: l2 or l1.
        normalise: divide L_hidden by the spread of the member's states, measured on the calibration batch.
        output_weight: lambda; 0 compares hidden states alone (Figures 4 and 9 of the paper).
        burn_in: steps at the start of an item that count in no loss; an item's last step always counts.
        members_per_step: how many members, drawn anew, take part in a step; all by default. Bounds memory.
        calibration_items: how many training items the spread is measured on.
        lr: learning rate of Adam.
        theta_lr: learning rate of theta.
        alignment_weight_decay: decoupled weight decay of V_n.
        clip: largest norm of the gradient; 0 for none.
        schedule: cosine, one_cycle or constant.
        warmup_steps: steps until the full learning rate.
        seed: of the draws of members.

    Raises:
        PopulationError: the population is missing, damaged, or does not fit the data's vocabulary size.
        ValueError: an option out of its range.

    Examples:
        >>> import torch
        >>> from dynamo import MetaTask, Population
        >>> from dynamo.population import RecurrentClassifier
        >>> networks = [RecurrentClassifier("gru", 9, 4, hidden_size=3, classes=2) for _ in range(2)]
        >>> task = MetaTask(Population.from_modules(networks, task="film"), vocab_size=9, dimensions=5)
        >>> task.theta.shape, bool(task.theta.any())  # one point for each network; all start at 0
        (torch.Size([2, 5]), False)
        >>> task(torch.zeros(7, 5), torch.tensor([[2, 3, 4]]), "film").output.shape  # 7 points of the map, one sentence
        torch.Size([7, 1, 3, 2])
    """

    def __init__(
        self,
        population: Population | str | list[str],
        vocab_size: int = 0,
        groups: dict[str, str] | None = None,
        leave_out: list[str] | None = None,
        network: Callable[[int, Mapping[str, int], int], MetaModel] | None = None,
        dimensions: int = 16,
        alignment: AlignmentKind = "affine",
        distance: Distance = "l2",
        normalise: bool = True,
        output_weight: float = 1.0,
        burn_in: int = 0,
        members_per_step: int | None = None,
        calibration_items: int = 256,
        lr: float = 3e-3,
        theta_lr: float = 1e-2,
        alignment_weight_decay: float = 0.0,
        clip: float = 1.0,
        schedule: Schedule = "cosine",
        warmup_steps: int = 30,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_options(dimensions, alignment, distance, output_weight, burn_in, members_per_step, calibration_items)
        check_descent(schedule, warmup_steps, clip, {"lr": lr, "theta_lr": theta_lr})
        self.population = load_populations(population)
        if groups is not None:
            self.population = self.population.only(groups)
        if leave_out:
            self.population = without(self.population, leave_out)
        check_inputs(self.population, vocab_size)
        check_readouts(self.population, output_weight)
        self.distance, self.normalise, self.output_weight, self.burn_in = distance, normalise, output_weight, burn_in
        self.members_per_step, self.calibration_items = members_per_step, calibration_items
        self.lr, self.theta_lr, self.alignment_weight_decay = lr, theta_lr, alignment_weight_decay
        self.clip, self.schedule, self.warmup_steps, self.seed = clip, schedule, warmup_steps, seed
        classes = {t: b.classes for t, b in zip(self.population.tasks, self.population.bundles, strict=True)}
        self.network: MetaModel
        if network is None:
            self.network = matching_network(self.population, vocab_size, classes, dimensions)
        else:
            self.network = network(vocab_size, classes, dimensions)
        check_network(self.population, self.network)
        sizes = self.network.hidden_sizes
        self.embedding = ModelEmbedding(len(self.population), dimensions)
        self.alignment = alignment
        self.alignments = alignments_of(alignment, self.population, sizes)
        self._digest = ""
        self.spread: Tensor
        self.calibrated: Tensor
        self.newest_losses: Tensor  # of every member when it last took part, -1 before
        self.register_buffer("spread", torch.ones(len(self.population), len(sizes)))
        self.register_buffer("calibrated", torch.tensor(False))
        self.register_buffer("newest_losses", torch.full((len(self.population),), -1.0))

    @property
    def members(self) -> tuple[Member, ...]:
        """The members, in the order of theta."""
        return self.population.members

    @property
    def theta(self) -> Tensor:
        """The map as it is now: `[N, D]`, detached."""
        return self.embedding.theta.detach()

    def forward(self, theta: Tensor, inputs: Tensor, task: str) -> Trajectory:
        """What do the networks at points `[P, D]` do on a task's inputs? Hidden are the meta states of every stage."""
        return self.network(theta, inputs, task)  # type: ignore[no-any-return]

    def on_fit_start(self) -> None:
        """Move the population here, check that it fits the data, and measure the spread of its states once."""
        self._check_data()
        self.population.to(self.device)
        if not bool(self.calibrated):
            self._calibrate()

    def on_validation_start(self) -> None:
        """Move the population here."""
        self.population.to(self.device)

    def on_test_start(self) -> None:
        """Move the population here, and check that it fits the data."""
        self._check_data()
        self.population.to(self.device)

    def training_step(self, batch: dict[str, TaskBatch], batch_idx: int) -> Tensor:
        """Mean of L_hidden + lambda * L_output over the members of this step."""
        hidden, output, indices = [], [], []
        for part in self.compare(batch, self._draw()):
            index = part.members + first_member(self.population, part.bundle)
            found = part.losses(self.spread[index], self.distance, self.burn_in)
            hidden.append(found.hidden)
            output.append(found.output)
            indices.append(index)
        each_hidden, each_output, index = torch.cat(hidden), torch.cat(output), torch.cat(indices)
        losses = each_hidden + self.output_weight * each_output
        seen, seen_hidden, seen_output = mean_over_ranks(torch.stack([losses, each_hidden, each_output]))
        check_finite(seen, [self.members[i].name for i in index.tolist()], self.global_step, REMEDY)
        self.newest_losses[index] = seen
        known = self.newest_losses.where(self.newest_losses >= 0, torch.nan).cpu()
        groups = group_means("train/loss", self.members, known)
        self.log_dict({name: value for name, value in groups.items() if not value.isnan()})
        self.log("train/hidden", seen_hidden.mean())
        if any(bundle.classes for bundle in self.population.bundles):
            self.log("train/output", seen_output.mean())
        self.log("train/loss", seen.mean(), prog_bar=True)
        left_out = len(indices) < len(self.alignments)  # a bundle, none of whose members was drawn
        return losses.mean() + nothing_of(self.parameters()) if left_out else losses.mean()

    def validation_step(self, batch: dict[str, TaskBatch], batch_idx: int) -> None:
        """Nothing by itself: callbacks ask `compare` what they want to know."""

    def test_step(self, batch: dict[str, TaskBatch], batch_idx: int) -> None:
        """Nothing by itself, as in validation."""

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam, with a learning rate of its own for theta."""
        check_precision(self.trainer.precision)
        groups: list[dict[str, Any]] = [
            {"params": list(self.network.parameters())},
            {"params": list(self.alignments.parameters()), "weight_decay": self.alignment_weight_decay},
            {"params": list(self.embedding.parameters()), "lr": self.theta_lr},
        ]
        optimizer = adam([group for group in groups if group["params"]], self.lr)
        return scheduled(optimizer, self.schedule, self.trainer.estimated_stepping_batches, self.warmup_steps)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip to `clip`, or to the trainer's `gradient_clip_val` where that is set.

        Lightning's own way refuses fused optimisers at bf16-mixed; what it fears is float16 (see `check_precision`).
        """
        value = self.clip if gradient_clip_val is None else gradient_clip_val
        if value:
            clip = nn.utils.clip_grad_value_ if gradient_clip_algorithm == "value" else nn.utils.clip_grad_norm_
            clip([parameter for group in optimizer.param_groups for parameter in group["params"]], value)

    def compare(self, batch: Mapping[str, TaskBatch], select: Sequence[Tensor] | None = None) -> Iterator[Comparison]:
        """Run originals and emulators side by side, bundle after bundle.

        With lambda = 0 nothing trains G. In evaluation the members' own readouts then answer for the emulators, from
        V_n(s): whether the emulated states carry the members' decisions.

        Args:
            batch: items per task; bundles whose task is not in it are left out.
            select: per bundle the indices of the members that run; all by default.

        Yields:
            One `Comparison` per bundle that runs.
        """
        own = self.output_weight == 0 and not self.training
        theta, population = self.embedding(), self.population
        yield from compared(population, self.network, theta, self.alignments, batch, select, own_readouts=own)

    @property
    def identity(self) -> Identity:
        """Who is emulated, on which data, in a space of which kind."""
        self._digest = self._digest or digest(self.population)  # of all weights, found once
        own = {"kind": "map", "dimensions": self.theta.shape[1], "network": type(self.network).__name__}
        names = [member.name for member in self.members]
        return {**own, "members": names, "population": self._digest, **fingerprint(self)}

    def check_weights(self) -> None:
        """See `IdentifiedTask.check_weights`."""
        own: list[tuple[Mapping[str, Tensor], Sequence[Member]]] = [({"theta": self.theta}, self.members)]
        own += zip((part.state_dict() for part in self.alignments), self.population.bundle_members, strict=True)
        for weights, members in [*own, (self.network.state_dict(), ())]:
            check_weights(weights, [member.name for member in members], self.global_step, REMEDY)

    def _draw(self) -> list[Tensor] | None:
        """The members of this step."""
        if self.members_per_step is None or self.members_per_step >= len(self.population):
            return None
        progress = self.trainer.fit_loop.epoch_loop.batch_progress
        counts = [bundle.count for bundle in self.population.bundles]
        return drawn_members(counts, self.members_per_step, self.seed, progress.total.processed)  # type: ignore[attr-defined]

    @torch.no_grad()
    def _calibrate(self) -> None:
        """Measure the mean and the spread of every member's states, and start V_n at the mean."""
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        batch = datamodule.calibration_batch(self.calibration_items)
        batch = {task: TaskBatch(*(v.to(self.device) for v in part)) for task, part in batch.items()}
        found = calibrate(self.population, batch, self.alignments, self.burn_in, self.distance)
        if self.normalise:
            self.spread.copy_(found)
        self.calibrated.fill_(True)

    def _check_data(self) -> None:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if data is None:
            raise UserError(
                "The meta-model was given a data loader; give a data module: TensorDataModule(inputs, labels)."
            )
        items = data.calibration_batch(2)
        tasks = getattr(data, "classes", dict.fromkeys(items, ()))
        check_data(self.population, getattr(data, "fingerprint", {}), tasks, items)
