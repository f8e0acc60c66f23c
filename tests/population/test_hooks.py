"""Does `observe` see what layers return, and nothing else? Is everything that cannot be seen named?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from dynamo.population import Population, PopulationError, observe
from dynamo.population.hooks import Probe
from dynamo.population.modules import ModuleBundle
from dynamo.population.observation import Form, look
from dynamo.types import TaskBatch

B, T, F, H, C = 3, 5, 2, 4, 3
SIGNALS = torch.randn(B, T, F, generator=torch.Generator().manual_seed(0))


class Cells(nn.Module):
    """Two cells, called at every step; one answer, after the last."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.below, self.above = nn.GRUCell(F, 6), nn.LSTMCell(6, H)
        self.readout = nn.Linear(H, C)

    def forward(self, signals: Tensor) -> Tensor:
        low = signals.new_zeros(len(signals), 6)
        state = signals.new_zeros(2, len(signals), H).unbind()
        for step in signals.unbind(1):
            low = self.below(step, low)
            state = self.above(low, state)
        logits: Tensor = self.readout(state[0])
        return logits


class Layered(nn.Module):
    """A two-layer LSTM, steps first; logits at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(F, H, num_layers=2)
        self.readout = nn.Linear(H, C)

    def forward(self, signals: Tensor) -> dict[str, Tensor]:
        return {"logits": self.readout(self.lstm(signals.transpose(0, 1))[0]).transpose(0, 1)}


class Around(nn.Module):
    """Another network, of which it returns the logits."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, signals: Tensor) -> Tensor:
        logits: Tensor = self.inner(signals)["logits"]
        return logits


class Packed(nn.Module):
    """Packs what it reads, longest item first by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, F)
        self.gru = nn.GRU(F, H, batch_first=True)
        self.readout = nn.Linear(H, C)

    def forward(self, tokens: Tensor) -> Tensor:
        lengths = (tokens != 0).sum(1).clamp(min=1)
        packed = pack_padded_sequence(self.words(tokens), lengths, batch_first=True, enforce_sorted=False)
        logits: Tensor = self.readout(self.gru(packed)[1][-1])
        return logits


class Convolutions(nn.Module):
    """Maps, then vectors."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.maps = nn.Sequential(nn.Conv2d(2, H, 3, stride=2, padding=1), nn.ReLU())
        self.dense = nn.Linear(H, 7)
        self.readout = nn.Linear(7, C)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.readout(torch.relu(self.dense(self.maps(images).mean((2, 3)))))
        return logits


def test_a_cell_that_is_called_at_every_step_gives_a_state_a_step() -> None:
    cells = Cells()
    low, state = torch.zeros(B, 6), (torch.zeros(B, H), torch.zeros(B, H))
    lows, highs = [], []
    for step in SIGNALS.unbind(1):
        low = cells.below(step, low)
        state = cells.above(low, state)
        lows.append(low)
        highs.append(state[0])
    (below, above), logits = observe("below", "above")(cells, SIGNALS)
    torch.testing.assert_close(below, torch.stack(lows, 1))
    torch.testing.assert_close(above, torch.stack(highs, 1))
    assert logits is not None
    torch.testing.assert_close(logits, cells(SIGNALS))
    assert not any(part._forward_hooks for part in cells.modules())


def test_one_step_is_a_sequence_too() -> None:
    population = Population.from_modules([Cells()], observe("above"), example=SIGNALS)
    batch = TaskBatch(SIGNALS[:, :1], torch.zeros(B).long(), torch.ones(B).long())
    (found,) = population.run({"task": batch})
    assert found is not None
    assert (found.hidden[0].shape, found.output.shape) == ((1, B, 1, H), (1, B, C))


