"""Labels lead where they should, and the descent is that of the textbook."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor

from dynamo.analysis.averaging import accuracy_at, bundle_accuracy
from dynamo.analysis.labels import draw_labels, minibatches
from dynamo.analysis.semi_supervised import search, search_many, train_from_scratch
from dynamo.meta.recurrent import Conditioning, RecurrentMetaModel
from dynamo.meta.residual import ResidualMetaModel
from dynamo.population.base import last_step
from dynamo.population.hooks import Probe
from dynamo.population.modules import ModuleBundle
from dynamo.population.observation import Form
from dynamo.population.optimisation import DivergenceError
from dynamo.population.recurrent import Architecture, RecurrentBundle
from dynamo.population.residual import ResidualBundle
from dynamo.types import TaskBatch

VALUES = torch.linspace(-2, 2, 41)  # what the words of `threshold` are worth


def threshold() -> RecurrentMetaModel:
    """Says class 1 of a word worth v where v > -theta_0: h = tanh(v + theta_0), logits -2h and 2h. theta_1 is idle."""
    network = RecurrentMetaModel(len(VALUES), {"t": 2}, 2, hidden_size=1, embedding_size=1, architecture="rnn")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.embedding.weight[:, 0] = VALUES
        network.weight_input.fill_(1.0)
        network.weight_theta[0, 0] = 1.0
        network.heads["t"].weight[:, 0] = torch.tensor([-2.0, 2.0])
    return network


def words(ids: list[int], boundary: float = 0.65) -> TaskBatch:
    """One word each, which is positive above the boundary."""
    inputs = torch.tensor(ids).unsqueeze(1)
    return TaskBatch(inputs, (VALUES[inputs[:, 0]] > boundary).long(), torch.ones(len(ids), dtype=torch.int64))


def random_network(architecture: Architecture = "gru", conditioning: Conditioning = "input") -> RecurrentMetaModel:
    return RecurrentMetaModel(12, {"t": 3, "u": 2}, 4, 5, 3, architecture, conditioning, embedding_scale=1.0)


def random_items(count: int, seed: int = 0, vocabulary: int = 12, classes: int = 3) -> TaskBatch:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 7, (count,), generator=generator)
    tokens = torch.randint(1, vocabulary, (count, int(lengths.max())), generator=generator)
    padding = torch.arange(tokens.shape[1]) >= lengths.unsqueeze(1)
    targets = torch.randint(0, classes, (count,), generator=generator)
    return TaskBatch(tokens.masked_fill(padding, 0), targets, lengths)


def loss_at(network: RecurrentMetaModel, theta: Tensor, items: TaskBatch, task: str = "t") -> float:
    """Cross-entropy item by item, each without its padding."""
    losses = []
    for tokens, target, length in zip(*items, strict=True):
        logits = network(theta.unsqueeze(0), tokens[:length].unsqueeze(0), task).output[0, 0, -1]
        losses.append(-nnf.log_softmax(logits, 0)[target])
    return float(torch.stack(losses).mean())


def test_few_labels_find_the_planted_network() -> None:
    network, everything = threshold(), words(list(range(41)))
    found = search(network, "t", words([22, 25, 26, 27, 28, 31]), steps=60, lr=0.3)
    at = torch.stack([torch.zeros(2), found.final])
    assert accuracy_at(network, at, "t", [{"t": everything}]).tolist() == pytest.approx([35 / 41, 1.0])
    assert found.losses[-1] < found.losses[0]
    assert float(found.final[0]) == pytest.approx(-0.65, abs=0.02)  # the labels lie evenly about the boundary
    assert not found.path[:, 1].any()  # the idle direction


def test_path_begins_at_zero_or_where_it_was_told_to() -> None:
    network, items = random_network(), random_items(5)
    found = search(network, "t", items, steps=7)
    assert found.path.shape == (8, 4)
    assert found.losses.shape == (8,)
    assert found.losses.dtype == torch.float64
    assert not found.path[0].any()
    assert torch.equal(found.final, found.path[7])
    start = torch.tensor([0.5, -1.0, 2.0, 0.25])
    assert torch.equal(search(network, "t", items, steps=1, start=start, dimensions=4).path[0], start)


def test_steps_follow_the_closed_form() -> None:
    items, lr, momentum = words([12, 22, 27, 33]), 0.2, 0.6
    found = search(threshold(), "t", items, steps=3, lr=lr, momentum=momentum)
    theta, velocity = 0.0, 0.0
    values, targets = VALUES[items.inputs[:, 0]].double(), items.targets.double()
    for step in range(4):
        assert float(found.path[step, 0]) == pytest.approx(theta, abs=1e-6)
        h = (values + theta).tanh()
        p = torch.sigmoid(4 * h)
        loss = -(targets * p.log() + (1 - targets) * (1 - p).log()).mean()
        assert float(found.losses[step]) == pytest.approx(float(loss), rel=1e-5)
        velocity = momentum * velocity + float((4 * (p - targets) * (1 - h**2)).mean())
        theta -= lr * velocity


@pytest.mark.parametrize(
    ("architecture", "conditioning"), [("gru", "input"), ("lstm", "input"), ("rnn", "weights"), ("gru", "weights")]
)
def test_first_step_is_the_gradient_by_finite_differences(
    architecture: Architecture, conditioning: Conditioning
) -> None:
    network, items = random_network(architecture, conditioning).double(), random_items(6)
    start = torch.tensor([0.3, -0.2, 0.1, 0.4], dtype=torch.float64)
    found = search(network, "t", items, steps=1, lr=1.0, start=start)
    nudge = 1e-5 * torch.eye(4, dtype=torch.float64)
    with torch.no_grad():
        slope = [(loss_at(network, start + d, items) - loss_at(network, start - d, items)) / 2e-5 for d in nudge]
        after = loss_at(network, found.final, items)
    torch.testing.assert_close(start - found.final, torch.tensor(slope, dtype=torch.float64), atol=1e-6, rtol=0)
    assert float(found.losses[1]) == pytest.approx(after)


def pictures(count: int, seed: int = 0, classes: int = 3) -> TaskBatch:
    """Noise on one colour; which one is the class."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, classes, (count,), generator=generator)
    colour = nnf.one_hot(targets, 3).float()[..., None, None]
    inputs = 0.5 * torch.randn(count, 3, 32, 32, generator=generator) + colour
    return TaskBatch(inputs, targets, torch.ones(count, dtype=torch.int64))


