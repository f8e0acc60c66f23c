"""How is an encoded corpus kept? One folder, written whole or not at all, checked when it is read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from datamodules.basic_english import tokenizer_of
from datamodules.encoded_text import EncodedText
from dynamo.files import flush
from dynamo.plain_file import open_plain, read_plain

FORMAT = 1
LARGEST_TEXT: Final = 64 * 2**20
"""Bytes of a cache's JSON; the vocabulary of a million words fits in."""
FIELDS = {"tokens": torch.int32, "offsets": torch.int64, "labels": torch.int64}
UNSOUND = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, SafetensorError)
"""What comes of files that are other than they should be."""
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
        manifest = json.loads(read_plain(folder / _MANIFEST, LARGEST_TEXT))
        text = read_plain(folder / _TOKENIZER, LARGEST_TEXT).decode("utf-8")
        if hashlib.sha256(text.encode()).hexdigest() != manifest["tokenizer"]:
            raise ValueError("a checksum differs")
        with open_plain(folder / _TENSORS):
            tensors = load_file(folder / _TENSORS)
        tokenizer = _read_tokenizer(text)
        corpus = Corpus(tokenizer, _splits(tensors, manifest["digests"], tokenizer.get_vocab_size()))
        if corpus.digests() != manifest["digests"]:
            raise ValueError("a checksum differs")
    except UNSOUND as error:
        raise DamagedCacheError(f"{folder} is damaged ({str(error)[:300]}).") from error
    return corpus


def _splits(tensors: Mapping[str, Tensor], names: Iterable[str], vocab_size: int) -> dict[str, dict[str, EncodedText]]:
    """The texts of every task and split, if they are texts at all; how many classes there are, others know."""
    splits: dict[str, dict[str, EncodedText]] = {}
    for name in names:
        task, split = name.split("/")
        parts = {field: tensors[f"{name}/{field}"] for field in FIELDS}
        for field, dtype in FIELDS.items():
            if parts[field].dtype != dtype or parts[field].dim() != 1:
                raise TypeError(f"{name}/{field} has to be a row of {dtype}")
        texts = splits.setdefault(task, {})[split] = EncodedText(parts["tokens"], parts["offsets"], parts["labels"])
        texts.validate(name, vocab_size, torch.iinfo(torch.int64).max)
    if not splits or any(set(one) != {"train", "test"} for one in splits.values()):
        raise ValueError("a split is missing")
    return splits


def _read_tokenizer(text: str) -> Tokenizer:
    """The tokenizer of the vocabulary that a file holds, built by our own rules, if it is the one that it describes.

    `Tokenizer.from_str` would take any rules, such as to pad every text to a billion words, and panic at some: with an
    error that is no `Exception`.
    """
    described = json.loads(text)
    table = described["model"]["vocab"]
    if not all(type(number) is int for number in table.values()) or sorted(table.values()) != list(range(len(table))):
        raise ValueError("the ids of its words are not 0, 1, 2, ...")
    tokenizer = tokenizer_of(table)
    rules = json.loads(tokenizer.to_str())
    # What is empty, and who wrote it, differs between releases of the library.
    found, expected = ({k: v for k, v in one.items() if v and k != "version"} for one in (described, rules))
    if found != expected:
        raise ValueError("its tokenizer goes by other rules")
    return tokenizer


def _write_files(part: Path, corpus: Corpus) -> None:
    """Put all files of a corpus into an empty folder, down to the disk."""
    tensors = {
        f"{task}/{split}/{field}": getattr(text, field).contiguous()
        for task, splits in corpus.splits.items()
        for split, text in splits.items()
        for field in FIELDS
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
        flush(part / name)


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
