"""Does a real Trainer train every member by itself, on its own items, the same way every time?"""

from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as nnf
from pytorch_lightning.callbacks import LambdaCallback
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules import DigitsDataModule, SyntheticSentimentDataModule
from datamodules.resident import TaskData
from dynamo.population import DivergenceError, MemberGroup, Population, PopulationTask
from dynamo.population.base import last_step
from dynamo.population.losses import cross_entropies
from dynamo.population.residual import ResidualBundle
from dynamo.types import HasReaders, OptionError, Reader, TaskBatch

SIZES = {"widths": [4, 6, 8, 10], "depths": [1, 1, 1, 1]}
RESNETS = [
    MemberGroup("plain", count=2, architecture="resnet", **SIZES),  # type: ignore[arg-type]
    MemberGroup("half", count=1, architecture="resnet", policy="flip_crop", fraction=0.5, **SIZES),  # type: ignore[arg-type]
]
COLOURS = {"colours": ("red", "green", "blue")}
CLASSES = {"synthetic": ("negative", "positive")}
TINY = {"hidden_size": 6, "embedding_size": 4}
GROUPS = [
    MemberGroup("full", count=2, **TINY),  # type: ignore[arg-type]
    MemberGroup("half", count=3, architecture="rnn", fraction=0.5, **TINY),  # type: ignore[arg-type]
    MemberGroup("more", count=1, fraction=0.25, **TINY),  # type: ignore[arg-type]
]


