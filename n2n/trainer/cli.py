"""``n2n fit`` and ``n2n validate``: LightningCLI with n2n's defaults and one-line errors."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.utilities import rank_zero_info

from n2n.checkpoints.bundled import describe_checkpoint, find_checkpoint
from n2n.checkpoints.config import checkpoint_config, read_checkpoint
from n2n.checkpoints.on_disk import LAST, WholeCheckpoints
from n2n.checkpoints.trust import packages
from n2n.data.datamodule import PairDataModule
from n2n.errors import InputError, reason
from n2n.module import DenoisingModule
from n2n.system.hardware import device_name, has_fast_bf16
from n2n.system.messages import about, clear
from n2n.system.options import TRUST_HELP, option, options, with_suggestion
from n2n.system.yaml_files import load_yaml
from n2n.trainer.callbacks import BestCheckpoint, ImagePanel
from n2n.trainer.hyperparameters import hyperparameters, network_cost
from n2n.trainer.limits import check_numbers
from n2n.trainer.logger import RunLogger, SaveConfig, describe_figures
from n2n.trainer.parser import OneLineParser
from n2n.trainer.speed import EpochBar, NoProfiler, Speed


def _is_of_restored_state(error: Exception) -> bool:
    """Whether Lightning was putting a checkpoint's state back, which it takes as it is, or the optimiser was using it."""
    names = [frame.f_code.co_name.lstrip("_") for frame, _ in traceback.walk_tb(error.__traceback__)]
    # The optimiser calls the closure for the loss and its gradients, whose faults are others.
    parts = ("restore", "resume", "optimizer_step", "lr_scheduler_step")
    return "closure" not in names and any(name.startswith(parts) for name in names)


def _trusted_by_configs(args: Sequence[str]) -> list[str]:
    """Return what the configurations on a command line say of --trust, so that a saved one is enough to go on with its run."""
    names: list[str] = []
    for config in (*options(args, "--config"), *options(args, "-c")):
        # n2n search gives the text of one; a text that is too long for the name of a file fails Path.is_file.
        content = load_yaml(Path(config), "a configuration") if os.path.isfile(config) else None  # noqa: PTH113
        given = content.get("trust") if isinstance(content, dict) else None
        names += [str(name) for name in given] if isinstance(given, list) else []
    return names


