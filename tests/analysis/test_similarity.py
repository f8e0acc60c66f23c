"""Distances are those of the textbook, computed the slow way; they ignore what they should and refuse the rest."""

from __future__ import annotations

from itertools import permutations
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from dynamo.analysis.similarity import Kind, distance_correlation, pairwise, svcca
from dynamo.analysis.similarity_sums import SimilaritySums
from dynamo.population.recurrent import RecurrentBundle
from dynamo.types import TaskBatch

KINDS: tuple[Kind, ...] = get_args(Kind)


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _rotation(width: int, seed: int) -> Tensor:
    return torch.linalg.qr(_normal(width, width, seed=seed))[0]


def _related(samples: int = 300, seed: int = 0) -> list[Tensor]:
    """Three models of different widths that share some directions, each with a falling spectrum of its own."""
    shared = _normal(samples, 6, seed=seed)
    return [
        shared @ _normal(6, width, seed=seed + width) + 0.4 * _normal(samples, width, seed=seed + 2 * width) + place
        for width, place in ((9, 0.0), (14, 3.0), (5, -50.0))
    ]


def _low_rank() -> list[Tensor]:
    return [_normal(250, rank, seed=rank) @ _normal(rank, width, seed=width) for rank, width in ((3, 17), (5, 12))]


def _hidden() -> list[Tensor]:
    """Real steps of untrained GRUs that read the same ragged items."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(4, 13, (40,), generator=generator)
    tokens = torch.randint(1, 30, (40, 12), generator=generator)
    batch = TaskBatch(tokens, torch.zeros(40, dtype=torch.long), lengths)
    states = []
    for width in (11, 16):
        bundle = RecurrentBundle(2, "gru", 30, 8, width, 2, embedding_scale=2.0)
        bundle.initialise([5, 6])
        with torch.no_grad():
            states += [h[batch.real_steps()] for h in bundle(batch).hidden[0]]
    return states


def _kept(x: Tensor, variance: float) -> tuple[Tensor, Tensor]:
    """Orthonormal basis of the kept directions `[samples, K]`, and the centred states, by SVD and QR."""
    x = x.double() - x.double().mean(0)
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    held = s.square().cumsum(0) / s.square().sum()
    count = int((held < variance - 1e-12).sum()) + 1
    return torch.linalg.qr(u[:, :count] * s[:count])[0], x


def _slow_svcca(x: Tensor, y: Tensor, variance: float) -> Tensor:
    return torch.linalg.svdvals(_kept(x, variance)[0].T @ _kept(y, variance)[0])


def _slow_pwcca(x: Tensor, y: Tensor, variance: float) -> float:
    (p, x), (q, y) = _kept(x, variance), _kept(y, variance)
    left, correlations, right = torch.linalg.svd(p.T @ q, full_matrices=False)
    means = []
    for variates, own in ((p @ left, x), (q @ right.T, y)):
        weights = torch.stack([(own.T @ variate).abs().sum() for variate in variates.T])
        means.append((weights * correlations).sum() / weights.sum())
    return 1 - float(sum(means)) / 2


def _slow_cka(x: Tensor, y: Tensor) -> float:
    """Song et al.'s estimator, with kernels `[samples, samples]` without their diagonals."""
    kernels = [(z.double() - z.double().mean(0) + 0.1) @ (z.double() - z.double().mean(0) + 0.1).T for z in (x, y)]
    first, second = (kernel - kernel.diag().diag() for kernel in kernels)

    def hsic(k: Tensor, m: Tensor) -> Tensor:
        n = len(k)
        inner = (k @ m).trace() + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k @ m).sum()
        return inner / (n * (n - 3))

    return 1 - float(hsic(first, second) / (hsic(first, first) * hsic(second, second)).sqrt())