def test_steps_first_are_turned_and_dictionaries_need_the_layer_that_answers() -> None:
    layered = Layered()
    with pytest.raises(
        PopulationError,
        match=r"^the network's own output is dict \(keys logits\), no tensor; .*observe\(\.\.\., output='LAYER'\) \(it "
        r"has lstm, readout\), or give as observe= a function that returns states and logits",
    ):
        observe("lstm")(layered, SIGNALS)
    with pytest.raises(PopulationError, match=r"^layer 'inner' returns dict \(keys logits\), no tensor; name a layer"):
        observe("inner")(Around(layered), SIGNALS)
    hidden, _ = observe("lstm", output=None)(layered, SIGNALS)
    torch.testing.assert_close(hidden[0], layered.lstm(SIGNALS.transpose(0, 1))[0].transpose(0, 1))


def test_packed_sequences_are_unpacked_to_the_width_of_the_batch() -> None:
    tokens = torch.tensor([[3, 4, 0, 0], [5, 6, 7, 0]])
    packed = Packed()
    hidden, logits = observe("gru")(packed, tokens)
    assert hidden[0].shape == (2, 4, H)
    alone = packed.gru(packed.words(tokens[:1, :2]))[0]
    torch.testing.assert_close(hidden[0][:1, :2], alone)
    assert logits is not None
    torch.testing.assert_close(logits[:1], packed.readout(alone[:, -1]))


def test_logits_may_be_an_attribute_or_a_layer() -> None:
    class Answer:
        def __init__(self, logits: Tensor) -> None:
            self.logits = logits

    class Wrapped(Convolutions):
        def forward(self, images: Tensor) -> Any:  # noqa: ANN401
            return Answer(super().forward(images))

    images = torch.randn(B, 2, 8, 8)
    for output in ("", "readout"):
        _, logits = observe("maps", output=output)(Wrapped(), images)
        assert logits is not None
        torch.testing.assert_close(logits, Convolutions()(images))


def test_maps_and_vectors_are_stages_of_one_network() -> None:
    images = torch.randn(B, 2, 8, 6)
    seen = look(Convolutions(), Probe(observe("maps", "dense")), images, "net")
    assert seen.form == Form("images", (2, 8, 6), (H, 7), ((4, 3), ()), C, stepwise=False)
    assert [tuple(stage.shape) for stage in seen.hidden] == [(B, H, 4, 3), (B, 7, 1, 1)]


def test_an_unknown_layer_is_named_beside_those_there_are() -> None:
    with pytest.raises(PopulationError, match=r"^modules\[0\] \(Cells\): there is no layer 'redout'; it has readout"):
        Population.from_modules([Cells()], observe("redout"), example=SIGNALS)
    with pytest.raises(PopulationError, match="no layer '7'; it has below, above, readout"):
        Population.from_modules([Cells()], observe("7"), example=SIGNALS)
    with pytest.raises(PopulationError, match=r"observe\(\) names no layer"):
        observe()


@pytest.mark.parametrize(
    ("layers", "options", "told"),
    [
        ((["gru"],), {}, r"as separate texts, got \['gru'\]: observe\(\"gru\"\)"),
        (("a", ("b", "c")), {}, r"got \('b', 'c'\): observe\(\"a\", \"b\", \"c\"\)"),
        ((2,), {}, r"got 2: observe\(\"2\"\)"),
        ((Cells(),), {}, r"got a Cells: observe\(\"lstm\"\)"),
        (("gru",), {"output": ["head"]}, r"one layer as output, got \['head'\]: output=\"head\""),
    ],
)
def test_names_of_layers_are_texts(layers: tuple[Any, ...], options: dict[str, Any], told: str) -> None:
    with pytest.raises(PopulationError, match=rf"^observe takes .*{told}\.$"):
        observe(*layers, **options)


def test_layers_that_show_nothing_are_refused() -> None:
    class Idle(Cells):
        def __init__(self) -> None:
            super().__init__()
            self.idle = nn.Linear(1, 1)
            self.twice = nn.Linear(C, C)

        def forward(self, signals: Tensor) -> Tensor:
            logits: Tensor = self.twice(self.twice(super().forward(signals)))
            return logits

    with pytest.raises(PopulationError, match="layer 'idle' takes no part in what the network computes"):
        Population.from_modules([Idle()], observe("idle"), example=SIGNALS)
    with pytest.raises(PopulationError, match="layer 'twice' is called 2 times; observe one that is called once"):
        Population.from_modules([Idle()], observe("twice"), example=SIGNALS)


