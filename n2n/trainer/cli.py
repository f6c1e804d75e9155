"""``n2n fit`` and ``n2n validate``: LightningCLI with n2n's defaults and one-line errors."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.plugins.environments import (  # type: ignore[attr-defined]  # it has no __all__
    LSFEnvironment,
    MPIEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.utilities import rank_zero_info

from n2n.checkpoints.bundled import describe_checkpoint, find_checkpoint
from n2n.checkpoints.config import checkpoint_config, read_checkpoint
from n2n.checkpoints.on_disk import LAST, WholeCheckpoints, last_checkpoint
from n2n.checkpoints.trust import packages
from n2n.data.datamodule import PairDataModule
from n2n.errors import InputError, reason
from n2n.module import DenoisingModule
from n2n.system.config_files import config_contents, in_ascii
from n2n.system.hardware import default_accelerator, default_precision, is_out_of_memory
from n2n.system.options import TRUST_HELP, option, option_names, options, shorten, with_suggestion
from n2n.system.text import counted
from n2n.trainer.advice import advise
from n2n.trainer.callbacks import BestCheckpoint, ImagePanel, LastCheckpoint
from n2n.trainer.ending import report
from n2n.trainer.help import HELP_ALL
from n2n.trainer.interrupts import end_others
from n2n.trainer.logger import RunLogger, SaveConfig
from n2n.trainer.numbers import check_numbers
from n2n.trainer.parser import OneLineParser, refusal
from n2n.trainer.progress import EpochBar, NetworkSize
from n2n.trainer.resuming import check_resumed, is_of_restored_state
from n2n.trainer.shortcuts import DEFAULT_SOURCE, expand, names_images
from n2n.trainer.speed import NoProfiler, Speed

# The paper's number of epochs, if no limit is given.
_EPOCHS = 30
# What starts the processes itself, and so says how many there are.
_LAUNCHERS = (TorchElasticEnvironment, SLURMEnvironment, LSFEnvironment, MPIEnvironment)
# Parts of the names of strategies whose processes are copies of the first one, and end with what they know of the training.
_WITHOUT_RESULTS = ("spawn", "fork", "notebook")


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [] if value is None else [value]


def _trusted_by_configs(args: Sequence[str]) -> list[str]:
    """Return the packages that the configurations on a command line trust, so that a saved one is enough to resume its run."""
    given = [content["trust"] for content in config_contents(args) if isinstance(content.get("trust"), list)]
    return [str(name) for names in given for name in names]


class TrainingCLI(LightningCLI):
    """Parses the options of ``n2n fit`` or ``n2n validate`` and builds the module, the data and the Trainer.

    Args:
        args: the command and its arguments.
        folder: of the run, instead of the next ``lightning_logs/NAME/version_N``. If it holds the checkpoint of an interrupted
            training, that training is resumed.
        callbacks: added to those of the configuration.

    Raises:
        InputError: if an option, a class or one of its arguments is wrong.
    """

    config: Namespace
    # The command that messages name, and options of its own that a misspelt option may have meant.
    asked_by: str | None = None
    further_options: Sequence[str] = ()

    def __init__(self, args: list[str], folder: Path | None = None, callbacks: Sequence[Callback] = ()) -> None:
        self.command, *args = args
        self._folder, self._callbacks = folder, callbacks
        last = last_checkpoint(folder) if folder is not None else None
        if last is not None and option(args, "--ckpt_path") is None:
            if last.name != LAST:
                rank_zero_info(
                    f"Warning: {last.with_name(LAST)} is missing: continuing from {last}, the checkpoint before it"
                )
            args = [*args, "--ckpt_path", str(last)]
        self._ckpt_path = option(args, "--ckpt_path")
        if self._ckpt_path is not None:
            self._ckpt_path = str(find_checkpoint(self._ckpt_path))
            args = [*args, "--ckpt_path", self._ckpt_path]
        trust = packages([*options(args, "--trust"), *_trusted_by_configs(args)])
        parts = {"model": DenoisingModule, "data": PairDataModule}
        self._checkpoint = {} if self._ckpt_path is None else checkpoint_config(self._ckpt_path, parts, trust)
        # Those that the checkpoint names may not be here.
        self._images_named = names_images(args) or any(one.startswith(("--data", "--root")) for one in args)
        if self.command == "validate" and names_images(args):
            # Images that are named take the place of those that the training was validated on.
            self._checkpoint.pop("data.val_source", None)
        args = in_ascii(expand(args, self._checkpoint))
        super().__init__(
            DenoisingModule,
            PairDataModule,
            # Validation writes nothing.
            save_config_callback=SaveConfig if self.command == "fit" else None,
            save_config_kwargs={"overwrite": folder is not None},
            seed_everything_default=0,
            parser_class=OneLineParser,
            parser_kwargs={
                "prog": f"n2n {self.command}",
                "usage": f"n2n {self.command} [--config NAME ...] [options]",
                "description": f"All options; n2n {self.command} --help shows those that are needed most.",
            },
            auto_configure_optimizers=False,
            args=args,
            run=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options that belong neither to the Trainer nor to the module nor to the data."""
        parser.set_defaults(
            {
                "model.backbone": {"class_path": "n2n.backbones.ModelFinal"},
                "data.source": {"class_path": DEFAULT_SOURCE},
            }
        )
        parser.add_argument("--ckpt_path", type=str | None, help=f"{describe_checkpoint()}; fit resumes its training.")
        parser.add_argument("--trust", action="append", metavar="PACKAGE", help=TRUST_HELP)
        # As defaults: what the user says beside the checkpoint wins, and no text of it is parsed.
        parser.set_defaults(self._checkpoint)
        if self.command != "fit":
            return
        parser.add_argument("--name", default="n2n", help="The run goes to lightning_logs/NAME/version_N.")
        parser.add_lightning_class_args(BestCheckpoint, "checkpoint")
        parser.add_lightning_class_args(ImagePanel, "panel")
        parser.add_lightning_class_args(Speed, "speed")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the command line; the network and data of the checkpoint, if one is given, are its defaults."""
        assert isinstance(args, list)
        if HELP_ALL in args:
            parser.print_help()
            raise SystemExit(0)
        if self._ckpt_path is None and self.command == "validate":
            raise InputError("validate needs a checkpoint: add --ckpt_path, such as the best.ckpt of a run")
        try:
            self.config = parser.parse_args(args)
        except InputError as error:
            if "'search" in str(error):
                raise InputError("a config with a section search is for n2n search") from None
            advice = advise(str(error), args, self.command)
            if advice is not None:
                raise InputError(shorten(advice)) from None
            known = [*option_names(parser), "--root", "--epochs", *self.further_options]
            listing = f"{self.asked_by} --help" if self.asked_by else f"{self.command} {HELP_ALL}"
            raise InputError(with_suggestion(str(error), known, listing)) from None
        check_numbers(dict(self.config.items()))
        if self.command == "fit":
            check_resumed(self.config.model.as_dict(), self._checkpoint)
        trainer = self.config.trainer
        if trainer is None:
            raise InputError("trainer is null in a config: expected options under it, or none of it")
        if self.command == "fit" and any(start in str(trainer.strategy) for start in _WITHOUT_RESULTS):
            raise InputError(f"--trainer.strategy is {trainer.strategy}, which n2n cannot train with: use ddp")
        if trainer.max_epochs is None:
            # As in Lightning, another limit counts alone; only without one its number of epochs is 1000.
            trainer.max_epochs = _EPOCHS if trainer.max_steps == -1 and trainer.max_time is None else -1

    def before_instantiate_classes(self) -> None:
        """Fill in the defaults that depend on the machine, so that the saved config says what ran."""
        trainer = self.config.trainer
        trainer.accelerator = default_accelerator(trainer.accelerator)
        if trainer.devices == "auto" and trainer.num_nodes == 1 and not any(one.detect() for one in _LAUNCHERS):
            # All GPUs of a machine would mean batches of another size on each machine.
            trainer.devices = 1
        if trainer.precision is None:
            trainer.precision = default_precision(trainer.accelerator)
        if self.command != "fit":
            trainer.logger = trainer.enable_checkpointing = False

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Build the Trainer, with n2n's logger, plugins and callbacks where the configuration names no other.

        Raises:
            InputError: if the Trainer refuses an option.
        """
        config = self.config_init.trainer
        own: dict[str, Any] = {}
        if self.command == "fit" and config.logger in (None, True):
            # Not part of the saved configuration, so that --name counts beside that as well.
            own["logger"] = self._logger(Path(config.default_root_dir or "."))
        if config.profiler is None:
            own["profiler"] = NoProfiler()
        # In place of Lightning's table of all layers.
        own["enable_model_summary"] = bool(config.enable_model_summary)
        plugins = _as_list(config.plugins)
        if not any(isinstance(one, CheckpointIO) for one in plugins):
            own["plugins"] = [*plugins, WholeCheckpoints()]
        # LightningCLI adds these after the callbacks of the configuration and those that have options of their own.
        self.trainer_defaults["callbacks"] = self._own_callbacks(config)
        try:
            return super().instantiate_trainer(**(own | kwargs))
        except (MisconfigurationException, TypeError, ValueError) as error:
            raise refusal(self.parser, config, error) from error

    def _logger(self, root: Path) -> RunLogger:
        folder, name, version = root / "lightning_logs", self.config.name, None
        if self._folder is not None:
            folder, name, version = self._folder.parent, "", self._folder.name
        return RunLogger(str(folder), name, version, default_hp_metric=False)

    def _own_callbacks(self, config: Namespace) -> list[Callback]:
        callbacks: list[Callback] = []
        if self.command == "fit" and config.enable_checkpointing is False:
            # The Trainer would refuse the checkpoint callback.
            self.config_init.checkpoint = Callback()
        elif self.command == "fit":
            # Saves each epoch, after the best one's: save_last of that writes only when the best changes.
            callbacks += [LastCheckpoint()]
        if config.logger is not False:
            callbacks += [LearningRateMonitor()]
        callbacks += self._callbacks
        bars = any(isinstance(one, ProgressBar) for one in _as_list(config.callbacks))
        if config.enable_progress_bar is not False and not bars:
            callbacks += [EpochBar()]
        if config.enable_model_summary is None and self.command == "fit":
            callbacks += [NetworkSize()]
        return callbacks

    def run(self) -> None:
        """Train or validate.

        Raises:
            InputError: if something given by the user turns out to be wrong.
        """
        path, fit = self.config.ckpt_path, self.command == "fit"
        if path is not None:
            self.model.start_from = None  # a resumed run has its own weights
        # The file is replaced while it is trained on.
        before = read_checkpoint(path).get("global_step") if fit and path is not None else None
        started = time.monotonic()
        run = self.trainer.fit if fit else self.trainer.validate
        try:
            with end_others(self.trainer):
                run(self.model, datamodule=self.datamodule, ckpt_path=path, weights_only=True)
        except Exception as error:
            if isinstance(error, InputError) and not (fit or self._images_named):
                raise InputError(
                    f"{error} (the checkpoint names these images: name yours, with --config data/captures.yaml --root FOLDER "
                    "for example)"
                ) from error
            if is_out_of_memory(error):
                device, sizes = self.trainer.strategy.root_device, ("batch_size", "val_batch_size")[not fit :]
                advice = " or ".join(f"--data.{size} (now {self.config.data[size]})" for size in sizes)
                advice = f"make {advice} smaller, or the images or the network"
                if device.type != "cpu":
                    advice += ", or keep the images in the host's memory (--data.on_device false)"
                raise InputError(f"the memory of {device} is too small ({reason(error)}): {advice}") from error
            if isinstance(error, InputError | OSError) or path is None or not is_of_restored_state(error):
                raise
            raise InputError(f"{path} cannot be resumed ({reason(error)}): expected {describe_checkpoint()}") from error
        if isinstance(before, int) and self.trainer.global_step == before:
            epochs = counted(self.trainer.current_epoch, "epoch")
            rank_zero_info(
                f"Nothing was trained: after {epochs} the training was complete. To go on, give a larger --epochs."
            )
        if fit:
            report(self.trainer, self.model, self.datamodule, self.config, time.monotonic() - started)
        elif self.model.blind_estimate is not None:
            rank_zero_info(f"PSNR over all pixels, estimated without clean images: {self.model.blind_estimate}")
