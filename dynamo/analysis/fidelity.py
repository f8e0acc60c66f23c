"""How well do the emulators follow their originals? Sums over batches that add up the same on any split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Final

import torch
from torch import Tensor

from dynamo.types import Trajectory

_SCALARS = ("items", "steps", "divergence", "agreeing", "labelled", "correct", "original_correct")
"""What is summed per member besides the hidden states."""

_VALUES: Final = {"cpu": 2**17, "cuda": 2**24}
"""So many numbers of a member's feature maps are taken in at once: on a CPU the float64 copies stay in its caches."""


@dataclass(frozen=True)
class Fidelity:
    """How well does each emulator follow its original? Tensors `[N]`, but for the stages, float64 on the CPU.

    Attributes:
        variance_explained: share of the variance of h that V(s) accounts for; 1 is perfect, 0 is no better
            than always answering the mean of h, and there is no lower limit. Averaged over stages.
        kl: mean over steps of KL(softmax(y) || softmax(v)); 0 is perfect, NaN without answers.
        agreement: share of items which both give the same class at the last real step; NaN without answers.
        accuracy: share of items which the emulator gives the right class; NaN without answers or labels.
        original_accuracy: share of items which the base model gives the right class; NaN as before.
        stage_variance_explained: `variance_explained` of every stage, `[N, stages]`.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import Fidelity
        >>> half, whole = torch.tensor([0.5]).double(), torch.tensor([1.0]).double()
        >>> parts = [Fidelity(each, each, each, each, whole, each.unsqueeze(1)) for each in (half, whole)]
        >>> Fidelity.join(parts).columns()["agreement"]
        tensor([0.5000, 1.0000], dtype=torch.float64)
    """

    variance_explained: Tensor
    kl: Tensor
    agreement: Tensor
    accuracy: Tensor
    original_accuracy: Tensor
    stage_variance_explained: Tensor

    def columns(self) -> dict[str, Tensor]:
        """All of it as `[N]` by name; the stages only where there are several, as `variance_explained_stage1`, ...

        What no network has (agreement where none answers, accuracies where nothing is labelled) is left out.
        """
        found: dict[str, Tensor] = {field.name: getattr(self, field.name) for field in fields(self)}
        stages = found.pop("stage_variance_explained").unbind(1)
        found = {name: values for name, values in found.items() if not values.isnan().all()}
        each = {f"variance_explained_stage{number}": values for number, values in enumerate(stages, start=1)}
        return found | (each if len(each) > 1 else {})

    @classmethod
    def join(cls, parts: Sequence[Fidelity]) -> Fidelity:
        """Those of several bundles as one, in order; they have equally many stages."""
        return cls(**{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)})


