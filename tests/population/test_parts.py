"""Are parts trained by themselves the whole, bit for bit and in its order, and is what is wrong with them told?"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from datamodules import DigitsDataModule, SyntheticSentimentDataModule
from datamodules.base import IndexedDataModule
from dynamo.cli import main
from dynamo.population import MemberGroup, Population, PopulationError, PopulationTask, load_populations
from dynamo.population.parts import KEY, Part, complete, note_part, parse_positions, spell, warn_of_threads

TEXTS = [
    MemberGroup("full", count=3, hidden_size=9, embedding_size=5),
    MemberGroup("rnn", count=2, architecture="rnn", fraction=0.5, hidden_size=7, embedding_size=5),
    MemberGroup("few", count=2, fraction=0.2, hidden_size=9, embedding_size=5),
]  # members 0-4 are GRUs (full, few), 5-6 RNNs
SIZES: dict[str, Any] = {"architecture": "resnet", "widths": [4, 6, 8, 10], "depths": [1, 1, 1, 1]}
IMAGES = [
    MemberGroup("crop", count=2, policy="flip_crop", **SIZES),
    MemberGroup("rand", count=1, policy="randaugment", fraction=0.5, **SIZES),
    MemberGroup("mix", count=1, policy="mixup", **SIZES),
]
PARTS = {"texts": ["0-1,5", "3", "2,4,6"], "images": ["0,3", "1", "2"]}


def texts() -> SyntheticSentimentDataModule:
    return SyntheticSentimentDataModule(
        train_size=400, test_size=40, vocab_size=30, min_length=3, max_length=25, keep="random", batch_size=10, window=9
    )


def trained(groups: list[MemberGroup], data: IndexedDataModule, members: str | None = None) -> Population:
    adam = data.vocab_size > 0
    options: dict[str, Any] = {"lr": 0.02} if adam else {"lr": 0.1, "optimizer": "sgd", "clip": 1.0}
    task = PopulationTask(groups, data.vocab_size, data.classes, warmup_steps=2, members=members, **options)
    trainer = pl.Trainer(
        max_steps=8, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(task, datamodule=data)
    return task.population(1, data.fingerprint, {"lr": task.lr, "steps": trainer.global_step})


def check_same(joined: Population, whole: Population) -> None:
    assert joined.bundle_members == whole.bundle_members
    assert (joined.config, joined.fingerprint, joined.class_names) == (
        whole.config, whole.fingerprint, whole.class_names,
    )  # fmt: skip
    for found, wanted in zip(joined.bundles, whole.bundles, strict=True):
        assert found.settings == wanted.settings
        for name, value in wanted.state_dict().items():
            assert torch.equal(found.state_dict()[name], value), name


@pytest.mark.parametrize("kind", ["texts", "images"])
def test_parts_joined_are_the_whole(kind: str, tmp_path: Path) -> None:
    groups = TEXTS if kind == "texts" else IMAGES

    def data() -> IndexedDataModule:
        return texts() if kind == "texts" else DigitsDataModule(batch_size=12, val_items=30)

    whole = trained(groups, data())
    for number, members in enumerate(PARTS[kind]):
        part = trained(groups, data(), members)
        assert [m.name for m in part.members] == [whole.members[p].name for p in parse_positions(members, len(whole))]
        part.save(tmp_path / f"part-{number}")
    check_same(load_populations(str(tmp_path / "part-*")), whole)
    backwards = [str(tmp_path / f"part-{number}") for number in reversed(range(len(PARTS[kind])))]
    check_same(load_populations(backwards), whole)


def test_the_command_trains_parts_of_the_demo(commands: dict[str, list[str]], trained: Path, tmp_path: Path) -> None:
    for number, members in enumerate(("0-4", "5", "6-11")):
        run = str(tmp_path / f"part-{number}")
        main(["fit", *commands["population"], "--model.init_args.members", members, "--run", run])
    joined = load_populations(str(tmp_path / "part-*" / "population"))
    whole = Population.load(trained / "population" / "population")
    assert [m.val_accuracy for m in joined.members] == [m.val_accuracy for m in whole.members]
    unmeasured = [[m.__class__(**{**vars(m), "test_accuracy": None}) for m in part] for part in whole.bundle_members]
    check_same(joined, whole.with_members(unmeasured))


def test_a_wrong_option_is_one_line(commands: dict[str, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", *commands["population"], "--model.init_args.members", "0-12", "--run", "nowhere"])
    assert capsys.readouterr().err == (
        "dynamo: error: members is '0-12', but there are 12 members: positions go from 0 to 11.\n"
    )


@pytest.mark.parametrize(
    ("text", "positions"), [("0-3", [0, 1, 2, 3]), ("3", [3]), ("8,0-2", [0, 1, 2, 8]), (" 1 - 2 , 4", [1, 2, 4])]
)
def test_positions_are_read_and_spelled(text: str, positions: list[int]) -> None:
    assert parse_positions(text, 9) == positions
    assert parse_positions(spell(positions), 9) == positions
    assert spell([0, 1, 2, 8]) == "0-2,8"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "members is ''; write positions and ranges, such as 0-9 or 0-4,8"),
        ("1,", "write positions and ranges"),
        ("-3", "write positions and ranges"),
        ("a-b", "members is 'a-b'; write positions"),
        ("4-2", "members is '4-2'; 4-2 holds nobody: write the smaller number first"),
        ("0-9", "members is '0-9', but there are 9 members: positions go from 0 to 8"),
        ("0-3,2-4,8", "which names 2-3 twice; name each member once"),
    ],
)
def test_wrong_positions_are_told(text: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        parse_positions(text, 9)


MakePopulation = Callable[..., Population]


@pytest.fixture
def make_part(make_population: MakePopulation) -> Callable[..., Population]:
    """Members of a population of two GRUs and three RNNs as a part."""

    def make(positions: Sequence[int], **whole: Any) -> Population:  # noqa: ANN401
        all_of_it = make_population()
        members, bundles, first = [], [], 0
        for bundle, part in zip(all_of_it.bundles, all_of_it.bundle_members, strict=True):
            here = [p - first for p in positions if first <= p < first + len(part)]
            first += len(part)
            if here:
                bundles.append(bundle.take(here))
                members.append([part[i] for i in here])
        config = {"lr": 0.01, **note_part(positions, 5, whole)}
        return Population(
            bundles, members, fingerprint=all_of_it.fingerprint, class_names=all_of_it.class_names, config=config
        )

    return make


def test_the_order_is_restored_whoever_comes_first(
    make_part: Callable[..., Population], make_population: MakePopulation
) -> None:
    check_same(Population.join([make_part([3, 4]), make_part([0, 2]), make_part([1])]), make_population())
    other = make_population("other-")
    mixed = complete([make_part([2, 3, 4]), other, make_part([0, 1])])
    assert mixed[1] is other
    check_same(mixed[0], make_population())


def test_what_is_missing_twice_or_different_is_told(make_part: Callable[..., Population], tmp_path: Path) -> None:
    with pytest.raises(PopulationError, match=r"Of a population of 5 members 1,3 are missing: train them with --model"):
        Population.join([make_part([0, 2]), make_part([4])])
    with pytest.raises(
        PopulationError, match=r"'rnn-0', member 2 of the whole, is in two parts \(members 0-2 and 2-4\)"
    ):
        Population.join([make_part([0, 1, 2]), make_part([2, 3, 4])])
    with pytest.raises(
        PopulationError, match=r"\(members 0-2 and 3-4\) were trained in different ways: seed is 0 and 1"
    ):
        Population.join([make_part([0, 1, 2], seed=0), make_part([3, 4], seed=1)])
    make_part([0, 2]).save(tmp_path / "part-0")
    assert len(load_populations(str(tmp_path / "part-0"))) == 2  # by name: what was asked for
    with pytest.raises(PopulationError, match="1,3-4 are missing"):
        load_populations(str(tmp_path / "part-*"))


@pytest.mark.parametrize("note", [5, {}, {"members": "0-7", "total": 9, "whole": {}}, {"members": "0", "total": "x"}])
def test_a_note_that_is_not_sound_is_told(note: Any, make_part: Callable[..., Population]) -> None:  # noqa: ANN401
    part = make_part([0, 1])
    part.config[KEY] = note
    with pytest.raises(PopulationError, match=re.escape("The part with 'gru-0' has no sound 'part' in its manifest")):
        Part.of(part)


def test_some_groups_of_a_part_are_no_part(make_part: Callable[..., Population]) -> None:
    assert Part.of(make_part([0, 2]).only({"gru": "x"})) is None


@pytest.mark.parametrize(
    ("device", "threads", "counts", "said"),
    [
        ("cpu", 8, [9, 3], "3 members of one kind and 8 threads.*set OMP_NUM_THREADS=3 for all of them"),
        ("cpu", 3, [1], "set OMP_NUM_THREADS=2 for all"),
        ("cpu", 2, [1], ""),
        ("cpu", 8, [8, 10], ""),
        ("cuda", 1, [8], "to rounding, not bit for bit"),
    ],
)
def test_what_is_not_promised_is_said(
    device: str,
    threads: int,
    counts: list[int],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(logging.getLogger("dynamo"), "propagate", True)
    warn_of_threads(torch.device(device), counts)
    assert re.search(said, caplog.text) if said else not caplog.text
