"""``n2n predict``'s Trainer, network and files, built by LightningCLI."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import lightning as L
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from n2n.data.image_files import ImageFiles
from n2n.denoiser import Denoiser
from n2n.errors import InputError
from n2n.module import DenoisingModule
from n2n.system.hardware import default_accelerator, default_device
from n2n.system.options import option_names, with_suggestion
from n2n.trainer.image_writer import WriteImages
from n2n.trainer.interrupts import end_others
from n2n.trainer.parser import OneLineParser, refusal

# How long a process that is done waits for the others. Torch's default is half an hour, in which a large file may not be done.
_LONGEST_WAIT = timedelta(days=30)


def load_module(
    ckpt_path: str,
    range: list[float] | None = None,  # noqa: A002  # the name of the option
    ensemble: bool = False,
    tile: int | None = None,
    overlap: int | None = None,
    batch: int | None = None,
    trust: list[str] | None = None,
) -> DenoisingModule:
    """Return the module of a checkpoint, which is read as :meth:`n2n.Denoiser.from_checkpoint` reads it.

    Args:
        ckpt_path: a file, or the name of a checkpoint that comes with n2n.
        range: the values that mean 0 and 1.
        ensemble: whether to average over the 8 flips and rotations.
        tile: pixels from tile to tile of a large image.
        overlap: pixels that a tile extends beyond its edge.
        batch: tiles at once.
        trust: packages whose classes the checkpoint may name, beside n2n's.

    Raises:
        InputError: as :meth:`n2n.Denoiser.from_checkpoint`.
    """
    options: dict[str, Any] = {"range": range, "ensemble": ensemble, "tile": tile, "overlap": overlap, "batch": batch}
    denoiser = Denoiser.from_checkpoint(ckpt_path, device="cpu", trust=trust or (), **options)
    # Nothing is saved, so the module need not describe its backbone, as it would that of its argument.
    module = DenoisingModule(nn.Identity())
    module.backbone, module.image_channels = denoiser.backbone, denoiser.network.channels
    values = denoiser.trained.values
    module.image_format = {"range": [values.low, values.high], "dtype": str(denoiser.trained.dtype)}
    module.noise, module.denoiser_options = denoiser.noise, options
    return module


class PredictionCLI(LightningCLI):
    """LightningCLI for ``Trainer.predict``.

    Args:
        args: the command line, with the names of the configuration's sections: trainer, model and data.
        warn: takes a line on what in an image differs from the training images.
        callbacks: added to those of the configuration.

    Raises:
        InputError: if an option is wrong, or the checkpoint cannot be used.
    """

    config: Namespace

    def __init__(self, args: list[str], warn: Callable[[str], object], *callbacks: Callback) -> None:
        super().__init__(
            load_module,
            ImageFiles,
            save_config_callback=None,
            trainer_defaults={
                "devices": 1,
                "logger": False,
                "enable_checkpointing": False,
                "enable_model_summary": False,
                "enable_progress_bar": False,
                "callbacks": [WriteImages(warn=warn), *callbacks],
            },
            # Nothing is random.
            seed_everything_default=False,
            parser_class=OneLineParser,
            parser_kwargs={"prog": "n2n predict"},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=args,
            run=False,
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the command line."""
        assert isinstance(args, list)
        try:
            self.config = parser.parse_args(args)
        except InputError as error:
            raise InputError(with_suggestion(str(error), option_names(parser), "predict --help")) from None

    def before_instantiate_classes(self) -> None:
        """Choose the device as :class:`n2n.Denoiser` does."""
        trainer = self.config.trainer
        trainer.accelerator = (
            default_device() if trainer.accelerator == "auto" else default_accelerator(trainer.accelerator)
        )

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Build the Trainer.

        Raises:
            InputError: if it refuses an option.
        """
        config = self.config_init.trainer
        devices = len(config.devices) if isinstance(config.devices, list) else config.devices
        alone = config.num_nodes == 1 and devices in (1, "1")
        if config.strategy == "ddp" or (config.strategy == "auto" and not alone):
            kwargs.setdefault("strategy", DDPStrategy(timeout=_LONGEST_WAIT))
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, TypeError, ValueError) as error:
            raise refusal(self.parser, self.config.trainer, error) from error

    def run(self) -> None:
        """Predict all files.

        Raises:
            InputError: if there is nothing to denoise, or an output exists.
        """
        with end_others(self.trainer):
            self.trainer.predict(self.model, datamodule=self.datamodule, return_predictions=False)
