"""How is an encoded corpus kept? One folder, written whole or not at all, checked when it is read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from datamodules.encoded_text import EncodedText

FORMAT = 1
_TENSORS, _TOKENIZER, _MANIFEST = "data.safetensors", "tokenizer.json", "manifest.json"


class DamagedCacheError(RuntimeError):
    """A cache folder is there, but it is not what was written."""


@dataclass(frozen=True)
class Corpus:
    """Encoded texts with the tokenizer that encoded them: `splits[task]["train" | "test"]`."""

    tokenizer: Tokenizer
    splits: dict[str, dict[str, EncodedText]]

    def digests(self) -> dict[str, str]:
        """One sha256 per split, named task/split."""
        return {
            f"{task}/{split}": text.digest() for task, splits in self.splits.items() for split, text in splits.items()
        }


def cache_key(parts: Mapping[str, object]) -> str:
    """A short name for everything the content depends on; `parts` must be plain JSON."""
    text = json.dumps({"format": FORMAT, **parts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_corpus(folder: Path, corpus: Corpus) -> None:
    """Write `corpus` beside `folder` and move it into place; what is there is replaced if it is damaged.

    Raises:
        OSError: where the place cannot be written to; the message says what to set.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.part-", dir=folder.parent))
    except OSError as error:
        raise OSError(
            f"cannot write the cache of encoded texts to {folder.parent} ({error}): "
            "set cache_dir to a folder that can be written to."
        ) from error
    try:
        part.chmod(0o755)
        _write_files(part, corpus)
        _move_into_place(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read_corpus(folder: Path) -> Corpus:
    """Read what `write_corpus` wrote.

    Raises:
        FileNotFoundError: if there is no such folder.
        DamagedCacheError: if it holds anything else than what was written.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no encoded texts at {folder}: call prepare_data() first.")
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        text = (folder / _TOKENIZER).read_text()
        tensors = load_file(folder / _TENSORS)
        splits: dict[str, dict[str, EncodedText]] = {}
        for name in manifest["digests"]:
            task, split = name.split("/")
            splits.setdefault(task, {})[split] = EncodedText(
                tensors[f"{name}/tokens"], tensors[f"{name}/offsets"], tensors[f"{name}/labels"]
            )
        intact = hashlib.sha256(text.encode()).hexdigest() == manifest["tokenizer"]
        corpus = Corpus(Tokenizer.from_str(text), splits) if intact else None
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise DamagedCacheError(f"{folder} is damaged ({error}).") from error
    if corpus is None or corpus.digests() != manifest["digests"]:
        raise DamagedCacheError(f"{folder} is damaged (a checksum differs).")
    return corpus


def _write_files(part: Path, corpus: Corpus) -> None:
    """Put all files of a corpus into an empty folder, down to the disk."""
    tensors = {
        f"{task}/{split}/{field}": getattr(text, field).contiguous()
        for task, splits in corpus.splits.items()
        for split, text in splits.items()
        for field in ("tokens", "offsets", "labels")
    }
    save_file(tensors, part / _TENSORS)
    tokenizer = corpus.tokenizer.to_str(pretty=True)
    manifest = {
        "format": FORMAT,
        "digests": corpus.digests(),
        "tokenizer": hashlib.sha256(tokenizer.encode()).hexdigest(),
    }
    (part / _TOKENIZER).write_text(tokenizer)
    (part / _MANIFEST).write_text(json.dumps(manifest, indent=2))
    for name in (_TENSORS, _TOKENIZER, _MANIFEST):
        with (part / name).open("rb") as file:
            os.fsync(file.fileno())


def _move_into_place(part: Path, folder: Path) -> None:
    """Rename `part` to `folder`; a whole copy that another process put there, and may be reading, stays."""
    if folder.exists():
        with contextlib.suppress(DamagedCacheError, FileNotFoundError):
            read_corpus(folder)
            return
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old-", dir=folder.parent))
        try:
            folder.rename(old / folder.name)
        except OSError:
            pass
        finally:
            shutil.rmtree(old, ignore_errors=True)
    try:
        part.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