def _slow_procrustes(x: Tensor, y: Tensor) -> float:
    """Half the squared distance after the best rotation, which is found explicitly."""
    x, y = (z.double() - z.double().mean(0) for z in (x, y))
    width = max(x.shape[1], y.shape[1])
    x, y = (torch.nn.functional.pad(z / z.norm(), (0, width - z.shape[1])) for z in (x, y))
    u, _, vh = torch.linalg.svd(x.T @ y)
    return float((x @ (u @ vh) - y).square().sum()) / 2


@pytest.mark.parametrize("states", [_related, _low_rank, _hidden])
@pytest.mark.parametrize("variance", [0.6, 0.99, 1.0])
def test_svcca_is_that_of_the_textbook(states: object, variance: float) -> None:
    assert callable(states)
    models = states()
    distances = pairwise(models, "svcca", variance)
    for i, x in enumerate(models):
        for j, y in enumerate(models[:i]):
            expected = _slow_svcca(x, y, variance)
            found = svcca(x, y, variance)
            torch.testing.assert_close(found.correlations, expected, atol=1e-10, rtol=0)
            assert found.similarity == pytest.approx(float(expected.mean()), abs=1e-10)
            assert found.distance == 1 - found.similarity
            assert float(distances[i, j]) == pytest.approx(found.distance, abs=1e-12)


@pytest.mark.parametrize("states", [_related, _low_rank, _hidden])
def test_the_other_measures_are_those_of_the_textbook(states: object) -> None:
    assert callable(states)
    models = states()
    for kind, slow in (
        ("pwcca", lambda x, y: _slow_pwcca(x, y, 0.95)),
        ("cka", _slow_cka),
        ("procrustes", _slow_procrustes),
    ):
        distances = pairwise(models, kind, 0.95)
        expected = [[slow(x, y) if i != j else 0.0 for j, y in enumerate(models)] for i, x in enumerate(models)]
        torch.testing.assert_close(distances, torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=0)


def _steep() -> list[Tensor]:
    """Models whose standard deviations fall over five powers of ten, and have different directions."""
    shared, models = _normal(600, 20, seed=0), []
    for n, width in enumerate((20, 16, 12)):
        scales = 10.0 ** -torch.linspace(0, 5, width, dtype=torch.float64)
        noise = 0.7 * _normal(600, width, seed=9 + n)
        models.append((shared[:, :width] + noise) * scales @ _rotation(width, seed=50 + n) + n)
    return models


