"""Do newcomers come to lie where they belong, and does the map stay as it was?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from torch import Tensor

from datamodules import SyntheticSentimentDataModule
from dynamo.analysis.clustering import distances_to, distances_to_groups
from dynamo.analysis.emulation_fidelity import emulation
from dynamo.analysis.newcomers import Fit, compare_newcomers, embed_newcomers
from dynamo.meta import MetaTask, RecurrentMetaModel, ResidualMetaModel
from dynamo.meta.calibration import spreads
from dynamo.meta.comparison import chunks
from dynamo.meta.losses import hidden_loss, output_loss
from dynamo.population import DivergenceError, Member, Population, PopulationError, RecurrentBundle, ResidualBundle
from dynamo.types import TaskBatch

WORDS, UNITS, TASK = 30, 8, "synthetic"
Batch = dict[str, TaskBatch]
IDENTITY = Fit(alignment="identity", steps=150, theta_lr=0.1, warmup_steps=5, schedule="cosine")
AFFINE = Fit(steps=150, lr=0.02, theta_lr=0.05, warmup_steps=5)
LEFT, RIGHT = [[-2.0, 0.5], [-2.2, 0.0], [-1.8, -0.5]], [[2.0, 0.5], [2.2, 0.0], [1.8, -0.5]]


def planted(theta: Tensor, groups: list[str] | None = None) -> tuple[RecurrentMetaModel, Population]:
    """A network drawn at random, and the networks that it is at points `[N, 2]`."""
    source = RecurrentMetaModel(WORDS, {TASK: 2}, 2, UNITS, 6, embedding_scale=1.0)
    bundle = RecurrentBundle(len(theta), "gru", WORDS, 6, UNITS, 2)
    with torch.no_grad():
        source.heads[TASK].weight *= 4.0
        bundle.embedding.copy_(source.embedding.weight.expand_as(bundle.embedding))
        bundle.weight_ih.copy_(source.weight_input.expand_as(bundle.weight_ih))
        bundle.bias_ih.copy_(source.bias_input + theta @ source.weight_theta.T)
        bundle.weight_hh.copy_(source.weight_state.expand_as(bundle.weight_hh))
        bundle.bias_hh.copy_(source.bias_state.expand_as(bundle.bias_hh))
        bundle.readout_weight.copy_(source.heads[TASK].weight.expand_as(bundle.readout_weight))
        bundle.readout_bias.copy_(source.heads[TASK].bias.expand_as(bundle.readout_bias))
    names = groups or ["g"] * len(theta)
    return source, Population([bundle], [[Member(f"{name}-{i}", name, TASK, i) for i, name in enumerate(names)]])


def some(population: Population, members: list[int]) -> Population:
    (bundle,), (everyone,) = population.bundles, population.bundle_members
    return population.with_members([[everyone[i] for i in members]], [bundle.take(members)])


def permuted(population: Population, member: int) -> Population:
    """The same functions, with the hidden units of one GRU in another order."""
    copy = some(population, list(range(len(population))))
    (bundle,) = copy.bundles
    order = torch.randperm(UNITS)
    rows = torch.cat([gate * UNITS + order for gate in range(3)])
    assert isinstance(bundle, RecurrentBundle)
    with torch.no_grad():
        for stacked in (bundle.weight_ih, bundle.weight_hh, bundle.bias_ih, bundle.bias_hh):
            stacked[member] = stacked[member][rows]
        bundle.weight_hh[member] = bundle.weight_hh[member][:, order]
        bundle.readout_weight[member] = bundle.readout_weight[member][:, order]
    return copy


@pytest.fixture(scope="module")
def data() -> SyntheticSentimentDataModule:
    sizes: dict[str, Any] = {"train_size": 200, "test_size": 60, "min_length": 2, "max_length": 8}
    module = SyntheticSentimentDataModule(vocab_size=WORDS, batch_size=24, eval_batch_size=20, window=3, **sizes)
    module.setup()
    return module


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # networks this small only wait for a second one
    yield
    torch.set_num_threads(threads)


def stream(data: SyntheticSentimentDataModule) -> Iterator[Batch]:
    items = len(data.data[TASK].train.labels)
    for step in count():
        chosen = torch.randperm(items, generator=torch.Generator().manual_seed(step))[:24]
        yield {TASK: data.batch("train", TASK, chosen)}


def embed(network: Any, population: Population, data: SyntheticSentimentDataModule, fit: Fit, **other: Any) -> Any:  # noqa: ANN401
    return embed_newcomers(network, population, data.calibration_batch(50), other.get("batches", stream(data)), fit)


def trained(population: Population, data: SyntheticSentimentDataModule, steps: int = 150) -> MetaTask:
    """A map of a population, of two dimensions."""

    def network(vocab_size: int, classes: Any, dimensions: int) -> RecurrentMetaModel:  # noqa: ANN401
        return RecurrentMetaModel(vocab_size, classes, dimensions, 12, 8, embedding_scale=1.0)

    torch.manual_seed(3)
    rates: dict[str, Any] = {"lr": 0.02, "theta_lr": 0.05, "warmup_steps": 5, "calibration_items": 50}
    task = MetaTask(population, WORDS, network=network, dimensions=2, **rates)
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary", "use_distributed_sampler")
    trainer = Trainer(accelerator="cpu", max_steps=steps, limit_val_batches=0, **dict.fromkeys(quiet, False))  # type: ignore[arg-type]
    trainer.fit(task, datamodule=data)
    return task.eval()


def test_planted_networks_are_found_at_their_points(data: SyntheticSentimentDataModule) -> None:
    points = torch.tensor([[1.0, -0.5], [-1.2, 0.3], [0.0, 1.5]])
    source, population = planted(points)
    found = embed(source, population, data, IDENTITY)
    torch.testing.assert_close(found.theta, points, atol=0.02, rtol=0)
    assert found.losses.shape == (150, 3)
    assert (found.losses[-1] < 1e-3 * found.losses[0]).all()
    fidelity = emulation(
        population, compare_newcomers(source, population, found, IDENTITY), list(data.batches("test")), 0, 2
    )
    assert (fidelity.variance_explained > 0.999).all()
    assert torch.equal(fidelity.agreement, torch.ones(3, dtype=torch.float64))
    assert torch.equal(fidelity.accuracy, fidelity.original_accuracy)


def test_the_network_stays_as_it_is_bit_for_bit(data: SyntheticSentimentDataModule) -> None:
    source, population = planted(torch.randn(3, 2))
    source.train()
    before = {name: value.clone() for name, value in source.state_dict().items()}
    members = {name: value.clone() for name, value in population.bundles[0].state_dict().items()}
    found = embed(source, population, data, replace(AFFINE, steps=5, alignment_weight_decay=0.1))
    assert all(torch.equal(value, before[name]) for name, value in source.state_dict().items())
    assert all(torch.equal(value, members[name]) for name, value in population.bundles[0].state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in source.parameters())
    assert source.training
    assert not found.theta.requires_grad
    assert not any(p.requires_grad for p in found.alignments.parameters())
    assert found.theta.abs().min() > 0


def test_images_leave_the_statistics_of_batch_norms_alone() -> None:
    network = ResidualMetaModel(0, {"p": 3}, 2, [4, 5, 6, 7], [1, 1, 1, 1], normalisation="batch")
    bundle = ResidualBundle(2, [4, 6, 8, 10], [1, 1, 1, 1], 3)
    bundle.initialise([1, 2])
    population = Population([bundle], [[Member(f"r-{i}", "r", "p", i) for i in range(2)]])
    ones = torch.ones(6, dtype=torch.int64)
    batch = {"p": TaskBatch(torch.randn(6, 3, 32, 32), ones, ones)}
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = embed_newcomers(network, population, batch, [batch] * 3, Fit(steps=3))
    assert found.theta.shape == (2, 2)
    assert found.losses.isfinite().all()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    fidelity = emulation(population, compare_newcomers(network, population, found, Fit()), [batch])
    assert fidelity.stage_variance_explained.shape == (2, 4)


def test_same_seed_same_bits(data: SyntheticSentimentDataModule) -> None:
    source, population = planted(torch.randn(3, 2))
    fit = replace(AFFINE, steps=6)
    state = torch.get_rng_state()
    first = embed(source, population, data, fit)
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's draws are moved
    torch.rand(5)
    with torch.inference_mode():
        again = embed(source, population, data, fit)
    other = embed(source, population, data, replace(fit, seed=1))
    assert torch.equal(first.theta, again.theta)
    assert torch.equal(first.losses, again.losses)
    assert all(map(torch.equal, first.alignments.state_dict().values(), again.alignments.state_dict().values()))
    assert not torch.equal(first.theta, other.theta)


def test_who_else_comes_makes_no_difference(data: SyntheticSentimentDataModule) -> None:
    source, population = planted(torch.randn(3, 2))
    fit = replace(IDENTITY, steps=20, clip=0.05)
    together = embed(source, population, data, fit)
    for member in range(3):
        alone = embed(source, some(population, [member]), data, fit)
        torch.testing.assert_close(alone.theta[0], together.theta[member], atol=1e-4, rtol=1e-3)


def test_the_loss_is_that_of_the_map(data: SyntheticSentimentDataModule) -> None:
    source, population = planted(torch.randn(2, 2))
    fit = replace(IDENTITY, steps=1, output_weight=0.7, burn_in=1, distance="l1")
    found = embed(source, population, data, fit)
    batch, calibration = next(stream(data)), data.calibration_batch(50)
    (spread,) = spreads(population, calibration, chunks(population), 1, "l1")
    (original,) = population.run(batch)
    assert original is not None
    emulated = source(torch.zeros(2, 2), batch[TASK].inputs, TASK)
    mask = batch[TASK].real_steps(1)
    expected = hidden_loss(emulated.hidden[0], original.hidden[0], mask, spread.spreads[:, 0], "l1")
    expected = expected + 0.7 * output_loss(emulated.output, original.output, mask)
    torch.testing.assert_close(found.losses[0].float(), expected.detach(), atol=1e-6, rtol=1e-5)


def test_a_map_puts_its_own_members_back_into_their_place_whatever_their_basis(
    data: SyntheticSentimentDataModule,
) -> None:
    """Closer to its own theta than to any member of the other group; a new basis moves it by less than half of that."""
    groups = ["left"] * 3 + ["right"] * 3
    _, population = planted(torch.tensor(LEFT + RIGHT), groups)
    task = trained(population, data)
    own = torch.tensor([[group == other for other in groups] for group in groups])
    found = embed(task.network, population, data, AFFINE).theta
    distances = distances_to(found, task.theta)
    nearest_stranger = distances.masked_fill(own, torch.inf).amin(1)
    assert (distances.diagonal() < nearest_stranger).all()
    means = distances_to_groups(distances, groups)
    assert [min(means, key=lambda name: float(means[name][i])) for i in range(6)] == groups
    other = embed(task.network, permuted(population, 4), data, AFFINE).theta
    assert ((other - found).norm(dim=1) < 0.5 * nearest_stranger).all()


def test_a_member_that_was_left_out_comes_to_its_own_group(data: SyntheticSentimentDataModule) -> None:
    groups = ["left"] * 3 + ["right"] * 3
    _, population = planted(torch.tensor(LEFT + RIGHT), groups)
    for out in (1, 3):
        rest = [i for i in range(6) if i != out]
        task = trained(some(population, rest), data)
        found = embed(task.network, some(population, [out]), data, AFFINE)
        distances = distances_to(found.theta, task.theta)
        means = distances_to_groups(distances, [groups[i] for i in rest])
        assert min(means, key=lambda name: float(means[name])) == groups[out]
        nearest = distances[0].argsort()[:2].tolist()
        assert [groups[rest[i]] for i in nearest] == [groups[out]] * 2


def test_what_cannot_be_fitted_is_refused(data: SyntheticSentimentDataModule) -> None:
    source, population = planted(torch.randn(2, 2))
    with pytest.raises(ValueError, match="steps is 0"):
        Fit(steps=0)
    with pytest.raises(ValueError, match=r"theta_lr is 0\.0"):
        Fit(theta_lr=0.0)
    few = [next(stream(data))] * 3
    with pytest.raises(ValueError, match="there are 3 batches for 5 steps"):
        embed(source, population, data, Fit(steps=5), batches=few)
    with pytest.raises(ValueError, match="a batch has no items of task 'synthetic'"):
        embed(source, population, data, Fit(steps=5), batches=[{"other": few[0][TASK]}])
    with pytest.raises(PopulationError, match="'g-0' does task 'synthetic', the map knows u; choose networks that do"):
        embed(RecurrentMetaModel(WORDS, {"u": 2}, 2, UNITS, 6), population, data, Fit())
    with pytest.raises(
        PopulationError, match="'g-0' tells 2 classes of task 'synthetic' apart, the networks of the map 3"
    ):
        embed(RecurrentMetaModel(WORDS, {TASK: 3}, 2, UNITS, 6), population, data, Fit())
    with pytest.raises(
        DivergenceError, match=r"The loss of g-0, g-1 is no longer finite at step 1\. Lower lr or theta_"
    ):
        embed(source, population, data, Fit(steps=3, theta_lr=1e37, lr=1e37, warmup_steps=0))
    with pytest.raises(DivergenceError, match="The weights of g-0, g-1 are no longer finite at step 1"):
        embed(source, population, data, Fit(steps=1, clip=float("nan"), warmup_steps=0))


def test_other_stages_and_still_states_are_refused(data: SyntheticSentimentDataModule) -> None:
    source, population = planted(torch.randn(2, 2))
    pictures = ResidualBundle(1, [4, 4, 4, 4], [1, 1, 1, 1], 2)
    with pytest.raises(PopulationError, match="'r' reads images, a RecurrentMetaModel reads tokens"):
        embed(source, Population([pictures], [[Member("r", "r", TASK)]]), data, Fit())
    with torch.no_grad():
        for parameter in population.bundles[0].parameters():
            parameter[1] = 0.0
    with pytest.raises(PopulationError, match="The states of g-1 never change"):
        embed(source, population, data, Fit())
