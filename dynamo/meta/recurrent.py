"""F and G of the recurrent meta-model: one network that becomes, given theta, an emulator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal

import torch
from torch import Tensor, nn

from dynamo.meta.heads import Heads
from dynamo.population.recurrence import GATES, Kind, project, scan, step, tanh_
from dynamo.population.recurrent import Architecture
from dynamo.types import Reads, Trajectory

Conditioning = Literal["input", "weights"]
State = tuple[Tensor, ...]

CACHED_GATES: Final = 2**20
"""On a CPU, `answers` advances no more points at once than have this many gates: 4 MB stay in its caches."""


class RecurrentMetaModel(nn.Module):
    """Which network stands at a point of the map? s_t = F(theta, x_t, s_{t-1}), v_t = G(s_t) (Figures 1 and 2).

    With `conditioning="input"`, theta is concatenated to the word vector at every step. Since theta does not
    change in time, its share of the gates is computed once and added; this is the same network, cheaper. With
    `conditioning="weights"` the recurrent weights are moreover a linear function of theta: W(theta) = W + sum_d
    theta_d W_d. How theta enters is not given in the paper.

    Args:
        vocab_size: number of token ids, shared by all tasks; 0 where the items are signals.
        classes: C of every task; G has one head per task.
        dimensions: D.
        hidden_size: S.
        embedding_size: length of the meta-model's word vectors. Long ones are cheap: they are projected once
            for all members.
        architecture: gru, lstm or rnn.
        conditioning: how theta enters.
        embedding_scale: standard deviation of fresh word vectors.
        features: F, where the items are signals `[B, T, F]`; a linear map then stands in the place of word vectors.
        stages: how many stages of states the members have. One state emulates all of them, each through a V_n of its
            own: the layers of a stacked network are together one dynamical system.

    Raises:
        ValueError: neither words nor features, or both.

    Examples:
        >>> import torch
        >>> from dynamo.meta import RecurrentMetaModel
        >>> network = RecurrentMetaModel(9, {"film": 2}, 1, hidden_size=1, architecture="rnn").requires_grad_(False)
        >>> _ = [weight.zero_() for weight in network.parameters()]
        >>> network.weight_theta[0, 0] = 1.0  # s = tanh(theta)
        >>> network(torch.tensor([[0.0], [1.0]]), torch.tensor([[2, 3]]), "film").hidden[0].flatten(1).round(decimals=3)
        tensor([[0.0000, 0.0000],
                [0.7620, 0.7620]])
    """

    def __init__(
        self,
        vocab_size: int,
        classes: Mapping[str, int],
        dimensions: int,
        hidden_size: int = 128,
        embedding_size: int = 128,
        architecture: Architecture = "gru",
        conditioning: Conditioning = "input",
        embedding_scale: float = 0.1,
        features: int = 0,
        stages: int = 1,
    ) -> None:
        super().__init__()
        if bool(vocab_size) == bool(features):
            raise ValueError(
                f"RecurrentMetaModel reads {vocab_size} words and {features} features, and needs one of both: features "
                "is the F of signals [B, T, F], 0 for words; for images, use ResidualMetaModel."
            )
        self.reads: Reads = "tokens" if vocab_size else "signals"
        self.stages, self.positions = stages, ((),) * stages
        self.architecture, self.conditioning = architecture, conditioning
        self.hidden_size, self.dimensions = hidden_size, dimensions
        gates, bound = GATES[architecture] * hidden_size, hidden_size**-0.5
        if vocab_size:
            self.embedding: nn.Embedding | nn.Linear = nn.Embedding(vocab_size, embedding_size)
            nn.init.normal_(self.embedding.weight, std=embedding_scale)
        else:
            self.embedding = nn.Linear(features, embedding_size)

        def uniform(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))

        self.weight_input = uniform(gates, embedding_size)
        self.weight_theta = uniform(gates, dimensions)
        self.bias_input = uniform(gates)
        self.weight_state = uniform(gates, hidden_size)
        self.bias_state = uniform(gates)
        self.weight_state_theta = uniform(dimensions, gates, hidden_size) if conditioning == "weights" else None
        self.heads = Heads(hidden_size, classes)

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """Units of every stage: S."""
        return (self.hidden_size,) * self.stages

    @property
    def classes(self) -> dict[str, int]:
        """C of every task."""
        return self.heads.counts

    @property
    def vocabulary(self) -> int:
        """Number of token ids; 0 where it reads signals."""
        return self.embedding.num_embeddings if isinstance(self.embedding, nn.Embedding) else 0

    def forward(self, theta: Tensor, inputs: Tensor, task: str) -> Trajectory:
        """Run the networks at P points on the same items.

        Args:
            theta: points `[P, D]`.
            inputs: token ids `[B, T]`, or signals `[B, T, F]`.
            task: whose readout answers.

        Returns:
            hidden `[P, B, T, S]`, the same for every stage, and output `[P, B, T, C]`.
        """
        states = self.states(theta, self.prepare(inputs))
        return Trajectory((states.transpose(1, 2),) * self.stages, self.read_out(states, task).transpose(1, 2))

    def prepare(self, inputs: Tensor) -> Tensor:
        """What do the items give to every network of the map alike? Their word vectors' share of the gates.

        Args:
            inputs: token ids `[B, T]`, or signals `[B, T, F]`.

        Returns:
            `[1, T, B, gS]`, for `states` and `answers`; half of the work of one point.
        """
        words = self.embedding(inputs.transpose(0, 1))  # [T, B, E]
        return project(words, self.weight_input.unsqueeze(0), self.bias_input.unsqueeze(0))

    def states(self, theta: Tensor, prepared: Tensor) -> Tensor:
        """Through which states do the networks at P points go? Differentiable once, in theta too.

        Args:
            theta: `[P, D]`.
            prepared: what `prepare` returns.

        Returns:
            `[P, T, B, S]`.
        """
        own = (theta @ self.weight_theta.T).view(-1, 1, 1, prepared.shape[-1])
        points, (steps, items) = theta.shape[0], prepared.shape[1:3]
        if self.weight_state_theta is not None:
            return scan(self.architecture, prepared + own, *self.state_weights(theta))
        # One set of weights for all points: points and items form a single batch of P * B.
        gates = (prepared[0].unsqueeze(1) + own.squeeze(2)).flatten(1, 2).unsqueeze(0)  # [1, T, P*B, gS]
        states = scan(self.architecture, gates, *self.state_weights(theta))
        return states.view(steps, points, items, -1).transpose(0, 1)

    @torch.no_grad()
    def answers(self, theta: Tensor, prepared: Tensor, lengths: Tensor, task: str) -> Tensor:
        """What do the networks at P >= 1 points say of each item after its last real step? Without gradient.

        It is `forward` at one point after the other, operation by operation, with every product a `[B, S]` by
        `[S, gS]` of one point: a point's logits do not depend on its company. Their last bit can, where a CPU's
        vector length does not divide a thread's share of the B * S values of a gate (S = 128 is fine), or on a GPU.

        Args:
            theta: `[P, D]`.
            prepared: what `prepare` returns.
            lengths: real steps of every item `[B]`.
            task: whose readout answers.

        Returns:
            Logits `[P, B, C]`. Memory beyond `prepared`: at most about `(2g + 4) P B S` numbers, no step's states
            but the last two (and `2 P g S^2` with `conditioning="weights"`).

        Raises:
            ValueError: the lengths are not B >= 1 numbers between 1 and T.
        """
        longest, items = prepared.shape[1:3]
        if lengths.shape != (items,) or not items:
            raise ValueError(f"lengths must be [{items}], one for each of 1 item at least, got {list(lengths.shape)}")
        ends = set(lengths.tolist())
        if min(ends) < 1 or max(ends) > longest:
            raise ValueError(f"lengths must lie between 1 and the {longest} steps, got {min(ends)} to {max(ends)}")
        theta = theta.to(self.weight_theta.dtype)
        steps = prepared[0].to(self.weight_state.dtype).unbind()
        tile = max(1, CACHED_GATES // prepared[0, 0].numel()) if theta.device.type == "cpu" else len(theta)
        return torch.cat([self._answers(part, steps[: max(ends)], lengths, ends, task) for part in theta.split(tile)])

    def _answers(self, theta: Tensor, steps: tuple[Tensor, ...], lengths: Tensor, ends: set[int], task: str) -> Tensor:
        """`answers`, with the shares of the items `T x [B, gS]` and the lengths that occur."""
        # Point by point: a product of P rows need not have the bits of P products of one row.
        own = torch.cat([point @ self.weight_theta.T for point in theta.split(1)]).unsqueeze(1)
        weight = self.weight_state.unsqueeze(0)
        if self.weight_state_theta is not None:
            weight = torch.cat([self.state_weights(point)[0] for point in theta.split(1)])
        advance = _stepper(self.architecture, own, weight, self.bias_state)
        last = own.new_zeros(len(theta), len(lengths), self.hidden_size)
        state: State = (last, last) if self.architecture == "lstm" else (last,)
        for time, share in enumerate(steps, start=1):
            state = advance(share, state)
            if time in ends:
                last = torch.where((lengths == time).unsqueeze(-1), state[0], last)
        return self.read_out(last, task)

    def step(self, theta: Tensor, word_vectors: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """One step of F, in plain differentiable operations: what the search for fixed points iterates.

        Args:
            theta: `[P, D]`.
            word_vectors: the input x, `[P, B, E]`.
            state: `[P, B, S]`, for an LSTM two of them.
        """
        gates = word_vectors @ self.weight_input.T + self.bias_input + (theta @ self.weight_theta.T).unsqueeze(1)
        weight, bias = self.state_weights(theta)
        if self.weight_state_theta is not None:
            return step(self.architecture, gates, weight, bias, state)
        flat = tuple(part.flatten(0, 1).unsqueeze(0) for part in state)
        after = step(self.architecture, gates.flatten(0, 1).unsqueeze(0), weight, bias, flat)
        return tuple(part[0].unflatten(0, state[0].shape[:2]) for part in after)

    def read_out(self, states: Tensor, task: str) -> Tensor:
        """G: states `[..., S]` -> logits `[..., C]` of a task."""
        return self.heads(states, task)  # type: ignore[no-any-return]

    def state_weights(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """How does the state enter the gates at these points? What `dynamo.population.recurrence.step` takes.

        Args:
            theta: `[P, D]`.

        Returns:
            Recurrent weights `[P, gS, S]` and bias `[P, gS]`; `[1, ...]` where theta does not enter them.
        """
        if self.weight_state_theta is None:
            return self.weight_state.unsqueeze(0), self.bias_state.unsqueeze(0)
        weight = self.weight_state + torch.einsum("pd,dgs->pgs", theta, self.weight_state_theta)
        return weight, self.bias_state.expand(theta.shape[0], -1)


def _stepper(kind: Kind, own: Tensor, weight: Tensor, bias: Tensor) -> Callable[[Tensor, State], State]:
    """One step of what `scan` does, operation by operation, with theta's share added when the step comes.

    Args:
        kind: "gru", "lstm" or "rnn" (tanh).
        own: theta's share of the gates `[P, 1, gS]`.
        weight: `[1 or P, gS, S]`.
        bias: `[gS]`.

    Returns:
        From the items' share `[B, gS]` and a state of `[P, B, S]` to the next state.
    """
    size = weight.shape[-1]

    def turned(part: Tensor) -> Tensor:
        return part.mT.contiguous().expand(len(own), -1, -1)

    if kind == "gru":
        cut = [2 * size, size]
        weight_rz, weight_n = (turned(part) for part in weight.split(cut, dim=1))
        (own_rz, own_n), (bias_rz, bias_n) = own.split(cut, dim=-1), bias.split(cut)

        def gru(share: Tensor, state: State) -> State:
            (h,), (x_rz, x_n) = state, share.split(cut, dim=-1)
            r, z = torch.add(x_rz, own_rz).add_(bias_rz).baddbmm_(h, weight_rz).sigmoid_().chunk(2, dim=-1)
            n = tanh_(torch.add(x_n, own_n).addcmul_(r, torch.baddbmm(bias_n, h, weight_n)))
            return (torch.lerp(n, h, z),)

        return gru

    weight_t = turned(weight)

    def lstm(share: Tensor, state: State) -> State:
        h, c = state
        gates = torch.add(share, own).add_(bias).baddbmm_(h, weight_t)
        i, f, g, o = gates.chunk(4, dim=-1)
        g.mul_(2)
        gates.sigmoid_()
        g.mul_(2).sub_(1)
        c = torch.mul(f, c).addcmul_(i, g)
        return torch.mul(o, tanh_(c.clone())), c

    def rnn(share: Tensor, state: State) -> State:
        return (tanh_(torch.add(share, own).add_(bias).baddbmm_(state[0], weight_t)),)

    return lstm if kind == "lstm" else rnn
