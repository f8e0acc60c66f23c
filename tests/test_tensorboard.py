"""What a person sees who opens TensorBoard on finished runs: in the event files, and in a browser."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.metadata import (
    EXPERIMENT_TAG,
    SESSION_START_INFO_TAG,
    parse_experiment_plugin_data,
    parse_session_start_info_plugin_data,
)

from callbacks.captions import PICTURES
from callbacks.comparison import METRICS, OPTIONS
from dynamo.cli import main
from dynamo.population import Population

LAYOUT = "custom_scalars__config__"


@pytest.fixture(scope="module")
def runs(trained: Path, commands: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the trained population and two maps of it, of 16 and of 8 dimensions."""
    place = tmp_path_factory.mktemp("tensorboard")
    for kind in ("population", "meta"):
        shutil.copytree(trained / kind, place / kind)
    quick = ["--trainer.max_epochs=1", "--similarity_mds.items=8", "--accuracy_map.size=2"]
    main(["fit", *commands["meta"], *quick, "--model.init_args.dimensions=8", f"--run={place / 'narrow'}"])
    return place


def read(run: Path) -> EventAccumulator:
    board = EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    board.Reload()
    return board


def text(board: EventAccumulator, tag: str) -> str:
    (event,) = board.Tensors(f"{tag}/text_summary")
    assert event.step == 0
    content: str = event.tensor_proto.string_val[0].decode()
    return content


@pytest.mark.parametrize("kind", ["population", "meta", "narrow"])
def test_every_curve_and_picture_has_a_group_a_title_and_a_sentence(runs: Path, kind: str) -> None:
    board = read(runs / kind)
    tags = board.Tags()
    groups = {"train", "val", "test", "map", "similarity", "cost", "val_members", "test_members"}
    for tag in tags["scalars"] + tags["images"]:
        assert tag.split("/")[0] in groups
        assert "/" in tag
        told = board.SummaryMetadata(tag)
        assert told.display_name not in ("", tag)
        assert len(told.summary_description) > 10
    titles = [board.SummaryMetadata(tag).display_name for tag in tags["scalars"] + tags["images"]]
    assert len(titles) == len(set(titles))


def test_the_pictures_stand_in_order_and_before_the_curves(runs: Path) -> None:
    tags = read(runs / "meta").Tags()
    assert sorted(tags["images"]) == list(PICTURES.values())  # as TensorBoard sorts them
    assert max(tags["images"]) < min(tag for tag in tags["scalars"] if tag.startswith("map/"))


def test_what_the_test_split_says_stands_at_the_step_of_its_weights(runs: Path) -> None:
    board = read(runs / "meta")
    assert {event.step for event in board.Scalars("test/agreement")} == {4}  # however often it is measured
    assert {event.step for event in board.Images("map/5_fidelity_test")} == {4}
    assert json.loads((runs / "meta/results/fidelity_test.json").read_text())["step"] == 4
    assert {event.step for event in read(runs / "population").Scalars("test/accuracy")} == {4}


@pytest.mark.parametrize("kind", ["population", "meta"])
def test_every_chart_of_the_layout_shows_something_and_loss_terms_stand_together(runs: Path, kind: str) -> None:
    board = read(runs / kind)
    (event,) = board.Tensors(LAYOUT)
    charts = [c for category in Layout.FromString(event.tensor_proto.string_val[0]).category for c in category.chart]
    shown = []
    for chart in charts:
        tags = [tag for tag in board.Tags()["scalars"] for pattern in chart.multiline.tag if re.match(pattern, tag)]
        assert tags, chart.title
        shown.append(set(tags))
    if kind == "meta":
        assert {"train/loss", "train/hidden", "train/output"} in shown
        assert {"val/agreement/100%", "val/agreement/50%", "val/agreement/20%"} in shown
        assert {"map/accuracy_maximum", "map/accuracy_mean_theta"} in shown
    else:
        assert {"train/loss", "val/loss"} in shown