@pytest.mark.parametrize("kind", ["svcca", "pwcca"])
@pytest.mark.parametrize(("variance", "streamed"), [(0.999, 1e-11), (1.0, 1e-6)])
def test_steep_spectra_cost_digits_of_sums_and_not_of_states(kind: Kind, variance: float, streamed: float) -> None:
    models = _steep()
    expected = torch.zeros(3, 3, dtype=torch.float64)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        x, y = models[i], models[j]
        slow = 1 - _slow_svcca(x, y, variance).mean() if kind == "svcca" else _slow_pwcca(x, y, variance)
        expected[i, j] = expected[j, i] = slow
    torch.testing.assert_close(pairwise(models, kind, variance), expected, atol=1e-11, rtol=0)
    sums = SimilaritySums([x.shape[1] for x in models])
    sums.update(models)
    torch.testing.assert_close(sums.distances(kind, variance), expected, atol=streamed, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_symmetric_with_an_exact_zero_diagonal_in_any_order(kind: Kind) -> None:
    models = _related()
    distances = pairwise(models, kind)
    assert distances.dtype == torch.float64
    assert torch.equal(distances, distances.T)
    assert not distances.diagonal().any()
    assert (distances[~torch.eye(3, dtype=torch.bool)] > 0.01).all()
    order = [2, 0, 1]
    torch.testing.assert_close(pairwise([models[n] for n in order], kind), distances[order][:, order])


@pytest.mark.parametrize("kind", ["svcca", "cka", "procrustes"])
def test_rotation_scale_and_place_do_not_matter(kind: Kind) -> None:
    models = _related()
    moved = [7.0**n * x @ _rotation(x.shape[1], seed=n) + 100.0 * n for n, x in enumerate(models)]
    torch.testing.assert_close(pairwise(moved, kind), pairwise(models, kind), atol=1e-10, rtol=0)
    same = pairwise([models[0], 3 * models[0] @ _rotation(9, seed=4) - 1], kind)
    assert float(same.max()) < 1e-12


def test_pwcca_ignores_scale_place_and_order_of_the_features() -> None:
    models = _related()
    moved = [7.0**n * x.flip(1) + 100.0 * n for n, x in enumerate(models)]
    torch.testing.assert_close(pairwise(moved, "pwcca"), pairwise(models, "pwcca"), atol=1e-10, rtol=0)


def test_svcca_ignores_every_invertible_map_of_the_kept_subspace() -> None:
    x, y = _low_rank()
    mixed = x @ (torch.eye(17, dtype=torch.float64) + 0.5 * _rotation(17, seed=1))
    torch.testing.assert_close(svcca(mixed, y, 1.0).correlations, svcca(x, y, 1.0).correlations, atol=1e-10, rtol=0)
    assert svcca(x, mixed, 1.0).similarity == pytest.approx(1, abs=1e-12)
    assert pairwise([x, mixed], "cka")[0, 1] > 0.01  # a weaker invariance


def test_planted_correlations_are_found() -> None:
    basis = torch.linalg.qr(_normal(200, 6, seed=0) - _normal(200, 6, seed=0).mean(0))[0]
    planted = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
    y = basis[:, :3] * planted + basis[:, 3:] * (1 - planted.square()).sqrt()
    found = svcca(basis[:, :3] @ _rotation(3, seed=1), torch.cat([y, basis[:, 3:4] * 0], 1), 1.0)
    torch.testing.assert_close(found.correlations, planted)
    assert found.similarity == pytest.approx(0.5)


def test_as_few_directions_are_kept_as_hold_the_variance() -> None:
    basis = torch.linalg.qr(_normal(90, 4, seed=0) - _normal(90, 4, seed=0).mean(0))[0]
    x = basis * torch.tensor([4.0, 3.0, 2.0, 1.0])  # shares 16, 9, 4, 1 of 30
    counts = [len(svcca(x, x, variance).correlations) for variance in (0.5, 16 / 30, 0.54, 25 / 30, 0.84, 0.97, 1.0)]
    assert counts == [1, 1, 2, 2, 3, 4, 4]


@pytest.mark.parametrize("kind", KINDS)
def test_constant_and_duplicated_features_do_no_harm(kind: Kind) -> None:
    x, y, _ = _related()
    padded = torch.cat([x, torch.full((300, 2), 0.1)], 1)
    torch.testing.assert_close(pairwise([padded, y], kind, 1.0), pairwise([x, y], kind, 1.0), atol=1e-10, rtol=0)
    twice = torch.cat([x, x], 1)
    torch.testing.assert_close(pairwise([twice, y], kind, 1.0), pairwise([x, y], kind, 1.0), atol=1e-10, rtol=0)
    assert pairwise([twice.float(), x.float()], kind, 1.0).max() < 1e-6


def test_independent_states_are_far_apart() -> None:
    models = [_normal(4_000, width, seed=width) for width in (8, 10, 12)]
    off = ~torch.eye(3, dtype=torch.bool)
    for kind in KINDS:
        assert pairwise(models, kind)[off].min() > 0.9, kind


def test_cka_of_few_samples_is_not_pulled_towards_one() -> None:
    # 60 samples of 100 features: the biased estimator reads a similarity of about 0.6
    distances = [
        float(pairwise([_normal(60, 100, seed=s), _normal(60, 100, seed=-s)], "cka")[0, 1]) for s in range(1, 9)
    ]
    assert np.mean(distances) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("kind", ["svcca", "pwcca"])
def test_refuses_too_few_samples_instead_of_finding_likeness(kind: Kind) -> None:
    models = [_normal(40, 100, seed=1), _normal(40, 7, seed=2), _normal(40, 90, seed=3)]
    with pytest.raises(ValueError, match=r"models 0 and 1 vary in \d+ and 7 directions, but 40 .* room for 39"):
        pairwise(models, kind)
    with pytest.raises(ValueError, match="models 0 and 1 vary in 5 and 5"):
        pairwise([_normal(10, 5, seed=1), _normal(10, 5, seed=2)], kind, 1.0)
    assert pairwise([_normal(11, 5, seed=1), _normal(11, 5, seed=2)], kind, 1.0)[0, 1] > 0.01
    assert pairwise([_normal(40, 100, seed=1), _normal(40, 7, seed=2)], kind, 0.3)[0, 1] > 0.1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, 0.1, -1e6])
