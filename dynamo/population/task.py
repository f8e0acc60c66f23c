"""`PopulationTask`: trains every member of a population at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as nnf
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from dynamo.population.artifact import Population
from dynamo.population.members import Member, MemberGroup, expand
from dynamo.population.optimisation import Schedule, adam, check_finite, clip_per_member, scheduled
from dynamo.population.recurrent import RecurrentBundle
from dynamo.types import Reader, TaskBatch

REMEDY = "Lower the learning rate or the gradient clipping, and look at the data of this member."


class PopulationTask(LightningModule):
    """How does a population come about? Every member learns its task, all in one batched recurrence.

    The members' losses are added, their gradients do not mix, and Adam works element by element: each member is
    trained exactly as if it were alone. All take the same number of optimiser steps; one with a smaller fraction
    of the data sees it more often.

    Logs `train/loss` and `train/loss/GROUP`; on validation and test `val/loss`, `val/accuracy`,
    `val/accuracy/GROUP` and `val_members/accuracy/NAME` (and the same with `test`).

    Args:
        groups: who is in the population.
        vocab_size: number of token ids; linked from the data.
        class_names: task -> its classes; linked from the data.
        lr: learning rate of Adam.
        weight_decay: decoupled, on everything.
        clip: largest norm of a member's gradient; 0 for none.
        schedule: cosine or constant.
        warmup_steps: steps until the full learning rate.
        embedding_scale: standard deviation of fresh word vectors.

    Raises:
        ValueError: groups that cannot be trained, before anything is built.
    """

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
    ) -> None:
        super().__init__()
        if lr < 0:
            raise ValueError(f"lr is {lr}; a learning rate cannot be negative.")
        self.lr, self.weight_decay, self.clip = lr, weight_decay, clip
        self.schedule, self.warmup_steps = schedule, warmup_steps
        self.class_names = class_names
        bundles: dict[tuple[object, ...], list[Member]] = {}
        for group, members in expand(groups, tuple(class_names)):
            key = (group.architecture, members[0].task, group.embedding_size, group.hidden_size)
            bundles.setdefault(key, []).extend(members)
        self.bundle_members = [tuple(members) for members in bundles.values()]
        self.bundles = nn.ModuleList()
        for (architecture, task, embedding_size, hidden_size), members in bundles.items():
            settings = {
                "architecture": architecture,
                "vocab_size": vocab_size,
                "embedding_size": embedding_size,
                "hidden_size": hidden_size,
                "classes": len(class_names[str(task)]),
                "embedding_scale": embedding_scale,
            }
            bundle = RecurrentBundle.build(len(members), settings)
            bundle.initialise([member.seed for member in members])
            self.bundles.append(bundle)
        self._sums: Tensor
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

    def training_step(self, batch: dict[str, TaskBatch], batch_idx: int) -> Tensor:
        """The members' losses, added up."""
        losses = torch.cat([loss for loss, _ in self._each_bundle(batch)])
        check_finite(losses, [m.name for m in self.members], self.global_step, REMEDY)
        self.log("train/loss", losses.mean().detach(), prog_bar=True)
        self.log_dict({f"train/loss/{name}": value for name, value in self._by_group(losses.detach()).items()})
        return losses.sum()

    def on_validation_epoch_start(self) -> None:
        """Begin to count."""
        self._sums = torch.zeros(3, len(self.members), dtype=torch.float64, device=self.device)

    def validation_step(self, batch: dict[str, TaskBatch], batch_idx: int) -> None:
        """Count losses and right answers of the members whose task is in the batch."""
        offset = 0
        for members, result in zip(self.bundle_members, self._each_bundle(batch, lazily=True), strict=True):
            if result is not None:
                loss, right = result
                items = right.shape[1]
                here = self._sums[:, offset : offset + len(members)]
                here += torch.stack([loss.double() * items, right.double().sum(1), loss.new_full(loss.shape, items)])
            offset += len(members)

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
        """One Adam for all; see the class."""
        optimizer = adam([{"params": list(self.parameters()), "weight_decay": self.weight_decay}], self.lr)
        return scheduled(optimizer, self.schedule, int(self.trainer.estimated_stepping_batches), self.warmup_steps)

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

    def population(self, epoch: int, fingerprint: Mapping[str, str], config: Mapping[str, Any]) -> Population:
        """The members as they are now, as a frozen copy.

        Args:
            epoch: epochs trained so far, noted in every member.
            fingerprint: of the data module.
            config: how they were trained, for people to read.
        """
        copies = []
        for bundle in self.bundles:
            assert isinstance(bundle, RecurrentBundle)
            copy = RecurrentBundle.build(bundle.count, bundle.settings)
            copy.load_state_dict(bundle.state_dict())
            copies.append(copy)
        members = [[replace(m, epoch=epoch) for m in part] for part in self.bundle_members]
        population = Population(copies, members, fingerprint=fingerprint, class_names=self.class_names, config=config)
        for stage, accuracies in self.accuracies.items():
            population = population.with_accuracies(stage, accuracies.tolist())
        return population

    def _each_bundle(self, batch: dict[str, TaskBatch], lazily: bool = False) -> Iterator[Any]:
        """Per bundle: losses `[n]` and right answers `[n, B]`; None where its task is not in the batch."""
        offset: dict[str, int] = {}
        for bundle, members in zip(self.bundles, self.bundle_members, strict=True):
            task = members[0].task
            if lazily and task not in batch:
                yield None
                continue
            part = batch[task]
            if part.inputs.dim() == 3:  # each member its own items: this bundle's share of the task's N
                first = offset.get(task, 0)
                offset[task] = first + len(members)
                part = TaskBatch(*(values[first : first + len(members)] for values in part))
            logits = last_step(bundle(part).output, part.lengths)
            targets = part.targets.expand(logits.shape[:2])
            loss = nnf.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
            yield loss.view(targets.shape).mean(1), logits.argmax(-1) == targets

    def _by_group(self, values: Tensor) -> dict[str, Tensor]:
        """Means of per-member values over each group."""
        groups: dict[str, list[int]] = {}
        for index, member in enumerate(self.members):
            groups.setdefault(member.group, []).append(index)
        return {name: values[indices].mean() for name, indices in groups.items()}

    def _report(self, stage: str) -> None:
        loss, right, items = self.trainer.strategy.reduce(self._sums, reduce_op="sum")
        accuracy = right / items
        self.accuracies[stage] = accuracy.cpu()
        self.log(f"{stage}/loss", (loss / items).nanmean(), prog_bar=stage == "val")
        self.log(f"{stage}/accuracy", accuracy.nanmean(), prog_bar=True)
        self.log_dict({f"{stage}/accuracy/{name}": value for name, value in self._by_group(accuracy).items()})
        names = (member.name for member in self.members)
        self.log_dict({f"{stage}_members/accuracy/{name}": a for name, a in zip(names, accuracy, strict=True)})


def last_step(output: Tensor, lengths: Tensor) -> Tensor:
    """What the networks answer after an item's last real step.

    Args:
        output: `[N, B, T, C]`.
        lengths: `[B]` or `[N, B]`.

    Returns:
        `[N, B, C]`.
    """
    last = (lengths - 1).expand(output.shape[:2])
    return output.gather(2, last[..., None, None].expand(-1, -1, 1, output.shape[-1])).squeeze(2)
