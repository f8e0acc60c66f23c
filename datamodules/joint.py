"""Can two tasks live in one space? Several text tasks under one vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

from datamodules.encoded_text import Keep
from datamodules.text import TextCorpusModule, TextDataModule


class JointDataModule(TextCorpusModule):
    """Several text tasks with one vocabulary, trained on all their training splits together.

    A training batch holds all tasks, an evaluation batch one (first all of the first task). Of `tasks` only
    what they read and where (`root`) counts; vocabulary, lengths, splits and batch sizes are set here for
    all.

    Args:
        tasks: the tasks, e.g. `[{class_path: datamodules.IMDBDataModule}, ...]` in YAML.
        root: where the cache is put by default; the tasks know their own root.
        cache_dir: see `TextCorpusModule`, as for all that follow.
        vocab_size: of the shared vocabulary.
        max_length: steps read of every text.
        keep: which steps of a longer text.
        val_fraction: share of every task's training split held back for validation.
        split_seed: decides which items are held back.
        batch_size: items per member (or task), step and process in training.
        eval_batch_size: items per batch in evaluation.
        seed: decides the order of the items.
        window: batches per length bucket.
        val_items: see `IndexedDataModule`, as for test_items.
        test_items: see `IndexedDataModule`.
        torchtext: see `TextCorpusModule`.

    Raises:
        ValueError: there is no task, one is listed twice, or a number is out of its range.

    Examples:
        >>> from datamodules import AGNewsDataModule, IMDBDataModule, JointDataModule
        >>> data = JointDataModule([IMDBDataModule(), AGNewsDataModule()], vocab_size=5000)
        >>> {task: len(names) for task, names in data.classes.items()}, data.vocab_size
        ({'imdb': 2, 'ag_news': 4}, 5000)
    """

    def __init__(
        self,
        tasks: list[TextDataModule],
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
        super().__init__(
            root,
            cache_dir,
            vocab_size,
            max_length,
            keep,
            val_fraction,
            split_seed,
            batch_size,
            eval_batch_size,
            seed,
            window,
            val_items,
            test_items,
            torchtext,
        )
        names = [child.task for child in tasks]
        if not tasks or len(set(names)) < len(names):
            raise ValueError(f"tasks must be one or more different tasks, got {names}: list each once.")
        self._children = tuple(tasks)
        self.classes = {child.task: child.class_names for child in tasks}

    @property
    def sources(self) -> Sequence[TextDataModule]:
        """The tasks."""
        return self._children
