"""What does every text data module share? One vocabulary, one cache, and splits cut to the same rule."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from tokenizers import Tokenizer
from torch import Tensor

from datamodules import by_torchtext
from datamodules.base import IndexedDataModule, check_at_least
from datamodules.basic_english import REPLACEMENTS, encode, tokenizer_of, train_tokenizer, words_digest, words_of
from datamodules.by_torchtext import Published
from datamodules.download import resolve_root
from datamodules.encoded_text import EncodedText, Keep, RawSplit, check_reading
from datamodules.resident import TaskData
from datamodules.schedule import check_val_fraction, hold_out
from datamodules.text_cache import Corpus, DamagedCacheError, cache_key, read_corpus, write_corpus
from dynamo.types import UserError


def split_task(train: EncodedText, test: EncodedText, val_fraction: float, split_seed: int) -> TaskData:
    """Hold a class-balanced part of the training split back for validation; `split_seed` decides which."""
    rest, held = hold_out(train.labels, val_fraction, split_seed, "item")
    return TaskData(
        train=train.select(rest),
        val=train.select(held),
        test=test,
        digest=words_digest([train.digest(), test.digest()]),
    )


class TextCorpusModule(IndexedDataModule):
    """One or several text sources under one vocabulary; subclasses say which in `sources`.

    `prepare_data` trains the tokenizer on all training splits together, encodes everything in full and keeps
    it in `<cache_dir>/<name>-<key>/`; the key covers all that the content depends on.

    Args:
        root: where the publishers' files lie; default: the environment variable DYNAMO_DATA, else
            ~/.cache/dynamo.
        cache_dir: where encoded texts are kept; default: `<root>/dynamo-cache`.
        vocab_size: at most so many words, <pad> and <unk> included; rows of the table of word vectors.
        max_length: steps read of every text.
        keep: which steps of a longer text: "head", "tail" or, in training, a "random" window.
        val_fraction: share of the publisher's training split that is held back for validation.
        split_seed: decides which items are held back.
        batch_size: items per member, step and process in training.
        eval_batch_size: items per batch in evaluation.
        seed: decides the order of the items.
        window: batches per length bucket.
        val_items: see `IndexedDataModule`, as for test_items.
        test_items: see `IndexedDataModule`.
        torchtext: whether torchtext reads the texts, splits them into words and numbers the words, see
            `datamodules.by_torchtext`; needed until the encoded texts are in the cache.

    Raises:
        ValueError: a number is out of its range; the message names the option.
    """

    def __init__(
        self,
        root: str | None = None,
        cache_dir: str | None = None,
        vocab_size: int = 10_000,
        max_length: int = 256,
        keep: Keep = "tail",
        val_fraction: float = 0.1,
        split_seed: int = 0,
        batch_size: int = 64,
        eval_batch_size: int = 256,
        seed: int = 0,
        window: int = 50,
        val_items: int | None = None,
        test_items: int | None = None,
        torchtext: bool = False,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, seed, window, val_items, test_items)
        check_at_least(3, vocab_size=vocab_size)
        check_at_least(0, split_seed=split_seed)
        check_reading(max_length, keep)
        check_val_fraction(val_fraction)
        self.root = resolve_root(root)
        self.cache_dir = Path(cache_dir).expanduser() if cache_dir else self.root / "dynamo-cache"
        self.vocab_size = vocab_size
        self.max_length, self.keep = max_length, keep
        self.val_fraction, self.split_seed = val_fraction, split_seed
        self.torchtext = torchtext
        self._tokenizer: Tokenizer | None = None

    @property
    @abstractmethod
    def sources(self) -> Sequence[TextDataModule]:
        """Who supplies the raw texts, one per task."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer in use.

        Raises:
            RuntimeError: before `setup`.
        """
        if self._tokenizer is None:
            raise RuntimeError("no tokenizer yet: call prepare_data() and setup() first.")
        return self._tokenizer

    @property
    def words(self) -> tuple[str, ...]:
        """The word of every id, <pad> and <unk> first; may be fewer than `vocab_size`."""
        return words_of(self.tokenizer)

    def encode(self, text: str) -> Tensor:
        """The token ids of any text, int64 `[T]`, in full."""
        return encode(self.tokenizer, [text])[0].long()

    def vocabulary_digest(self) -> str:
        """The sha256 of the words in the order of their ids."""
        return words_digest(self.words)

    def prepare_data(self) -> None:
        """Download what is absent and encode what is not in the cache; runs in one process per node."""
        if self.torchtext and not self.cache_folder().exists():
            by_torchtext.require()  # before anything is downloaded
        for supplier in self._suppliers.values():
            supplier.fetch()
        folder = self.cache_folder()
        try:
            self._read(folder)
        except FileNotFoundError:
            write_corpus(folder, self._encode_sources())
        except DamagedCacheError as error:
            warnings.warn(f"{error} It is written anew.", stacklevel=2)
            write_corpus(folder, self._encode_sources())

    def load(self) -> dict[str, TaskData]:
        """Read the cache and split every task."""
        corpus = self._read(self.cache_folder())
        self._tokenizer = corpus.tokenizer
        tasks = {}
        for source in self.sources:
            texts = corpus.splits[source.task]
            splits = {name: text.reading(self.max_length, self.keep) for name, text in texts.items()}
            tasks[source.task] = split_task(splits["train"], splits["test"], self.val_fraction, self.split_seed)
        return tasks

    def cache_folder(self) -> Path:
        """Where the encoded texts of these sources and settings are, or will be, kept."""
        identity = {task: supplier.identity() for task, supplier in self._suppliers.items()}
        rules = {"tokenizer": "basic_english", "replacements": REPLACEMENTS, "vocab_size": self.vocab_size}
        if self.torchtext:
            rules["requirements"] = by_torchtext.REQUIREMENTS
        name = "-".join(source.task for source in self.sources)
        return self.cache_dir / f"{name}-{cache_key({'sources': identity, **rules})}"

    @property
    def _suppliers(self) -> Mapping[str, TextDataModule | Published]:
        """Who fetches and reads the texts of each task: its module itself, or torchtext."""
        return {source.task: source.published if self.torchtext else source for source in self.sources}

    def _read(self, folder: Path) -> Corpus:
        """The encoded texts, if they are of these sources."""
        corpus = read_corpus(folder)
        try:
            for source in self.sources:
                for name, text in corpus.splits[source.task].items():
                    text.validate(f"{source.task} {name}", self.vocab_size, len(source.class_names))
        except (KeyError, ValueError) as error:
            raise DamagedCacheError(f"{folder} is damaged ({error}).") from error
        return corpus

    def _encode_sources(self) -> Corpus:
        """Read all sources, train the tokenizer on their training splits and encode both splits of each."""
        raw = {
            task: {split: supplier.read(split) for split in ("train", "test")}
            for task, supplier in self._suppliers.items()
        }

        def training_texts() -> Iterator[str]:
            for splits in raw.values():
                yield from splits["train"].texts

        if self.torchtext:
            vocabulary = by_torchtext.build_vocabulary(training_texts(), self.vocab_size)
            tokenizer = tokenizer_of({word: number for number, word in enumerate(vocabulary.get_itos())})
            number = partial(by_torchtext.encode, vocabulary)
        else:
            tokenizer = train_tokenizer(training_texts(), self.vocab_size)
            number = partial(encode, tokenizer)
        encoded = {
            task: {
                name: EncodedText(*number(split.texts), torch.tensor(split.labels)) for name, split in splits.items()
            }
            for task, splits in raw.items()
        }
        return Corpus(tokenizer, encoded)


class TextDataModule(TextCorpusModule):
    """One task of texts; a subclass names it and says where its texts come from.

    Attributes:
        task: the task's name, the key of its batches.
        class_names: in the order of their indices.

    Examples:
        >>> from datamodules import TextDataModule
        >>> from datamodules.text import RawSplit
        >>> class Colours(TextDataModule):
        ...     task, class_names = "colours", ("cold", "warm")
        ...     def fetch(self) -> None: "Nothing to download."
        ...     def identity(self) -> str: return "version 1"
        ...     def read(self, split: str) -> RawSplit: return RawSplit(["blue sea", "red fire"] * 20, [0, 1] * 20)
        >>> data = Colours(root=".", vocab_size=6)
        >>> data.prepare_data()
        >>> data.setup()
        >>> data.words
        ('<pad>', '<unk>', 'blue', 'fire', 'red', 'sea')
    """

    task: ClassVar[str]
    class_names: ClassVar[tuple[str, ...]]

    @property
    def sources(self) -> Sequence[TextDataModule]:
        """This module itself."""
        return (self,)

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:  # type: ignore[override]
        """Task -> class names."""
        return {self.task: self.class_names}

    @property
    def published(self) -> Published:
        """The data set as torchtext knows it.

        Raises:
            UserError: it knows none such.
        """
        raise UserError(f"torchtext has no data set for task {self.task!r}: leave it out, by torchtext: false.")

    @abstractmethod
    def fetch(self) -> None:
        """Download and extract whatever is absent under `root`."""

    @abstractmethod
    def identity(self) -> str:
        """What tells these source files from others, without reading them all; called after `fetch`."""

    @abstractmethod
    def read(self, split: str) -> RawSplit:
        """All texts of the publisher's "train" or "test" split, in a fixed order."""
