"""Is a film review positive or negative? The IMDB data of Maas et al. (2011), 25,000 + 25,000 reviews."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import ClassVar, Final

from datamodules.by_torchtext import Published
from datamodules.download import DataError, fetch_archive, unreadable
from datamodules.encoded_text import RawSplit
from datamodules.text import TextDataModule
from dynamo.plain_file import read_plain

URL = "http://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
MD5 = "7c2ac02c03563afcf9b574c7e56c153a"
UNPACKED: Final = 1 << 30
"""Bytes; 100,000 reviews that count as a block of the disk each, and a few large files, come to half of that."""
LARGEST_REVIEW: Final = 1 << 20
"""Bytes; the publisher's longest has 14,000."""
_FOLDERS = ("neg", "pos")


class IMDBDataModule(TextDataModule):
    """Film reviews, one file each: `<root>/aclImdb/{train,test}/{neg,pos}/*.txt`.

    A folder that is there is used as it is; so is an archive, after its checksum; else the archive is
    downloaded. The options are those of `TextCorpusModule`.

    Examples:
        >>> from pathlib import Path
        >>> from datamodules import IMDBDataModule
        >>> for number in range(40):
        ...     path = Path(f"aclImdb/{('train', 'test')[number % 2]}/{('neg', 'pos')[number // 20]}/{number}.txt")
        ...     path.parent.mkdir(parents=True, exist_ok=True)
        ...     _ = path.write_text(f"A {('dull', 'great')[number // 20]} film.")
        >>> data = IMDBDataModule(root=".", vocab_size=8)
        >>> data.prepare_data()
        >>> data.setup()
        >>> data.words, data.encode("Great FILM!").tolist()
        (('<pad>', '<unk>', '.', 'a', 'film', 'dull', 'great'), [6, 4, 1])
    """

    task: ClassVar[str] = "imdb"
    class_names: ClassVar[tuple[str, ...]] = ("negative", "positive")

    @property
    def published(self) -> Published:
        """The archive; torchtext reads no folder that is unpacked already."""
        return Published("IMDB", {self.root / URL.rsplit("/", 1)[-1]: (URL, MD5)})

    def fetch(self) -> None:
        """Download and extract the archive if `aclImdb` is absent."""
        fetch_archive(self.root, "aclImdb", URL, MD5, UNPACKED)

    def identity(self) -> str:
        """A hash over names and sizes of all reviews."""
        found = hashlib.sha256()
        for split in ("train", "test"):
            for name in _FOLDERS:
                for path, size in self._files(split, name):
                    found.update(f"{split}/{name}/{path.name} {size}\n".encode(errors="surrogateescape"))
        return found.hexdigest()

    def read(self, split: str) -> RawSplit:
        """All reviews of a split: the negative ones, then the positive ones, each in the order of file names.

        Raises:
            DataError: naming the folder or file that is missing, empty or no UTF-8 text.
        """
        texts, labels = [], []
        for label, name in enumerate(_FOLDERS):
            for path, _ in self._files(split, name):
                texts.append(_read_review(path))
                labels.append(label)
        return RawSplit(texts, labels)

    def _files(self, split: str, name: str) -> list[tuple[Path, int]]:
        """Reviews of one class with their sizes, sorted by name."""
        folder = self.root / "aclImdb" / split / name
        remedy = f"Delete {self.root / 'aclImdb'} to extract it anew, or put a whole copy there."
        try:
            with os.scandir(folder) as entries:
                found = sorted((entry.name, entry.stat().st_size) for entry in entries if entry.name.endswith(".txt"))
        except OSError as error:
            if isinstance(error, FileNotFoundError | NotADirectoryError) and not folder.is_dir():
                raise DataError(f"{folder} is missing. {remedy}") from None
            raise unreadable(folder, error) from error
        if not found:
            raise DataError(f"{folder} holds no .txt file. {remedy}")
        return [(folder / file, size) for file, size in found]


def _read_review(path: Path) -> str:
    """The text of one review."""
    try:
        text = read_plain(path, LARGEST_REVIEW).decode("utf-8")
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text ({error}): replace it by the publisher's file.") from error
    if not text.strip():
        raise DataError(f"{path} is empty: delete it, or replace it by the publisher's file.")
    return text