def test_two_maps_are_compared_by_the_same_columns(runs: Path) -> None:
    experiments, lines = [], []
    for kind in ("meta", "narrow"):
        board = read(runs / kind)
        experiments.append(parse_experiment_plugin_data(board.SummaryMetadata(EXPERIMENT_TAG).plugin_data.content))
        content = board.SummaryMetadata(SESSION_START_INFO_TAG).plugin_data.content
        lines.append(parse_session_start_info_plugin_data(content))
        assert set(lines[-1].hparams) == set(OPTIONS)
        assert len(board.Tensors(EXPERIMENT_TAG)) == len(board.Tensors(SESSION_START_INFO_TAG)) == 1
    assert experiments[0] == experiments[1]
    assert {info.name for info in experiments[0].hparam_infos} == set(OPTIONS)
    metrics = [info.name.tag for info in experiments[0].metric_infos]
    assert metrics == list(METRICS)
    assert set(metrics) <= set(read(runs / "meta").Tags()["scalars"])
    values = [{name: (v.number_value, v.string_value) for name, v in line.hparams.items()} for line in lines]
    assert {name for name in OPTIONS if values[0][name] != values[1][name]} == {"D", "epochs"}
    assert [value["D"][0] for value in values] == [16, 8]
    assert lines[0].group_name != lines[1].group_name
    assert EXPERIMENT_TAG not in read(runs / "population").Tags()["tensors"]


def test_the_texts_say_who_is_in_it_and_what_was_asked_for(runs: Path) -> None:
    meta, population = read(runs / "narrow"), read(runs / "population")
    assert "A map of 12 networks in 8 dimensions" in text(meta, "run/about")
    header, _, *rows = text(population, "run/about").split("\n\n")[1].splitlines()
    assert header == "group | networks | task | share of the training data"
    assert rows == [f"{name} | 4 | synthetic | {share}" for name, share in (("100%", 1.0), ("50%", 0.5), ("20%", 0.2))]
    asked = text(meta, "run/configuration")
    assert asked.startswith("```yaml\n")
    assert asked.endswith("```")
    assert "# Purpose: the meta-model of `make demo`\n" in asked
    options = yaml.safe_load(asked.removeprefix("```yaml").removesuffix("```"))
    assert options["model"]["init_args"]["dimensions"] == 8
    whole = yaml.safe_load((runs / "narrow/config.yaml").read_text(encoding="utf-8"))
    assert contains(whole, options)
    assert (
        options.keys() & whole.keys() - {"snapshots", "checkpoint", "results"} == options.keys()
    )  # defaults are not told


def contains(whole: Any, part: Any) -> bool:  # noqa: ANN401
    """Whether all that a part sets is set in the whole."""
    if isinstance(part, dict):
        return all(key in whole and contains(whole[key], value) for key, value in part.items())
    return bool(whole == part)


# What follows looks through the shadow roots of which TensorBoard's pages consist.
DEEP = """
function* all(root) {
  for (const node of root.querySelectorAll('*')) { yield node; if (node.shadowRoot) yield* all(node.shadowRoot); }
}
const shown = node => node.getClientRects().length > 0;
const find = selector => [...all(document)].filter(node => node.matches(selector) && shown(node));
const words = () => [...all(document)].filter(shown).flatMap(
  node => [...node.childNodes].filter(part => part.nodeType === Node.TEXT_NODE).map(part => part.data.trim())
).join(' ').replace(/\\s+/g, ' ');
"""


