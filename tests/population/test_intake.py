"""Do networks come in as they are, in a known order, and is every one that cannot be studied named?"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dynamo.population import Population, PopulationError, RecurrentBundle, RecurrentClassifier, observe
from dynamo.population.modules import ModuleBundle
from dynamo.types import TaskBatch

WORDS = 9
TOKENS = torch.tensor([[1, 5, 8, 2], [3, 3, 7, 1], [4, 0, 0, 0]])
BATCH = {"task": TaskBatch(TOKENS, torch.tensor([0, 1, 0]), torch.tensor([4, 4, 1]))}


class Net(nn.Module):
    """A GRU whose forward returns hidden states and logits by itself."""

    def __init__(self, hidden_size: int = 4, classes: int = 2, **options: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.words = nn.Embedding(WORDS, 3)
        self.gru = nn.GRU(3, hidden_size, **{"batch_first": True, **options})
        self.readout = nn.Linear(hidden_size, classes)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        hidden, _ = self.gru(self.words(tokens))
        return hidden, self.readout(hidden)


def classifiers(*kinds: str, **sizes: int) -> list[nn.Module]:
    options = {"vocab_size": WORDS, "embedding_size": 3, "hidden_size": 4, "classes": 2, **sizes}
    return [RecurrentClassifier(kind, **options) for kind in kinds]  # type: ignore[arg-type]


def test_classifiers_run_batched_and_come_back_from_disk_the_same(tmp_path: Path) -> None:
    given = classifiers("gru", "lstm", "gru", "rnn", "lstm")
    population = Population.from_modules(given, groups=list("abcde"), class_names={"task": ("no", "yes")})
    assert [type(bundle) for bundle in population.bundles] == [RecurrentBundle] * 3
    assert [m.group for m in population.members] == ["a", "c", "b", "e", "d"]  # bundle after bundle, each as given
    loaded = Population.load(population.save(tmp_path / "saved"))
    assert loaded.bundle_members == population.bundle_members
    assert (loaded.class_names, loaded.tasks) == ({"task": ("no", "yes")}, ("task",) * 3)
    for one, other in zip(population.run(BATCH), loaded.run(BATCH), strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one.hidden[0], other.hidden[0])
        assert torch.equal(one.output, other.output)
    for module, group in zip(given, "abcde", strict=True):
        mine = next(m.name for m in population.members if m.group == group)
        for name, tensor in population.module(mine).state_dict().items():
            assert torch.equal(tensor, module.state_dict()[name]), name


def test_batched_and_one_by_one_are_the_same_networks() -> None:
    given = classifiers("gru", "gru", "gru")
    (batched,) = Population.from_modules(given).run(BATCH)
    population = Population.from_modules(given, lambda module, tokens: module(tokens))
    (singly,) = population.run(BATCH)
    assert isinstance(population.bundles[0], ModuleBundle)
    assert batched is not None
    assert singly is not None
    torch.testing.assert_close(batched.hidden[0], singly.hidden[0])
    torch.testing.assert_close(batched.output, singly.output)


def test_other_sizes_and_tasks_are_other_bundles() -> None:
    given = [*classifiers("gru"), Net(), *classifiers("gru", embedding_size=5), Net(6), Net(classes=3), Net(), Net()]
    population = Population.from_modules(given, task=["x", "x", "x", "x", "z", "x", "y"])
    assert [(b.kind, b.count, b.hidden_sizes, b.classes) for b in population.bundles] == [
        ("recurrent", 1, (4,), 2), ("modules", 2, (4,), 2), ("recurrent", 1, (4,), 2),
        ("modules", 1, (6,), 2), ("modules", 1, (4,), 3), ("modules", 1, (4,), 2),
    ]  # fmt: skip
    assert population.tasks == ("x", "x", "x", "x", "z", "y")
    assert [m.name for m in population.members] == ["gru-0", "Net-0", "Net-3", "gru-1", "Net-1", "Net-2", "Net-4"]


def test_a_classifier_that_was_made_into_another_network_is_not_stacked() -> None:
    class Doubled(RecurrentClassifier):
        def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
            hidden, logits = super().forward(tokens)
            return hidden, 2 * logits

    odd = Doubled("gru", WORDS, 3, 4, 2)
    (layered,) = classifiers("gru")
    layered.recurrent = nn.GRU(3, 4, num_layers=2, batch_first=True)
    population = Population.from_modules([odd, layered])
    (bundle,) = population.bundles
    assert isinstance(bundle, ModuleBundle)
    found = bundle(BATCH["task"])
    for n, module in enumerate((odd, layered)):
        torch.testing.assert_close(found.output[n], module(TOKENS)[1].detach())


def test_a_classifier_with_hooks_or_of_another_precision_runs_as_it_is() -> None:
    hooked, fed, patched, doubled, plain = classifiers(*["gru"] * 5)
    hooked.readout.register_forward_hook(lambda module, inputs, output: 2 * output)  # type: ignore[union-attr]
    fed.recurrent.register_forward_pre_hook(lambda module, inputs: (3 * inputs[0],))  # type: ignore[union-attr]
    forward = patched.forward
    patched.forward = lambda tokens: tuple(-part for part in forward(tokens))  # type: ignore[assignment, method-assign]
    doubled.double()
    population = Population.from_modules([hooked, fed, patched, doubled, plain])
    own, stacked = population.bundles
    assert isinstance(own, ModuleBundle)
    assert isinstance(stacked, RecurrentBundle)
    found = own(BATCH["task"])
    for n, module in enumerate((hooked, fed, patched, doubled)):
        hidden, logits = module(TOKENS)
        torch.testing.assert_close(found.hidden[0][n], hidden.detach().float())
        torch.testing.assert_close(found.output[n], logits.detach().float())
    assert {p.dtype for p in own.member(3).parameters()} == {torch.float64}


@pytest.mark.parametrize("training", [True, False])
def test_the_networks_are_left_as_they_were(training: bool) -> None:
    class Counting(Net):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(2)
            self.seen = 0

        def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
            self.seen += 1
            hidden, logits = super().forward(tokens)
            return hidden, self.norm(logits.flatten(0, 1)).view_as(logits)

    net = Counting().train(training)
    net.words.weight.requires_grad_(False)
    net.readout.bias.grad = torch.ones(2)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    random = torch.get_rng_state()
    population = Population.from_modules([net, net])
    population.run(BATCH)
    assert (net.training, net.gru.training, net.seen) == (training, training, 0)
    assert [p.requires_grad for p in net.parameters()] == [False, *[True] * 8]
    assert torch.equal(net.readout.bias.grad, torch.ones(2))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    with torch.no_grad():
        net.readout.bias += 1.0  # training may go on without moving the population
    assert torch.equal(population.bundles[0].member(0).readout.bias, before["readout.bias"])


def test_what_is_given_is_kept() -> None:
    population = Population.from_modules(
        iter([Net(), Net()]), names=["one", "two"], groups=["g", "h"], task="imdb",
        class_names={"imdb": ("no", "yes")}, fingerprint={"vocabulary": "1234"},
    )  # fmt: skip
    assert [(m.name, m.group, m.task) for m in population.members] == [("one", "g", "imdb"), ("two", "h", "imdb")]
    assert (population.class_names, population.fingerprint) == ({"imdb": ("no", "yes")}, {"vocabulary": "1234"})
    assert len(Population.from_modules(nn.ModuleList([Net(), Net()]))) == 2


def test_an_example_takes_the_place_of_token_ids() -> None:
    class Signal(nn.Module):
        """Reads numbers, not words."""

        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.RNN(1, 4, batch_first=True)

        def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
            hidden, _ = self.rnn(values)
            return hidden, hidden[..., :2]

    with pytest.raises(PopulationError, match=r"\(Signal\) cannot be run on inputs \[2, 3\].*give example="):
        Population.from_modules([Signal()])
    assert Population.from_modules([Signal()], example=torch.rand(3, 5, 1)).bundles[0].reads == "signals"
    with pytest.raises(PopulationError, match=r"example has to be a tensor of a few inputs: token ids \[B, T\]"):
        Population.from_modules([Signal()], example=torch.rand(3))


def broken(change: Callable[[Net], object]) -> Net:
    net = Net()
    with torch.no_grad():
        change(net)
    return net


class Returns(nn.Module):
    """Returns whatever it is told to."""

    def __init__(self, make: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.make = make

    def forward(self, tokens: Tensor) -> object:
        return self.make(tokens)


class Forgetful(Net):
    """Drops out in evaluation mode too."""

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        hidden, logits = super().forward(tokens)
        return nn.functional.dropout(hidden, 0.5), logits


class Endless(Net):
    """Goes on from the state in which the last item ended."""

    state: Tensor | None = None

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        start = None if self.state is None else self.state[:, -1:].expand(-1, len(tokens), -1).contiguous()
        hidden, self.state = self.gru(self.words(tokens), start)
        return hidden, self.readout(hidden)


class BothWays(Net):
    """Reads from both ends, padding included."""

    def __init__(self) -> None:
        super().__init__(bidirectional=True)
        self.readout = nn.Linear(8, 2)


class Uncopyable(Net):
    """Holds on to something that no copy can be made of."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = self.readout.weight.sum()


