"""The LightningModule: a backbone that learns to map one noisy view of an image to another."""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from n2n.backbones.spec import build, describe
from n2n.data.batch import ImageInfo, as_batch
from n2n.data.images.gaps import fill_gaps
from n2n.data.noise import PairNoise, TrainedNoise
from n2n.errors import InputError
from n2n.losses import NetworkLoss
from n2n.module.divergence import EpochLosses, check_losses, check_validation_loss
from n2n.module.evaluation import EvaluationModule
from n2n.module.optimization import build_optimizers
from n2n.module.probe import check_dtypes, probe
from n2n.module.resume import Resume
from n2n.module.start import load_weights
from n2n.schedules import progress, training_steps
from n2n.system.text import counted


class DenoisingModule(EvaluationModule):
    """Trains a backbone on pairs of noisy images (Noise2Noise), and scores it against clean images or noisy pairs.

    If the noises of the two views are independent and have zero mean, the expected squared error to the other noisy view is
    the one to the clean image plus a constant (Lehtinen et al. 2018), so minimising one minimises the other. Nothing is
    clipped before the loss, because clipping biases the noise.

    Args:
        backbone: maps N×C×H×W in [0, 1] to the same shape.
        loss: of the output and the target; see :class:`n2n.losses.NetworkLoss` for one that calls the network. If it has an
            attribute ``progress``, that is set before each step to how far the training is, 0 to 1.
        optimizer: makes the optimiser from the parameters.
        scheduler: makes the learning-rate scheduler from the optimiser; None for a constant rate.
        scheduler_interval: whether the scheduler steps after each epoch or after each training step.
        start_from: a checkpoint whose weights the training starts from, or the name of one that comes with n2n. Its backbone
            must be of the same kind; its optimiser and its progress are not used. Of several, the mean of their weights.

    Attributes:
        images: what is known about the images; None without a data module.

    Raises:
        InputError: if the backbone is no ``torch.nn.Module``, or does not keep its arguments, see
            :func:`n2n.backbones.spec.describe`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        loss: nn.Module = nn.MSELoss(),  # noqa: B008  # it holds no state
        optimizer: OptimizerCallable = torch.optim.Adam,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
        start_from: list[str] | str | None = None,  # jsonargparse tries the types in this order
    ) -> None:
        super().__init__(backbone, loss)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Attribute .* is an instance of `nn.Module`", UserWarning)
            self.save_hyperparameters()
        self._from_config = not isinstance(self.hparams.get("backbone"), nn.Module)
        if not self._from_config:
            # Built in Python, not by the command line: keep what rebuilds the backbone, as the command line does.
            self.hparams.clear()
            self.save_hyperparameters(
                {"backbone": describe(backbone), "_instantiator": "lightning.pytorch.cli.instantiate_module"}
            )
        self.optimizer, self.scheduler, self.scheduler_interval = optimizer, scheduler, scheduler_interval
        self.start_from = start_from
        self.images: ImageInfo | None = None
        self._losses = EpochLosses()
        self._lowest_val_loss = math.inf
        self._resume = Resume()
        self._pair_noise = PairNoise()
        # Whether the noise was measured in enough pairs.
        self._noise_known = False

    def __deepcopy__(self, memo: dict[int, Any]) -> DenoisingModule:
        """Copy all but the makers of optimiser and scheduler: built by a command line, they hold the Trainer and all data."""
        memo |= {id(maker): maker for maker in (self.optimizer, self.scheduler)}
        new = memo[id(self)] = type(self).__new__(type(self))
        nn.Module.__setstate__(new, copy.deepcopy(self.__getstate__(), memo))  # type: ignore[no-untyped-call]
        return new

    def set_images(self, images: ImageInfo) -> None:
        """Receive what is known about the images; :class:`n2n.PairDataModule` calls this in its ``setup``."""
        self.images = images

    def configure_model(self) -> None:
        """Give the backbone the images' channels, and the weights of ``start_from``.

        This happens once, before callbacks copy the network and before weights of a resumed run are loaded.

        Raises:
            InputError: if these weights do not fit.
        """
        if self.image_channels is None:
            self._set_channels()
        if self.start_from is not None and self.trainer.state.fn == "fit":
            names = [self.start_from] if isinstance(self.start_from, str) else self.start_from
            load_weights(names, self.backbone, self.images.shape[0] if self.images else None)
            rank_zero_info(f"The training starts from the weights of {' and '.join(names)}.")
            self.start_from = None

    def _set_channels(self) -> None:
        """Build a backbone from a configuration again with the images' channels, if ``channels`` were left at their default."""
        if self.images is None or not self._from_config:
            return
        spec, channels = self.hparams["backbone"], self.images.shape[0]
        default = inspect.signature(type(self.backbone)).parameters.get("channels")
        configured = spec.get("init_args", {}).get("channels")
        if default is None or configured != default.default or configured == channels:
            return
        spec = {**spec, "init_args": {**spec["init_args"], "channels": channels}}
        self.save_hyperparameters(
            {"backbone": spec}
        )  # not an entry of self.hparams alone: loggers write a copy made here
        # On the CPU, so that the random weights are the same for every device; the Trainer moves them.
        with torch.device("cpu"):
            self.backbone = build(dict(spec)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.trainer.state.fn == "fit":
            rank_zero_info(f"The images have {counted(channels, 'channel')}: so has the backbone now.")

    def setup(self, stage: str) -> None:
        """Refuse a backbone that cannot take the images, and warn of a loss that does not suit them.

        Raises:
            InputError: if the backbone fails on an image, changes its shape, or has weights that a checkpoint cannot hold.
        """
        self.configure_model()
        if self.images is None:
            return
        probe(self, self.images.shape)
        check_dtypes(self.backbone)
        self.image_channels = self.images.shape[0]
        self.image_format = {"range": list(self.images.range), "dtype": self.images.dtype}
        suited, loss = self.images.suited_loss, type(self.loss).__name__
        if stage == "fit" and suited is not None and loss != suited.rpartition(".")[2]:
            rank_zero_warn(
                f"with pairs of this source, {loss} does not lead to the clean image: use --model.loss {suited}"
            )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimiser and the scheduler.

        Raises:
            InputError: if the backbone has no weights, if an argument is wrong, or if the schedule or the loss depends on the
                length of a training without an end.
        """
        if not any(True for _ in self.parameters()):
            raise InputError(f"the backbone {type(self.backbone).__name__} has no weights to train: choose another")
        if hasattr(self.loss, "progress"):
            training_steps(self.trainer, f"the loss {type(self.loss).__name__}")
        return build_optimizers(self.trainer, self, self.optimizer, self.scheduler, self.scheduler_interval)

    def on_train_start(self) -> None:
        """Restore what Lightning does not."""
        self._resume.restore(self.trainer)

    def on_train_epoch_start(self) -> None:
        """Start the epoch's mean loss."""
        self._losses = EpochLosses()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        views = as_batch(batch)
        if views.target is None:
            raise InputError("the training batches have no targets: expected (noisy, target)")
        self.image_channels = self.image_channels or views.noisy.shape[1]
        if hasattr(self.loss, "progress"):
            self.loss.progress = progress(self.trainer)  # type: ignore[assignment]
        noisy, target, halves = views.noisy, views.target, views.halves
        if views.independent and not (self._noise_known or self._pair_noise.complete):
            self._pair_noise.add(noisy, target)
        if views.gaps:
            noisy = fill_gaps(noisy)
            halves = halves and halves._replace(images=fill_gaps(halves.images))
        denoised = self(noisy).float()
        if views.gaps:
            # Without data there is no error, and no gradient.
            target = torch.where(views.known, target, denoised)
        more = (self, halves) if isinstance(self.loss, NetworkLoss) else ()
        loss: Tensor = self.loss(denoised, target, *more)
        # Kept on the device and logged once an epoch: to log each step would cost more than the rest of Lightning's work.
        if self._losses.add(loss.detach()):
            check_losses(self._losses, self.trainer)
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean loss."""
        if self._pair_noise.complete and not self._noise_known:
            self.noise, self._noise_known = self._pair_noise.describe(), True
        check_losses(self._losses, self.trainer)
        if self._losses.steps:
            self.log("train/loss", self._losses.total / self._losses.steps, prog_bar=True, sync_dist=True)

    @property
    def _validates_training(self) -> bool:
        return self.trainer.state.fn == "fit" and not self.trainer.sanity_checking

    def on_validation_epoch_start(self) -> None:
        """Check the training losses before spending time on the validation."""
        if self._validates_training:
            check_losses(self._losses, self.trainer)

    def on_validation_epoch_end(self) -> None:
        """Log the figures as ``val/NAME``.

        Raises:
            InputError: if the training has diverged.
        """
        loss = self.log_scores("val")
        if self._validates_training:
            # If the loss itself changes during training, its values cannot be compared.
            if not hasattr(self.loss, "progress"):
                check_validation_loss(loss, self._lowest_val_loss, self.trainer)
            self._lowest_val_loss = min(self._lowest_val_loss, loss)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what prediction and a resumed training need, as plain values."""
        figures = {
            name: float(value)
            for name, value in self.trainer.callback_metrics.items()
            # Those without clean images may be of an earlier epoch, because an epoch logs only what can be estimated.
            if name.startswith("val/") and "blind" not in name
        }
        if self.blind_estimate is not None:
            figures |= {f"val/{name}": value for name, value in self.blind_estimate.figures().items()}
        self._losses.read()
        noise = self.noise if self._noise_known else self._pair_noise.describe() or self.noise
        checkpoint["n2n"] = {
            "image_channels": self.image_channels,
            **self.image_format,
            **({"noise": noise.plain()} if noise is not None else {}),
            "figures": figures,
            "psnr_blind": str(self.blind_estimate) if self.blind_estimate is not None else None,
            "training": {
                "losses": [self._losses.total, self._losses.steps],
                "least_val_loss": self._lowest_val_loss,
                "noise_known": self._noise_known,
                **self._resume.save(self.trainer, checkpoint),
            },
        }

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Read what ``on_save_checkpoint`` added; the file may be hostile, and an error here blames it.

        Raises:
            InputError: if the images differ from those of the training in channels or range.
        """
        kept = checkpoint.get("n2n", {})
        if (training := kept.get("training")) is not None:
            total, steps = training["losses"]
            self._losses = EpochLosses(float(total), int(steps))
            self._lowest_val_loss = float(training["least_val_loss"])
            self._resume.load(training)
            # If not, it is measured anew. Checkpoints of older versions do not say so.
            self._noise_known = bool(training.get("noise_known", "noise" in kept))
        channels, now = kept.get("image_channels"), self.image_format
        if self.images is not None and channels not in (None, self.images.shape[0]):
            raise InputError(
                f"the checkpoint was trained on images of {channels} channels, and those of this source have "
                f"{self.images.shape[0]}: set the source's channels to {channels} (--data.source.channels {channels}), or "
                "choose another checkpoint"
            )
        self.image_channels, self.noise = channels, TrainedNoise.from_plain(kept.get("noise"))
        before = {name: kept[name] for name in ("range", "dtype") if name in kept}
        if before and now and before["dtype"] == now["dtype"] and before["range"] != now["range"]:
            (low, high), (other_low, other_high) = before["range"], now["range"]
            raise InputError(
                f"the checkpoint was trained on values of {low:g} to {high:g}, and those of this source are read as "
                f"{other_low:g} to {other_high:g}: set its value_range to [{low:g}, {high:g}]"
            )
        self.image_format = now or before
