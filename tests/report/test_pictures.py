"""Pictures are whole, say what they show, and are made smaller where they are too large for a page."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from dynamo.analyze.command import ANALYSES
from dynamo.analyze.embedding import Embedding
from dynamo.report.pictures import MOST_BYTES, caption, missing_of, pictures_of
from dynamo.runs import RunFolder
from dynamo.types import UserError


def draw(run: RunFolder, name: str, width: int = 8, height: int = 6) -> bytes:
    run.figures.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(run.figures / f"{name}.png")
    return (run.figures / f"{name}.png").read_bytes()


def content(uri: str) -> bytes:
    return base64.b64decode(uri.removeprefix("data:image/png;base64,"))


def test_a_picture_is_in_the_page_as_it_is(run: RunFolder) -> None:
    for path in run.figures.glob("*.png"):
        path.unlink()
    png = draw(run, "embedding")
    (picture,) = pictures_of(run)
    assert content(picture.uri) == png
    assert (picture.question, picture.width, picture.height) == (caption(Embedding)[0], 8, 6)


def test_a_large_picture_is_made_smaller(run: RunFolder) -> None:
    assert len(draw(run, "embedding", 480, 320)) > MOST_BYTES
    picture = next(one for one in pictures_of(run) if one.name == "embedding")
    with Image.open(io.BytesIO(content(picture.uri))) as image:
        assert len(content(picture.uri)) <= MOST_BYTES
        assert image.width / image.height == pytest.approx(1.5, rel=0.01)


def test_analyses_take_the_place_of_what_was_drawn_in_training(run: RunFolder) -> None:
    before = [picture.name for picture in pictures_of(run)]
    assert "map_pca" in before
    draw(run, "embedding")
    after = [picture.name for picture in pictures_of(run)]
    assert after[0] == "embedding"
    assert "map_pca" not in after


def test_a_figure_adds_those_of_its_first_seed(run: RunFolder) -> None:
    figure = RunFolder(run.root.parent)
    draw(figure, "embedding")
    draw(run, "embedding")
    draw(run, "similarity")
    found = {picture.name: picture.where for picture in pictures_of(figure, [run])}
    assert found["embedding"] == ""
    assert found["similarity"] == "seed 0"


@pytest.mark.parametrize("harm", ["cut", "foreign", "folder"])
def test_a_damaged_picture_is_one_line(run: RunFolder, harm: str) -> None:
    png = draw(run, "embedding", 40, 40)
    path = run.figures / "embedding.png"
    path.unlink()
    if harm == "folder":
        path.mkdir()
    else:
        path.write_bytes(png[: len(png) // 2] if harm == "cut" else b"<svg onload='alert(1)'>")
    with pytest.raises(UserError, match=r"embedding\.png is damaged .*; delete it and run again what drew it"):
        pictures_of(run)


def test_what_is_missing_says_how_it_is_made(run: RunFolder) -> None:
    of_states = {one.name for one in missing_of([], "runs/x", answers=False)}
    assert of_states == {"fidelity", "embedding", "similarity", "embed", "leave_one_out"}
    commands = {one.name: one.command for one in missing_of([], "runs/x")}
    assert list(commands) == ["fidelity", *(kind.name for kind in ANALYSES)]
    assert commands["fidelity"] == "dynamo test -c runs/x/config.yaml --ckpt_path last"
    assert commands["embed"] == "dynamo analyze embed --run runs/x --population OTHER"
    draw(run, "embedding")
    assert "embedding" not in {one.name for one in missing_of(pictures_of(run), "runs/x")}