class TwoTasks(SyntheticSentimentDataModule):
    """The synthetic language twice; the second task has a class that never occurs."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401
        super().__init__(**options)
        self.classes = {**CLASSES, "mirror": ("positive", "negative", "none")}

    def load(self) -> dict[str, TaskData]:
        original = super().load()["synthetic"]

        def turned(part: Any) -> Any:  # noqa: ANN401
            return replace(part, labels=1 - part.labels)

        mirror = TaskData(turned(original.train), turned(original.val), turned(original.test), "mirror")
        return {"synthetic": original, "mirror": mirror}


def data(kind: type[SyntheticSentimentDataModule] = SyntheticSentimentDataModule) -> SyntheticSentimentDataModule:
    options = {"train_size": 200, "test_size": 45, "vocab_size": 30, "min_length": 3, "max_length": 9}
    return kind(batch_size=16, eval_batch_size=20, window=3, **options)


def task(groups: list[MemberGroup] = GROUPS, **options: Any) -> PopulationTask:  # noqa: ANN401
    return PopulationTask(groups, 30, **{"class_names": CLASSES, "lr": 0.01, "warmup_steps": 1, **options})


def trainer(**options: Any) -> pl.Trainer:  # noqa: ANN401
    quiet: dict[str, Any] = {
        "max_steps": 5,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
    }
    return pl.Trainer(**{**quiet, **options})


def fitted(**options: Any) -> PopulationTask:  # noqa: ANN401
    model = task(**options)
    trainer().fit(model, data())
    return model


class Colours(pl.LightningDataModule):
    """Noise that is brighter in one of its colours, other images for each of three members."""

    def __init__(self, steps: int = 6, shares: bool = False) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(3)
        self.training = [self.draw((3, 8), shares) for _ in range(steps)]
        self.held_out = [self.draw((items,)) for items in (20, 11)]

    def draw(self, lead: tuple[int, ...], shares: bool = False) -> dict[str, TaskBatch]:
        colours = torch.randint(3, lead, generator=self.generator)
        shift = nnf.one_hot(colours, 3)[..., None, None]
        images = torch.randn(*lead, 3, 32, 32, generator=self.generator) + shift
        targets = nnf.one_hot(colours, 3).float() if shares else colours
        return {"colours": TaskBatch(images, targets, torch.ones(lead, dtype=torch.int64))}

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.training, batch_size=None)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.held_out, batch_size=None)  # type: ignore[arg-type]

    test_dataloader = val_dataloader


def resnets(groups: list[MemberGroup] = RESNETS, **options: Any) -> PopulationTask:  # noqa: ANN401
    recipe = {"optimizer": "sgd", "lr": 0.1, "weight_decay": 5e-4, "clip": 0.0, "schedule": "one_cycle"}
    return PopulationTask(groups, 0, COLOURS, **{**recipe, "warmup_steps": 1, **options})


def test_groups_become_one_bundle_per_architecture_and_size() -> None:
    model = task()
    assert [m.name for m in model.members] == ["full-0", "full-1", "more-0", "half-0", "half-1", "half-2"]
    assert [(b.architecture, b.count) for b in model.bundles] == [("gru", 3), ("rnn", 3)]
    assert isinstance(model, HasReaders)
    assert model.readers[2:4] == [Reader("synthetic", 0.25, 20_000), Reader("synthetic", 0.5, 10_000)]


def test_a_member_starts_the_same_whoever_else_is_there() -> None:
    first, second = task(), task([replace(GROUPS[2], seed=20_000)])
    for name, tensor in second.bundles[0].state_dict().items():
        assert torch.equal(tensor[0], first.bundles[0].state_dict()[name][2])


def test_the_same_seed_twice_gives_the_same_bits() -> None:
    one, other, before = fitted(), fitted(), task()
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
        assert not torch.equal(tensor, before.state_dict()[name]), name


def test_a_member_is_trained_as_if_the_others_were_not_there() -> None:
    together = fitted()
    alone = task([replace(GROUPS[2], seed=20_000)])
    trainer().fit(alone, data())
    for name, tensor in alone.bundles[0].state_dict().items():
        torch.testing.assert_close(tensor[0], together.bundles[0].state_dict()[name][2], rtol=1e-4, atol=1e-5)


def test_every_member_takes_the_same_number_of_steps_on_its_own_items() -> None:
    seen: list[dict[str, TaskBatch]] = []
    note = LambdaCallback(on_train_batch_start=lambda _trainer, _model, batch, _index: seen.append(batch))
    model, module = task(), data()
    run = trainer(callbacks=[note], max_steps=15)
    run.fit(model, module)
    assert run.global_step == len(seen) == 15
    assert {tuple(batch["synthetic"].targets.shape) for batch in seen} == {(6, 16)}
    read = [len({tuple(row) for b in seen for row in b["synthetic"].inputs[n, :, :3].tolist()}) for n in range(6)]
    assert max(read[2], 0) <= 45 < min(read[:2])  # a quarter of 180, and all of them
    assert max(read[3:]) <= 90


def test_accuracies_are_those_of_the_members_one_by_one() -> None:
    model, module = task(), data()
    run = trainer()
    run.fit(model, module)
    run.test(model, module, verbose=False)
    batch = module.batch("test", "synthetic", range(45))
    expected = []
    for bundle in model.bundles:
        for index in range(bundle.count):
            logits = bundle.member(index)(batch.inputs)[1][torch.arange(45), batch.lengths - 1]
            expected.append(float((logits.argmax(-1) == batch.targets).double().mean()))
    assert model.accuracies["test"].tolist() == pytest.approx(expected)
    logged = {name: float(value) for name, value in run.callback_metrics.items()}
    assert logged["test/accuracy"] == pytest.approx(sum(expected) / 6, abs=1e-6)
    assert logged["test/accuracy/full"] == pytest.approx(sum(expected[:2]) / 2, abs=1e-6)
    assert logged["test/accuracy/half"] == pytest.approx(sum(expected[3:]) / 3, abs=1e-6)
    for member, accuracy in zip(model.members, expected, strict=True):
        assert logged[f"test_members/accuracy/{member.name}"] == pytest.approx(accuracy, abs=1e-6)


def test_members_learn() -> None:
    model, module = task([MemberGroup("g", count=2, **TINY)], lr=0.03), data()  # type: ignore[arg-type]
    trainer(max_steps=60).fit(model, module)
    batch = module.batch("train", "synthetic", range(180))
    right = last_step(model.bundles[0](batch).output, batch.lengths).argmax(-1) == batch.targets
    assert float(right.float().mean(1).min()) > 0.65  # four standard deviations above chance


def test_a_member_that_diverges_stops_the_run_by_name() -> None:
    model = task()
    with torch.no_grad():
        model.bundles[1].get_parameter("weight_hh")[1].fill_(float("nan"))
    with pytest.raises(DivergenceError, match=r"The loss of half-1 is no longer finite at step 0. Lower the"):
        trainer(num_sanity_val_steps=0).fit(model, data())


def test_the_trainer_s_clipping_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gradient_clip_val clips all members together; set model.init_args.clip"):
        trainer(gradient_clip_val=1.0).fit(task(), data())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"lr": -1.0}, "lr is -1.0"),
        ({"groups": []}, "at least one group"),
        ({"momentum": 1.0}, r"momentum is 1.0; it has to lie in \[0, 1\)"),
        ({"label_smoothing": -0.1}, r"label_smoothing is -0.1; it has to lie in \[0, 1\)"),
        ({"optimizer": "adamw"}, "optimizer is 'adamw'; choose one of adam, sgd"),
        (
            {"groups": [MemberGroup("r", architecture="resnet")]},
            "group 'r': a resnet reads images, and the data is text",
        ),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        task(**options)


def test_the_frozen_copy_knows_what_was_measured_and_stays_as_it_is() -> None:
    model = fitted()
    run = trainer()
    run.test(model, data(), verbose=False)
    frozen = model.population(3, {"vocabulary": "1"}, {"lr": 0.01})
    assert isinstance(frozen, Population)
    assert {m.epoch for m in frozen.members} == {3}
    assert [m.test_accuracy for m in frozen.members] == model.accuracies["test"].tolist()
    assert (frozen.fingerprint, frozen.class_names) == ({"vocabulary": "1"}, CLASSES)
    kept = frozen.bundles[0].get_parameter("weight_hh").clone()
    assert torch.equal(kept, model.bundles[0].get_parameter("weight_hh"))
    with torch.no_grad():
        model.bundles[0].get_parameter("weight_hh").zero_()
    assert torch.equal(frozen.bundles[0].get_parameter("weight_hh"), kept)
    assert all(p.requires_grad for p in model.parameters())


def test_two_tasks_train_together() -> None:
    module = data(TwoTasks)
    groups = [replace(group, task=name, name=f"{group.name}-{name}") for name in module.classes for group in GROUPS]
    model = task(groups, class_names=module.classes)
    assert [b.classes for b in model.bundles] == [2, 2, 3, 3]
    run = trainer()
    run.fit(model, module)
    run.test(model, module, verbose=False)
    assert model.accuracies["test"].shape == (12,)
    assert model.accuracies["test"].isfinite().all()
    member = [m.name for m in model.members].index("half-mirror-1")
    batch = module.batch("test", "mirror", range(45))
    logits = last_step(model.bundles[3](batch).output, batch.lengths)[1]
    accuracy = float((logits.argmax(-1) == batch.targets).double().mean())
    assert float(model.accuracies["test"][member]) == pytest.approx(accuracy)


def test_members_whose_task_was_not_evaluated_have_no_accuracy() -> None:
    module = data(TwoTasks)
    groups = [replace(GROUPS[0], task=name, name=name) for name in module.classes]
    model = task(groups, class_names=module.classes)
    run = trainer(limit_test_batches=1)
    run.test(model, module, verbose=False)
    assert run.callback_metrics["test/accuracy"].isfinite()
    measured = [m.test_accuracy is not None for m in model.population(0, {}, {}).members]
    assert measured == [True, True, False, False]


@pytest.mark.parametrize("own", [False, True])
def test_last_step_is_that_of_every_item(own: bool) -> None:
    output = torch.randn(2, 3, 5, 4)
    lengths = torch.tensor([[1, 5, 2], [3, 4, 5]]) if own else torch.tensor([1, 5, 2])
    found: Tensor = last_step(output, lengths)
    for n in range(2):
        for b in range(3):
            assert torch.equal(found[n, b], output[n, b, int(lengths.expand(2, 3)[n, b]) - 1])


def test_residual_networks_train_as_if_the_others_were_not_there() -> None:
    model, module = resnets(label_smoothing=0.1), Colours()
    assert [(m.name, m.policy) for m in model.members] == [
        ("plain-0", "none"),
        ("plain-1", "none"),
        ("half-0", "flip_crop"),
    ]
    (bundle,) = model.bundles  # another policy and share of the data, the same networks
    assert isinstance(bundle, ResidualBundle)
    alone = bundle.member(2).train()
    seen: list[float] = []
    note = LambdaCallback(
        on_train_batch_end=lambda run, *_: seen.append(float(run.callback_metrics["train/loss/half"]))
    )
    trainer(max_steps=6, callbacks=[note]).fit(model, module)
    optimizer = torch.optim.SGD(alone.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)
    for step, batch in enumerate(module.training):
        part = batch["colours"]
        rate = 0.1 * min(1.0, (step + 1) / 2) * 0.5 * (1 + torch.tensor(torch.pi * max(0, step - 1) / 5).cos())
        optimizer.param_groups[0]["lr"] = float(rate)
        loss = nnf.cross_entropy(alone(part.inputs[2])[1], part.targets[2], label_smoothing=0.1)
        assert seen[step] == pytest.approx(float(loss.detach()), abs=1e-4)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, tensor in alone.state_dict().items():
        torch.testing.assert_close(bundle.state_dict()[f"network.{name}"][2], tensor, rtol=1e-3, atol=1e-4, msg=name)


def test_accumulated_residual_steps_are_one_step_of_the_mean() -> None:
    model, module = resnets(schedule="constant"), Colours(steps=2)
    bundle = model.bundles[0]
    assert isinstance(bundle, ResidualBundle)
    start = bundle.take([0, 1, 2]).train()
    trainer(max_steps=1, accumulate_grad_batches=2).fit(model, module)
    parts = [batch["colours"] for batch in module.training]
    losses = torch.stack([cross_entropies(start(part).output, part.targets) for part in parts])
    (losses.sum() / 2).backward()
    for name, before in start.named_parameters():
        assert before.grad is not None
        pull = before.grad + 5e-4 * before.detach()
        after = bundle.get_parameter(name).detach()
        torch.testing.assert_close(after, before.detach() - 0.1 * 1.9 * pull, rtol=1e-4, atol=1e-5, msg=name)
    for name, buffer in start.named_buffers():
        torch.testing.assert_close(bundle.get_buffer(name), buffer, msg=name)


def test_float16_is_refused_with_the_remedy() -> None:
    with pytest.raises(OptionError, match=r"precision is 16-true: .* Set it to bf16-mixed or 32-true"):
        trainer(max_steps=1, precision="16-true").fit(resnets(), Colours(steps=1))


def test_residual_networks_learn_from_shares_and_are_judged_and_kept_frozen() -> None:
    model, module = resnets(), Colours(steps=50, shares=True)
    run = trainer(max_steps=50, precision="bf16-mixed")
    run.fit(model, module)
    run.test(model, module, verbose=False)
    frozen = model.population(1, {}, {})
    kept = {name: tensor.clone() for name, tensor in frozen.bundles[0].state_dict().items()}
    for name, tensor in model.bundles[0].state_dict().items():
        assert torch.equal(kept[name], tensor), name
    images = torch.cat([batch["colours"].inputs for batch in module.held_out])
    targets = torch.cat([batch["colours"].targets for batch in module.held_out])
    for index, member in enumerate(frozen.members):
        own = frozen.bundles[0].member(index).eval()
        assert member.test_accuracy == pytest.approx(
            float((own(images)[1].argmax(1) == targets).double().mean()), abs=0.04
        )
        assert member.test_accuracy is not None
        assert member.test_accuracy > 0.8
    model.train()
    model.bundles[0].losses(module.training[0]["colours"], cross_entropies)  # moves running statistics, not those kept
    assert not torch.equal(model.bundles[0].get_buffer("network.norm.running_mean"), kept["network.norm.running_mean"])
    for name, tensor in frozen.bundles[0].state_dict().items():
        assert torch.equal(kept[name], tensor), name


@pytest.fixture(scope="module")
def two_processes(
    tmp_path_factory: pytest.TempPathFactory, in_processes: Callable[..., list[Any]]
) -> tuple[Path, list[dict[str, Any]]]:
    """A run's folder, and what each of its two ranks saw; `several_processes.py` is what each of them runs."""
    place, script = tmp_path_factory.mktemp("run"), Path(__file__).with_name("several_processes.py")
    return place, in_processes(2, runpy.run_path(str(script))["main"], place, 2)


