"""`PopulationTask`: trains every member of a population at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, get_args

import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from dynamo.population.artifact import Population
from dynamo.population.base import Bundle
from dynamo.population.identity import IdentifiedTask, Identity
from dynamo.population.identity import fingerprint as fingerprint_of
from dynamo.population.losses import cross_entropies
from dynamo.population.members import Member, MemberGroup, expand, group_means
from dynamo.population.optimisation import (
    OptimizerName,
    Schedule,
    adam,
    check_choice,
    check_descent,
    check_finite,
    check_precision,
    check_weights,
    clip_per_member,
    scheduled,
    sgd,
    stacked_groups,
)
from dynamo.population.parts import note_part, parse_positions, warn_of_threads
from dynamo.population.ranks import mean_over_ranks
from dynamo.population.recurrent import RecurrentBundle
from dynamo.population.residual import ResidualBundle
from dynamo.types import Reader, TaskBatch

REMEDY = "Lower the learning rate or the gradient clipping, and look at the data of this member."


class PopulationTask(IdentifiedTask):
    """How does a population come about? Every member learns its task, recurrent networks all in one recurrence.

    The members' losses are added, their gradients do not mix, and the optimiser works element by element: each member
    is trained exactly as if it were alone. All take the same number of optimiser steps; one with a smaller fraction
    of the data sees it more often.

    Logs `train/loss` and `train/loss/GROUP`; on validation and test `val/loss`, `val/accuracy`,
    `val/accuracy/GROUP` and `val_members/accuracy/NAME` (and the same with `test`).

    Args:
        groups: who is in the population.
        vocab_size: number of token ids, 0 for images; linked from the data.
        class_names: task -> its classes; linked from the data.
        optimizer: adam, or sgd with Nesterov's momentum.
        lr: learning rate.
        momentum: of sgd, in [0, 1).
        weight_decay: on everything; decoupled for adam, added to the gradient for sgd.
        label_smoothing: share of the targets that is spread over all classes in training, in [0, 1).
        clip: largest norm of a member's gradient; 0 for none.
        schedule: cosine, constant or one_cycle, see `learning_rate_factor`.
        warmup_steps: steps until the full learning rate; one_cycle takes at least 30 % of all steps.
        embedding_scale: standard deviation of fresh word vectors.
        members: train these alone, by their positions in `members` of the whole: "0-9", "3", "0-4,8". Each becomes, bit
            for bit, what it is in the whole, on a CPU with as many threads, of which there are no more than members of
            an architecture and task (or 2); else a warning is given. `Population.join` makes the whole of all.

    Raises:
        ValueError: groups that cannot be trained, before anything is built.

    Examples:
        >>> from pytorch_lightning import Trainer
        >>> from datamodules import SyntheticSentimentDataModule
        >>> from dynamo import MemberGroup, PopulationTask
        >>> data = SyntheticSentimentDataModule(train_size=400)
        >>> task = PopulationTask([MemberGroup("all", count=2, hidden_size=8)], data.vocab_size, data.classes)
        >>> quiet = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
        >>> quiet |= {"enable_progress_bar": False, "enable_model_summary": False}
        >>> Trainer(max_epochs=1, **quiet).fit(task, data)
        >>> [member.name for member in task.members], task.accuracies["val"].shape
        (['all-0', 'all-1'], torch.Size([2]))
    """

    _sums: Tensor

    def __init__(
        self,
        groups: list[MemberGroup],
        vocab_size: int,
        class_names: dict[str, tuple[str, ...]],
        lr: float = 3e-3,
        weight_decay: float = 0.0,
        clip: float = 1.0,
        schedule: Schedule = "cosine",
        warmup_steps: int = 20,
        embedding_scale: float = 0.1,
        optimizer: OptimizerName = "adam",
        momentum: float = 0.9,
        label_smoothing: float = 0.0,
        members: str | None = None,
    ) -> None:
        super().__init__()
        check_descent(schedule, warmup_steps, clip, {"lr": lr, "weight_decay": weight_decay})
        check_choice("optimizer", optimizer, get_args(OptimizerName))
        for name, share in (("momentum", momentum), ("label_smoothing", label_smoothing)):
            if not 0.0 <= share < 1.0:
                raise ValueError(f"{name} is {share}; it has to lie in [0, 1).")
        self.optimizer, self.momentum, self.label_smoothing = optimizer, momentum, label_smoothing
        self.lr, self.weight_decay, self.clip = lr, weight_decay, clip
        self.schedule, self.warmup_steps = schedule, warmup_steps
        self.class_names = class_names
        together: dict[str, tuple[type[RecurrentBundle] | type[ResidualBundle], dict[str, Any], list[Member]]] = {}
        for group, its_members in expand(groups, tuple(class_names)):
            kind, settings = group.bundle(vocab_size, len(class_names[its_members[0].task]), embedding_scale)
            key = json.dumps([kind.kind, its_members[0].task, settings], sort_keys=True)
            together.setdefault(key, (kind, settings, []))[2].extend(its_members)
        everyone = [member for _, _, alike in together.values() for member in alike]
        self.company = [member.reader for member in everyone]
        """Which training items each member of the whole population reads; see `HasCompany`."""
        self.positions = range(len(everyone)) if members is None else parse_positions(members, len(everyone))
        """Where the members stand in the whole population."""
        self._recipe: dict[str, Any] = {
            "groups": [asdict(group) for group in groups],
            "optimizer": optimizer,
            "schedule": schedule,
            "embedding_scale": embedding_scale,
            "warmup_steps": warmup_steps,
            "momentum": momentum,
            "label_smoothing": label_smoothing,
        }
        here = {everyone[position].name for position in self.positions}
        self.bundle_members, self.bundles = [], nn.ModuleList()
        for kind, settings, alike in together.values():
            if own := tuple(member for member in alike if member.name in here):
                bundle = kind.build(len(own), settings)
                bundle.initialise([member.seed for member in own])
                self.bundles.append(bundle)
                self.bundle_members.append(own)
        self._reading: dict[str, Any] = {}
        self.accuracies: dict[str, Tensor] = {}
        """Stage ("val", "test") -> accuracy of every member `[N]`, once it was measured."""

    @property
    def members(self) -> tuple[Member, ...]:
        """All members, bundle after bundle."""
        return tuple(member for part in self.bundle_members for member in part)

    @property
    def readers(self) -> Sequence[Reader]:
        """Which training items each member reads; see `HasReaders`."""
        return [member.reader for member in self.members]

    def on_fit_start(self) -> None:
        """Note what the members' bits depend on besides their options."""
        if len(self.positions) < len(self.company):
            warn_of_threads(self.device, [len(part) for part in self.bundle_members])
        world, data = self.trainer.world_size, getattr(self.trainer, "datamodule", None)
        self._reading = {**getattr(data, "reading", {}), "processes": world, "precision": self.trainer.precision}

    def training_step(self, batch: dict[str, TaskBatch], batch_idx: int) -> Tensor:
        """The members' losses, added up."""
        smoothed = partial(cross_entropies, label_smoothing=self.label_smoothing)
        losses = torch.cat([bundle.losses(part, smoothed) for bundle, part in self._parts(batch) if part is not None])
        seen = mean_over_ranks(losses)
        check_finite(seen, [m.name for m in self.members], self.global_step, REMEDY)
        self.log("train/loss", seen.mean(), prog_bar=True)
        self.log_dict(group_means("train/loss", self.members, seen))
        return losses.sum()

    def on_validation_epoch_start(self) -> None:
        """Begin to count, the same networks in all processes: their running statistics are those of rank 0."""
        self._sums = torch.zeros(3, len(self.members), dtype=torch.float64, device=self.device)
        if self.trainer.world_size > 1:
            for buffer in self.bundles.buffers():
                torch.distributed.broadcast(buffer, 0)

    def validation_step(self, batch: dict[str, TaskBatch], batch_idx: int) -> None:
        """Count losses and right answers of the members whose task is in the batch."""
        offset = 0
        for bundle, part in self._parts(batch):
            here = self._sums[:, offset : offset + bundle.count]
            offset += bundle.count
            if part is not None:
                logits = bundle.answers(part)
                loss, right = cross_entropies(logits, part.targets), logits.argmax(-1) == part.targets
                items = right.shape[1]
                here += torch.stack([loss.double() * items, right.double().sum(1), loss.new_full(loss.shape, items)])

    def on_validation_epoch_end(self) -> None:
        """Log the accuracies."""
        self._report("val")

    def on_test_epoch_start(self) -> None:
        """Begin to count."""
        self.on_validation_epoch_start()

    def test_step(self, batch: dict[str, TaskBatch], batch_idx: int) -> None:
        """As in validation."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Log the accuracies."""
        self._report("test")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """One optimiser for all; see the class."""
        check_precision(self.trainer.precision)
        groups = stacked_groups(self.parameters(), self.weight_decay)
        optimizer = adam(groups, self.lr) if self.optimizer == "adam" else sgd(groups, self.lr, self.momentum)
        return scheduled(optimizer, self.schedule, self.trainer.estimated_stepping_batches, self.warmup_steps)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip each member's gradient by itself (`clip`); the trainer's `gradient_clip_val` would mix them."""
        if gradient_clip_val:
            raise ValueError("trainer.gradient_clip_val clips all members together; set model.init_args.clip instead.")
        for bundle in self.bundles:
            clip_per_member(bundle.parameters(), self.clip)

    def population(
        self,
        epoch: int | None = None,
        fingerprint: Mapping[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> Population:
        """The members as they are now, as a frozen copy.

        Args:
            epoch: epochs trained so far, noted in every member; by default as the trainer counted.
            fingerprint: of the data module; by default of the trainer's.
            config: how they were trained, for people to read.
        """
        copies, fingerprint = [], fingerprint_of(self) if fingerprint is None else fingerprint
        for bundle in self.bundles:
            assert isinstance(bundle, Bundle)
            copy = bundle.build(bundle.count, bundle.settings)
            copy.load_state_dict(bundle.state_dict())
            copies.append(copy)
        if len(self.positions) < len(self.company):
            noted = note_part(self.positions, len(self.company), {**self._recipe, **self._reading})
            config = {**(config or {}), **noted}
        epoch = self.current_epoch if epoch is None else epoch
        members = [[replace(m, epoch=epoch) for m in part] for part in self.bundle_members]
        population = Population(copies, members, fingerprint=fingerprint, class_names=self.class_names, config=config)
        for stage, accuracies in self.accuracies.items():
            population = population.with_accuracies(stage, accuracies.tolist())
        return population

    @property
    def identity(self) -> Identity:
        """Who learns what from which data."""
        readers = [f"{m.name} ({m.task}, seed {m.seed}, fraction {m.fraction}, {m.policy})" for m in self.members]
        return {"kind": "population", "members": readers, **fingerprint_of(self)}

    def check_weights(self) -> None:
        """See `IdentifiedTask.check_weights`."""
        for bundle, members in zip(self.bundles, self.bundle_members, strict=True):
            check_weights(bundle.state_dict(), [member.name for member in members], self.global_step, REMEDY)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note too how accurate the members were."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["accuracies"] = dict(self.accuracies)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up again."""
        super().on_load_checkpoint(checkpoint)
        self.accuracies = dict(checkpoint["accuracies"])

    def _parts(self, batch: dict[str, TaskBatch]) -> Iterator[tuple[Bundle, TaskBatch | None]]:
        """Every bundle with its part of the batch; None where its task is not in it."""
        offset: dict[str, int] = {}
        for bundle, members in zip(self.bundles, self.bundle_members, strict=True):
            assert isinstance(bundle, Bundle)
            task = members[0].task
            part = batch.get(task)
            if part is not None and part.lengths.dim() == 2:  # each member its own items: its share of the task's N
                first = offset.get(task, 0)
                offset[task] = first + len(members)
                part = TaskBatch(*(values[first : first + len(members)] for values in part))
            yield bundle, part

    def _report(self, stage: str) -> None:
        loss, right, items = self.trainer.strategy.reduce(self._sums, reduce_op="sum")
        accuracy = right / items
        self.accuracies[stage] = accuracy.cpu()
        # Every rank has the same values; without sync_dist Lightning would warn of each that they may differ.
        self.log(f"{stage}/loss", (loss / items).nanmean(), prog_bar=stage == "val", sync_dist=True)
        self.log(f"{stage}/accuracy", accuracy.nanmean(), prog_bar=True, sync_dist=True)
        scalars = group_means(f"{stage}/accuracy", self.members, accuracy)
        names = (member.name for member in self.members)
        scalars |= {f"{stage}_members/accuracy/{name}": a for name, a in zip(names, accuracy, strict=True)}
        self.log_dict(scalars, sync_dist=True)
