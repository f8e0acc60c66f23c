"""Does every member start at 0 and move on its own, to where it was planted, whatever the basis of its units?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from dynamo.analysis import permuted_units, procrustes_align
from dynamo.meta import ModelEmbedding

Make = Callable[..., Any]


def test_all_points_start_at_zero() -> None:
    embedding = ModelEmbedding(5, 3)
    assert torch.equal(embedding(), torch.zeros(5, 3))
    assert embedding() is embedding.theta


def test_chosen_members_come_in_the_order_they_were_asked_for() -> None:
    embedding = ModelEmbedding(4, 2)
    torch.nn.init.normal_(embedding.theta)
    chosen = embedding(torch.tensor([3, 0, 3]))
    assert torch.equal(chosen, torch.stack([embedding.theta[i] for i in (3, 0, 3)]))


def test_only_chosen_members_get_a_gradient() -> None:
    embedding = ModelEmbedding(4, 2)
    embedding(torch.tensor([1, 3])).sum().backward()
    assert embedding.theta.grad is not None
    assert embedding.theta.grad.sum(1).tolist() == [0.0, 2.0, 0.0, 2.0]


def ranks(values: Tensor) -> Tensor:
    return values.argsort().argsort().double()


@pytest.fixture
def learned(make_task: Make, make_trainer: Make, make_data: Make) -> Iterator[Callable[..., Tensor]]:
    """Theta after some steps on a folder, from a seed of the meta-model."""

    def run(folder: str, steps: int, seed: int, **options: Any) -> Tensor:  # noqa: ANN401
        torch.manual_seed(seed)
        task = make_task(folder, lr=0.01, theta_lr=0.03, **options)
        make_trainer(steps).fit(task, make_data())
        theta: Tensor = task.theta
        return theta

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # networks this small only wait for a second one
    yield run
    torch.set_num_threads(threads)


def test_planted_networks_are_the_source_at_their_points(plant: Make, make_data: Make) -> None:
    theta, data = torch.randn(4, 2), make_data()
    data.setup("fit")
    source, bundle = plant(theta)
    batch = data.batch("train", "synthetic", range(10))
    originals, emulators = bundle(batch), source(theta, batch.inputs, "synthetic")
    torch.testing.assert_close(emulators.hidden[0], originals.hidden[0])
    torch.testing.assert_close(emulators.output, originals.output)


def test_members_on_a_line_are_found_in_their_order(plant: Make, save_bundle: Make, learned: Make) -> None:
    planted = torch.linspace(-3.0, 3.0, 8)[torch.randperm(8)]
    folder = save_bundle(plant(planted[:, None])[1])
    theta = learned(folder, 300, 0)
    first = torch.linalg.svd(theta - theta.mean(0))[0][:, 0]
    spearman = torch.corrcoef(torch.stack([ranks(first), ranks(planted)]))[0, 1]
    assert abs(float(spearman)) > 0.95


@pytest.mark.slow
def test_the_basis_of_the_hidden_units_moves_theta_less_than_the_seed_does(
    plant: Make, save_bundle: Make, learned: Make
) -> None:
    points = torch.tensor([[-2.0, 0.6], [2.0, 0.0], [0.2, 2.0], [0.0, -2.0], [1.4, 1.6]])
    _, bundle = plant(points)
    reference = learned(save_bundle(bundle), 300, 0, dimensions=2)
    seeds, bases = [], []
    for k in (1, 2):
        seeds.append(
            procrustes_align(learned(save_bundle(bundle, f"seed-{k}"), 300, k, dimensions=2), reference).residual
        )
        other = bundle
        for member in range(bundle.count):
            other = permuted_units(other, member, torch.randperm(bundle.hidden_sizes[0]))
        bases.append(
            procrustes_align(learned(save_bundle(other, f"basis-{k}"), 300, 0, dimensions=2), reference).residual
        )
    by_seed, by_basis = (float(torch.stack(found).square().mean().sqrt()) for found in (seeds, bases))
    assert by_basis < by_seed < 0.5 * float(torch.pdist(reference).mean())