def test_two_processes_judge_and_keep_one_population(two_processes: tuple[Path, list[dict[str, Any]]]) -> None:
    place, (first, second) = two_processes
    saved = Population.load(place / "population")
    kept = {f"bundles.{i}.{k}": own for i, bundle in enumerate(saved.bundles) for k, own in bundle.state_dict().items()}
    assert kept.keys() == first["end"].keys()
    for name, tensor in kept.items():
        assert torch.equal(first["end"][name], tensor), name
        assert torch.equal(second["end"][name], tensor), name
        # Until they are evaluated, each rank has statistics of its own items; those of rank 0 are kept.
        assert torch.equal(first["trained"][name], tensor), name
        assert torch.equal(second["trained"][name], tensor) != ("running" in name), name
        assert not torch.equal(first["start"][name], tensor), name
    data = DigitsDataModule()
    data.setup()
    for stage, count in (("val", 51), ("test", 53)):
        items = data.batch(stage, "digits", data.drawn(stage, "digits", count))
        assert len(items.targets) % 40  # 20 at a time: the ranks have unequally many
        with torch.inference_mode():
            logits = torch.cat([bundle.answers(items) for bundle in saved.bundles])
        right = (logits.argmax(-1) == items.targets).double().sum(1)
        assert len(right.unique()) > 1
        for rank in (first, second):
            assert torch.equal(rank[stage], right / len(items.targets))
        assert [getattr(member, f"{stage}_accuracy") for member in saved.members] == first[stage].tolist()


