"""Is every member emulated on its own task's items, by the loss that was asked for, the same way every time?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor, nn

from dynamo.analysis.fidelity import FidelitySums
from dynamo.meta import Comparison, MetaTask
from dynamo.meta.comparison import chunks
from dynamo.meta.losses import hidden_loss, output_loss
from dynamo.population import DivergenceError, Population, PopulationError, RecurrentBundle
from dynamo.types import HasReaders, OptionError

Make = Callable[..., Any]
Draws = list[list[int]]


@pytest.fixture
def fit(make_trainer: Make, make_data: Make, mixed: str, make_task: Make) -> Callable[..., MetaTask]:
    """A task on `mixed`, trained for some steps."""

    def run(steps: int = 3, **options: Any) -> MetaTask:  # noqa: ANN401
        torch.manual_seed(1)
        task: MetaTask = make_task(mixed, **options)
        make_trainer(steps).fit(task, make_data(two=True))
        return task

    return run


def state(task: MetaTask) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in task.state_dict().items()}


def changed(before: dict[str, Tensor], task: MetaTask) -> set[str]:
    return {name for name, tensor in task.state_dict().items() if not torch.equal(tensor, before[name])}


def drawn(task: MetaTask) -> Draws:
    """Filled with the members of every step while the task trains, as indices into theta."""
    draws: Draws = []
    compare = task.compare

    def noting(batch: Any, select: Any = None) -> Any:  # noqa: ANN401
        starts = [0, 4, 7]
        draws.append([s + int(i) for s, part in zip(starts, select, strict=True) for i in part])
        return compare(batch, select)

    task.compare = noting  # type: ignore[method-assign]
    return draws


def test_it_starts_at_zero_with_one_alignment_per_bundle_and_one_head_per_task(mixed: str, make_task: Make) -> None:
    task = make_task(mixed)
    assert torch.equal(task.theta, torch.zeros(9, 3))
    assert [tuple(a.weight.shape) for (a,) in task.alignments] == [(4, 16, 5), (3, 16, 6), (2, 16, 5)]
    assert {name: head.out_features for name, head in task.network.heads.items()} == {"synthetic": 2, "mirror": 3}
    assert task.members == Population.load(mixed).members
    assert not isinstance(task, HasReaders)  # it reads one common stream


def test_the_population_is_frozen_and_no_part_of_the_checkpoint(fit: Make, mixed: str, make_data: Make) -> None:
    task = fit()
    own = {"network", "embedding", "alignments", "spread", "calibrated", "newest_losses"}
    assert {name.split(".")[0] for name in task.state_dict()} == own
    mine = {id(p) for p in task.parameters()}
    saved = Population.load(mixed)
    for bundle, original in zip(task.population.bundles, saved.bundles, strict=True):
        for name, parameter in bundle.named_parameters():
            assert not parameter.requires_grad
            assert parameter.grad is None
            assert id(parameter) not in mine
            assert torch.equal(parameter, original.get_parameter(name))
    data = make_data()
    data.setup("fit")
    for part in task.compare({"synthetic": data.batch("train", "synthetic", range(6))}):
        assert part.original.hidden[0].grad_fn is None
        assert part.original.output.grad_fn is None
        assert part.mapped[0].grad_fn is not None


@pytest.mark.parametrize("options", [{}, {"members_per_step": 4}], ids=["all members", "drawn members"])
def test_the_same_seed_twice_gives_the_same_bits(fit: Make, options: dict[str, Any]) -> None:
    one, other = fit(5, **options), fit(5, **options)
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    assert bool((one.theta != 0).any(1).all())


@pytest.mark.parametrize("distance", ["l2", "l1"])
@pytest.mark.parametrize("burn_in", [0, 3])
def test_the_spread_is_that_of_the_states(fit: Make, make_data: Make, distance: str, burn_in: int) -> None:
    task, data = fit(1, lr=0.0, theta_lr=0.0, distance=distance, burn_in=burn_in), make_data(two=True)
    data.setup("fit")
    assert bool(task.calibrated)
    batches = data.calibration_batch(50)
    for n, member in enumerate(task.members):
        batch = batches[member.task]
        hidden, _ = task.population.module(member.name)(batch.inputs)
        states = []
        for item, length in zip(hidden.detach(), batch.lengths.tolist(), strict=True):
            states += list(item[min(burn_in, length - 1) : length])
        gap = torch.stack(states) - torch.stack(states).mean(0)
        expected = (gap.square() if distance == "l2" else gap.abs()).mean()
        torch.testing.assert_close(task.spread[n, 0], expected)
        if n < 4:  # the members of the first bundle; V_n starts at their mean
            torch.testing.assert_close(task.alignments[0][0].bias[n].detach(), torch.stack(states).mean(0))


def test_without_normalisation_the_spread_is_one(fit: Make) -> None:
    assert fit(1, normalise=False).spread.tolist() == [[1.0]] * 9


def test_a_calibrated_task_is_not_calibrated_again(
    mixed: str, make_task: Make, make_trainer: Make, make_data: Make
) -> None:
    task = make_task(mixed)
    task.spread.fill_(3.0)
    task.calibrated.fill_(True)
    make_trainer(1).fit(task, make_data(two=True))
    assert task.spread.tolist() == [[3.0]] * 9


def test_the_loss_is_the_mean_over_members_of_both_terms(mixed: str, make_task: Make, make_data: Make) -> None:
    task, data = make_task(mixed, output_weight=0.5, burn_in=1), make_data(two=True)
    data.setup("fit")
    task.spread.uniform_(0.5, 2.0)
    task.log = task.log_dict = lambda *_, **__: None
    task.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    batch = data.calibration_batch(10)
    expected = []
    for n, member in enumerate(task.members):
        part = batch[member.task]
        hidden, output = task.population.module(member.name)(part.inputs)
        emulator = task(task.theta[n : n + 1], part.inputs, member.task)
        bundle, index = next((b, n - first) for b, first in ((2, 7), (1, 4), (0, 0)) if n >= first)
        alignment, mask = task.alignments[bundle][0], part.real_steps(1)
        mapped = emulator.hidden[0] @ alignment.weight[index] + alignment.bias[index]
        loss = hidden_loss(mapped, hidden[None], mask, task.spread[n])
        expected.append(loss + 0.5 * output_loss(emulator.output, output[None], mask))
    torch.testing.assert_close(task.training_step(batch, 0), torch.cat(expected).mean())


def test_a_member_is_compared_on_its_own_task_alone(mixed: str, make_task: Make, make_data: Make) -> None:
    task, data = make_task(mixed), make_data(two=True)
    data.setup("fit")
    batch = data.calibration_batch(5)
    assert [part.bundle for part in task.compare(batch)] == [0, 1, 2]
    assert [part.bundle for part in task.compare({"synthetic": batch["synthetic"]})] == [0, 1]
    (only,) = task.compare({"mirror": batch["mirror"]})
    assert isinstance(only, Comparison)
    assert only.batch is batch["mirror"]
    assert only.mapped[0].shape == only.original.hidden[0].shape == (2, 5, batch["mirror"].inputs.shape[1], 5)
    assert only.emulated.shape == only.original.output.shape


def test_chunks_cover_every_member_once(mixed: str, make_task: Make) -> None:
    task = make_task(mixed)
    for size in (1, 3, 100):
        seen = []
        for chunk in chunks(task.population, size):
            assert 1 <= sum(len(part) for part in chunk) <= size
            seen += [(bundle, int(i)) for bundle, part in enumerate(chunk) for i in part]
        assert seen == [(b, i) for b, count in enumerate((4, 3, 2)) for i in range(count)]


def test_the_members_of_a_step_follow_from_seed_and_step(
    mixed: str, make_task: Make, make_trainer: Make, make_data: Make
) -> None:
    def draws(steps: int, seed: int) -> Draws:
        task = make_task(mixed, members_per_step=3, seed=seed)
        noted = drawn(task)
        make_trainer(steps).fit(task, make_data(two=True))
        return noted

    short, long, other = draws(4, 7), draws(20, 7), draws(4, 8)
    assert long[:4] == short != other
    assert all(len(set(step)) == 3 and step == sorted(step) for step in long)
    assert {member for step in long for member in step} == set(range(9))


def test_members_that_were_not_drawn_do_not_move(fit: Make) -> None:
    assert int((fit(1, members_per_step=2).theta != 0).any(1).sum()) == 2


def test_without_the_output_term_the_heads_learn_nothing(
    mixed: str, make_task: Make, make_trainer: Make, make_data: Make
) -> None:
    for weight, learned in ((0.0, False), (1.0, True)):
        task = make_task(mixed, output_weight=weight)
        before = state(task)
        make_trainer(2).fit(task, make_data(two=True))
        moved = changed(before, task)
        assert {"embedding.theta", "network.weight_state", "alignments.2.0.weight"} <= moved
        assert any(name.startswith("network.heads") for name in moved) is learned


def test_groups_are_chosen_and_renamed(mixed: str, make_task: Make) -> None:
    task = make_task(mixed, groups={"rnn-synthetic": "vanilla"})
    assert [m.group for m in task.members] == ["vanilla"] * 3
    assert list(task.network.heads) == ["synthetic"]
    with pytest.raises(PopulationError, match="No group 'lstm'"):
        make_task(mixed, groups={"lstm": "x"})


def test_a_member_that_diverges_stops_the_run_by_name(
    mixed: str, make_task: Make, make_trainer: Make, make_data: Make
) -> None:
    task = make_task(mixed)
    with torch.no_grad():
        task.embedding.theta[5] = float("nan")
    with pytest.raises(DivergenceError, match=r"The loss of rnn-synthetic-1 is no longer finite at step 0. Lower"):
        make_trainer().fit(task, make_data(two=True))


class Norms(pl.Callback):
    """Of the clipped gradient of every step but the last; and the largest of its numbers."""

    def __init__(self) -> None:
        self.norms: list[float] = []
        self.largest: list[float] = []

    def on_before_zero_grad(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:  # noqa: ANN401
        gradients = [p.grad.flatten() for p in pl_module.parameters() if p.grad is not None]
        if gradients:
            self.norms.append(float(torch.cat(gradients).norm()))
            self.largest.append(float(torch.cat(gradients).abs().max()))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_clipped_at_every_precision(
    mixed: str, make_task: Make, make_trainer: Make, make_data: Make, precision: str
) -> None:
    whole, own, theirs, each = Norms(), Norms(), Norms(), Norms()
    by_value = {"gradient_clip_val": 1e-4, "gradient_clip_algorithm": "value"}
    for clip, seen, options in ((0.0, whole, {}), (1e-3, own, {}), (0.0, theirs, {"gradient_clip_val": 2e-3})):
        make_trainer(precision=precision, callbacks=[seen], **options).fit(
            make_task(mixed, clip=clip), make_data(two=True)
        )
    make_trainer(precision=precision, callbacks=[each], **by_value).fit(make_task(mixed), make_data(two=True))
    assert min(whole.norms) > 0.01
    assert own.norms == pytest.approx([1e-3] * 2, rel=1e-2)
    assert theirs.norms == pytest.approx([2e-3] * 2, rel=1e-2)
    assert each.largest == pytest.approx([1e-4] * 2)


def test_float16_is_refused_with_the_remedy(mixed: str, make_task: Make, make_trainer: Make, make_data: Make) -> None:
    with pytest.raises(OptionError, match=r"precision is 16-true: .* Set it to bf16-mixed or 32-true"):
        make_trainer(precision="16-true").fit(make_task(mixed), make_data(two=True))


def test_members_that_never_move_are_named(
    plant: Make, save_bundle: Make, make_task: Make, make_trainer: Make, make_data: Make
) -> None:
    bundle: RecurrentBundle = plant(torch.zeros(3, 1))[1]
    with torch.no_grad():
        for parameter in bundle.parameters():
            parameter[1] = 0.0
    with pytest.raises(PopulationError, match="The states of m-1 never change"):
        make_trainer().fit(make_task(save_bundle(bundle)), make_data())


def test_a_missing_population_is_named_with_the_remedy(tmp_path: Path, make_task: Make) -> None:
    with pytest.raises(PopulationError, match=r"No population at .*/nowhere: .*Train one first"):
        make_task(str(tmp_path / "nowhere"))


def test_another_vocabulary_is_refused_before_training(
    plant: Make, save_bundle: Make, make_task: Make, make_trainer: Make, make_data: Make
) -> None:
    folder = save_bundle(plant(torch.zeros(2, 1))[1], fingerprint={"vocabulary": "f" * 64})
    with pytest.raises(PopulationError, match="'m-0' reads a vocabulary of 30, the data module's has 31; set vocab"):
        MetaTask(folder, 31)
    task, data = make_task(folder), make_data()
    for run in ("fit", "test"):
        before = state(task)
        with pytest.raises(PopulationError, match="was trained with vocabulary ffffffff, the data module has"):
            getattr(make_trainer(), run)(task, data)
        assert not changed(before, task)
    assert isinstance(data, LightningDataModule)
    data.setup("fit")
    fitting = save_bundle(plant(torch.ones(2, 1))[1], "fits", fingerprint=data.fingerprint)
    make_trainer(1).fit(make_task(fitting), data)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"dimensions": 0}, "dimensions is 0"),
        ({"lr": -1.0}, "lr is -1.0; it cannot be negative"),
        ({"clip": -1.0}, "clip is -1.0; it cannot be negative"),
        ({"schedule": "cos"}, "schedule is 'cos'; choose one of cosine, constant, one_cycle"),
        ({"output_weight": -0.1}, r"output_weight \(lambda\) is -0.1"),
        ({"burn_in": -1}, "burn_in is -1"),
        ({"members_per_step": 0}, "members_per_step is 0"),
        ({"calibration_items": 1}, "calibration_items is 1"),
        ({"alignment": "identity"}, "S = 16 and H = 5"),
    ],
)
def test_wrong_options_are_named(mixed: str, make_task: Make, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make_task(mixed, **options)


def test_without_outputs_the_members_own_readouts_answer(mixed: str, make_task: Make, make_data: Make) -> None:
    data = make_data(two=True)
    data.setup("fit")
    batch = {task: data.batch("val", task, [0, 1, 2]) for task in data.tasks}
    for weight in (0.0, 1.0):
        task = make_task(mixed, output_weight=weight).eval()
        for found in task.compare(batch):
            own = task.population.bundles[found.bundle].read_out(found.mapped[-1])
            assert torch.equal(found.emulated, own) == (weight == 0)
            perfect = task.population.bundles[found.bundle].read_out(found.original.hidden[0])
            torch.testing.assert_close(perfect, found.original.output)


class Own(nn.Module):
    """A network of somebody else: a normalised GRU that answers with logits alone."""

    def __init__(self, hidden_size: int, words: int = 30) -> None:
        super().__init__()
        self.words = nn.Embedding(words, 4)
        self.gru = nn.GRU(4, hidden_size, batch_first=True)
        self.norm = nn.LayerNorm(hidden_size)
        self.readout = nn.Linear(hidden_size, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        answers: Tensor = self.readout(self.norm(self.gru(self.words(tokens))[0]))
        return answers


def observe(module: nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor]:
    hidden = module.norm(module.gru(module.words(tokens))[0])
    return hidden, module.readout(hidden)


def read_out(module: nn.Module, hidden: Tensor) -> Tensor:
    answers: Tensor = module.readout(hidden)
    return answers


@pytest.fixture
def own() -> list[nn.Module]:
    return [Own(size) for size in (5, 7, 5, 7, 5)]


@pytest.mark.parametrize("weight", [1.0, 0.0])
def test_networks_of_ones_own_are_emulated(
    own: list[nn.Module], make_task: Make, make_trainer: Make, make_data: Make, weight: float
) -> None:
    population = Population.from_modules(own, observe, groups=list("abaca"), task="synthetic", read_out=read_out)
    before = [{name: t.clone() for name, t in module.state_dict().items()} for module in own]
    task, data = make_task(population, members_per_step=4, output_weight=weight), make_data()
    assert task.population is population
    losses = []
    task.log = lambda name, value, **_: losses.append(float(value)) if name == "train/loss" else None
    make_trainer(30).fit(task, data)
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])
    assert bool((task.theta != 0).any(1).all())
    for module, tensors in zip(own, before, strict=True):
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in module.state_dict().items())
    batch, order = data.calibration_batch(50), [own[i] for i in (0, 2, 4, 1, 3)]  # bundle after bundle
    for n, module in enumerate(order):
        part = batch["synthetic"]
        states = observe(module, part.inputs)[0][part.real_steps()].detach()
        torch.testing.assert_close(task.spread[n, 0], (states - states.mean(0)).square().mean())


def test_networks_of_ones_own_are_compared_and_measured_in_chunks(
    own: list[nn.Module], make_task: Make, make_data: Make
) -> None:
    population = Population.from_modules(own, observe, task="synthetic", read_out=read_out)
    data = make_data()
    data.setup("fit")
    batch = {"synthetic": data.batch("val", "synthetic", range(12))}
    for weight in (0.0, 1.0):
        task = make_task(population, output_weight=weight).eval()
        whole = list(task.compare(batch))
        assert [(len(part.members), part.mapped[0].shape[-1]) for part in whole] == [(3, 5), (2, 7)]
        seen: list[int] = []
        for chunk in chunks(task.population, 2):
            for part in task.compare(batch, chunk):
                everything = whole[part.bundle]
                for found, all_of_it in (
                    (part.original.hidden[0], everything.original.hidden[0]),
                    (part.original.output, everything.original.output),
                    (part.mapped[0], everything.mapped[0]),
                    (part.emulated, everything.emulated),
                ):
                    torch.testing.assert_close(found, all_of_it[part.members])
                sums = FidelitySums(len(part.members), population.bundles[part.bundle].hidden_sizes)
                items = part.batch
                original, perfect = part.original, part.original.hidden
                sums.update(original, perfect, original.output, items.targets, items.real_steps(), items.lengths)
                assert sums.result().variance_explained.tolist() == [1.0] * len(part.members)
                seen += [part.bundle] * len(part.members)
        assert seen == [0, 0, 0, 1, 1]


def test_a_population_in_memory_and_the_same_from_disk_make_the_same_map(
    mixed: str, make_task: Make, make_trainer: Make, make_data: Make
) -> None:
    loaded = Population.load(mixed)
    modules = [loaded.module(member.name) for member in loaded.members]
    names, tasks = zip(*((member.name, member.task) for member in loaded.members), strict=True)
    groups = [member.group for member in loaded.members]
    batched = Population.from_modules(modules, names=names, groups=groups, task=tasks)
    singly = Population.from_modules(modules, lambda m, tokens: m(tokens), names=names, groups=groups, task=tasks)
    maps = []
    for population in (mixed, batched, singly):
        torch.manual_seed(1)
        task = make_task(population)
        make_trainer(3).fit(task, make_data(two=True))
        maps.append((task.theta, task.spread, [m.name for m in task.members]))
    assert torch.equal(maps[1][0], maps[0][0])
    assert torch.equal(maps[1][1], maps[0][1])
    torch.testing.assert_close(maps[2][1], maps[0][1])
    torch.testing.assert_close(maps[2][0], maps[0][0], atol=1e-3, rtol=1e-2)
    assert maps[0][2] == maps[1][2] == maps[2][2]


def test_what_ones_own_networks_lack_is_said_before_training(own: list[nn.Module], make_task: Make) -> None:
    population = Population.from_modules(own, observe, task="synthetic")
    make_task(population)
    with pytest.raises(PopulationError, match=r"With output_weight \(lambda\) 0 .* 'Own-0' is not known; give"):
        make_task(population, output_weight=0.0)
    small = Population.from_modules([Own(5), Own(5, words=29)], observe, names=["fits", "small"])
    with pytest.raises(PopulationError, match=r"'small' cannot read the last of the data module's 30 words; set vocab"):
        make_task(small)
    with pytest.raises(PopulationError, match="give a folder, a list of folders, or a Population"):
        make_task(own)