def test_images_lead_down_the_gradient_too() -> None:
    network = ResidualMetaModel(0, {"t": 3}, 3, [4, 5, 6, 7], [1, 1, 1, 1]).double()
    items = pictures(4)._replace(inputs=pictures(4).inputs.double())
    start = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    found = search(network, "t", items, steps=1, lr=1.0, start=start)

    @torch.no_grad()
    def loss(theta: Tensor) -> float:
        return float(nnf.cross_entropy(network(theta.unsqueeze(0), items.inputs, "t").output[0], items.targets))

    nudge = 1e-6 * torch.eye(3, dtype=torch.float64)
    slope = torch.tensor([(loss(start + d) - loss(start - d)) / 2e-6 for d in nudge], dtype=torch.float64)
    torch.testing.assert_close(start - found.final, slope, atol=1e-6, rtol=0)
    assert found.losses.tolist() == pytest.approx([loss(start), loss(found.final)])


def test_words_for_images_and_images_for_words_are_refused() -> None:
    network = ResidualMetaModel(0, {"t": 3}, 3, [4, 5, 6, 7], [1, 1, 1, 1])
    with pytest.raises(ValueError, match=r"draw 0 must hold items \[k, channels, h, w\], one at least, got \[5, "):
        search(network, "t", random_items(5))
    with pytest.raises(ValueError, match=r"draw 0 must hold items \[k, T\], one at least, got \[5, 3, 32, 32\]"):
        search(random_network(), "t", pictures(5))
    with pytest.raises(ValueError, match=r"classes outside 0\.\.2"):
        search(network, "t", pictures(5)._replace(targets=torch.full((5,), 3)))


