"""Which embeddings does the projector tab show? All that lie in the folder, whichever process wrote them."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote

from dynamo.files import write_text


def list_embeddings(folder: Path) -> None:
    """List every embedding below a folder of event files in its `projector_config.pbtxt`.

    A `SummaryWriter` lists only those that it has written itself: after a resumed training the tab would have
    forgotten the ones before.

    Args:
        folder: of the event files; an embedding is `STEP/TAG/tensors.tsv`, with `metadata.tsv` beside it.
    """
    found = [file for file in folder.glob("*/*/tensors.tsv") if file.parts[-3].isdecimal()]
    entries = []
    for file in sorted(found, key=lambda file: (int(file.parts[-3]), file.parts[-2])):
        step, tag = file.parts[-3:-1]
        fields = {"tensor_name": f"{unquote(tag)}:{step}", "tensor_path": f"{step}/{tag}/{file.name}"}
        if file.with_name("metadata.tsv").is_file():
            fields["metadata_path"] = f"{step}/{tag}/metadata.tsv"
        lines = [f"  {name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in fields.items()]
        entries.append(f"embeddings {{\n{''.join(lines)}}}\n")
    write_text(folder / "projector_config.pbtxt", "".join(entries))