class TrainingCLI(LightningCLI):
    """LightningCLI for one subcommand, ``fit`` or ``validate``.

    Args:
        args: the subcommand and its arguments.
        folder: of the run, instead of the next ``lightning_logs/NAME/version_N``. If there is a checkpoint of an interrupted
            training in it, that goes on.
        callbacks: beside those of the configuration.
    """

    config: Namespace
    # Those of the command that this one serves, which a misspelt option may have meant.
    further_options: Sequence[str] = ()

    def __init__(self, args: list[str], folder: Path | None = None, callbacks: Sequence[Callback] = ()) -> None:
        self._command = args[0]
        self._folder, self._callbacks = folder, callbacks
        last = folder / "checkpoints" / LAST if folder is not None else None
        if last is not None and last.is_file() and option(args, "--ckpt_path") is None:
            args = [*args, "--ckpt_path", str(last)]
        self._ckpt_path = option(args, "--ckpt_path")
        if self._ckpt_path is not None:
            self._ckpt_path = str(find_checkpoint(self._ckpt_path))
            args = [*args, "--ckpt_path", self._ckpt_path]
        trust = packages([*options(args, "--trust"), *_trusted_by_configs(args)])
        parts = {"model": DenoisingModule, "data": PairDataModule}
        self._checkpoint = {} if self._ckpt_path is None else checkpoint_config(self._ckpt_path, parts, trust)
        super().__init__(
            DenoisingModule,
            PairDataModule,
            # Validation writes nothing.
            save_config_callback=SaveConfig if args[0] == "fit" else None,
            save_config_kwargs={"overwrite": folder is not None},
            seed_everything_default=0,
            # The paper's number of epochs; Lightning's own default is 1000.
            trainer_defaults={"max_epochs": 30},
            parser_class=OneLineParser,
            parser_kwargs={"prog": "n2n"},
            auto_configure_optimizers=False,
            args=args,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # one is parsed, so one is built
        """Return the one subcommand, with the arguments that are not the user's to give."""
        skip = {
            "model",
            "datamodule",
            "dataloaders",
            "train_dataloaders",
            "val_dataloaders",
            "verbose",
            "weights_only",
        }
        return {self._command: skip}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what n2n has beside the Trainer, the module and the data."""
        parser.set_defaults(
            {
                "model.backbone": {"class_path": "n2n.backbones.ModelFinal"},
                "data.source": {"class_path": "n2n.data.DeadLeaves"},
            }
        )
        parser.add_argument("--trust", action="append", metavar="PACKAGE", help=TRUST_HELP)
        # As defaults: what the user says beside the checkpoint wins, and no text of it is parsed.
        parser.set_defaults(self._checkpoint)
        if self._command != "fit":
            return
        parser.add_argument("--name", default="n2n", help="The run goes to lightning_logs/NAME/version_N.")
        parser.add_lightning_class_args(BestCheckpoint, "checkpoint")
        parser.add_lightning_class_args(ImagePanel, "panel")
        parser.add_lightning_class_args(Speed, "speed")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the command line, on top of what the checkpoint says of its network and data."""
        assert isinstance(args, list)
        if self._ckpt_path is None and self._command == "validate":
            raise InputError("validate needs a checkpoint: add --ckpt_path, such as the best.ckpt of a run")
        try:
            self.config = parser.parse_args(args)
        except InputError as error:
            if "does not accept option 'search" in str(error):
                raise InputError("a config with a section search is for n2n search") from None
            known = [*self._subcommand_parsers[self._command]._option_string_actions, *self.further_options]
            raise InputError(with_suggestion(clear(str(error)), known, self._command)) from None
        check_numbers(dict(self.config[self._command].items()))

    def _parse_ckpt_path(self) -> None:
        """Do nothing: LightningCLI would let the checkpoint win over the command line, and parse_arguments read it."""

    def before_instantiate_classes(self) -> None:
        """Fill in what depends on the machine and on the run's name, so that the saved config says what ran."""
        trainer = self.config[self._command].trainer
        if trainer is None:
            raise InputError("trainer is null in a config: expected options under it, or none of it")
        if trainer.precision is None:
            trainer.precision = "bf16-mixed" if has_fast_bf16(trainer.accelerator) else "32-true"
        if self._command != "fit":
            trainer.logger = trainer.enable_checkpointing = False

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> L.Trainer:
        """Add the logger and the callbacks that make sense with the Trainer that is asked for."""
        given = dict(config)
        if self._command == "fit" and config["logger"] in (None, True):
            # Built here and not written into the configuration, so that --name counts also beside a saved one.
            if self._folder is None:
                folder, name = Path(config["default_root_dir"] or ".") / "lightning_logs", self.config.fit.name
            else:
                folder, name = self._folder.parent, ""
            version = self._folder.name if self._folder is not None else None
            config["logger"] = RunLogger(str(folder), name, version, default_hp_metric=False)
        if config["enable_checkpointing"] is False:
            callbacks = [callback for callback in callbacks if not isinstance(callback, ModelCheckpoint)]
        elif self._command == "fit":
            # A second one, because save_last of the first writes only when the best changes: a run resumed from it
            # would go back to the best epoch.
            last = ModelCheckpoint(filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
            callbacks = [*callbacks, last]
        if config["logger"]:
            callbacks = [*callbacks, LearningRateMonitor()]
        callbacks = [*callbacks, *self._callbacks]
        chosen = config["callbacks"] or []
        chosen = [*callbacks, *(chosen if isinstance(chosen, list) else [chosen])]
        if config["enable_progress_bar"] is not False and not any(isinstance(one, ProgressBar) for one in chosen):
            callbacks = [*callbacks, EpochBar()]
        if config["profiler"] is None:
            config["profiler"] = NoProfiler()
        plugins = config["plugins"] or []
        plugins = list(plugins) if isinstance(plugins, list) else [plugins]
        if not any(isinstance(one, CheckpointIO) for one in plugins):
            config["plugins"] = [*plugins, WholeCheckpoints()]
        try:
            return super()._instantiate_trainer(config, callbacks)
        except (MisconfigurationException, TypeError, ValueError) as error:
            raise InputError(about(str(error), given)) from error

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Load checkpoints without running code that may be in them."""
        return {**super()._prepare_subcommand_kwargs(subcommand), "weights_only": True}

    def _run_subcommand(self, subcommand: str) -> None:
        """Run it; blame the checkpoint for what its state does."""
        path = self.config[subcommand].ckpt_path
        try:
            super()._run_subcommand(subcommand)
        except (InputError, OSError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            if path is None or not _is_of_restored_state(error):
                raise
            raise InputError(
                f"{path} cannot be gone on with ({reason(error)}): expected {describe_checkpoint()}"
            ) from error

    def after_validate(self) -> None:
        """Say the PSNR without clean images, which has an interval."""
        assert isinstance(self.model, DenoisingModule)
        if self.model.blind_estimate is not None:
            rank_zero_info(f"PSNR over all pixels, estimated without clean images: {self.model.blind_estimate}")

    def before_fit(self) -> None:
        """Note when training started."""
        self._started = time.monotonic()

    def _log_final(self, figures: Mapping[str, Any]) -> None:
        """Put the hyper-parameters with the figures of the best epoch into TensorBoard, which sorts runs by them."""
        logger = self.trainer.logger
        if not isinstance(logger, TensorBoardLogger) or not self.trainer.is_global_zero:
            return
        assert isinstance(self.model, DenoisingModule)
        assert isinstance(self.datamodule, PairDataModule)
        best = {
            name.replace("val/", "best/"): float(value) for name, value in figures.items() if name.startswith("val/")
        }
        cost = network_cost(self.model, self.datamodule.image_shape)
        count = f"{self.trainer.world_size} × " if self.trainer.world_size > 1 else ""
        device = {"device": count + device_name(self.trainer.strategy.root_device)}
        logger.log_hyperparams(hyperparameters(self.config.fit) | cost | device, best, self.trainer.global_step)
        logger.save()

    def after_fit(self) -> None:
        """Say where the checkpoint is, how good it is, and how to use it."""
        if self.trainer.interrupted or self.config.fit.trainer.fast_dev_run:
            return
        checkpoint = self.trainer.checkpoint_callback
        path = checkpoint.best_model_path if isinstance(checkpoint, ModelCheckpoint) else ""
        # Somebody may have taken it away from a run that went on.
        kept = read_checkpoint(path)["n2n"] if Path(path).is_file() else None
        self._log_final(self.trainer.callback_metrics if kept is None else kept["figures"])
        seconds = time.monotonic() - self._started
        rank_zero_info(f"\n{self.trainer.current_epoch} epochs in {seconds / 60:.0f} min {seconds % 60:.0f} s.")
        if kept is None:
            return
        best = Path(path)
        with contextlib.suppress(ValueError):
            best = best.relative_to(Path.cwd())
        rank_zero_info(describe_figures(kept))
        quoted = shlex.quote(str(best))
        rank_zero_info(
            f"Checkpoint: {best}\nDenoise with it: n2n predict --ckpt_path {quoted} --input noisy/ --output denoised/"
        )