def test_the_task_chooses_the_readout() -> None:
    network, items = random_network(), random_items(6, classes=2)
    for task in ("t", "u"):
        with torch.no_grad():
            expected = loss_at(network, torch.zeros(4), items, task)
        assert float(search(network, task, items, steps=1).losses[0]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_network_is_left_as_it_was(frozen: bool) -> None:
    network = random_network().requires_grad_(not frozen).train(not frozen)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    search(network, "t", random_items(5), steps=3)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.grad is None and p.requires_grad is not frozen for p in network.parameters())
    assert network.training is not frozen


def test_gradient_modes_around_it_change_nothing() -> None:
    network, items = random_network(), random_items(5)
    expected = search(network, "t", items, steps=3).path
    with torch.no_grad():
        assert torch.equal(search(network, "t", items, steps=3).path, expected)
    with torch.inference_mode():
        torch.manual_seed(0)
        made_here = random_network()
        made_here.load_state_dict(network.state_dict())
        found = search(made_here, "t", TaskBatch(*(part.clone() for part in items)), steps=3)
    assert torch.equal(found.path, expected)
    assert not expected.requires_grad


def test_seed_decides_the_minibatches_and_nothing_else() -> None:
    network, items = random_network(), random_items(11)
    first = search(network, "t", items, steps=5, batch_size=4, seed=1)
    again = search(network, "t", items, steps=5, batch_size=4, seed=1)
    assert torch.equal(first.path, again.path)
    assert torch.equal(first.losses, again.losses)
    assert not torch.equal(first.path, search(network, "t", items, steps=5, batch_size=4, seed=2).path)
    whole = search(network, "t", items, steps=5, batch_size=None, seed=1)
    assert torch.equal(whole.path, search(network, "t", items, steps=5, batch_size=11, seed=2).path)


def test_every_item_is_read_once_before_any_is_read_again() -> None:
    places = torch.arange(7).view(1, 7, 1)
    batches = minibatches(TaskBatch(places, places[..., 0], places[..., 0]), 3, seed=0)
    read = torch.cat([next(batches).inputs.flatten() for _ in range(14)])
    for passed in read.view(6, 7):
        assert sorted(passed.tolist()) == list(range(7))
    assert not torch.equal(read[:7], read[7:14])


def test_several_searches_are_each_by_itself() -> None:
    network, draws = random_network(), [random_items(5, seed=1), random_items(9, seed=2)]
    together = search_many(network, "t", draws, steps=4, batch_size=6, momentum=0.5, lr=0.3, seed=3)
    for draw, found in zip(draws, together, strict=True):
        alone = search(network, "t", draw, steps=4, batch_size=6, momentum=0.5, lr=0.3, seed=3)
        assert torch.equal(found.path, alone.path)


