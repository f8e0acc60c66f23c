"""F and G of the meta-model of transformers: one causal transformer whose normalisations theta sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from dynamo.meta.conditional import ConditionalLayerNorm
from dynamo.meta.heads import Heads
from dynamo.population.base import last_step
from dynamo.types import Reads, Trajectory

_WAVELENGTH: Final = 10_000.0


class _Block(nn.Module):
    """Causal attention and two dense layers, norms in front: `[P, B, T, S]`, theta -> the same."""

    def __init__(self, size: int, heads: int, dimensions: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = ConditionalLayerNorm(size, dimensions), ConditionalLayerNorm(size, dimensions)
        self.attend, self.join = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.inner, self.outer = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)

    def forward(self, stream: Tensor, theta: Tensor) -> Tensor:
        points, items, steps, _ = stream.shape
        joint = self.attend(self.norm1(stream, theta)).view(points * items, steps, 3, self.heads, -1)
        query, key, value = joint.permute(2, 0, 3, 1, 4)  # [P * B, heads, T, S / heads] each
        seen = nnf.scaled_dot_product_attention(query, key, value, is_causal=True)
        stream = stream + self.join(seen.transpose(1, 2).reshape(stream.shape))
        changed: Tensor = self.outer(nnf.gelu(self.inner(self.norm2(stream, theta))))
        return stream + changed


class TransformerMetaModel(nn.Module):
    """Which network stands at a point of the map? A causal transformer whose norms theta sets.

    Depth is time, as in `ResidualMetaModel`: the states are its residual stream after each stage, at every step of the
    item, and each V_n is shared over steps. Steps have sinusoidal positions (Vaswani et al. 2017), so that items may
    be of any length. Not in the paper.

    Args:
        vocab_size: number of token ids, shared by all tasks; 0 where the items are signals.
        classes: C of every task; G has one head per task.
        dimensions: D.
        hidden_size: S, the width of the stream.
        depths: blocks of every stage, as many stages as the members have.
        heads: of attention; divides S.
        features: F, where the items are signals.

    Raises:
        ValueError: an option out of its range.

    Examples:
        >>> import torch
        >>> from dynamo.meta import TransformerMetaModel
        >>> network = TransformerMetaModel(9, {"film": 2}, dimensions=2, hidden_size=8, heads=2).eval()
        >>> theta, words = torch.zeros(1, 2), torch.tensor([[2, 3, 4, 5]])
        >>> begun, whole = (network(theta, words[:, :steps], "film").output for steps in (2, 4))
        >>> bool(torch.allclose(begun, whole[:, :, :2], atol=1e-6))  # causal: what comes later changes no answer
        True
    """

    def __init__(
        self,
        vocab_size: int,
        classes: Mapping[str, int],
        dimensions: int,
        hidden_size: int = 64,
        depths: Sequence[int] = (1, 1),
        heads: int = 4,
        features: int = 0,
    ) -> None:
        super().__init__()
        if bool(vocab_size) == bool(features):
            raise ValueError(
                f"TransformerMetaModel reads {vocab_size} words and {features} features, and needs one of both: "
                "features is the F of signals [B, T, F], 0 for words."
            )
        if heads < 1 or hidden_size < 2 or hidden_size % (2 * heads):
            raise ValueError(f"hidden_size is {hidden_size}; it has to be a multiple of twice the {heads} heads.")
        if not depths or min(depths) < 1:
            raise ValueError(f"depths is {list(depths)}; every stage needs at least 1 block.")
        self.reads: Reads = "tokens" if vocab_size else "signals"
        self.vocabulary, self.dimensions, self.hidden_size = vocab_size, dimensions, hidden_size
        self.hidden_sizes, self.positions = (hidden_size,) * len(depths), ((),) * len(depths)
        self.embedding = nn.Embedding(vocab_size, hidden_size) if vocab_size else nn.Linear(features, hidden_size)
        self.stages = nn.ModuleList(
            nn.ModuleList(_Block(hidden_size, heads, dimensions) for _ in range(depth)) for depth in depths
        )
        self.norm = ConditionalLayerNorm(hidden_size, dimensions)
        self.heads = Heads(hidden_size, classes)

    @property
    def classes(self) -> dict[str, int]:
        """C of every task."""
        return self.heads.counts

    def forward(self, theta: Tensor, inputs: Tensor, task: str) -> Trajectory:
        """Run the networks at P points on the same items.

        Args:
            theta: points `[P, D]`.
            inputs: token ids `[B, T]`, or signals `[B, T, F]`.
            task: whose readout answers.

        Returns:
            hidden `[P, B, T, S]` of every stage, and output `[P, B, T, C]`.
        """
        hidden = self.states(theta, self.prepare(inputs))
        return Trajectory(hidden, self.heads(self.norm(hidden[-1], theta), task))

    def prepare(self, inputs: Tensor) -> Tensor:
        """What do the items give to every network of the map alike? Their vectors and positions `[B, T, S]`."""
        vectors: Tensor = self.embedding(inputs)
        return vectors + sinusoids(inputs.shape[1], self.hidden_size).to(vectors)

    def states(self, theta: Tensor, prepared: Tensor) -> tuple[Tensor, ...]:
        """Through which states do the networks at points `[P, D]` go? `[P, B, T, S]` of every stage."""
        stream, hidden = prepared.expand(len(theta), *prepared.shape), []
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]
                stream = block(stream, theta)
            hidden.append(stream)
        return tuple(hidden)

    @torch.no_grad()
    def answers(self, theta: Tensor, prepared: Tensor, lengths: Tensor, task: str) -> Tensor:
        """What do the networks at P >= 1 points say of each item after its last real step? Without gradient.

        Args:
            theta: `[P, D]`.
            prepared: what `prepare` returns.
            lengths: real steps of every item `[B]`.
            task: whose readout answers.

        Returns:
            Logits `[P, B, C]`.
        """
        theta = theta.to(self.norm.scale.weight.dtype)
        return torch.cat([self._answers(point, prepared, lengths, task) for point in theta.split(1)])

    def _answers(self, theta: Tensor, prepared: Tensor, lengths: Tensor, task: str) -> Tensor:
        last = last_step(self.states(theta, prepared)[-1], lengths)
        logits: Tensor = self.heads(self.norm(last, theta), task)
        return logits


def sinusoids(steps: int, size: int) -> Tensor:
    """Which vector says that a step is the t-th? sin and cos of t at wavelengths of 2 pi to 10,000 * 2 pi `[T, S]`."""
    rate = _WAVELENGTH ** (-torch.arange(0, size, 2) / size)
    angle = torch.arange(steps).unsqueeze(1) * rate
    return torch.cat([angle.sin(), angle.cos()], dim=1)
