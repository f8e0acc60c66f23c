"""The command `dynamo`: fit, validate, test and predict by LightningCLI; analyze and reproduce beside them."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from pytorch_lightning.loggers import TensorBoardLogger

import callbacks
import datamodules  # noqa: F401 - so that a configuration may say `class_path: IMDBDataModule`
import dynamo
from dynamo.checkpointing import AtomicCheckpointIO
from dynamo.runs import RunFolder
from dynamo.types import UserError

CALLBACKS = {
    "fidelity": callbacks.FidelityTable,
    "embedding_pca": callbacks.EmbeddingPCA,
    "snapshots": callbacks.Snapshots,
    "artifact": callbacks.PopulationArtifact,
    "epoch_line": callbacks.EpochLine,
    "results": callbacks.StageResults,
}
"""The project's callbacks by the name under which a configuration sets their options."""

HELP = """usage: dynamo COMMAND ...

Turns a population of trained networks into a map (DYNAMO, arXiv 2302.14078).

  dynamo reproduce demo                       the whole road on built-in data, in three minutes
  dynamo reproduce fig3_sizes                 every stage of a figure of the paper, skipping what is done
  dynamo fit -c CONFIG                        train a population, or the meta-model on one
  dynamo fit -c CONFIG --ckpt_path last       go on where it stopped
  dynamo test -c CONFIG --ckpt_path last      fidelity and accuracy of a finished run, on the test split
  dynamo analyze KIND --run RUN               one analysis of a finished run: picture + JSON
  dynamo validate | predict                   as in every LightningCLI

`dynamo COMMAND --help` tells the options of a command. Configurations stand in configs/, see its README.
TensorBoard: tensorboard --logdir runs
"""


class SaveRunConfig(SaveConfigCallback):
    """Writes `RUN/config.yaml` when `fit` starts, and only then; it serves fit, test and analyze alike."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a run folder that is taken, then write."""
        folder = RunFolder(Path(trainer.default_root_dir))
        if stage != "fit":
            return
        config = self.config.clone()
        resuming = config.pop("ckpt_path", None) is not None
        config.pop("weights_only", None)
        taken = trainer.strategy.broadcast(folder.started() and not resuming)
        if taken:
            raise UserError(
                f"{folder.root} holds a run already. Go on with --ckpt_path last, choose another folder with --run, "
                "or remove it."
            )
        if trainer.is_global_zero:
            folder.root.mkdir(parents=True, exist_ok=True)
            part = folder.config.with_suffix(".yaml.tmp")
            part.write_text(self.parser.dump(config, skip_none=False), encoding="utf-8")
            os.replace(part, folder.config)