def test_a_constant_model_is_named(kind: Kind, value: float) -> None:
    x, y, _ = _related()
    with pytest.raises(ValueError, match="model 1 are constant"):
        pairwise([x, torch.full((300, 4), value), y], kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_a_model_that_differs_from_a_constant_in_the_last_bit_is_constant(kind: Kind, dtype: torch.dtype) -> None:
    x, y, _ = _related()
    flicker = torch.full((300, 4), 1.3, dtype=dtype)
    flicker[::3] *= 1 + torch.finfo(dtype).eps
    assert flicker.unique().numel() == 2
    with pytest.raises(ValueError, match="model 1 are constant"):
        pairwise([x, flicker, y], kind)
    sums = SimilaritySums([9, 4, 14])
    for part in range(3):
        sums.update([z[part::3] for z in (x, flicker, y)])
    with pytest.raises(ValueError, match="model 1 are constant"):
        SimilaritySums.from_tensor(sums.as_tensor()).distances(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_constant_feature_hides_no_others(kind: Kind) -> None:
    x, y, _ = (z.float() for z in _related())
    beside = torch.cat([x, torch.full((300, 1), 1e8)], 1)
    torch.testing.assert_close(pairwise([beside, y], kind), pairwise([x, y], kind), atol=1e-6, rtol=0)


def test_wrong_input_is_named() -> None:
    x, y, z = _related()
    with pytest.raises(ValueError, match=r"\(0, 1\], got 99"):
        svcca(x, y, 99)
    with pytest.raises(ValueError, match="'kernel'; choose one of svcca, pwcca"):
        pairwise([x, y], "kernel")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"equally many, got \[\[300, 9\], \[299, 14\]\]"):
        svcca(x, y[1:])
    with pytest.raises(ValueError, match=r"\[samples, H\] with H >= 1, got \[\[300\]\]"):
        pairwise([x[:, 0]])
    with pytest.raises(ValueError, match="got \\[\\]"):
        pairwise([])
    for bad in (torch.nan, torch.inf):
        broken = z.clone()
        broken[7, 2] = bad
        for kind in KINDS:
            with pytest.raises(ValueError, match=r"models \[2\] hold NaN"):
                pairwise([x, y, broken], kind)
    for kind in KINDS:
        with pytest.raises(ValueError, match="samples"):
            pairwise([x[:1], y[:1]], kind)
    with pytest.raises(ValueError, match="at least 4 samples, got 3"):
        pairwise([x[:3], y[:3]], "cka")
    with pytest.raises(ValueError, match="equally far"):
        pairwise([torch.eye(6), x[:6]], "cka")


def test_input_is_left_alone_and_half_precision_is_read() -> None:
    models = [x.half().requires_grad_() for x in _related()]
    before = [x.detach().clone() for x in models]
    exact = [x.detach().double() for x in models]
    for kind in KINDS:
        found = pairwise(models, kind)
        assert not found.requires_grad
        torch.testing.assert_close(found, pairwise(exact, kind), atol=1e-12, rtol=0)
    assert all(torch.equal(x, y) for x, y in zip(models, before, strict=True))


def _distances(models: int, seed: int) -> Tensor:
    points = _normal(models, 2, seed=seed)
    return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")


def test_distance_correlation_of_all_pairs() -> None:
    a, b = _distances(8, seed=0), _distances(8, seed=1) + 0.5 * _distances(8, seed=0)
    upper = np.triu_indices(8, 1)
    x, y = a.numpy()[upper], b.numpy()[upper]
    found = distance_correlation(a, b, permutations=50)
    assert found.pearson == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert found.spearman == pytest.approx(np.corrcoef(x.argsort().argsort(), y.argsort().argsort())[0, 1])


def test_spearman_sees_order_only_and_shares_the_ranks_of_equal_distances() -> None:
    a = _distances(7, seed=0)
    assert distance_correlation(a, a.exp() - 1, permutations=20).spearman == pytest.approx(1)
    assert distance_correlation(a, a.exp() - 1, permutations=20).pearson < 0.999
    tied = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 5.0], [1.0, 5.0, 0.0]])  # ranks 1.5, 1.5, 3
    other = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]])
    assert distance_correlation(tied, other, permutations=20).spearman == pytest.approx(np.sqrt(3) / 2)


