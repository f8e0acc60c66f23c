"""The command `dynamo`: fit, validate, test and predict by LightningCLI; analyze, report and reproduce beside them."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.model_helpers import is_overridden

import callbacks
import datamodules  # a configuration may also say `class_path: IMDBDataModule`
import dynamo
from callbacks.captions import caption
from callbacks.introduction import configuration, first_page
from dynamo.checkpoint_file import read_checkpoint
from dynamo.checkpointing import AtomicCheckpointIO
from dynamo.console import speak_plainly
from dynamo.event_files import RunBoard
from dynamo.files import disk_full, write_text
from dynamo.memory import keep_memory
from dynamo.next_steps import after
from dynamo.options import PlainParser, first_cause
from dynamo.runs import RunFolder, read_config
from dynamo.types import HasReaders, UserError
from dynamo.words import HELP, configurations, misuse

CALLBACKS = {
    "checkpoint": callbacks.RunCheckpoint,
    "graceful_stop": callbacks.GracefulStop,
    "fidelity": callbacks.FidelityTable,
    "embedding_pca": callbacks.EmbeddingPCA,
    "similarity_mds": callbacks.SimilarityMDS,
    "accuracy_map": callbacks.AccuracyMap,
    "snapshots": callbacks.Snapshots,
    "artifact": callbacks.PopulationArtifact,
    "introduction": callbacks.Introduction,
    "epoch_line": callbacks.EpochLine,
    "results": callbacks.StageResults,
}
"""The project's callbacks by the name under which a configuration sets their options."""


class SaveRunConfig(SaveConfigCallback):
    """Writes `RUN/config.yaml` when training begins, and only then; it serves fit, test and analyze alike.

    Until then data may turn out not to serve: a run that never began leaves its folder free.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Nothing yet."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write it."""
        folder = RunFolder(Path(trainer.default_root_dir))
        if trainer.is_global_zero:
            config = self.config.clone()
            for own in ("ckpt_path", "weights_only"):
                config.pop(own, None)
            write_text(folder.config, self.parser.dump(config, skip_none=False))
            if (board := first_page(trainer)) is not None:
                files = [Path(str(file)) for file in config.pop("config", None) or () if file]
                options = self.parser.dump(config, skip_default=True)
                board.add_text("run/configuration", configuration(options, files), global_step=0)


class DynamoCLI(LightningCLI):
    """LightningCLI with a run folder, named callbacks, and the links from the data to the model."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The run folder, the callbacks, the links."""
        parser.add_argument("--run", type=str, default="runs/unnamed", help="Folder of the run: config, results, ...")
        for name, callback in CALLBACKS.items():
            parser.add_lightning_class_args(callback, name)
        parser.link_arguments("run", "trainer.default_root_dir")
        parser.link_arguments("seed_everything", "model.init_args.seed")
        parser.link_arguments("seed_everything", "data.init_args.seed")
        parser.link_arguments("data.vocab_size", "model.init_args.vocab_size", apply_on="instantiate")
        parser.link_arguments("data.classes", "model.init_args.class_names", apply_on="instantiate")

    def _parse_ckpt_path(self) -> None:
        """Nothing: Lightning would let the checkpoint's options silently override the command line's."""

    def before_instantiate_classes(self) -> None:
        """Refuse a run folder that is taken; `last` and `best` are files of it, in a fresh process too."""
        if self.subcommand is None:
            return
        config = self.config[self.subcommand]
        name, folder = config.get("ckpt_path"), RunFolder(Path(config["run"]))
        if self.subcommand == "fit" and name is None and restarted():
            name = "last"  # the same command again, by a machine
        # Rank 0 alone: processes that are started later find the files that it has written meanwhile.
        if self.subcommand == "fit" and name is None and getattr(rank_zero_only, "rank", 0) == 0 and folder.started():
            raise UserError(
                f"{folder.root} holds a run already. Go on with --ckpt_path last, choose another folder with --run, "
                "or remove it."
            )
        if name is None and self.subcommand != "fit":
            name = "last"  # Lightning would measure untrained weights
        if name not in ("last", "best"):
            if name is not None:
                config["ckpt_path"] = str(whole_checkpoint(Path(name)))
            return
        file = folder.checkpoint(name)
        if self.subcommand == "fit" and name == "last" and not file.exists():
            # Interrupted before its first checkpoint, or never started: there is nothing to go on from.
            config["ckpt_path"] = None
            log.warning(f"{file} is not there yet: training starts at the beginning.")
        else:
            config["ckpt_path"] = str(whole_checkpoint(file))

    def instantiate_classes(self) -> None:
        """Errors in options are the user's to mend: one line, no traceback."""
        try:
            super().instantiate_classes()
            if isinstance(self.model, HasReaders) and isinstance(self.datamodule, datamodules.IndexedDataModule):
                self.datamodule.check_readers(self.model.readers)
            if self.subcommand == "predict" and not is_overridden("predict_dataloader", self.datamodule):
                raise UserError(
                    f"{type(self.datamodule).__name__} has no items to predict on (predict_dataloader). Measure a run "
                    "with dynamo test, or ask it something with dynamo analyze."
                )
        except ValueError as error:
            raise UserError(first_cause(str(error))) from error

    def after_fit(self) -> None:
        """Say where everything is, and what comes next."""
        self._tell_next("fit")

    def after_validate(self) -> None:
        """Say what comes next."""
        self._tell_next("validate")

    def after_test(self) -> None:
        """Say where the numbers are, and what comes next."""
        self._tell_next("test")

    def _tell_next(self, command: str) -> None:
        """Once, however many processes there are."""
        if self.trainer.is_global_zero and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            given = (Path(str(file)) for file in self._get(self.config, "config") or [])
            log.info(after(command, RunFolder(Path(self.trainer.default_root_dir)), self.model, given))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401 - Lightning's signature
        """A trainer that logs into the run folder and writes its checkpoints whole, at moments that can be resumed."""
        run, logger = self._get(self.config_init, "run"), self._get(self.config_init, "trainer.logger")
        if logger in (None, True):
            kwargs.setdefault("logger", RunBoard(run, caption))
        plugins = self._get(self.config_init, "trainer.plugins") or []
        plugins = [*(plugins if isinstance(plugins, list) else [plugins]), AtomicCheckpointIO()]
        if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
            # Lightning would save inside its signal handler, in the middle of a step; see `GracefulStop`.
            plugins.append(SLURMEnvironment(auto_requeue=False))
        kwargs.setdefault("plugins", plugins)
        trainer = super().instantiate_trainer(**kwargs)
        # At the start of a batch, before any other callback has logged something of it.
        first = (callbacks.RunCheckpoint, callbacks.GracefulStop)
        trainer.callbacks.sort(key=lambda callback: not isinstance(callback, first))  # type: ignore[attr-defined]
        return trainer


