"""GRU, LSTM and vanilla RNN classifiers: one as an ordinary module, and N of them in one batched recurrence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self, cast

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from dynamo.population.base import Bundle
from dynamo.population.company import affine
from dynamo.population.recurrence import GATES, unroll
from dynamo.types import TaskBatch, Trajectory

Architecture = Literal["gru", "lstm", "rnn"]
LAYERS: dict[str, type[nn.GRU] | type[nn.LSTM] | type[nn.RNN]] = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}


class RecurrentClassifier(nn.Module):
    """What is one member? Word vectors, one recurrent layer, a linear readout at every step.

    Args:
        architecture: gru, lstm or rnn (tanh).
        vocab_size: number of token ids.
        embedding_size: E.
        hidden_size: H.
        classes: C.

    Examples:
        >>> import torch
        >>> from dynamo.population import RecurrentClassifier
        >>> network = RecurrentClassifier("gru", vocab_size=9, embedding_size=4, hidden_size=3, classes=2)
        >>> hidden, logits = network(torch.tensor([[2, 3, 4, 5, 6]]))
        >>> hidden.shape, logits.shape  # states and an answer after every word
        (torch.Size([1, 5, 3]), torch.Size([1, 5, 2]))
    """

    def __init__(
        self, architecture: Architecture, vocab_size: int, embedding_size: int, hidden_size: int, classes: int
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.recurrent = LAYERS[architecture](embedding_size, hidden_size, batch_first=True)
        self.readout = nn.Linear(hidden_size, classes)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids `[B, T]` -> hidden states `[B, T, H]` and logits `[B, T, C]` at every step."""
        hidden, _ = self.recurrent(self.embedding(tokens))
        return hidden, self.readout(hidden)


