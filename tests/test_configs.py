"""Does every configuration say what it is for, how to run it, how long it takes and what came out?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from jsonargparse import Namespace

from dynamo.cli import DynamoCLI, build, main
from dynamo.population import MemberGroup, Population
from dynamo.runs import RunFolder

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
TINY = str(ROOT / "configs/debug/tiny.yaml")
POPULATIONS = sorted((ROOT / "configs/population").glob("*.yaml"))
METAS = [path for path in sorted((ROOT / "configs/meta").glob("*.yaml")) if "run:" in path.read_text(encoding="utf-8")]
OVERLAYS = ("debug", "hardware")  # laid over another configuration: they have no time and no result


def header(config: Path) -> str:
    """The comment lines at the top of the file."""
    lines = config.read_text(encoding="utf-8").splitlines()
    end = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(lines[:end])


def test_there_are_configurations() -> None:
    assert CONFIGS


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_header_is_complete(config: Path) -> None:
    is_overlay = config.relative_to(ROOT / "configs").parts[0] in OVERLAYS
    labels = ("Purpose", "Command") if is_overlay else ("Purpose", "Command", "Time", "Seen")
    missing = [label for label in labels if not re.search(rf"^# *{label}: *\S", header(config), re.MULTILINE)]
    assert missing == []


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_header_names_files_that_exist(config: Path) -> None:
    named = re.findall(r"configs/[\w/.-]+\.yaml", header(config))
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_file_is_a_mapping_without_duplicate_keys(config: Path) -> None:
    """YAML takes the last of two equal keys without a word."""
    node = yaml.compose(config.read_text(encoding="utf-8"))
    assert isinstance(node, yaml.MappingNode)
    pending: list[yaml.Node] = [node]
    while pending:
        node = pending.pop()
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value]
            assert len(keys) == len(set(keys)), f"line {node.start_mark.line + 1}: a key stands there twice"
            pending += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            pending += node.value


def parsed(configs: list[str], monkeypatch: pytest.MonkeyPatch) -> Namespace:
    """What the real parser makes of configurations laid over each other; nothing is built."""
    found: list[Namespace] = []
    monkeypatch.setattr(DynamoCLI, "instantiate_classes", lambda self: found.append(self.config))
    monkeypatch.setattr(DynamoCLI, "_run_subcommand", lambda self, name: None)
    build(["fit", *(word for config in configs for word in ("-c", config))], run=True)
    return found[0].fit


@pytest.mark.parametrize("config", [*POPULATIONS, *METAS], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_parser_accepts_it_alone_and_with_its_overlays(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(RunFolder, "started", lambda self: False)  # the runs of this machine are another matter
    assert parsed([str(config)], monkeypatch).run.startswith("runs/")
    prefix = "meta_" if config.parent.name == "meta" else ""
    overlays = [
        *(ROOT / "configs/full").glob(f"{prefix}{config.stem}.yaml"),
        *(ROOT / "configs/hardware").glob("*.yaml"),
        *(ROOT / "configs/meta").glob("lambda0.yaml" if prefix else "none"),
    ]
    for overlay in overlays:
        parsed([str(config), str(overlay)], monkeypatch)
    assert parsed([str(config), TINY], monkeypatch).trainer.max_epochs == 2


FULL = [path for path in POPULATIONS if (ROOT / "configs/full" / path.name).exists()]


@pytest.mark.parametrize("config", FULL, ids=lambda path: path.stem)
def test_the_full_scale_has_no_group_of_the_laptops(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ResNet-34s are ResNet-34s: what a group of the overlay leaves out has its default, not the laptop's value."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(RunFolder, "started", lambda self: False)
    overlay = ROOT / "configs/full" / config.name
    wanted = yaml.safe_load(overlay.read_text(encoding="utf-8"))["model"]["init_args"]["groups"]
    found = parsed([str(config), str(overlay)], monkeypatch).model.init_args.groups
    assert [MemberGroup(**vars(group)) for group in found] == [MemberGroup(**group) for group in wanted]


@pytest.mark.parametrize("config", METAS, ids=lambda path: path.stem)
def test_a_meta_model_reads_a_population_that_some_configuration_makes(config: Path) -> None:
    made = {yaml.safe_load(path.read_text(encoding="utf-8"))["run"] for path in POPULATIONS}
    places = yaml.safe_load(config.read_text(encoding="utf-8"))["model"]["init_args"]["population"]
    for place in [places] if isinstance(places, str) else places:
        assert place.removesuffix("/population").removesuffix("/snapshots/*") in made


@pytest.mark.parametrize("config", POPULATIONS, ids=lambda path: path.stem)
def test_a_population_configuration_runs(config: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    words = ["fit", "-c", str(config), "-c", TINY, "--run", str(tmp_path / "run")]
    if not config.stem.startswith("demo"):
        data = request.getfixturevalue("real_data")
        if config.stem.startswith("cifar100"):
            if not (data / "cifar-100-python").is_dir():
                pytest.skip(f"{data} has no cifar-100-python")
            words += ["--data.init_args.verify", "false"]  # a copy in another order will do
    main(words)
    assert RunFolder(tmp_path / "run").done("fit")
    assert len(Population.load(tmp_path / "run/population")) > 0