log = logging.getLogger(__name__)


def restarted() -> bool:
    """Whether a machine runs this command again: torchrun after the loss of a process, or SLURM a job requeued."""
    return any(int(os.environ.get(f"{name}_RESTART_COUNT") or 0) > 0 for name in ("TORCHELASTIC", "SLURM"))


def whole_checkpoint(file: Path) -> Path:
    """The same file, if it is a checkpoint at all.

    Raises:
        UserError: it is missing, or cut short.
    """
    if not file.is_file():
        raise UserError(f"{file} is missing: train the run first, name another --run, or another --ckpt_path.")
    if not zipfile.is_zipfile(file):
        raise UserError(f"{file} is damaged: it is no whole checkpoint. Take another one with --ckpt_path.")
    return file


def build(args: ArgsType, *, run: bool) -> DynamoCLI:
    """The command line: `run=False` builds model, data and trainer of a configuration without running them."""
    return DynamoCLI(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        parser_class=PlainParser,
        save_config_callback=SaveRunConfig if run else None,
        seed_everything_default=0,
        auto_configure_optimizers=False,
        trainer_defaults={
            "use_distributed_sampler": False,  # the schedules of the data modules know rank and world themselves
            "num_sanity_val_steps": 0,  # a check before training would draw and count what nobody asked for
            "log_every_n_steps": 10,
        },
        parser_kwargs={
            "prog": "dynamo",
            "allow_abbrev": False,
            **{name: {"allow_abbrev": False} for name in DynamoCLI.subcommands()},
        },
        args=args,
        run=run,
    )


def load_run(folder: RunFolder, checkpoint: str = "last") -> DynamoCLI:
    """Model (with its trained weights), data and trainer of a finished run.

    Raises:
        UserError: there is no such run, or it has no checkpoint.
    """
    folder.check_is_run()
    state = read_checkpoint(folder.checkpoint(checkpoint))
    config = read_config(folder.config)
    if not isinstance(config.get("trainer"), dict):
        raise UserError(
            f"{folder.config} is damaged: it has no options of the trainer. Take it from a copy of the run."
        )
    config["trainer"]["logger"] = False
    config.pop("checkpoint", None)  # nothing is written here
    cli = build(config, run=False)
    cli.model.on_load_checkpoint(state)  # refuses what is another run's
    cli.model.load_state_dict(state["state_dict"])
    return cli


def main(args: Sequence[str] | None = None) -> None:
    """Run a command; errors a person can mend are one line, with exit code 1."""
    words = list(sys.argv[1:] if args is None else args)
    listening = {number: signal.getsignal(number) for number in callbacks.GracefulStop.signals}
    keep_memory()
    speak_plainly()
    here = str(Path.cwd())
    sys.path.append(here)  # a configuration may name classes and functions of the folder one works in
    try:
        if not words or words[0] in ("-h", "--help"):
            sys.stdout.write(HELP)
        elif words[0] == "--version":
            sys.stdout.write(f"dynamo {dynamo.__version__}\n")
        elif words[0] == "analyze":
            from dynamo.analyze.command import main as analyze

            analyze(words[1:])
        elif words[0] == "report":
            from dynamo.report.command import main as report

            report(words[1:])
        elif words[0] == "reproduce":
            from dynamo.reproduce import main as reproduce

            reproduce(words[1:])
        elif wrong := misuse(words, list(DynamoCLI.subcommands())):
            sys.stderr.write(f"dynamo: error: {wrong}. All commands: dynamo --help\n")
            raise SystemExit(2)
        else:
            for file in filter(Path.exists, configurations(words)):  # the parser says which is missing
                read_config(file)
            build(None if args is None else words, run=True)
    except UserError as error:
        sys.stderr.write(f"dynamo: error: {error}\n")
        raise SystemExit(1) from error
    except (KeyboardInterrupt, SystemExit) as stopped:
        if isinstance(stopped, SystemExit) and not isinstance(stopped.__context__, KeyboardInterrupt):
            raise
        raise SystemExit(128 + signal.SIGINT) from None
    except OSError as error:
        if not disk_full(error):
            raise
        sys.stderr.write(f"dynamo: error: {error}. Free some space; a training goes on with --ckpt_path last.\n")
        raise SystemExit(1) from error
    finally:
        sys.path.remove(here)
        if threading.current_thread() is threading.main_thread():
            for number, handler in listening.items():
                signal.signal(number, handler)