def test_refuses_what_cannot_be_searched() -> None:
    network, items = random_network(), random_items(5)
    for options, message in (
        ({"steps": 0}, "steps must be at least 1"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\)"),
        ({"dimensions": 3}, "dimensions is 3, and the map of this meta-model has 4"),
        ({"start": torch.zeros(3)}, r"start must be a point \[4\]"),
    ):
        with pytest.raises(ValueError, match=message):
            search(network, "t", items, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no task 'x'; it knows t, u"):
        search(network, "x", items)
    with pytest.raises(ValueError, match=r"token ids outside 0\.\.11"):
        search(network, "t", items._replace(inputs=items.inputs + 11))
    with pytest.raises(ValueError, match=r"draw 1 has classes outside 0\.\.1"):
        search_many(
            network, "u", [items._replace(targets=items.targets % 2), items._replace(targets=items.targets + 2)]
        )
    for lengths in (items.lengths + 99, items.lengths * 0):
        with pytest.raises(ValueError, match=rf"draw 0 has lengths outside 1\.\.{items.inputs.shape[1]}, which"):
            search(network, "t", items._replace(lengths=lengths))
    with pytest.raises(ValueError, match="no draw of labels"):
        search_many(network, "t", [])
    with pytest.raises(ValueError, match=r"must hold items \[k, T\], one at least"):
        search(network, "t", TaskBatch(*(part[:0] for part in items)))


def test_a_loss_that_is_no_number_stops_the_search() -> None:
    network = random_network()
    torch.nn.init.constant_(network.bias_input, float("nan"))
    with pytest.raises(DivergenceError, match=r"no longer finite at step 0\. Lower lr"):
        search(network, "t", random_items(5))


def test_draws_are_balanced_nested_and_of_the_seed_alone() -> None:
    targets = torch.arange(90) % 3
    largest = draw_labels(targets, 50, seed=4)
    assert len(set(largest.tolist())) == 50
    for count in (3, 10, 25, 50):
        drawn = draw_labels(targets, count, seed=4)
        assert torch.equal(drawn, largest[:count])
        numbers = targets[drawn].bincount(minlength=3)
        assert numbers.max() - numbers.min() <= 1
    assert torch.equal(draw_labels(targets, 50, seed=4), largest)
    assert not torch.equal(draw_labels(targets, 50, seed=5), largest)
    first = {int(targets[draw_labels(targets, 3, seed)[0]]) for seed in range(20)}
    assert first == {0, 1, 2}  # no class is always ahead


def test_a_class_that_runs_out_gives_all_it_has() -> None:
    targets = torch.tensor([7] * 20 + [2] * 3 + [5] * 9)
    drawn = targets[draw_labels(targets, 25, seed=0)]
    assert [(drawn == value).sum() for value in (2, 5, 7)] == [3, 9, 13]
    assert sorted(draw_labels(targets, 32, seed=0).tolist()) == list(range(32))


def test_refuses_draws_that_there_are_not() -> None:
    targets = torch.tensor([0, 1, 2, 1])
    with pytest.raises(ValueError, match="5 labels are more than the 4 items"):
        draw_labels(targets, 5, seed=0)
    with pytest.raises(ValueError, match="2 labels cannot show 3 classes"):
        draw_labels(targets, 2, seed=0)
    with pytest.raises(ValueError, match="all 6 items are of class 1"):
        draw_labels(torch.ones(6, dtype=torch.int64), 2, seed=0)
    with pytest.raises(ValueError, match=r"must be \[items\]"):
        draw_labels(torch.zeros(2, 3, dtype=torch.int64), 2, seed=0)


def fresh(members: int, first: int = 0, architecture: str = "gru") -> RecurrentBundle:
    settings = {"architecture": architecture, "vocab_size": 12, "embedding_size": 4, "hidden_size": 6, "classes": 2}
    bundle = RecurrentBundle.build(members, {**settings, "embedding_scale": 1.0})
    bundle.initialise(range(first, first + members))
    return bundle


def separable(count: int, seed: int, flipped: bool = False) -> TaskBatch:
    """Even words in the items of one class, odd ones in those of the other."""
    inputs, targets, lengths = random_items(count, seed, vocabulary=6, classes=2)
    return TaskBatch((2 * inputs + targets.unsqueeze(1)) * (inputs > 0), targets ^ int(flipped), lengths)


def test_from_scratch_every_network_learns_its_own_labels() -> None:
    draws = [separable(32, seed=1), separable(32, seed=2, flipped=True)]
    trained = train_from_scratch(fresh(2), draws, steps=50, lr=4e-2)
    straight, flipped = ([{"t": separable(100, seed=3, flipped=side)}] for side in (False, True))
    assert bundle_accuracy(trained, "t", straight).tolist() == pytest.approx([1.0, 0.0], abs=0.05)
    assert bundle_accuracy(trained, "t", flipped).tolist() == pytest.approx([0.0, 1.0], abs=0.05)
    assert not any(parameter.requires_grad for parameter in trained.parameters())


@pytest.mark.parametrize("architecture", ["gru", "lstm"])
def test_from_scratch_members_do_not_know_of_each_other(architecture: str) -> None:
    draws = [separable(9, seed) for seed in range(3)]
    options: dict[str, Any] = {"steps": 5, "lr": 1e-2, "batch_size": 4, "clip": 0.05, "seed": 5}
    together = train_from_scratch(fresh(3, architecture=architecture), draws, **options)
    for index, draw in enumerate(draws):
        alone = train_from_scratch(fresh(1, index, architecture), [draw], **options)
        for name, values in alone.state_dict().items():
            torch.testing.assert_close(values[0], together.state_dict()[name][index], atol=2e-6, rtol=1e-4)


def test_from_scratch_is_the_recipe_of_the_population() -> None:
    """AdamW, warm-up and half a cosine, clipped to a norm, on all items: done again for one member as a module."""
    draw, steps, lr = separable(9, seed=0), 6, 1e-2
    network = fresh(1).member(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr, weight_decay=0.0)
    for step in range(steps):
        rate = min(1.0, (step + 1) / 3) * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / steps)))
        optimizer.param_groups[0]["lr"] = lr * float(rate)
        logits = last_step(network(draw.inputs)[1].unsqueeze(0), draw.lengths)[0]
        optimizer.zero_grad()
        nnf.cross_entropy(logits, draw.targets).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.1)
        optimizer.step()
    trained = train_from_scratch(fresh(1), [draw], steps=steps, lr=lr, clip=0.1, warmup_steps=3).member(0)
    for own, expected in zip(trained.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(own, expected, atol=1e-5, rtol=1e-4)


def test_from_scratch_gives_the_same_bits_and_leaves_what_it_was_given() -> None:
    bundle, draws = fresh(2), [separable(9, seed=1), separable(9, seed=2)]
    before = {name: value.clone() for name, value in bundle.state_dict().items()}
    options: dict[str, Any] = {"steps": 4, "batch_size": 5}
    first = train_from_scratch(bundle, draws, **options).state_dict()
    with torch.inference_mode():
        again = train_from_scratch(bundle, draws, **options).state_dict()
    other = train_from_scratch(bundle, draws, seed=1, **options).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["weight_hh"], other["weight_hh"])
    assert all(torch.equal(value, before[name]) for name, value in bundle.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in bundle.parameters())


