"""Which embeddings does the projector tab show? All that lie in the folder, whichever process wrote them.

The first in the list, with which the tab opens, is the newest once more, its points drawn as the figures draw their
groups. The tab multiplies the colours of "Color by" with such pictures, so the others have none.
"""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote

from dynamo.figures.group_sprite import CELL
from dynamo.files import write_text

SPRITE = "sprite.png"
"""Beside `tensors.tsv`: how the points are drawn."""


def list_embeddings(folder: Path) -> None:
    """List every embedding below a folder of event files in its `projector_config.pbtxt`.

    A `SummaryWriter` lists only those that it has written itself: after a resumed training the tab would have
    forgotten the ones before.

    Args:
        folder: of the event files; an embedding is `STEP/TAG/tensors.tsv`, with `metadata.tsv` and maybe `sprite.png`
            beside it.
    """
    found = [file for file in folder.glob("*/*/tensors.tsv") if file.parts[-3].isdecimal()]
    found.sort(key=lambda file: (int(file.parts[-3]), file.parts[-2]))
    newest = {file.parts[-2]: file for file in found if file.with_name(SPRITE).is_file()}
    entries = [_entry(file, unquote(tag), SPRITE) for tag, file in newest.items()]
    entries += [_entry(file, f"{unquote(file.parts[-2])}:{file.parts[-3]}") for file in found]
    write_text(folder / "projector_config.pbtxt", "".join(entries))


def _entry(file: Path, name: str, sprite: str | None = None) -> str:
    """One embedding, as the tab reads it; the names of its files are relative to the list."""
    place = "/".join(file.parts[-3:-1])
    fields = {"tensor_name": name, "tensor_path": f"{place}/{file.name}"}
    if file.with_name("metadata.tsv").is_file():
        fields["metadata_path"] = f"{place}/metadata.tsv"
    lines = [f"  {field}: {json.dumps(value, ensure_ascii=False)}\n" for field, value in fields.items()]
    if sprite is not None:
        picture = f"image_path: {json.dumps(f'{place}/{sprite}', ensure_ascii=False)}"
        lines.append(f"  sprite {{ {picture} single_image_dim: {CELL} single_image_dim: {CELL} }}\n")
    return f"embeddings {{\n{''.join(lines)}}}\n"