def test_the_gradient_of_two_processes_is_the_mean_of_theirs(
    two_processes: tuple[Path, list[dict[str, Any]]],
) -> None:
    """Each normalises by the statistics of its own items, as DDP has it: one batch of all is another function."""
    place, ranks = two_processes
    assert not torch.equal(ranks[0]["items"][0], ranks[1]["items"][0])
    first = 0
    for number, saved in enumerate(Population.load(place / "population").bundles):
        bundle = saved.take(range(saved.count)).requires_grad_(True).train()
        start = f"bundles.{number}."
        bundle.load_state_dict({k.removeprefix(start): v for k, v in ranks[0]["start"].items() if k.startswith(start)})
        for seen in ranks:
            part = TaskBatch(*(values[first : first + bundle.count] for values in seen["items"]))
            (cross_entropies(bundle(part).output, part.targets).sum() / 2).backward()
        first += bundle.count
        for name, parameter in bundle.named_parameters():
            gradients = [seen["gradients"][start + name] for seen in ranks]
            assert torch.equal(*gradients), name
            assert parameter.grad is not None
            # Float32, summed in another order; near the least it is rounding that is compared.
            largest = float(parameter.grad.abs().max())
            torch.testing.assert_close(gradients[0], parameter.grad, rtol=1e-3, atol=1e-4 * max(1.0, largest), msg=name)