@pytest.mark.parametrize(
    ("module", "match"),
    [
        (lambda tokens: tokens, r"modules\[1\] is of type function, no torch.nn.Module"),
        (
            Returns(lambda t: torch.rand(*t.shape, 4)),
            r"modules\[1\] \(Returns\): its forward returns Tensor; name the layers",
        ),
        (Returns(lambda t: None), r"its forward returns NoneType; name the layers"),
        (Returns(lambda t: (torch.rand(*t.shape, 4), (t, t))), r"its forward returns tuple; name the layers"),
        (Returns(lambda t: (t, t, t)), r"its forward returns Tensor, Tensor, Tensor; name the layers"),
        (Returns(lambda t: (t[..., None], t[..., None])), r"returns torch.int64 and torch.int64, not floats"),
        (
            Returns(lambda t: (torch.rand(*t.shape, 4), torch.rand(len(t)))),
            r"its forward returns hidden states \[2, 3, 4\] and logits \[2\] for inputs \[2, 3\]; name the layers",
        ),
        (
            Returns(lambda t: (torch.rand(*t.shape, 4), torch.rand(len(t), 1, 2))),
            r"hidden states \[2, 3, 4\] and logits \[2, 1, 2\]",
        ),
        (
            Returns(lambda t: (torch.rand(*t.T.shape, 4), torch.rand(*t.T.shape, 2))),
            r"hidden states \[3, 2, 4\] and logits \[3, 2, 2\] for inputs \[2, 3\]",
        ),
        (Returns(lambda t: (torch.rand(*t.shape, 4), torch.rand(*t.shape, 1))), r"a single logit; .*zeros_like"),
        (Returns(lambda t: (torch.rand(*t.shape, 4), torch.rand(*t.shape, 2))), r"answers differently"),
        (Returns(lambda t: 1 // 0), r"modules\[1\] \(Returns\) cannot be run on inputs \[2, 3\]: .*by zero"),
        (
            broken(lambda net: net.gru.bias_hh_l0.fill_(torch.nan)),
            r"weights \(gru.bias_hh_l0\) that are not finite",
        ),
        (broken(lambda net: net.readout.bias.fill_(torch.inf)), r"has weights \(readout.bias\) that are not finite"),
        (Returns(lambda t: (torch.full((*t.shape, 4), torch.nan), torch.zeros(*t.shape, 2))), r"states or logits that"),
        (Returns(lambda t: (torch.zeros(*t.shape, 4), torch.full((*t.shape, 2), torch.inf))), r"states or logits that"),
        (Net(batch_first=False), r"modules\[1\] \(Net\) answers differently .*items have to be the first axis"),
        (Forgetful(), r"modules\[1\] \(Forgetful\) answers differently"),
        (Endless(), r"modules\[1\] \(Endless\) answers differently"),
        (BothWays(), r"modules\[1\] \(BothWays\) answers differently at the same steps .*padding.*bidirectional"),
        (Uncopyable(), r"modules\[1\] \(Uncopyable\) cannot be copied"),
        (nn.LSTM(3, 4, batch_first=True), r"modules\[1\] \(LSTM\) cannot be run on inputs \[2, 3\].*give example="),
    ],
)
def test_a_network_that_cannot_be_studied_is_named(module: Any, match: str) -> None:  # noqa: ANN401
    with pytest.raises(PopulationError, match=f"(?s){match}"):
        Population.from_modules([Net(), module, Net()])


def test_an_observe_that_is_wrong_is_blamed_and_not_the_forward() -> None:
    with pytest.raises(PopulationError, match=r"modules\[0\] \(Net\): observe returns Tensor; observe has to return"):
        Population.from_modules([Net()], lambda module, tokens: module(tokens)[0])
    with pytest.raises(PopulationError, match=r"modules\[0\] \(Net\) cannot be run .*'lstm'; observe has to return"):
        Population.from_modules([Net()], lambda module, tokens: module.lstm(tokens))
    with pytest.raises(PopulationError, match="observe has to be a function"):
        Population.from_modules([Net()], 5)  # type: ignore[arg-type]


IDS = torch.tensor([[1, 5, 8, 2, 3], [3, 3, 7, 1, 1], [4, 6, 2, 2, 8]])


class Answers(Net):
    """Returns whatever is made of its logits, and nothing else."""

    def __init__(self, make: Callable[[Tensor], object] = lambda logits: logits, **options: Any) -> None:  # noqa: ANN401
        super().__init__(**options)
        self.make = make

    def forward(self, tokens: Tensor) -> object:  # type: ignore[override]
        return self.make(super().forward(tokens)[1])


class Placed(Answers):
    """Knows four positions, and adds their vectors to those of the words."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Embedding(4, 3)

    def forward(self, tokens: Tensor) -> object:  # type: ignore[override]
        return super().forward(tokens) if self.places(torch.arange(tokens.shape[1])).numel() else None


def both(module: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    return module.gru(module.words(tokens))[0], module(tokens)


@pytest.mark.parametrize("observed", [observe("gru"), both, None])
def test_an_embedding_too_small_for_the_ids_is_named(observed: Any) -> None:  # noqa: ANN401
    net = Net() if observed is None else Answers()
    with pytest.raises(PopulationError) as refused:
        Population.from_modules([net], observed, example=6 * IDS)
    assert str(refused.value) == (
        f"modules[0] ({type(net).__name__}) cannot be run on inputs [3, 5]: index out of range in self: the largest id "
        "is 48, and the network's embedding 'words' is smaller (num_embeddings=9); give ids below 9, in example= as in "
        "the data, or networks that know more."
    )
    assert not any(part._forward_pre_hooks for part in net.modules())


def test_an_embedding_of_positions_is_not_blamed_for_the_ids() -> None:
    with pytest.raises(PopulationError, match=r"'places' \(num_embeddings=4\) is asked for 4; give inputs that its"):
        Population.from_modules([Placed()], observe("gru"), example=IDS)
    other = Answers(lambda logits: [][0])
    with pytest.raises(PopulationError, match=r"list index out of range \(the largest id is 8\); give inputs that its"):
        Population.from_modules([other], observe("gru"), example=IDS)


def test_what_has_no_part_in_a_failure_is_not_told() -> None:
    broken = Answers(lambda logits: 1 // 0)
    shape, why = r"^modules\[0\] \(Answers\) cannot be run on inputs \[2, 3\]: ", "integer .* by zero"
    with pytest.raises(PopulationError, match=f"{shape}{why}; give example=, a few real inputs\\.$"):
        Population.from_modules([broken], observe("gru"))
    with pytest.raises(PopulationError, match=f"{shape}{why}; give inputs that its forward can read\\.$"):
        Population.from_modules([broken], observe("gru"), example=IDS[:2, :3])
    with pytest.raises(PopulationError, match=f"{shape}{why}; observe has to return hidden .* items first\\.$"):
        Population.from_modules([broken], both, example=IDS[:2, :3])
    with pytest.raises(PopulationError, match=f"{shape}{why}; observe has to return hidden .* give example="):
        Population.from_modules([broken], both)

    def fails(logits: Tensor) -> None:
        raise ValueError("two\nlines")

    with pytest.raises(PopulationError, match=f"{shape}two lines; give"):
        Population.from_modules([Answers(fails)], observe("gru"))


def test_axes_that_are_steps_first_are_told() -> None:
    told = r"for inputs \[3, 5\]; axes are steps first: make items the first \(batch_first=True"
    with pytest.raises(
        PopulationError, match=rf"observe returns hidden states \[5, 3, 4\] and logits \[3, 5, 2\] {told}"
    ):
        Population.from_modules([Answers(batch_first=False)], observe("gru"), example=IDS)
    with pytest.raises(PopulationError, match=rf"hidden states \[3, 5, 4\] and logits \[5, 3, 2\] {told}"):
        Population.from_modules([Answers(lambda logits: logits.transpose(0, 1))], observe("gru"), example=IDS)
    with pytest.raises(PopulationError, match=r"logits \[3, 5, 2, 1\] for inputs \[3, 5\]; name layers that return"):
        Population.from_modules([Answers(lambda logits: logits[..., None])], observe("gru"), example=IDS)


def test_a_network_that_returns_a_dictionary_is_told_from_the_layer() -> None:
    told = r"modules\[0\] \(Answers\): the network's own output is dict \(keys logits, loss\), .*words, gru, readout"
    network = Answers(lambda logits: {"logits": logits, "loss": 1.0})
    with pytest.raises(PopulationError, match=told):
        Population.from_modules([network], observe("gru"))
    for remedy in (observe("gru", output="readout"), lambda m, t: (m.gru(m.words(t))[0], m(t)["logits"])):
        assert Population.from_modules([network], remedy).bundles[0].classes == 2


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("dynamo"), "propagate", True)  # `main` stops it
    return caplog


def test_answers_that_are_probabilities_are_warned_of_once(heard: pytest.LogCaptureFixture) -> None:
    networks = [Answers(), *(Answers(lambda logits: logits.softmax(-1)) for _ in range(5))]
    population = Population.from_modules(networks, observe("gru"))
    assert len(population) == 6
    assert heard.messages == [
        "The answers of modules[1] (Answers), modules[2] (Answers), modules[3] (Answers) and 2 more look like "
        "probabilities (softmax): give logits, or lambda * L_output says little."
    ]


@pytest.mark.parametrize(
    "make",
    [
        torch.sigmoid,  # between 0 and 1, and of any sum
        lambda logits: logits.log_softmax(-1),
        lambda logits: logits - logits.mean(-1, keepdim=True) + 0.5 + torch.tensor([2.0, -2.0]),  # 1, and of any sign
        torch.zeros_like,
    ],
)
def test_logits_are_not_taken_for_probabilities(
    make: Callable[[Tensor], Tensor], heard: pytest.LogCaptureFixture
) -> None:
    Population.from_modules([Answers(make)], observe("gru"))
    Population.from_modules([nn.GRU(3, 4, batch_first=True)], example=torch.rand(2, 5, 3))
    assert not heard.messages


def test_members_in_another_order_than_given_are_warned_of_once(heard: pytest.LogCaptureFixture) -> None:
    in_order = Population.from_modules([Net(4), Net(4), Net(6), Net(6)], groups=list("abcd"))
    assert ([m.group for m in in_order.members], heard.messages) == (list("abcd"), [])
    mixed = Population.from_modules([Net(4), Net(6), Net(4), Net(6)], groups=list("abcd"))
    assert [m.group for m in mixed.members] == list("acbd")
    assert heard.messages == [
        "Members stand in another order than they were given (networks of one size together): take names and groups "
        "from population.members."
    ]


def test_a_classifier_that_is_not_finite_is_named() -> None:
    given = classifiers("gru", "rnn")
    with torch.no_grad():
        given[1].embedding.weight[8, 0] = torch.nan  # type: ignore[union-attr]
    with pytest.raises(PopulationError, match=r"modules\[1\] \(RecurrentClassifier\) has weights \(embedding.weight\)"):
        Population.from_modules(given)


def test_a_readout_has_to_be_the_networks_own() -> None:
    right = Population.from_modules([Net()], read_out=lambda module, hidden: module.readout(hidden) + 1.0)
    assert right.bundles[0].has_readout  # the same probabilities
    with pytest.raises(PopulationError, match=r"modules\[0\] \(Net\): read_out does not say of its hidden states"):
        Population.from_modules([Net()], read_out=lambda module, hidden: -module.readout(hidden))
    with pytest.raises(PopulationError, match=r"modules\[0\] \(Net\): read_out does not say"):
        Population.from_modules([Net()], read_out=lambda module, hidden: module.readout(hidden)[:, -1])
    with pytest.raises(PopulationError, match=r"modules\[0\] \(Net\): read_out fails on hidden states \[2, 3, 4\]"):
        Population.from_modules([Net()], read_out=lambda module, hidden: module.head(hidden))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"names": ["a"]}, "names has 1 entries for 2 networks; give one for each"),
        ({"groups": ["a", "b", "c"]}, "groups has 3 entries for 2 networks"),
        ({"task": ["imdb"]}, "task has 1 entries for 2 networks"),
        ({"names": ["a", "a"]}, "Several networks are called a; names have to be unique"),
        ({"groups": "ab"}, "groups has to be a list of texts"),
        ({"names": [1, 2]}, "names has to be a list of texts"),
        ({"class_names": {"task": ("a", "b", "c")}}, r"modules\[0\] \(Net\) has 2 classes, class_names names 3"),
    ],
)
def test_descriptions_have_to_fit(options: dict[str, Any], match: str) -> None:
    with pytest.raises(PopulationError, match=match):
        Population.from_modules([Net(), Net()], **options)


def test_networks_of_one_task_tell_the_same_classes_apart() -> None:
    with pytest.raises(PopulationError, match="'Net-1' tells 3 classes apart, others of task 'task' 2; networks of"):
        Population.from_modules([Net(), Net(classes=3)])


def test_there_have_to_be_networks() -> None:
    with pytest.raises(PopulationError, match="modules is empty"):
        Population.from_modules([])
    with pytest.raises(PopulationError, match=r"modules is one network \(Sequential\); give a list"):
        Population.from_modules(nn.Sequential(Net()))
