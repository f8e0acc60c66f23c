"""Does a configuration become the members it asks for, and is a wrong one refused by name?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dynamo.population.members import SEEDS_PER_GROUP, Member, MemberGroup, expand
from dynamo.population.recurrent import RecurrentBundle
from dynamo.population.residual import ResidualBundle
from dynamo.types import Reader


def test_members_are_called_after_their_group_and_know_what_they_read() -> None:
    group = MemberGroup("half", count=3, task="imdb", fraction=0.5, subset_seed=7, seed=40)
    ((same, members),) = expand([group], ["imdb", "ag_news"])
    assert same is group
    assert members == [Member(f"half-{i}", "half", "imdb", 40 + i, 0.5, 7) for i in range(3)]
    assert members[1].reader == Reader("imdb", 0.5, 41, 7)
    assert (members[0].policy, members[0].epoch, members[0].val_accuracy, members[0].test_accuracy) == (
        ("none", None, None, None)
    )


def test_seeds_do_not_overlap_between_groups() -> None:
    groups = [MemberGroup(f"g{i}", count=count) for i, count in enumerate((500, 3, SEEDS_PER_GROUP, 20))]
    seeds = [member.seed for _, members in expand(groups, ["imdb"]) for member in members]
    assert len(set(seeds)) == len(seeds) == 523 + SEEDS_PER_GROUP


def test_adding_a_group_at_the_end_leaves_the_members_before_it_as_they_were() -> None:
    groups = [MemberGroup("a"), MemberGroup("b", count=2)]
    assert expand([*groups, MemberGroup("c")], ["imdb"])[:2] == expand(groups, ["imdb"])


def test_the_order_is_that_of_the_configuration() -> None:
    groups = [MemberGroup("z"), MemberGroup("a")]
    assert [group.name for group, _ in expand(groups, ["imdb"])] == ["z", "a"]


def test_the_only_task_may_be_left_out() -> None:
    ((_, members),) = expand([MemberGroup("a", count=1)], ["imdb"])
    assert members[0].task == "imdb"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"count": 0}, "group 'g': count is 0; a group needs at least 1 member"),
        ({"architecture": "gry"}, "group 'g': architecture is 'gry'; choose one of gru, lstm, rnn, resnet"),
        ({"hidden_size": 0}, "group 'g': hidden_size and embedding_size have to be at least 1"),
        ({"embedding_size": -1}, "group 'g': hidden_size and embedding_size have to be at least 1"),
        ({"fraction": 0.0}, r"group 'g': fraction is 0.0; it has to lie in \(0, 1\]"),
        ({"fraction": 50.0}, r"group 'g': fraction is 50.0; it has to lie in \(0, 1\]"),
        ({"fraction": float("nan")}, "group 'g': fraction is nan"),
        ({"widths": [4, 6, 8, 10]}, r"group 'g': a gru has no widths; leave widths out \(\[4, 6, 8, 10\]\)"),
        ({"architecture": "rnn", "depths": [1, 1, 1, 1]}, "group 'g': a rnn has no depths"),
        ({"policy": "flip_crop"}, r"group 'g': a gru has no policy; leave policy out \('flip_crop'\)"),
        ({"architecture": "resnet", "hidden_size": 64}, "group 'g': a resnet has no hidden_size"),
        ({"architecture": "resnet", "embedding_size": 32}, "group 'g': a resnet has no embedding_size"),
        ({"architecture": "resnet", "widths": [4, 6, 8]}, r"group 'g': widths is \[4, 6, 8\]; it has to be 4 whole"),
        ({"architecture": "resnet", "depths": [1, 1, 0, 1]}, r"group 'g': depths is \[1, 1, 0, 1\]"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        MemberGroup("g", **options)
    with pytest.raises(ValueError, match=match):
        replace(MemberGroup("g"), **options)


@pytest.mark.parametrize(
    ("groups", "match"),
    [
        ([], "at least one group"),
        ([MemberGroup("g", task="imdb"), MemberGroup("g", task="ag_news")], "Two groups are called 'g'"),
        ([MemberGroup("g")], "group 'g': say which task it learns, one of imdb, ag_news"),
        ([MemberGroup("g", task="cifar")], "group 'g': the data has no task 'cifar', only imdb, ag_news"),
    ],
)
def test_wrong_groups_are_named(groups: list[MemberGroup], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        expand(groups, ["imdb", "ag_news"])


def test_a_group_says_what_bundle_it_wants() -> None:
    kind, settings = MemberGroup("g", architecture="lstm", embedding_size=7).bundle(11, 2, 0.5)
    assert kind is RecurrentBundle
    assert settings == {
        "architecture": "lstm",
        "vocab_size": 11,
        "embedding_size": 7,
        "hidden_size": 64,
        "classes": 2,
        "embedding_scale": 0.5,
    }
    assert kind.build(1, settings).settings == settings
    kind, settings = MemberGroup("g", architecture="resnet", widths=[4, 6, 8, 10]).bundle(0, 7, 0.5)
    assert kind is ResidualBundle
    assert settings == {"widths": [4, 6, 8, 10], "depths": [3, 4, 6, 3], "classes": 7}
    assert kind.build(1, settings).settings == settings


def test_members_know_their_policy() -> None:
    ((_, members),) = expand(
        [MemberGroup("g", count=2, architecture="resnet", policy="mixup", fraction=0.5)], ["images"]
    )
    assert members[1].policy == "mixup"
    assert members[1].reader == Reader("images", 0.5, 1, 0, "mixup")


@pytest.mark.parametrize(
    ("architecture", "vocab_size", "match"),
    [
        ("rnn", 0, "group 'g': a rnn reads text, and the data is images; set its architecture to resnet"),
        (
            "resnet",
            9,
            "group 'g': a resnet reads images, and the data is text; set its architecture to one of gru, lstm, r",
        ),
    ],
)
def test_networks_that_cannot_read_the_data_are_refused(architecture: str, vocab_size: int, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        MemberGroup("g", architecture=architecture).bundle(vocab_size, 2, 0.1)