def test_mantel_p_value_agrees_with_enumeration() -> None:
    a, b = _distances(5, seed=3), _distances(5, seed=4) + 0.4 * _distances(5, seed=3)
    upper = np.triu_indices(5, 1)
    every = [np.corrcoef(a.numpy()[upper], b.numpy()[np.ix_(o, o)][upper])[0, 1] for o in permutations(range(5))]
    exact = np.mean(np.array(every) >= every[0] - 1e-9)
    found = distance_correlation(a, b, permutations=20_000)
    assert 0.01 < exact < 0.5
    assert found.p_value == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 20_000) ** 0.5)


def test_mantel_p_values_are_uniform_under_the_null_and_small_for_equal_distances() -> None:
    values = [
        distance_correlation(_distances(9, seed=s), _distances(9, seed=-s), permutations=199, seed=s).p_value
        for s in range(1, 201)
    ]
    assert np.mean(values) == pytest.approx(0.5, abs=0.08)
    assert np.mean(np.array(values) <= 0.2) == pytest.approx(0.2, abs=4 * (0.16 / 200) ** 0.5)
    a = _distances(9, seed=0)
    same = distance_correlation(a, 3 * a, permutations=999)
    assert same.pearson == pytest.approx(1)
    assert same.p_value == 1 / 1_000
    assert distance_correlation(a, (5 - a).fill_diagonal_(0), permutations=999).p_value == 1.0


def test_same_seed_same_p_value_and_shuffles_in_any_number_of_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = _distances(6, seed=1), _distances(6, seed=2)
    whole = distance_correlation(a, b, permutations=501, seed=3)
    assert distance_correlation(a, b, permutations=501, seed=3) == whole
    monkeypatch.setattr("dynamo.analysis.similarity._CHUNK_ELEMENTS", 36 * 100)
    assert distance_correlation(a, b, permutations=501, seed=3).p_value == whole.p_value  # rows are drawn in order


def test_distance_correlation_refuses_what_are_no_distances() -> None:
    a = _distances(5, seed=0)
    with pytest.raises(ValueError, match="5 and of 6 models"):
        distance_correlation(a, _distances(6, seed=0))
    with pytest.raises(ValueError, match="distances b must be symmetric"):
        distance_correlation(a, torch.eye(5))
    with pytest.raises(ValueError, match="distances a must be symmetric"):
        distance_correlation(a.triu(), a)
    with pytest.raises(ValueError, match=r"N >= 3, got \[2, 2\]"):
        distance_correlation(a[:2, :2], a[:2, :2])
    with pytest.raises(ValueError, match="distances b hold NaN"):
        distance_correlation(a, a * torch.nan)
    with pytest.raises(ValueError, match="all distances b are equal"):
        distance_correlation(a, 1 - torch.eye(5))
    with pytest.raises(ValueError, match="permutations"):
        distance_correlation(a, a, permutations=0)
