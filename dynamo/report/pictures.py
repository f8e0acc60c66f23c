"""The pictures of a run, inside the page: with what they show, and small enough."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from PIL import Image
from pytorch_lightning import Callback

import callbacks
from dynamo.analyze.command import ANALYSES, answerable
from dynamo.plain_file import read_plain
from dynamo.runs import RunFolder
from dynamo.types import UserError

LARGEST_PICTURE: Final = 32 * 2**20
MOST_PIXELS: Final = 64 * 2**20
MOST_PICTURES: Final = 24
MOST_BYTES: Final = 400_000
"""Of one picture in the page; a larger one is written again with fewer colours, then smaller."""

WATCHED: Final = {
    "map_pca": callbacks.EmbeddingPCA,
    "map_similarity": callbacks.SimilarityMDS,
    "map_accuracy": callbacks.AccuracyMap,
    "fidelity_val": callbacks.FidelityTable,
    "fidelity_test": callbacks.FidelityTable,
}
"""Pictures that callbacks draw, by file."""
ASKED: Final = {"embed": " --population OTHER", "leave_one_out": " --folds RUN ..."}
"""What an analysis has to be told besides the run."""
INSTEAD: Final = {
    "map_pca": "embedding",
    "map_similarity": "similarity",
    "map_accuracy": "accuracy_map",
    "fidelity_val": "fidelity_test",
}
"""What a callback drew during the training, and what shows the same of the finished run, on more items."""


class Picture(NamedTuple):
    """A picture in the page.

    Attributes:
        name: of its file, without its ending.
        where: of which run it is; empty where there is one run only.
        question: that it answers.
        text: what it shows.
        uri: the PNG itself, as a data URI.
        width: in pixels.
        height: in pixels.
    """

    name: str
    where: str
    question: str
    text: str
    uri: str
    width: int
    height: int


class Missing(NamedTuple):
    """An analysis that has not been run: its question, and the command that answers it."""

    name: str
    question: str
    command: str


def pictures_of(root: RunFolder, others: Sequence[RunFolder] = ()) -> list[Picture]:
    """The pictures of a folder, the analyses first; and of other runs those that the folder has none of.

    Raises:
        UserError: one is no whole PNG.
    """
    found: dict[str, tuple[Path, str]] = {}
    for run in (root, *others):
        for path in sorted(run.figures.glob("*.png")):
            found.setdefault(path.stem, (path, run.root.name.replace("=", " ") if run != root else ""))
    for name, better in INSTEAD.items():
        if better in found:
            found.pop(name, None)
    order = [*(kind.name for kind in ANALYSES), "fidelity_test", *INSTEAD]
    names = sorted(found, key=lambda name: (order.index(name) if name in order else len(order), name))
    return [_picture(name, *found[name]) for name in names[:MOST_PICTURES]]


def missing_of(shown: Sequence[Picture], run: str, answers: bool = True) -> list[Missing]:
    """The analyses that none of the pictures is of, and how they would be made.

    Args:
        shown: the pictures.
        run: as it is typed.
        answers: whether the map shows answers (lambda is above 0).
    """
    known = {picture.name for picture in shown}
    told = [
        Missing(kind.name, caption(kind)[0], f"dynamo analyze {kind.name} --run {run}{ASKED.get(kind.name, '')}")
        for kind in answerable(answers)
        if kind.name not in known
    ]
    if not known & {"fidelity_test", "fidelity_val"}:
        question = caption(callbacks.FidelityTable)[0]
        told.insert(0, Missing("fidelity", question, f"dynamo test -c {run}/config.yaml --ckpt_path last"))
    return told


def caption(kind: type) -> tuple[str, str]:
    """The question that an analysis or a callback answers, and the paragraph below: what it shows."""
    paragraphs = (kind.__doc__ or "").split("\n\n")
    question, *more = (" ".join(part.split()) for part in paragraphs)
    return question, more[0] if more and not more[0].startswith("Args:") else ""


def _picture(name: str, path: Path, where: str) -> Picture:
    try:
        content = read_plain(path, LARGEST_PICTURE)
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"it has {image.width} x {image.height} pixels")
            image.load()
            size, small = image.size, content if len(content) <= MOST_BYTES else smaller(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # PIL's for a broken chunk
        raise UserError(
            f"{path} is damaged ({' '.join(str(error).split())[:200]}); delete it and run again what drew it."
        ) from error
    kind = next((kind for kind in ANALYSES if kind.name == name), None) or WATCHED.get(name)
    question, text = caption(kind) if kind is not None else (name, "")
    if kind is not None and issubclass(kind, Callback):
        when = "Drawn by `dynamo test`." if name == "fidelity_test" else "Drawn at the end of the training."
        text = when if name.startswith("fidelity") else f"{text.partition('Logs')[0]}{when}"
    return Picture(name, where, question, text, f"data:image/png;base64,{base64.b64encode(small).decode()}", *size)


def smaller(image: Image.Image) -> bytes:
    """A PNG of the same picture with 256 colours, shrunk until it has no more than `MOST_BYTES`."""
    image = image.convert("RGB")
    while True:
        written = io.BytesIO()
        fewer = image.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)  # keeps small marks' colours
        fewer.save(written, format="PNG", optimize=True)
        if len(written.getvalue()) <= MOST_BYTES:
            return written.getvalue()
        image = image.resize((max(1, image.width * 3 // 4), max(1, image.height * 3 // 4)), Image.Resampling.LANCZOS)