@pytest.fixture(scope="module")
def server(runs: Path) -> Iterator[str]:
    """The address of a TensorBoard that has read these runs."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["--logdir", str(runs), "--host", "127.0.0.1", "--port", str(port), "--samples_per_plugin", "images=100"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address, opener = f"http://127.0.0.1:{port}/", urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def has_read() -> bool:
        with opener.open(f"{address}data/plugin/scalars/tags", timeout=5) as answer:
            tags = json.load(answer)
        return {"population", "meta", "narrow"} <= tags.keys() and "test/agreement" in tags["meta"]

    end = time.monotonic() + 60
    try:
        while True:
            try:
                if has_read():
                    break
            except OSError:  # it does not listen yet
                pass
            assert time.monotonic() < end, "TensorBoard did not read the runs within a minute"
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def wait(browser: Any, script: str, *arguments: Any, seconds: float = 30) -> Any:  # noqa: ANN401
    """What a script returns, once it is something."""
    end = time.monotonic() + seconds
    while not (found := browser.execute_script(DEEP + script, *arguments)):
        assert time.monotonic() < end, f"{script}\nis still {found!r}; the page says: " + browser.execute_script(
            DEEP + "return words()"
        )
        time.sleep(0.1)
    return found


def open_tab(browser: Any, server: str, name: str) -> None:  # noqa: ANN401
    """Open a tab in a fresh page, having asked of the one before whether it reached for anything outside."""
    asked = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [url for url in asked if not url.startswith((server, "data:", "blob:"))] == []
    browser.get("about:blank")
    browser.get(f"{server}#{name}")


def see(browser: Any, *words: str) -> None:  # noqa: ANN401
    """Wait until all of this is to be read."""
    wait(browser, "const text = words(); return arguments[0].every(word => text.includes(word))", words)


def look_at_curves(browser: Any, server: str) -> None:  # noqa: ANN401
    open_tab(browser, server, "scalars")  # Time Series, the first tab, draws by WebGL: minutes without a graphics card
    see(browser, "Time of embedding_pca", "tag: cost/embedding_pca")
    open_tab(browser, server, "custom_scalars")
    see(browser, "Terms: loss = hidden + lambda * output", "Agreement by group", "Validation accuracy of every member")
    wait(browser, "return find('tf-custom-scalar-multi-line-chart-card').length >= 16 && words().includes('Matches (')")


def look_at_images(browser: Any, server: str, runs: Path) -> None:  # noqa: ANN401
    open_tab(browser, server, "images")
    pictures = sum(len(read(runs / kind).Tags()["images"]) for kind in ("meta", "narrow"))
    found = "const pictures = find('#main-image-container img'); return pictures.length >= arguments[0]"
    wait(browser, f"{found} && pictures.every(picture => picture.naturalWidth > 300)", pictures)
    see(browser, "The map: theta on its first two principal components", "tag: map/1_plane")
    titles = browser.execute_script(DEEP + "return words()")
    assert titles.index("map/1_plane") < titles.index("map/2_accuracy") < titles.index("map/4_fidelity")


def look_at_text_and_hparams(browser: Any, server: str, *maps: str) -> None:  # noqa: ANN401
    open_tab(browser, server, "text")
    see(browser, "A map of 12 networks in 16 dimensions.", "A map of 12 networks in 8 dimensions.")
    wait(browser, "return find('pre code').some(node => node.innerText.includes('dimensions: 8'))")
    open_tab(browser, server, "hparams")
    see(browser, "Trial ID", "lambda", "val/agreement", *maps)
    wait(
        browser,
        "const tab = find('paper-tab').find(t => t.innerText.match(/parallel/i)); tab && tab.click(); return tab",
    )
    wait(browser, "return find('g.foreground path').length >= 2")  # one for each map


def look_at_projector(browser: Any, server: str, members: Sequence[str]) -> None:  # noqa: ANN401
    open_tab(browser, server, "projector")
    for _ in range(2):  # a page in a page in a page
        browser.switch_to.frame(wait(browser, "return find('iframe')[0]"))
    app = "const app = find('vz-projector')[0]; const data = app && app.dataSet; "
    ready = "data && data.points.length && data.spriteAndMetadataInfo && data.spriteAndMetadataInfo.spriteImage"
    wait(browser, f"{app} return {ready} && data.spriteAndMetadataInfo.spriteImage.naturalWidth")
    assert wait(browser, f"{app} return data.points.map(point => point.metadata.name)") == list(members)
    see(browser, f"Points: {len(members)}", "Dimension: 16")
    hover = f"{app} app.notifyHoverOverPoint(5); return words().includes(arguments[0])"
    assert wait(browser, hover, members[5])
    browser.switch_to.default_content()


def test_the_tabs_in_a_browser(runs: Path, server: str, browser: Any) -> None:  # noqa: ANN401
    browser.set_script_timeout(120)  # seconds; a machine may do much else
    look_at_curves(browser, server)
    look_at_images(browser, server, runs)
    look_at_text_and_hparams(browser, server, "/meta", "/narrow")
    members = Population.load(runs / "population/population").members
    look_at_projector(browser, server, [member.name for member in members])
    open_tab(browser, server, "")
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