class FidelitySums:
    """Everything `Fidelity` is made of, accumulated over batches, mergeable over processes.

    Batches, and processes with shards of any size (none included), combine by Chan's parallel update of mean
    and summed squares, so a large offset of h costs no digits. To combine processes, gather the rows of
    `as_tensor()` and hand them to `from_tensor`; they do not add up by a plain sum:

        total = FidelitySums.from_tensor(self.all_gather(sums.as_tensor().to(self.device)))

    Args:
        members: number of models N in the bundle.
        units: width of each stage: `(H,)` for recurrent networks, the channels of each stage for a ResNet
            (whose variance is taken per channel, over items and pixels).

    Examples:
        >>> import torch
        >>> from dynamo import Trajectory
        >>> from dynamo.analysis import FidelitySums
        >>> states, logits = torch.randn(1, 5, 2, 3), torch.randn(1, 5, 2, 2)  # N = 1, B = 5, T = 2, H = 3, C = 2
        >>> real, lengths = torch.ones(5, 2, dtype=torch.bool), torch.full((5,), 2)
        >>> sums = FidelitySums(1, [3])
        >>> sums.update(Trajectory((states,), logits), (states,), logits, torch.zeros(5).long(), real, lengths)
        >>> sums.result().variance_explained, sums.result().agreement  # of an emulator that is its original
        (tensor([1.], dtype=torch.float64), tensor([1.], dtype=torch.float64))
    """

    def __init__(self, members: int, units: Sequence[int]) -> None:
        self.members, self.units = members, tuple(units)
        self._scalars = torch.zeros(len(_SCALARS), members, dtype=torch.float64)
        self._counts = [torch.zeros(members, 1, dtype=torch.float64) for _ in self.units]
        self._error = [torch.zeros(members, 1, dtype=torch.float64) for _ in self.units]
        self._mean = [torch.zeros(members, width, dtype=torch.float64) for width in self.units]
        self._spread = [torch.zeros(members, width, dtype=torch.float64) for width in self.units]

    def update(
        self,
        original: Trajectory,
        mapped_hidden: tuple[Tensor, ...],
        emulated_output: Tensor,
        targets: Tensor,
        real_steps: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> None:
        """Adds one batch; values at steps that are not counted are never looked at.

        Args:
            original: states and logits of the base models.
            mapped_hidden: V_n(s), the stages of `original.hidden` as the emulator has them.
            emulated_output: logits of the emulator, of the shape of `original.output`.
            targets: classes `[B]`.
            real_steps: which steps count, bool `[B, T]`; None where the states are feature maps.
            lengths: real steps of every item `[B]`; None in the same case.

        Raises:
            ValueError: if shapes do not fit together.
        """
        self._check(original, mapped_hidden, emulated_output, real_steps, lengths)
        steps = None if real_steps is None else real_steps.flatten().nonzero().squeeze(1)
        for stage, (truth, guess) in enumerate(zip(original.hidden, mapped_hidden, strict=True)):
            for n in range(self.members):  # one member at a time: float64 copies of all would not fit
                for h, emulated in _parts(truth[n], guess[n], steps):
                    error = (h - emulated).square().sum()
                    mean = h.sum(0) / max(len(h), 1)
                    spread = (h - mean).square().sum(0)
                    self._add_moments(stage, n, len(h), error.cpu(), mean.cpu(), spread.cpu())
        for n in range(self.members):
            self._add_outputs(n, original.output[n], emulated_output[n], targets, steps, lengths)

    def merge(self, other: FidelitySums) -> None:
        """Takes in what another one counted, as if its batches had come here.

        Raises:
            ValueError: if the other one is about another number of members or units.
        """
        if (self.members, self.units) != (other.members, other.units):
            raise ValueError(f"{other.members, other.units} cannot be merged into {self.members, self.units}")
        self._scalars += other._scalars
        for stage in range(len(self.units)):
            for n in range(self.members):
                moments = (other._error[stage][n, 0], other._mean[stage][n], other._spread[stage][n])
                self._add_moments(stage, n, float(other._counts[stage][n]), *moments)

    def as_tensor(self) -> Tensor:
        """All of it as one flat float64 tensor `[K]`, equally long on every process, its layout in front."""
        header = torch.tensor([self.members, len(self.units), *self.units], dtype=torch.float64)
        return torch.cat([header, *(part.flatten() for part in self._parts())])

    @classmethod
    def from_tensor(cls, rows: Tensor) -> FidelitySums:
        """Makes one of one or many `as_tensor()`, merging in the order of the rows.

        Args:
            rows: `[K]`, or gathered from R processes `[R, K]`, float64.

        Raises:
            ValueError: if `rows` is not what `as_tensor` makes.
        """
        if rows.dtype != torch.float64 or rows.ndim not in (1, 2) or not rows.numel():
            raise ValueError(f"expected float64 [K] or [R, K], got {rows.dtype} {list(rows.shape)}")
        total: FidelitySums | None = None
        for row in rows.detach().cpu().reshape(-1, rows.shape[-1]):
            members, stages = int(row[0]), int(row[1])
            one = cls(members, [int(width) for width in row[2 : 2 + stages]])
            parts = one._parts()
            sizes = [part.numel() for part in parts]
            if 2 + stages + sum(sizes) != len(row):
                raise ValueError(f"a row of {len(row)} numbers does not fit the layout in its own header")
            for part, values in zip(parts, row[2 + stages :].split(sizes), strict=True):
                part.copy_(values.view_as(part))
            if total is None:
                total = one
            else:
                total.merge(one)
        assert total is not None
        return total

    def result(self) -> Fidelity:
        """What the sums say.

        Raises:
            ValueError: if nothing has been counted.
        """
        items, steps, divergence, agreeing, labelled, correct, original_correct = self._scalars
        if not (items > 0).all() or not (steps > 0).all():
            raise ValueError("no batch has been counted: fidelity of nothing is not defined")
        stages = []
        for error, spread in zip(self._error, self._spread, strict=True):
            missed, total = error.squeeze(1), spread.sum(1)
            unexplained = torch.where(missed == 0, 0.0, missed / total)  # a constant h can be met exactly
            stages.append(1 - unexplained)
        return Fidelity(
            variance_explained=torch.stack(stages).mean(0),
            kl=divergence / steps,
            agreement=agreeing / items,
            accuracy=correct / labelled,
            original_accuracy=original_correct / labelled,
            stage_variance_explained=torch.stack(stages, dim=1),
        )

    def _parts(self) -> list[Tensor]:
        """Every tensor of the state, in the order of `as_tensor`."""
        return [self._scalars, *self._counts, *self._error, *self._mean, *self._spread]

    def _add_moments(self, stage: int, n: int, count: float, error: Tensor, mean: Tensor, spread: Tensor) -> None:
        """Chan's update: joins count, mean and squares about the mean of new rows to those of one member."""
        if count == 0:
            return
        before = float(self._counts[stage][n])
        delta = mean - self._mean[stage][n]
        total = before + count
        self._counts[stage][n] = total
        self._error[stage][n] += error
        self._mean[stage][n] += delta * (count / total)
        self._spread[stage][n] += spread + delta.square() * (before * count / total)

    def _add_outputs(
        self,
        n: int,
        original: Tensor,
        emulated: Tensor,
        targets: Tensor,
        steps: Tensor | None,
        lengths: Tensor | None,
    ) -> None:
        """Adds one member's logits `[B, T, C]` or `[B, C]`; of targets below 0 nobody knows the class."""
        if original.ndim == 2:
            steps = lengths = None
        log_y = _rows(original, steps).log_softmax(-1)
        log_v = _rows(emulated, steps).log_softmax(-1)
        divergence = agreeing = correct = original_correct = log_y.new_tensor(torch.nan)
        if original.shape[-1]:
            divergence = torch.nn.functional.kl_div(log_v, log_y, reduction="sum", log_target=True)
            answer, emulated_answer = (_last(output, lengths).argmax(-1) for output in (original, emulated))
            agreeing, correct = (answer == emulated_answer).sum(), (emulated_answer == targets).sum()
            original_correct = (answer == targets).sum()
        counts = (log_y.new_tensor(len(targets)), log_y.new_tensor(len(log_y)))
        sums = (*counts, divergence, agreeing, (targets >= 0).sum(), correct, original_correct)
        self._scalars[:, n] += torch.stack([value.double() for value in sums]).cpu()

    def _check(
        self,
        original: Trajectory,
        mapped_hidden: tuple[Tensor, ...],
        emulated_output: Tensor,
        real_steps: Tensor | None,
        lengths: Tensor | None,
    ) -> None:
        """Raises ValueError where the parts of a batch do not fit together."""
        shapes = [tuple(h.shape) for h in original.hidden]
        mapped = [tuple(h.shape) for h in mapped_hidden]
        if shapes != mapped:
            raise ValueError(f"hidden states {shapes} and their emulation {mapped} differ in shape")
        if original.output.shape != emulated_output.shape:
            raise ValueError(f"logits {list(original.output.shape)} and {list(emulated_output.shape)} differ in shape")
        sequential = original.hidden[0].ndim == 4
        if sequential != (real_steps is not None) or sequential != (lengths is not None):
            raise ValueError("real_steps and lengths belong to states [N, B, T, H], and only to those")
        found = tuple(shape[2 if real_steps is None else 3] for shape in shapes)
        if found != self.units or any(shape[0] != self.members for shape in shapes):
            raise ValueError(f"made for {self.members} members of units {self.units}, got hidden {shapes}")


def _double(tensor: Tensor) -> Tensor:
    """Detached float64, on the same device if that has float64 at all."""
    return (tensor.detach().cpu() if tensor.device.type == "mps" else tensor.detach()).double()


def _parts(truth: Tensor, guess: Tensor, steps: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
    """The rows of one member's states and their emulation: of maps `[B, c, h, w]` part by part, a position a row."""
    if steps is not None:
        yield _rows(truth, steps), _rows(guess, steps)
        return
    images = max(1, _VALUES.get(truth.device.type, 2**24) // max(1, truth[:1].numel()))
    for own, emulated in zip(truth.split(images), guess.split(images), strict=True):
        yield _rows(own.movedim(1, -1), None), _rows(emulated.movedim(1, -1), None)


def _rows(values: Tensor, steps: Tensor | None) -> Tensor:
    """The counted rows, or all, of one member's `[B, T, H]`, `[B, C]` or `[B, h, w, c]` as float64 `[rows, width]`."""
    values = values.flatten(0, -2)
    return _double(values if steps is None else values[steps])


def _last(output: Tensor, lengths: Tensor | None) -> Tensor:
    """Logits at the last real step of every item: `[B, T, C]` or `[B, C]` to `[B, C]`."""
    if lengths is None:
        return output
    items = torch.arange(len(output), device=output.device)
    return output[items, lengths.to(output.device) - 1]
