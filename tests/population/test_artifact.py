"""Does a population survive the disk bit for bit, and is everything that is not one refused?"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dynamo.population import Member, Population, PopulationError, RecurrentBundle
from dynamo.population.manifest import file_hash, rewrite_members
from dynamo.types import TaskBatch

MakePopulation = Callable[..., Population]
TOKENS = torch.arange(1, 11).view(2, 5)
BATCH = {"synthetic": TaskBatch(TOKENS, torch.tensor([0, 1]), torch.tensor([5, 3]))}


@pytest.fixture
def population(make_population: MakePopulation) -> Population:
    return make_population()


@pytest.fixture
def folder(population: Population, tmp_path: Path) -> Path:
    return population.save(tmp_path / "saved")


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def replace_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """A weights file with other content, and a manifest that vouches for it."""
    path = folder / "bundle-0.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    edit(folder, lambda content: content["bundles"][0].update(sha256=file_hash(path)))


def assert_equal(one: Population, other: Population) -> None:
    assert one.bundle_members == other.bundle_members
    assert (one.fingerprint, one.class_names, one.config) == (other.fingerprint, other.class_names, other.config)
    for mine, theirs in zip(one.bundles, other.bundles, strict=True):
        assert mine.settings == theirs.settings
        for name, tensor in mine.state_dict().items():
            assert torch.equal(tensor, theirs.state_dict()[name]), name


def test_saved_and_loaded_is_the_same_bit_for_bit(population: Population, folder: Path) -> None:
    loaded = Population.load(folder)
    assert_equal(loaded, population)
    for one, other in zip(loaded.run(BATCH), population.run(BATCH), strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one.hidden[0], other.hidden[0])
        assert torch.equal(one.output, other.output)
    assert sorted(p.name for p in folder.parent.iterdir()) == ["saved"]
    assert sorted(p.name for p in folder.iterdir()) == [
        "bundle-0.safetensors", "bundle-1.safetensors", "manifest.json",
    ]  # fmt: skip


def test_a_loaded_population_may_be_used_like_any_other(folder: Path) -> None:
    loaded = Population.load(folder)
    assert loaded.module("gru-1")(TOKENS)[0].shape == (2, 5, 5)
    again = loaded.save(folder.parent / "again")
    assert_equal(Population.load(again), loaded)
    assert (again / "bundle-0.safetensors").read_bytes() == (folder / "bundle-0.safetensors").read_bytes()


def test_members_are_frozen(population: Population, folder: Path) -> None:
    for one in (population, Population.load(folder)):
        assert not any(p.requires_grad for bundle in one.bundles for p in bundle.parameters())
        assert not any(bundle.training for bundle in one.bundles)
        (first, _) = one.run(BATCH)
        assert first is not None
        assert first.output.is_inference()


def test_only_selected_members_of_tasks_in_the_batch_run(population: Population) -> None:
    everything = population.run(BATCH)
    first, second = population.run(BATCH, [torch.tensor([]).long(), torch.tensor([2])])
    assert first is None
    assert second is not None
    assert everything[1] is not None
    torch.testing.assert_close(second.output[0], everything[1].output[2])
    assert population.run({"other": BATCH["synthetic"]}) == [None, None]


def test_a_member_is_found_by_name(population: Population) -> None:
    assert torch.equal(population.module("rnn-2").readout.bias, population.bundles[1].readout_bias[2])
    with pytest.raises(KeyError, match="No member 'rnn-3'; the population has gru-0, gru-1, rnn-0"):
        population.module("rnn-3")


def test_counts_names_and_tasks_have_to_fit(make_bundle: Callable[..., RecurrentBundle]) -> None:
    one, other = Member("a", "g", "synthetic"), Member("b", "g", "imdb")
    with pytest.raises(PopulationError, match="A bundle of 3 networks was given 1 members"):
        Population([make_bundle(3)], [[one]])
    with pytest.raises(PopulationError, match="share one task"):
        Population([make_bundle(2)], [[one, other]])
    with pytest.raises(PopulationError, match="Several members are called a"):
        Population([make_bundle(1), make_bundle(1)], [[one], [one]])


def test_nothing_finished_is_overwritten(population: Population, folder: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(FileExistsError, match="saved exists; choose another folder or remove it first"):
        population.save(folder)
    assert (folder / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("step", ["weights", "manifest", "rename"])
def test_a_save_that_fails_half_way_leaves_nothing(
    population: Population, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    if step == "weights":
        monkeypatch.setattr("dynamo.population.bundle_file.save_file", full)
    else:
        monkeypatch.setattr(Path, "write_text" if step == "manifest" else "rename", full)
    with pytest.raises(OSError, match="No space left"):
        population.save(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_save_leaves_behind_is_no_population(folder: Path) -> None:
    left = folder.parent / ".other-x1y2z3"
    folder.rename(left)
    (left / "manifest.json").unlink()  # it is written last
    with pytest.raises(PopulationError, match=r"No population at .*/other"):
        Population.load(folder.parent / "other")
    with pytest.raises(PopulationError, match=r"No population at .*/.other-x1y2z3: manifest.json is missing"):
        Population.load(left)
    assert not list(folder.parent.glob("*/manifest.json"))


def test_join_merges_bundles_that_are_alike(make_population: MakePopulation) -> None:
    one, other = make_population("a-"), make_population("b-", seed=50)
    joined = Population.join([one, other])
    assert [bundle.count for bundle in joined.bundles] == [4, 6]
    assert [m.name for m in joined.bundle_members[0]] == ["a-gru-0", "a-gru-1", "b-gru-0", "b-gru-1"]
    for source in (one, other):
        for member in source.members:
            mine, theirs = joined.module(member.name), source.module(member.name)
            for name, tensor in theirs.state_dict().items():
                assert torch.equal(mine.state_dict()[name], tensor), name
    assert joined.config == {"joined": [{"lr": 0.01}, {"lr": 0.01}]}
    assert joined.fingerprint == one.fingerprint


def test_join_keeps_other_sizes_and_tasks_apart(make_bundle: Callable[..., RecurrentBundle]) -> None:
    parts = [
        Population(
            [make_bundle(1, hidden_size=size)], [[Member(f"{task}-{size}", "g", task)]], class_names={task: "ab"}
        )
        for task, size in (("x", 5), ("x", 6), ("y", 5))
    ]
    joined = Population.join(parts)
    assert joined.tasks == ("x", "x", "y")
    assert joined.class_names == {"x": ("a", "b"), "y": ("a", "b")}


def test_join_refuses_other_data_and_names_that_occur_twice(make_population: MakePopulation) -> None:
    one = make_population("a-")
    foreign = make_population("b-", fingerprint={"vocabulary": "fedcba9876", "data": "abcdefghij"})
    with pytest.raises(PopulationError, match=r"different vocabularies or data \(vocabulary 01234567 and fedcba98\)"):
        Population.join([one, foreign])
    with pytest.raises(PopulationError, match="Several members are called a-gru-0"):
        Population.join([one, make_population("a-", seed=9)])


def test_only_takes_groups_and_renames_them(population: Population) -> None:
    chosen = population.only({"rnn": "vanilla"})
    assert [(m.name, m.group) for m in chosen.members] == [(f"rnn-{i}", "vanilla") for i in range(3)]
    assert torch.equal(chosen.bundles[0].weight_hh, population.bundles[1].weight_hh)
    assert chosen.fingerprint == population.fingerprint
    with pytest.raises(PopulationError, match="No group 'lstm'; the population has gru, rnn"):
        population.only({"rnn": "vanilla", "lstm": "x"})


def test_accuracies_are_noted_and_unmeasured_ones_are_not(population: Population, folder: Path) -> None:
    measured = population.with_accuracies("test", [0.1, 0.2, 0.3, float("nan"), 0.5])
    assert [m.test_accuracy for m in measured.members] == [0.1, 0.2, 0.3, None, 0.5]
    weights = (folder / "bundle-0.safetensors").read_bytes()
    rewrite_members(folder, measured.bundle_members)
    assert Population.load(folder).members == measured.members
    assert (folder / "bundle-0.safetensors").read_bytes() == weights
    assert not list(folder.glob("*.tmp"))


def test_other_descriptions_change_nothing_else(population: Population) -> None:
    renamed = [[replace(m, name=f"{m.name}!") for m in part] for part in population.bundle_members]
    marked = population.with_members(renamed)
    assert [m.name for m in marked.members] == ["gru-0!", "gru-1!", "rnn-0!", "rnn-1!", "rnn-2!"]
    assert marked.bundles == population.bundles
    for name in ("fingerprint", "class_names", "config"):
        assert getattr(marked, name) == getattr(population, name) != {}
    fewer = population.with_members(renamed[1:], population.bundles[1:])
    assert (len(fewer), fewer.config) == (3, population.config)
    with pytest.raises(PopulationError, match="A bundle of 2 networks was given 1 members"):
        population.with_members([renamed[0][:1], renamed[1]])


def test_a_damaged_or_missing_weights_file_is_named(folder: Path) -> None:
    path = folder / "bundle-1.safetensors"
    whole = path.read_bytes()
    for broken in (whole[:-1], whole[: len(whole) // 2], b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(broken)
        with pytest.raises(PopulationError, match=r"bundle-1.safetensors is damaged"):
            Population.load(folder)
    path.unlink()
    with pytest.raises(PopulationError, match=r"bundle-1.safetensors is missing"):
        Population.load(folder)


class Bomb:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_pickle_in_place_of_the_weights_is_not_executed(folder: Path, writer: str) -> None:
    path, mark = folder / "bundle-0.safetensors", folder.parent / "executed"
    if writer == "pickle":
        path.write_bytes(pickle.dumps(Bomb(mark)))
    else:
        torch.save(Bomb(mark), path)
    edit(folder, lambda content: content["bundles"][0].update(sha256=file_hash(path)))
    with pytest.raises(PopulationError, match=r"bundle-0.safetensors does not hold what its manifest says"):
        Population.load(folder)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda b: b["members"].pop(), "bundle-0.safetensors does not hold what its manifest says: .*size mismatch"),
        (lambda b: b["settings"].update(vocab_size=10**12), "bundle-0.*does not hold .*size mismatch"),
        (lambda b: b["settings"].update(vocab_size=10**30), "bundle-0.*does not hold"),
        (lambda b: b["settings"].update(hidden_size=-1), "bundle-0.*does not hold"),
        (lambda b: b["settings"].update(hidden_size="5"), "bundle-0.*does not hold"),
        (lambda b: b["settings"].update(architecture="lstm"), "bundle-0.*does not hold .*size mismatch"),
        (lambda b: b["settings"].update(architecture="mamba"), "bundle-0.*does not hold .*mamba"),
        (lambda b: b["settings"].update(surprise=1), "bundle-0.*does not hold .*surprise"),
        (lambda b: b["settings"].pop("classes"), "bundle-0.*does not hold .*classes"),
        (lambda b: b.update(kind="os.system"), "bundles of kind 'os.system' are unknown"),
        (lambda b: b.update(sha256="00"), "bundle-0.safetensors is damaged"),
    ],
)
def test_a_manifest_that_does_not_fit_the_weights_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], match: str
) -> None:
    edit(folder, lambda content: change(content["bundles"][0]))
    with pytest.raises(PopulationError, match=f"(?s){match}"):
        Population.load(folder)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda t: t["weight_hh"][1, 2, 3].fill_(float("nan")),
            r"member 'gru-1' has weights \(weight_hh\) that are not",
        ),
        (lambda t: t["embedding"][0, 0, 0].fill_(float("inf")), r"member 'gru-0' has weights \(embedding\)"),
        (lambda t: t.pop("bias_hh"), "does not hold .*Missing key.*bias_hh"),
        (lambda t: t.update(extra=torch.zeros(2)), "does not hold .*Unexpected key.*extra"),
        (lambda t: t.update(bias_hh=t["bias_hh"].half()), "does not hold .*float32"),
        (lambda t: t.update(bias_hh=t["bias_hh"].long()), "does not hold .*float32"),
        (lambda t: t.clear(), "does not hold"),
    ],
)
def test_unsound_weights_are_refused(folder: Path, change: Callable[[Any], object], match: str) -> None:
    replace_weights(folder, change)
    with pytest.raises(PopulationError, match=f"(?s)bundle-0.safetensors.*{match}"):
        Population.load(folder)
