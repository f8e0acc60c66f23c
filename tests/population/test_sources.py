"""Are folders and patterns of folders read in order, and is a missing one named?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dynamo.population import Population, PopulationError, load_populations
from dynamo.population.sources import keep, leave_out

MakePopulation = Callable[..., Population]


@pytest.fixture
def root(make_population: MakePopulation, tmp_path: Path) -> Path:
    for name in ("b", "a", "c"):
        make_population(f"{name}-").save(tmp_path / "runs" / name)
    return tmp_path / "runs"


def groups(population: Population) -> list[str]:
    return list(dict.fromkeys(member.group for member in population.members))


def test_one_folder_is_the_population_itself(root: Path) -> None:
    population = load_populations([str(root / "b")])
    assert groups(population) == ["b-gru", "b-rnn"]
    assert population.config == {"lr": 0.01}


def test_folders_keep_the_order_they_were_given_in(root: Path) -> None:
    population = load_populations([str(root / "c"), str(root / "a")])
    assert groups(population) == ["c-gru", "a-gru", "c-rnn", "a-rnn"]


def test_a_pattern_is_read_in_the_order_of_names(root: Path) -> None:
    population = load_populations([str(root / "*")])
    assert groups(population) == ["a-gru", "b-gru", "c-gru", "a-rnn", "b-rnn", "c-rnn"]
    assert len(population) == 15


def test_patterns_and_folders_may_be_mixed(root: Path) -> None:
    population = load_populations([str(root / "[bc]"), str(root / "a")])
    assert groups(population)[:3] == ["b-gru", "c-gru", "a-gru"]


def test_a_folder_whose_name_looks_like_a_pattern_is_a_folder(root: Path) -> None:
    (root / "a").rename(root / "run[1]")
    assert groups(load_populations([str(root / "run[1]")])) == ["a-gru", "a-rnn"]


def test_what_is_missing_is_named(root: Path) -> None:
    with pytest.raises(PopulationError, match=r"No folder matches '.*/x\*'. Train the population first"):
        load_populations([str(root / "a"), str(root / "x*")])
    with pytest.raises(PopulationError, match=r"No population at .*/nowhere: manifest.json is missing. Train one"):
        load_populations([str(root / "nowhere")])
    with pytest.raises(PopulationError, match="No population folder is given"):
        load_populations([])


def test_a_function_that_does_not_say_what_it_returns_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PopulationError, match=r"No population at nets\.all\. .*: def all\(\) -> dynamo\.Population"):
        load_populations("nets.all")
    monkeypatch.chdir(root)
    (root / "a").rename(root / "nets.all")  # a folder of such a name is one
    assert groups(load_populations("nets.all")) == ["a-gru", "a-rnn"]


def test_the_same_folder_twice_is_refused(root: Path) -> None:
    with pytest.raises(PopulationError, match="Several members are called a-gru-0, a-gru-1"):
        load_populations([str(root / "*"), str(root / "a")])


def test_one_in_memory_is_the_population_itself(make_population: MakePopulation, root: Path) -> None:
    population = make_population()
    assert load_populations(population) is population
    assert groups(load_populations(str(root / "b"))) == ["b-gru", "b-rnn"]


@pytest.mark.parametrize("places", [5, None, [5], {"a": "b"}])
def test_what_is_no_place_is_named(places: Any) -> None:  # noqa: ANN401
    with pytest.raises(PopulationError, match="give a folder, a list of folders, or a Population"):
        load_populations(places)


def test_some_members_can_be_left_out(make_population: MakePopulation) -> None:
    whole = make_population()
    names = [member.name for member in whole.members]
    gone = [names[1], names[-1]]
    rest = leave_out(whole, gone)
    assert [member.name for member in rest.members] == [name for name in names if name not in gone]
    for member in rest.members:
        kept, original = (population.module(member.name).state_dict() for population in (rest, whole))
        assert all(torch.equal(kept[key], original[key]) for key in original)


def test_a_bundle_of_which_nobody_is_left_is_gone(make_population: MakePopulation) -> None:
    whole = make_population()
    gone = [member.name for member in whole.bundle_members[0]]
    assert leave_out(whole, gone).bundle_members == whole.bundle_members[1:]


def test_those_that_are_kept_and_those_that_are_left_out_are_all(make_population: MakePopulation) -> None:
    whole = make_population()
    names = [member.name for member in whole.members]
    chosen = [names[-1], names[1]]
    kept = [member.name for member in keep(whole, chosen).members]
    assert kept == [names[1], names[-1]]
    assert sorted([*kept, *(member.name for member in leave_out(whole, chosen).members)]) == sorted(names)
    with pytest.raises(PopulationError, match="No member 'nobody' to keep; the population has "):
        keep(whole, ["nobody"])


def test_nobody_of_that_name_and_nobody_left_are_refused(make_population: MakePopulation) -> None:
    whole = make_population()
    with pytest.raises(PopulationError, match="No member 'nobody' to leave out; the population has "):
        leave_out(whole, ["nobody"])
    with pytest.raises(PopulationError, match=f"All {len(whole)} members would be left out"):
        leave_out(whole, [member.name for member in whole.members])
