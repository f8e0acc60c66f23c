"""Does a bundle of other people's networks do what each of them does alone, and leave them as they were?"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dynamo.analysis.averaging import averaged_weights, bundle_accuracy, mean_points
from dynamo.population import Population, PopulationError, RecurrentBundle
from dynamo.population.hooks import Probe
from dynamo.population.modules import ModuleBundle
from dynamo.population.observation import Form
from dynamo.types import TaskBatch

WORDS, H, C = 11, 5, 3


class Tagger(nn.Module):
    """Two layers of LSTM with dropout, which answers with logits alone."""

    def __init__(self, hidden_size: int = H, seed: int = 0, words: int = WORDS) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.words = nn.Embedding(words, 4)
        self.layers = nn.LSTM(4, hidden_size, num_layers=2, batch_first=True, dropout=0.5)
        self.readout = nn.Linear(hidden_size, C)
        self.register_buffer("scale", torch.tensor(1.0 + seed))
        self.register_buffer("calls", torch.tensor(seed))

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.readout(observe(self, tokens)[0])
        return logits


def observe(module: nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor]:
    hidden, _ = module.layers(module.words(tokens))
    return hidden, module.readout(hidden) * module.scale


def read_out(module: nn.Module, hidden: Tensor) -> Tensor:
    logits: Tensor = module.readout(hidden) * module.scale
    return logits


PROBE = Probe(observe, read_out)
FORM = Form("tokens", (), (H,), ((),), C, stepwise=True)
TOKENS = torch.randint(1, WORDS, (4, 6), generator=torch.Generator().manual_seed(3))
BATCH = TaskBatch(TOKENS, torch.tensor([0, 1, 2, 0]), torch.tensor([6, 3, 1, 6]))


@pytest.fixture
def taggers() -> list[nn.Module]:
    return [Tagger(seed=seed) for seed in range(3)]


@pytest.fixture
def bundle(taggers: list[nn.Module]) -> ModuleBundle:
    return ModuleBundle(copy.deepcopy(taggers), [PROBE] * 3, FORM)


def alone(module: nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return observe(module.eval(), tokens)


def test_each_member_does_what_it_does_alone(bundle: ModuleBundle, taggers: list[nn.Module]) -> None:
    found = bundle(BATCH)
    assert (found.hidden[0].shape, found.output.shape) == ((3, 4, 6, H), (3, 4, 6, C))
    for n, tagger in enumerate(taggers):
        hidden, logits = alone(tagger, TOKENS)
        torch.testing.assert_close(found.hidden[0][n], hidden)  # the same bits on some processors
        torch.testing.assert_close(found.output[n], logits)
    assert not found.output.requires_grad


def test_selected_members_run_in_the_order_asked_for(bundle: ModuleBundle) -> None:
    everything, chosen = bundle(BATCH), bundle(BATCH, torch.tensor([2, 0]))
    assert torch.equal(chosen.hidden[0], everything.hidden[0][[2, 0]])
    assert torch.equal(chosen.output, everything.output[[2, 0]])


def test_members_may_have_items_of_their_own(bundle: ModuleBundle) -> None:
    own = torch.stack([TOKENS, TOKENS.flip(0)])
    found = bundle(TaskBatch(own, BATCH.targets.expand(2, -1), BATCH.lengths.expand(2, -1)), torch.tensor([1, 2]))
    everything = bundle(BATCH).output
    torch.testing.assert_close(found.output[0], everything[1])
    torch.testing.assert_close(found.output[1], everything[2].flip(0))
    with pytest.raises(ValueError, match="3 networks were given items for 2"):
        bundle(TaskBatch(own, BATCH.targets, BATCH.lengths))


def test_it_is_frozen_and_stays_in_evaluation_mode(bundle: ModuleBundle) -> None:
    before = bundle(BATCH).output
    bundle.train()
    assert not any(module.training for module in bundle.modules())
    assert not any(parameter.requires_grad for parameter in bundle.parameters())
    assert torch.equal(bundle(BATCH).output, before)  # dropout would show


def test_the_readouts_answer_for_states_from_elsewhere(bundle: ModuleBundle) -> None:
    found = bundle(BATCH)
    torch.testing.assert_close(bundle.read_out(found.hidden[0]), found.output)
    crossed = bundle.read_out(found.hidden[0][:1], torch.tensor([2]))
    torch.testing.assert_close(crossed[0], read_out(bundle.networks[2], found.hidden[0][0]))
    mute = ModuleBundle([Tagger()], [Probe(observe)], FORM)
    assert (bundle.has_readout, mute.has_readout) == (True, False)
    with pytest.raises(PopulationError, match=r"Network 0 of its bundle \(Tagger\) has no readout.*give read_out"):
        mute.read_out(found.hidden[0][:1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_networks_of_any_precision_hand_on_float32(dtype: torch.dtype) -> None:
    bundle = ModuleBundle([Tagger().to(dtype)], [PROBE], FORM)
    found = bundle(BATCH)
    exact = ModuleBundle([Tagger()], [PROBE], FORM)(BATCH)
    assert found.hidden[0].dtype == found.output.dtype == bundle.read_out(found.hidden[0]).dtype == torch.float32
    torch.testing.assert_close(found.output, exact.output, atol=0.05, rtol=0)


def test_a_member_is_an_independent_copy(bundle: ModuleBundle) -> None:
    before = bundle(BATCH).output
    member = bundle.member(1)
    assert isinstance(member, Tagger)
    assert torch.equal(alone(member, TOKENS)[1], before[1])
    with torch.no_grad():
        member.readout.bias += 1.0
    assert torch.equal(bundle(BATCH).output, before)


def test_join_and_take_keep_order_probes_and_copy(bundle: ModuleBundle) -> None:
    def doubled(module: nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor]:
        hidden, logits = observe(module, tokens)
        return hidden, 2 * logits

    other = ModuleBundle([Tagger(seed=9)], [Probe(doubled)], FORM)
    joined = bundle.join([other])
    expected = torch.cat([bundle(BATCH).output, other(BATCH).output])
    assert (joined.count, joined.has_readout) == (4, False)
    assert torch.equal(joined(BATCH).output, expected)
    taken = joined.take([3, 1])
    assert torch.equal(taken(BATCH).output, expected[[3, 1]])
    with torch.no_grad():
        for parameter in (*bundle.parameters(), *other.parameters()):
            parameter.zero_()
    assert torch.equal(joined(BATCH).output, expected)
    with pytest.raises(PopulationError, match="cannot join"):
        bundle.join([ModuleBundle([Tagger(6)], [PROBE], FORM._replace(hidden_sizes=(6,)))])
    with pytest.raises(PopulationError, match="cannot join"):
        bundle.join([RecurrentBundle(1, "gru", WORDS, 4, H, C)])


def test_members_that_share_a_table_keep_sharing_it() -> None:
    first, second = Tagger(), Tagger(seed=1)
    second.words = first.words
    taken = ModuleBundle([first, second], [PROBE] * 2, FORM).take([1, 0])
    assert taken.networks[0].words.weight is taken.networks[1].words.weight
    assert taken.networks[0].words.weight is not first.words.weight


def test_what_a_network_kept_from_inference_does_not_hinder_copies() -> None:
    def keeping(module: nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor]:
        module.kept = observe(module, tokens)
        return module.kept  # type: ignore[no-any-return]

    bundle = ModuleBundle([Tagger()], [Probe(keeping)], FORM)
    with torch.inference_mode():
        before = bundle(BATCH).output
    assert torch.equal(bundle.take([0])(BATCH).output, before)


def test_averaged_is_the_network_of_mean_weights(bundle: ModuleBundle) -> None:
    average = averaged_weights(bundle)
    assert (type(average), average.count) == (ModuleBundle, 1)
    for name, tensor in average.networks[0].named_parameters():
        mean = sum(network.get_parameter(name) for network in bundle.networks) / 3
        torch.testing.assert_close(tensor, mean)
    assert float(average.networks[0].scale) == 2.0
    assert int(average.networks[0].calls) == 0  # whole numbers are not averaged
    for name, tensor in bundle.networks[0].named_parameters():
        assert torch.equal(tensor, Tagger(seed=0).get_parameter(name)), name


def test_the_average_of_equal_networks_is_that_network_bit_for_bit() -> None:
    bundle = ModuleBundle([Tagger(seed=4) for _ in range(3)], [PROBE] * 3, FORM)
    assert torch.equal(bundle.averaged()(BATCH).output, bundle(BATCH).output[:1])


def test_networks_that_are_built_otherwise_have_no_average() -> None:
    class Other(Tagger):
        pass

    for other in (Tagger(words=12), Other()):
        bundle = ModuleBundle([Tagger(), Tagger(), other], [PROBE] * 3, FORM)
        with pytest.raises(PopulationError, match=r"Network 2 .* is not built like Network 0 .*\(Tagger\)"):
            bundle.averaged()


def test_sizes_may_not_change_with_the_inputs() -> None:
    def growing(module: nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor]:
        hidden, logits = observe(module, tokens)
        return hidden, logits[..., : tokens.shape[1] - 1]

    bundle = ModuleBundle([Tagger()], [Probe(growing)], FORM._replace(classes=2))
    assert bundle(TaskBatch(TOKENS[:, :3], *BATCH[1:])).output.shape[-1] == 2
    with pytest.raises(
        PopulationError, match=r"Network 0 .* shows something else than when it was taken in: classes 3 in place of 2"
    ):
        bundle(BATCH)


def test_a_network_that_fails_on_inputs_is_named(bundle: ModuleBundle) -> None:
    with pytest.raises(PopulationError, match=r"Network 1 .*\(Tagger\) cannot be run on inputs \[4, 6\]: index out of"):
        bundle(BATCH._replace(inputs=TOKENS + 9), torch.tensor([1]))


def test_no_network_can_be_built_from_settings(bundle: ModuleBundle) -> None:
    assert (bundle.settings["hidden_sizes"], bundle.settings["classes"]) == ((H,), C)
    with pytest.raises(PopulationError, match=r"give them to Population\.from_modules"):
        ModuleBundle.build(2, bundle.settings)
    with pytest.raises(ValueError, match="2 modules were given 1 probes"):
        ModuleBundle([Tagger(), Tagger()], [PROBE], FORM)


def test_a_population_of_them_is_one_like_any_other(taggers: list[nn.Module], tmp_path: Path) -> None:
    wide = [Tagger(7, seed) for seed in (5, 6)]
    mixed = [taggers[0], wide[0], taggers[1], wide[1], taggers[2]]
    population = Population.from_modules(mixed, observe, groups=["a", "b", "a", "b", "c"], read_out=read_out)
    assert [type(b) for b in population.bundles] == [ModuleBundle] * 2
    assert [b.hidden_sizes for b in population.bundles] == [(H,), (7,)]
    assert [m.name for m in population.members] == ["a-0", "a-1", "c-0", "b-0", "b-1"]
    everything = population.run({"task": BATCH})
    some = population.run({"task": BATCH}, [torch.tensor([2]), torch.tensor([], dtype=torch.long)])
    assert everything[0] is not None
    assert some[0] is not None
    assert some[1] is None
    assert torch.equal(some[0].hidden[0], everything[0].hidden[0][2:])
    assert torch.equal(alone(population.module("b-1"), TOKENS)[0], alone(wide[1], TOKENS)[0])
    chosen = population.only({"b": "wide"})
    assert [(m.name, m.group) for m in chosen.members] == [("b-0", "wide"), ("b-1", "wide")]
    joined = Population.join([chosen, Population.from_modules(wide, observe, names=["x", "y"])])
    assert [b.count for b in joined.bundles] == [4]
    with pytest.raises(PopulationError, match=r"'a-0' is a network of your own.*Keep the population in memory"):
        population.save(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def test_the_analyses_take_it(bundle: ModuleBundle) -> None:
    items = {"task": BATCH}
    found = bundle_accuracy(bundle, "task", [items])
    for n, network in enumerate(bundle.networks):
        logits = alone(network, TOKENS)[1]
        right = [int(logits[i, length - 1].argmax()) == int(BATCH.targets[i]) for i, length in enumerate((6, 3, 1, 6))]
        assert float(found[n]) == sum(right) / 4
    assert bundle_accuracy(averaged_weights(bundle), "task", [items]).shape == (1,)
    population = Population.from_modules(list(bundle.networks), observe, groups=["a", "b", "a"])
    means = mean_points(torch.tensor([[1.0], [5.0], [3.0]]), [m.group for m in population.members])
    assert {name: float(mean) for name, mean in means.items()} == {"all": 3.0, "a": 2.0, "b": 5.0}


@pytest.mark.gpu
def test_it_runs_where_it_is_moved(bundle: ModuleBundle) -> None:
    here = bundle(BATCH)
    there = bundle.cuda()(TaskBatch(*(part.cuda() for part in BATCH)), torch.tensor([0, 1, 2]))
    torch.testing.assert_close(there.output.cpu(), here.output, atol=1e-4, rtol=1e-4)
    for moved in (bundle.averaged(), bundle.take([1]), bundle.cuda()):
        assert moved(TaskBatch(*(part.cuda() for part in BATCH))).output.is_cuda
    assert observe(bundle.member(1), TOKENS.cuda())[1].is_cuda
    from_there = Population.from_modules(list(bundle.networks), observe, read_out=read_out)
    (found,) = from_there.run({"task": TaskBatch(*(part.cuda() for part in BATCH))})
    assert found is not None
    assert torch.equal(found.output, there.output)