class RecurrentBundle(Bundle):
    """How do N recurrent classifiers run at once? Their weights are stacked, the time loop is shared.

    Outputs, states and gradients equal those of N separate `RecurrentClassifier`s to float precision.

    Args:
        count: N.
        architecture: gru, lstm or rnn.
        vocab_size: number of token ids.
        embedding_size: E.
        hidden_size: H.
        classes: C.
        embedding_scale: standard deviation of fresh word vectors. Small values keep the words that a member
            never learned about from shaking its state.

    Examples:
        >>> import torch
        >>> from dynamo import TaskBatch
        >>> from dynamo.population import RecurrentBundle, RecurrentClassifier
        >>> modules = [RecurrentClassifier("gru", 9, 4, 3, 2) for _ in range(5)]
        >>> words = torch.tensor([[2, 3, 4], [5, 6, 7]])
        >>> seen = RecurrentBundle.from_modules(modules)(TaskBatch(words, torch.tensor([0, 1]), torch.tensor([3, 3])))
        >>> alone = torch.stack([module(words)[0] for module in modules])
        >>> seen.hidden[0].shape, bool(torch.allclose(seen.hidden[0], alone, atol=1e-6))  # at once as one by one
        (torch.Size([5, 2, 3, 3]), True)
    """

    kind: ClassVar[str] = "recurrent"

    def __init__(
        self,
        count: int,
        architecture: Architecture,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        classes: int,
        embedding_scale: float = 0.1,
    ) -> None:
        super().__init__()
        self.count, self.architecture = count, architecture
        self.embedding_scale = embedding_scale
        gates = GATES[architecture] * hidden_size
        self.embedding = nn.Parameter(torch.zeros(count, vocab_size, embedding_size))
        self.weight_ih = nn.Parameter(torch.zeros(count, gates, embedding_size))
        self.weight_hh = nn.Parameter(torch.zeros(count, gates, hidden_size))
        self.bias_ih = nn.Parameter(torch.zeros(count, gates))
        self.bias_hh = nn.Parameter(torch.zeros(count, gates))
        self.readout_weight = nn.Parameter(torch.zeros(count, classes, hidden_size))
        self.readout_bias = nn.Parameter(torch.zeros(count, classes))

    @property
    def settings(self) -> dict[str, Any]:
        """See `Bundle.settings`."""
        return {
            "architecture": self.architecture,
            "vocab_size": self.embedding.shape[1],
            "embedding_size": self.embedding.shape[2],
            "hidden_size": self.weight_hh.shape[2],
            "classes": self.classes,
            "embedding_scale": self.embedding_scale,
        }

    @classmethod
    def build(cls, count: int, settings: dict[str, Any]) -> Self:
        """See `Bundle.build`."""
        return cls(count, **settings)

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """See `Bundle.hidden_sizes`."""
        return (self.weight_hh.shape[2],)

    @property
    def classes(self) -> int:
        """C."""
        return self.readout_bias.shape[1]

    @torch.no_grad()
    def initialise(self, seeds: Sequence[int]) -> None:
        """Fresh weights; member i's depend on `seeds[i]` alone, not on who else is in the bundle.

        torch.nn's own distributions, except that word vectors have standard deviation `embedding_scale`.
        """
        bound = self.weight_hh.shape[2] ** -0.5
        for index, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(seed)
            for name, stacked in self.named_parameters():
                fresh = torch.empty(stacked.shape[1:])
                if name == "embedding":
                    fresh.normal_(0.0, self.embedding_scale, generator=generator)
                else:
                    fresh.uniform_(-bound, bound, generator=generator)
                stacked[index] = fresh.to(stacked)

    def forward(self, batch: TaskBatch, select: Tensor | None = None) -> Trajectory:
        """See `Bundle.forward`; hidden `([n, B, T, H],)` and output `[n, B, T, C]`."""
        embedding, weight_ih, weight_hh, bias_ih, bias_hh = (
            p if select is None else p[select] for p in list(self.parameters())[:5]
        )
        words = look_up(batch.inputs, embedding)
        hidden = unroll(self.architecture, words, weight_ih, bias_ih, weight_hh, bias_hh).transpose(1, 2)
        return Trajectory((hidden,), self.read_out(hidden, select))

    def read_out(self, hidden: Tensor, select: Tensor | None = None) -> Tensor:
        """See `Bundle.read_out`; `[n, B, T, H]` -> `[n, B, T, C]`."""
        weight, bias = (p if select is None else p[select] for p in (self.readout_weight, self.readout_bias))
        in_memory = hidden.transpose(1, 2)  # the recurrence lays states out as [n, T, B, H]
        flat = in_memory.reshape(in_memory.shape[0], -1, in_memory.shape[-1])
        logits = affine(flat, weight, bias)
        steps, items = in_memory.shape[1:3]
        return logits.view(len(flat), steps, items, -1).transpose(1, 2)

    @torch.no_grad()
    def member(self, index: int) -> RecurrentClassifier:
        """See `Bundle.member`."""
        settings = {k: v for k, v in self.settings.items() if k != "embedding_scale"}
        module = RecurrentClassifier(**settings).to(self.embedding)
        for own, stacked in zip(_module_tensors(module), self.parameters(), strict=True):
            own.copy_(stacked[index])
        return module

    @classmethod
    @torch.no_grad()
    def from_modules(cls, modules: Sequence[RecurrentClassifier]) -> Self:
        """A bundle of trained `RecurrentClassifier`s of one architecture and size.

        Raises:
            ValueError: their architectures or sizes differ; such modules need several bundles.
        """
        first = modules[0]
        classes, hidden_size = first.readout.weight.shape
        vocab_size, embedding_size = first.embedding.weight.shape
        bundle = cls(len(modules), first.architecture, vocab_size, embedding_size, hidden_size, classes)
        for index, module in enumerate(modules):
            if module.architecture != first.architecture:
                raise ValueError(
                    f"Module {index} is a {module.architecture}, module 0 a {first.architecture}; "
                    "put each architecture into a bundle of its own."
                )
            for own, stacked in zip(_module_tensors(module), bundle.parameters(), strict=True):
                if own.shape != stacked.shape[1:]:
                    raise ValueError(
                        f"Module {index} has a tensor of shape {list(own.shape)} where module 0 has "
                        f"{list(stacked.shape[1:])}; put networks of different sizes into several bundles."
                    )
                stacked[index] = own
        return bundle


def _module_tensors(module: RecurrentClassifier) -> list[Tensor]:
    """A classifier's tensors in the order of `RecurrentBundle.parameters()`."""
    layer = module.recurrent
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    inner = [cast(Tensor, getattr(layer, name)) for name in names]
    return [module.embedding.weight, *inner, module.readout.weight, module.readout.bias]


def look_up(tokens: Tensor, embedding: Tensor) -> Tensor:
    """Word vectors by each member's own table, as `project` wants them.

    Args:
        tokens: `[B, T]` or, where each member reads its own items, `[N, B, T]`.
        embedding: `[N, vocabulary, E]`.

    Returns:
        `[N, T, B, E]`.
    """
    count, vocabulary, size = embedding.shape
    if tokens.dim() == 2:
        tokens = tokens.expand(count, *tokens.shape)
    # One table of N * vocabulary rows: a single look-up, and a single dense gradient.
    offsets = torch.arange(count, device=tokens.device).view(count, 1, 1) * vocabulary
    return nnf.embedding(tokens.transpose(1, 2) + offsets, embedding.reshape(count * vocabulary, size))
