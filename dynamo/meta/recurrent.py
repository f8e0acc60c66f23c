"""F and G of the recurrent meta-model: one network that becomes, given theta, an emulator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from dynamo.population.recurrence import GATES, project, scan, step
from dynamo.population.recurrent import Architecture
from dynamo.types import Trajectory

Conditioning = Literal["input", "weights"]


class RecurrentMetaModel(nn.Module):
    """Which network stands at a point of the map? s_t = F(theta, x_t, s_{t-1}), v_t = G(s_t) (Figures 1 and 2).

    With `conditioning="input"`, theta is concatenated to the word vector at every step. Since theta does not
    change in time, its share of the gates is computed once and added; this is the same network, cheaper. With
    `conditioning="weights"` the recurrent weights are moreover a linear function of theta: W(theta) = W + sum_d
    theta_d W_d. How theta enters is not given in the paper.

    Args:
        vocab_size: number of token ids, shared by all tasks.
        classes: C of every task; G has one head per task.
        dimensions: D.
        hidden_size: S.
        embedding_size: length of the meta-model's word vectors. Long ones are cheap: they are projected once
            for all members.
        architecture: gru, lstm or rnn.
        conditioning: how theta enters.
        embedding_scale: standard deviation of fresh word vectors.
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
    ) -> None:
        super().__init__()
        self.architecture, self.conditioning = architecture, conditioning
        self.hidden_size, self.dimensions = hidden_size, dimensions
        gates, bound = GATES[architecture] * hidden_size, hidden_size**-0.5
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        nn.init.normal_(self.embedding.weight, std=embedding_scale)

        def uniform(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))

        self.weight_input = uniform(gates, embedding_size)
        self.weight_theta = uniform(gates, dimensions)
        self.bias_input = uniform(gates)
        self.weight_state = uniform(gates, hidden_size)
        self.bias_state = uniform(gates)
        self.weight_state_theta = uniform(dimensions, gates, hidden_size) if conditioning == "weights" else None
        self.heads = nn.ModuleDict({task: nn.Linear(hidden_size, count) for task, count in classes.items()})

    def forward(self, theta: Tensor, inputs: Tensor, task: str) -> Trajectory:
        """Run the networks at P points on the same items.

        Args:
            theta: points `[P, D]`.
            inputs: token ids `[B, T]`.
            task: whose readout answers.

        Returns:
            hidden `([P, B, T, S],)` and output `[P, B, T, C]`.
        """
        words = nnf.embedding(inputs.T, self.embedding.weight)  # [T, B, E]
        common = project(words, self.weight_input.unsqueeze(0), self.bias_input.unsqueeze(0))  # [1, T, B, gS]
        own = (theta @ self.weight_theta.T).view(-1, 1, 1, common.shape[-1])
        points, (steps, items) = theta.shape[0], words.shape[:2]
        if self.weight_state_theta is None:
            # One set of weights for all points: points and items form a single batch of P * B.
            gates = (common[0].unsqueeze(1) + own.squeeze(2)).flatten(1, 2).unsqueeze(0)  # [1, T, P*B, gS]
            states = scan(self.architecture, gates, *self._state_weights(theta))
            states = states.view(steps, points, items, -1).transpose(0, 1)  # [P, T, B, S]
        else:
            states = scan(self.architecture, common + own, *self._state_weights(theta))
        return Trajectory((states.transpose(1, 2),), self.read_out(states, task).transpose(1, 2))

    def step(self, theta: Tensor, word_vectors: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """One step of F, in plain differentiable operations: what the search for fixed points iterates.

        Args:
            theta: `[P, D]`.
            word_vectors: the input x, `[P, B, E]`.
            state: `[P, B, S]`, for an LSTM two of them.
        """
        gates = word_vectors @ self.weight_input.T + self.bias_input + (theta @ self.weight_theta.T).unsqueeze(1)
        weight, bias = self._state_weights(theta)
        if self.weight_state_theta is not None:
            return step(self.architecture, gates, weight, bias, state)
        flat = tuple(part.flatten(0, 1).unsqueeze(0) for part in state)
        after = step(self.architecture, gates.flatten(0, 1).unsqueeze(0), weight, bias, flat)
        return tuple(part[0].unflatten(0, state[0].shape[:2]) for part in after)

    def read_out(self, states: Tensor, task: str) -> Tensor:
        """G: states `[..., S]` -> logits `[..., C]` of a task."""
        return self.heads[task](states)  # type: ignore[no-any-return]

    def _state_weights(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Recurrent weights `[1 or P, gS, S]` and bias `[1 or P, gS]` at the points."""
        if self.weight_state_theta is None:
            return self.weight_state.unsqueeze(0), self.bias_state.unsqueeze(0)
        weight = self.weight_state + torch.einsum("pd,dgs->pgs", theta, self.weight_state_theta)
        return weight, self.bias_state.expand(theta.shape[0], -1)
