"""F and G of the meta-model of perceptrons: one network of dense layers whose normalisations theta sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from dynamo.meta.conditional import ConditionalLayerNorm
from dynamo.meta.heads import Heads
from dynamo.meta.residual import check_stages
from dynamo.types import Reads, Trajectory


class _Stage(nn.Module):
    """A dense layer and a residual one, with conditional norms: `[P, B, before]`, theta -> `[P, B, width]`."""

    def __init__(self, before: int, width: int, dimensions: int) -> None:
        super().__init__()
        self.linear1, self.norm1 = nn.Linear(before, width), ConditionalLayerNorm(width, dimensions)
        self.linear2, self.norm2 = nn.Linear(width, width), ConditionalLayerNorm(width, dimensions)

    def forward(self, states: Tensor, theta: Tensor) -> Tensor:
        outer = nnf.gelu(self.norm1(self.linear1(states), theta))
        return outer + nnf.gelu(self.norm2(self.linear2(outer), theta))


class PerceptronMetaModel(nn.Module):
    """Which network stands at a point of the map? One of dense layers whose norms theta sets.

    Depth is time, as in `ResidualMetaModel`: the states are the outputs of its stages. It reads vectors, or images as
    they lie in memory. Not in the paper.

    Args:
        vocab_size: 0; linked from the data module, where 0 says that its items are no words.
        classes: C of every task; G has one head per task.
        dimensions: D.
        features: F, numbers in an item: the length of a vector, or channels times pixels.
        widths: units of every stage, as many stages as the members have.
        reads: "vectors" or "images".

    Raises:
        ValueError: the data module's items are words, or an option is out of its range.

    Examples:
        >>> import torch
        >>> from dynamo.meta import PerceptronMetaModel
        >>> network = PerceptronMetaModel(0, {"shapes": 3}, dimensions=2, features=5, widths=[8, 4])
        >>> seen = network(torch.zeros(6, 2), torch.randn(7, 5), "shapes")  # 6 points of the map, 7 vectors
        >>> [tuple(stage.shape) for stage in seen.hidden], tuple(seen.output.shape)
        ([(6, 7, 8, 1, 1), (6, 7, 4, 1, 1)], (6, 7, 3))
    """

    vocabulary = 0

    def __init__(
        self,
        vocab_size: int,
        classes: Mapping[str, int],
        dimensions: int,
        features: int,
        widths: Sequence[int] = (128, 128),
        reads: Reads = "vectors",
    ) -> None:
        super().__init__()
        if vocab_size:
            raise ValueError("PerceptronMetaModel reads vectors or images, the data module has words.")
        if features < 1 or reads not in ("vectors", "images"):
            raise ValueError(f"features is {features}, reads {reads!r}; it reads at least 1 of vectors or images.")
        check_stages("widths", widths, len(widths))
        self.reads, self.features, self.dimensions = reads, features, dimensions
        self.hidden_sizes, self.positions = tuple(widths), ((),) * len(widths)
        before = (features, *widths[:-1])
        self.stages = nn.ModuleList(_Stage(*pair, dimensions) for pair in zip(before, widths, strict=True))
        self.heads = Heads(widths[-1], classes)

    @property
    def classes(self) -> dict[str, int]:
        """C of every task."""
        return self.heads.counts

    def forward(self, theta: Tensor, inputs: Tensor, task: str) -> Trajectory:
        """Run the networks at P points on the same items.

        Args:
            theta: points `[P, D]`.
            inputs: vectors `[B, F]`, or images of F numbers.
            task: whose readout answers.

        Returns:
            hidden `[P, B, width, 1, 1]` of every stage, maps of one position, and output `[P, B, C]`.
        """
        hidden = self.states(theta, self.prepare(inputs))
        return Trajectory(tuple(stage[..., None, None] for stage in hidden), self.heads(hidden[-1], task))

    def prepare(self, inputs: Tensor) -> Tensor:
        """The items as vectors `[B, F]`.

        Raises:
            ValueError: items of another size.
        """
        vectors = inputs.flatten(1).to(next(self.parameters()))
        if vectors.shape[1] != self.features:
            raise ValueError(f"the meta-model reads {self.features} numbers an item, got {list(inputs.shape)}.")
        return vectors

    def states(self, theta: Tensor, prepared: Tensor) -> tuple[Tensor, ...]:
        """Through which states do the networks at points `[P, D]` go? `[P, B, width]` of every stage."""
        states, hidden = prepared.expand(len(theta), *prepared.shape), []
        for stage in self.stages:
            states = stage(states, theta)
            hidden.append(states)
        return tuple(hidden)

    @torch.no_grad()
    def answers(self, theta: Tensor, prepared: Tensor, lengths: Tensor, task: str) -> Tensor:
        """What do the networks at P >= 1 points say of each item? Logits `[P, B, C]`, without gradient.

        Args:
            theta: `[P, D]`.
            prepared: what `prepare` returns.
            lengths: 1 for every item, `[B]`; unused.
            task: whose readout answers.
        """
        theta = theta.to(prepared)
        return torch.cat([self.heads(self.states(point, prepared)[-1], task) for point in theta.split(1)])

    def read_out(self, states: Tensor, task: str) -> Tensor:
        """G: states of the last stage `[P, B, width, 1, 1]` -> logits `[P, B, C]` of a task."""
        logits: Tensor = self.heads(states.flatten(2), task)
        return logits