class DynamoCLI(LightningCLI):
    """LightningCLI with a run folder, named callbacks, and the links from the data to the model."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The run folder, the callbacks, the links."""
        parser.add_argument("--run", type=str, default="runs/unnamed", help="Folder of the run: config, results, ...")
        for name, callback in CALLBACKS.items():
            parser.add_lightning_class_args(callback, name)
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                "checkpoint.filename": "best",
                "checkpoint.monitor": "val/loss",
                "checkpoint.save_last": True,
                "checkpoint.enable_version_counter": False,
                "checkpoint.auto_insert_metric_name": False,
            }
        )
        parser.link_arguments("run", "checkpoint.dirpath", compute_fn=lambda run: str(RunFolder(Path(run)).checkpoints))
        parser.link_arguments("run", "trainer.default_root_dir")
        parser.link_arguments("seed_everything", "model.init_args.seed")
        parser.link_arguments("seed_everything", "data.init_args.seed")
        parser.link_arguments("data.vocab_size", "model.init_args.vocab_size", apply_on="instantiate")
        parser.link_arguments("data.classes", "model.init_args.class_names", apply_on="instantiate")

    def _parse_ckpt_path(self) -> None:
        """Nothing: Lightning would let the checkpoint's options silently override the command line's."""

    def before_instantiate_classes(self) -> None:
        """`last` and `best` are files of the run folder, in a fresh process too."""
        if self.subcommand is None:
            return
        config = self.config[self.subcommand]
        name = config.get("ckpt_path")
        if name not in ("last", "best"):
            if name is not None and not Path(name).is_file():
                raise UserError(f"There is no checkpoint {name}; --ckpt_path takes last, best, or a file.")
            return
        folder = RunFolder(Path(config["run"]))
        file = folder.checkpoint(name)
        if file.is_file():
            config["ckpt_path"] = str(file)
        elif self.subcommand == "fit" and name == "last":
            # Interrupted before its first checkpoint, or never started: there is nothing to go on from. "last"
            # makes Lightning begin anew.
            log.warning(f"{file} is not there yet: training starts at the beginning.")
        else:
            raise UserError(f"{file} is missing: train the run first, or name another --run.")

    def instantiate_classes(self) -> None:
        """Errors in options are the user's to mend: one line, no traceback."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            raise UserError(str(error)) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401 - Lightning's signature
        """A trainer that logs into the run folder and writes its checkpoints whole."""
        run, logger = self._get(self.config_init, "run"), self._get(self.config_init, "trainer.logger")
        if logger in (None, True):
            kwargs.setdefault("logger", TensorBoardLogger(run, name="", version="", default_hp_metric=False))
        plugins = self._get(self.config_init, "trainer.plugins") or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        kwargs.setdefault("plugins", [*plugins, AtomicCheckpointIO()])
        return super().instantiate_trainer(**kwargs)


log = logging.getLogger(__name__)


def _speak_plainly() -> None:
    """Our own messages as they are; of Lightning's, not the advertisement and not the notes about its own code."""
    for name in ("dynamo", "callbacks", "datamodules"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        if not logger.handlers:
            logger.addHandler(logging.StreamHandler(sys.stdout))
            logger.propagate = False
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(_no_advertisement)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")


def _no_advertisement(record: logging.LogRecord) -> bool:
    return "litlogger" not in record.getMessage() and "TPU available" not in record.getMessage()


def build(args: ArgsType, *, run: bool) -> DynamoCLI:
    """The command line: `run=False` builds model, data and trainer of a configuration without running them."""
    return DynamoCLI(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=SaveRunConfig if run else None,
        seed_everything_default=0,
        auto_configure_optimizers=False,
        trainer_defaults={
            "use_distributed_sampler": False,  # the schedules of the data modules know rank and world themselves
            "num_sanity_val_steps": 0,  # a check before training would draw and count what nobody asked for
            "log_every_n_steps": 10,
        },
        parser_kwargs={"allow_abbrev": False, **{name: {"allow_abbrev": False} for name in DynamoCLI.subcommands()}},
        args=args,
        run=run,
    )


def load_run(folder: RunFolder, checkpoint: str = "last") -> DynamoCLI:
    """Model (with its trained weights), data and trainer of a finished run.

    Raises:
        UserError: there is no such run, or it has no checkpoint.
    """
    import torch

    if not folder.config.is_file():
        raise UserError(f"{folder.root} is no run: {folder.config.name} is missing. Runs lie under runs/.")
    file = folder.checkpoint(checkpoint)
    if not file.is_file():
        raise UserError(f"{file} is missing: finish the run first (dynamo fit -c {folder.config} --ckpt_path last).")
    config = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    config["trainer"]["logger"] = False
    cli = build(config, run=False)
    state = torch.load(file, map_location="cpu", weights_only=True)
    cli.model.load_state_dict(state["state_dict"])
    return cli


def main(args: Sequence[str] | None = None) -> None:
    """Run a command; errors a person can mend are one line, with exit code 1."""
    words = list(sys.argv[1:] if args is None else args)
    _speak_plainly()
    try:
        if not words or words[0] in ("-h", "--help"):
            sys.stdout.write(HELP)
        elif words[0] == "--version":
            sys.stdout.write(f"dynamo {dynamo.__version__}\n")
        elif words[0] == "analyze":
            from dynamo.analyze import main as analyze

            analyze(words[1:])
        elif words[0] == "reproduce":
            from dynamo.reproduce import main as reproduce

            reproduce(words[1:])
        else:
            build(None if args is None else words, run=True)
    except UserError as error:
        sys.stderr.write(f"dynamo: error: {error}\n")
        raise SystemExit(1) from error