def test_a_network_that_answers_once_reads_no_padding() -> None:
    """Every item's answer is that of the item alone, whatever it is padded to; its states are those of the batch."""
    population = Population.from_modules([Cells(0), Cells(1)], observe("above"), example=SIGNALS)
    lengths = torch.tensor([5, 2, 3])
    (found,) = population.run({"task": TaskBatch(SIGNALS, torch.zeros(B).long(), lengths)})
    assert found is not None
    assert found.output.shape == (2, B, C)
    for n in range(2):
        for item, length in enumerate(lengths.tolist()):
            alone = Cells(n)(SIGNALS[item : item + 1, :length])
            torch.testing.assert_close(found.output[n, item : item + 1], alone.detach())


def test_a_readout_gives_a_network_that_answers_once_answers_at_every_step() -> None:
    population = Population.from_modules([Cells()], observe("above"), read_out="readout", example=SIGNALS)
    (found,) = population.run({"task": TaskBatch(SIGNALS, torch.zeros(B).long(), torch.full((B,), T))})
    assert found is not None
    for length in range(1, T + 1):
        torch.testing.assert_close(found.output[0, :, length - 1], Cells()(SIGNALS[:, :length]).detach())
    with pytest.raises(PopulationError, match="read_out does not say of its hidden states what the network itself"):
        Population.from_modules([Cells()], observe("above"), read_out=lambda m, h: -m.readout(h), example=SIGNALS)


def test_bare_recurrent_layers_have_states_and_no_answers() -> None:
    layers = [nn.LSTM(F, H, num_layers=2, batch_first=bool(turn)) for turn in range(2)]
    population = Population.from_modules(layers, example=SIGNALS)
    (bundle,) = population.bundles
    assert isinstance(bundle, ModuleBundle)
    assert (bundle.classes, bundle.reads, bundle.hidden_sizes) == (0, "signals", (H,))
    found = bundle(TaskBatch(SIGNALS, torch.zeros(B).long(), torch.full((B,), T)))
    torch.testing.assert_close(found.hidden[0][1], layers[1](SIGNALS)[0].detach())
    torch.testing.assert_close(found.hidden[0][0], layers[0](SIGNALS.transpose(0, 1))[0].transpose(0, 1).detach())


def test_a_causal_transformer_is_taken_and_one_that_sees_ahead_is_not() -> None:
    class Blocks(nn.Module):
        def __init__(self, causal: bool) -> None:
            super().__init__()
            self.causal, self.words, self.head = causal, nn.Embedding(9, 8), nn.Linear(8, C)
            self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(8, 2, 8, 0.0, batch_first=True) for _ in range(2))

        def forward(self, tokens: Tensor) -> Tensor:
            stream = self.words(tokens)
            mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
            for block in self.blocks:
                stream = block(stream, src_mask=mask if self.causal else None)
            logits: Tensor = self.head(stream)
            return logits

    looking = observe("blocks.0", "blocks.1")
    population = Population.from_modules([Blocks(True), Blocks(True)], looking, read_out="head")
    assert population.bundles[0].hidden_sizes == (8, 8)
    with pytest.raises(PopulationError, match=r"modules\[0\] \(Blocks\) answers differently .*or a causal mask"):
        Population.from_modules([Blocks(False)], looking)


def test_networks_of_other_forms_are_other_bundles() -> None:
    images = torch.randn(B, 2, 8, 8)
    wide = Convolutions()
    wide.dense, wide.readout = nn.Linear(H, 9), nn.Linear(9, C)
    population = Population.from_modules(
        [Convolutions(), wide, Convolutions(1)], observe("maps", "dense"), example=images
    )
    assert [(b.count, b.hidden_sizes, b.positions) for b in population.bundles] == [
        (2, (H, 7), ((4, 4), ())),
        (1, (H, 9), ((4, 4), ())),
    ]