def test_from_scratch_residual_networks_learn_their_own_images() -> None:
    fresh_ones = ResidualBundle(2, [4, 5, 6, 7], [1, 1, 1, 1], 3)
    fresh_ones.initialise([1, 2])
    before = {name: value.clone() for name, value in fresh_ones.state_dict().items()}
    draws = [pictures(12, seed=1), pictures(12, seed=2)]
    draws[1] = draws[1]._replace(targets=(draws[1].targets + 1) % 3)
    trained = train_from_scratch(fresh_ones, draws, steps=80, lr=1e-2, batch_size=8)
    held_out = pictures(60, seed=3)
    shifted = held_out._replace(targets=(held_out.targets + 1) % 3)
    assert bundle_accuracy(trained, "t", [{"t": held_out}]).tolist() == pytest.approx([1.0, 0.0], abs=0.1)
    assert bundle_accuracy(trained, "t", [{"t": shifted}]).tolist() == pytest.approx([0.0, 1.0], abs=0.1)
    assert not any(module.training for module in trained.modules())
    assert all(torch.equal(value, before[name]) for name, value in fresh_ones.state_dict().items())
    together = train_from_scratch(fresh_ones, draws, steps=4, batch_size=8)
    alone = train_from_scratch(fresh_ones.take([1]), draws[1:], steps=4, batch_size=8)
    for name, values in alone.state_dict().items():  # statistics of batch norms too
        torch.testing.assert_close(values[0], together.state_dict()[name][1], atol=1e-5, rtol=1e-4)


def test_from_scratch_refuses_networks_that_it_cannot_train() -> None:
    bundle = ModuleBundle([fresh(1).member(0)], [Probe()], Form("tokens", (), (6,), ((),), 2, stepwise=True))
    with pytest.raises(ValueError, match="needs networks of ours, not a ModuleBundle"):
        train_from_scratch(bundle, [separable(9, seed=1)])


def test_from_scratch_refuses_draws_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="3 networks were given 1 draws"):
        train_from_scratch(fresh(3), [separable(9, seed=1)])
    with pytest.raises(ValueError, match="5 to 9 labels"):
        train_from_scratch(fresh(2), [separable(9, seed=1), separable(5, seed=1)])
    with pytest.raises(ValueError, match=r"draw 1 has classes outside 0\.\.1"):
        train_from_scratch(fresh(2), [separable(9, seed=1), random_items(9)._replace(targets=torch.arange(9))])
