"""What is a news item about? AG News of Zhang et al. (2015), 120,000 + 7,600 items in four classes."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import ClassVar, Final

from datamodules.by_torchtext import Published
from datamodules.download import DataError, download, file_md5, unreadable
from datamodules.encoded_text import RawSplit
from datamodules.text import TextDataModule
from dynamo.plain_file import read_plain

URL = "https://raw.githubusercontent.com/mhjabreel/CharCnn_Keras/master/data/ag_news_csv/{split}.csv"
MD5 = {"train": "b1a00f826fdfbd249f79597b59e1dc12", "test": "d52ea96a97a2d943681189a97654912d"}
LARGEST: Final = 1 << 28
"""Bytes of a file; the publisher's larger one has 29 million."""


class AGNewsDataModule(TextDataModule):
    """News items: `<root>/ag_news_csv/{train,test}.csv`, each row label, title, description.

    Files that are there are used as they are, whatever their checksum; only downloads are checked.
    The options are those of `TextCorpusModule`.

    Examples:
        >>> import csv
        >>> from pathlib import Path
        >>> from datamodules import AGNewsDataModule
        >>> Path("ag_news_csv").mkdir()
        >>> for split in ("train", "test"):  # label, title, description
        ...     with Path(f"ag_news_csv/{split}.csv").open("w") as file:
        ...         csv.writer(file).writerows([[2, "Cup final", "Our team won."], [4, "New chip", "It is fast."]] * 20)
        >>> data = AGNewsDataModule(root=".")
        >>> data.prepare_data()
        >>> data.setup()
        >>> data.class_names[int(data.batch("test", "ag_news", [0]).targets)]
        'Sports'
    """

    task: ClassVar[str] = "ag_news"
    class_names: ClassVar[tuple[str, ...]] = ("World", "Sports", "Business", "Sci/Tech")

    @property
    def published(self) -> Published:
        """Both files."""
        return Published("AG_NEWS", {self._file(split): (URL.format(split=split), md5) for split, md5 in MD5.items()})

    def fetch(self) -> None:
        """Download whichever of the two files is absent."""
        for split, md5 in MD5.items():
            download(URL.format(split=split), self._file(split), md5)

    def identity(self) -> str:
        """The MD5 sums of both files."""
        return " ".join(file_md5(self._file(split)) for split in MD5)

    def read(self, split: str) -> RawSplit:
        """All items of a split: the columns after the label, joined by a space.

        Raises:
            DataError: naming file and line of a row that is no labelled text.
        """
        path = self._file(split)
        texts, labels = [], []
        try:
            content = read_plain(path, LARGEST).decode("utf-8")
            with io.StringIO(content, newline="") as file:
                rows = csv.reader(file, strict=True)
                for row in rows:
                    text = " ".join(column for column in row[1:] if column)
                    label = row[0].strip() if row else ""
                    if label not in {"1", "2", "3", "4"}:
                        raise _row_error(path, rows.line_num, f"label {label!r} is not one of 1, 2, 3, 4")
                    if not text.strip():
                        raise _row_error(path, rows.line_num, "the item has no text")
                    texts.append(text)
                    labels.append(int(label) - 1)
        except OSError as error:
            raise unreadable(path, error) from error
        except csv.Error as error:
            raise _row_error(path, rows.line_num, str(error)) from error
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is no UTF-8 text ({error}): replace it by a whole copy.") from error
        if not texts:
            raise DataError(f"{path} is empty: delete it to download it again, or put a whole copy there.")
        return RawSplit(texts, labels)

    def _file(self, split: str) -> Path:
        """The csv of a split."""
        return self.root / "ag_news_csv" / f"{split}.csv"


def _row_error(path: Path, line: int, problem: str) -> DataError:
    """The error for a row that ends at `line`."""
    return DataError(f"{path}, line {line}: {problem}. Correct the row, or put a whole copy of the file there.")
