"""What if torchtext itself is to read the texts, split them into words and number the words?

For work that has to be compared with what was done with torchtext. The project's own way gives the same words in the
same order (`datamodules/basic_english.py`), and runs with every torch; torchtext was archived with 0.18.0, which loads
beside torch 2.3 alone. So it is imported when it is asked for, and where there is none nothing else fails.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import torch
from torch import Tensor

from datamodules.download import DataError, check_md5, download
from datamodules.encoded_text import PAD, PAD_WORD, UNK, UNK_WORD, RawSplit
from dynamo.types import UserError

REQUIREMENTS: Final = (
    "torchtext==0.18.0", "torch==2.3.1", "torchvision==0.18.1", "torchdata==0.7.1", "numpy<2", "portalocker==2.8.2",
)  # fmt: skip
"""The extra `torchtext` of pyproject.toml, which may not be at hand where the message is read."""


@dataclass(frozen=True)
class Published:
    """A data set as its publisher packed it, which is all that torchtext takes.

    Attributes:
        name: of the data set in `torchtext.datasets`.
        files: where each file lies, by the name that torchtext gives it -> URL and MD5 sum.
    """

    name: str
    files: Mapping[Path, tuple[str, str]]

    def fetch(self) -> None:
        """Download what is absent, and check all of it: torchtext would write over a file that it does not know.

        Raises:
            DataError: a file is absent and cannot be downloaded, or is not the publisher's.
        """
        for path, (url, md5) in self.files.items():
            download(url, path, md5)
            try:
                check_md5(path, md5)
            except DataError as error:
                raise DataError(f"{error} torchtext reads nothing else; torchtext: false does.") from None

    def identity(self) -> str:
        """The MD5 sums of the files, which `fetch` holds them to."""
        return " ".join(md5 for _, md5 in self.files.values())

    def read(self, split: str) -> RawSplit:
        """All items of the "train" or "test" split, in torchtext's order; called after `fetch`.

        torchtext unpacks beside its archives, and takes what it finds there for whole. So it is shown the files in a
        folder of their own, which does not outlive the reading.

        Raises:
            UserError: torchtext is not installed, or does not load.
            DataError: nothing came of it.
        """
        dataset = getattr(_torchtext("datasets"), self.name)
        with tempfile.TemporaryDirectory(prefix="dynamo-torchtext-") as root:
            place = Path(root) / "datasets" / self.name
            place.mkdir(parents=True)
            for path in self.files:
                (place / path.name).symlink_to(path.absolute())
            items = list(dataset(root=root, split=split))
        if not items:
            raise DataError(f"torchtext finds no {split} item in {', '.join(map(str, self.files))}: replace it.")
        return RawSplit([text for _, text in items], [label - 1 for label, _ in items])


def require() -> None:
    """Is torchtext here, with all that it needs?

    Raises:
        UserError: it is not installed, or does not load.
    """
    _torchtext("datasets")


def build_vocabulary(texts: Iterable[str], vocab_size: int) -> Any:  # noqa: ANN401 - torchtext has no types
    """The vocabulary by torchtext of the `basic_english` words of `texts`: <pad>, <unk> and the most frequent ones.

    Raises:
        UserError: torchtext is not installed, or does not load.
    """
    split = _torchtext("data").get_tokenizer("basic_english")
    build = _torchtext("vocab").build_vocab_from_iterator
    vocabulary = build(map(split, texts), specials=[PAD_WORD, UNK_WORD], max_tokens=vocab_size)
    vocabulary.set_default_index(UNK)
    return vocabulary


def encode(vocabulary: Any, texts: Iterable[str]) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    """All token ids of `texts` end to end, int32, and where each text begins, int64 `[texts + 1]`.

    As `basic_english.encode`: a text without any word becomes one <unk>, and the word "<pad>" in a text is no padding.
    """
    split = _torchtext("data").get_tokenizer("basic_english")
    parts = [torch.tensor(vocabulary(split(text)) or [UNK], dtype=torch.int32) for text in texts]
    tokens = torch.cat(parts)
    tokens[tokens == PAD] = UNK
    sizes = torch.tensor([0, *map(len, parts)])
    return tokens, sizes.cumsum(0)


def _torchtext(part: str) -> ModuleType:
    """`torchtext.<part>`; without the notice that it is archived, which whoever asks for it by name has met."""
    try:
        import_module("torchtext").disable_torchtext_deprecation_warning()
        import_module("portalocker")  # torchdata asks for it only when data is read, and by a long traceback
        return import_module(f"torchtext.{part}")
    except (ImportError, OSError, AttributeError) as error:  # OSError: it is there, beside another torch
        needed = " ".join(f"'{one}'" if "<" in one else one for one in REQUIREMENTS)
        raise UserError(
            f"torchtext does not load here ({error}). It wants an environment of its own with Python 3.11 or 3.12 and "
            f"exactly these: pip install {needed}   Or leave it out, for the same words: torchtext: false."
        ) from error
