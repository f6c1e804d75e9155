"""The LightningModule: a backbone that learns to map one noisy view onto the other."""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, TypeVar

import lightning as L
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.image import StructuralSimilarityIndexMeasure

from n2n.backbones.spec import build, describe
from n2n.data.batch import Batch
from n2n.data.loader import PairLoader
from n2n.errors import InputError, reason
from n2n.metrics import PSNR, BlindEstimate, BlindPSNR, PSNRPerImage
from n2n.optimizers import check_state, fused

# A validation loss that is so many times its least one so far, 10 dB, is that of a network that has collapsed.
_COLLAPSED = 10.0
# Losses that are kept on the device before they are looked at, for which a GPU must be waited for.
_LOSSES = 100

Built = TypeVar("Built")

# Side of the window of SSIM's Gaussian; smaller images have no SSIM (Wang et al. 2004).
_SSIM_WINDOW = 11


class FixedShape(Protocol):
    """The backbone for batches of one shape, N×C×H×W in [0, 1] to the same."""

    shape: torch.Size

    def __call__(self, noisy: Tensor) -> Tensor:
        """Denoise a batch."""


class Losses:
    """The losses of an epoch's steps: their sum, and the first that is no finite number.

    Attributes:
        total: sum of those that were looked at.
        steps: how many were added.
        bad: number of the first step whose loss is no finite number, from 0, among those that were looked at; None if all are.
    """

    def __init__(self, total: float = 0.0, steps: int = 0) -> None:
        self.total, self.steps = total, steps
        self.bad: int | None = None
        self._kept: list[Tensor] = []

    def add(self, loss: Tensor) -> bool:
        """Add a scalar; returns whether it is time to look."""
        self._kept.append(loss)
        self.steps += 1
        return len(self._kept) >= _LOSSES

    def look(self) -> None:
        """Sum what was added; a GPU is waited for."""
        if not self._kept:
            return
        values = torch.stack(self._kept).float().cpu()
        first = self.steps - len(self._kept)
        self._kept = []
        self.total += float(values.double().sum())
        bad = (~values.isfinite()).nonzero()
        if len(bad) and self.bad is None:
            self.bad = first + int(bad[0])


class DenoisingModule(L.LightningModule):
    """Trains a backbone on pairs of noisy images (Noise2Noise) and validates it, against clean images if there are any.

    For independent zero-mean noises, the expected squared error to the other noisy view is the one to the clean image plus
    a constant (Lehtinen et al. 2018), so minimising the one minimises the other. Nothing is clipped before the loss:
    clipping would bias the noise.

    Args:
        backbone: maps N×C×H×W in [0, 1] to the same shape.
        loss: of the output and the target. If it has an attribute ``progress``, that is set before each step to how far the
            training is, 0 to 1.
        optimizer: from the parameters.
        scheduler: of the learning rate, from the optimiser; None for a constant rate.
        scheduler_interval: whether the scheduler steps after each epoch or after each training step.
    """

    def __init__(
        self,
        backbone: nn.Module,
        loss: nn.Module = nn.MSELoss(),  # noqa: B008  # it holds no state
        optimizer: OptimizerCallable = torch.optim.Adam,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
    ) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Attribute .* is an instance of `nn.Module`", UserWarning)
            self.save_hyperparameters()
        self._from_config = not isinstance(self.hparams.get("backbone"), nn.Module)
        if not self._from_config:
            # Built in Python, not by the command line: keep what rebuilds the backbone, as the command line does.
            self.hparams.clear()
            hparams = {
                "backbone": describe(backbone),
                "_instantiator": "lightning.pytorch.cli.instantiate_module",
            }
            self.save_hyperparameters(hparams)
        # In channels_last order convolutions run 1.5 times as fast on CPUs, and on GPUs in half precision.
        self.backbone = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loss, self.optimizer, self.scheduler = loss, optimizer, scheduler
        self.scheduler_interval = scheduler_interval
        self.val_metrics = nn.ModuleDict(
            {
                "psnr": PSNR(),
                "psnr_per_image": PSNRPerImage(),
                "psnr_noisy": PSNR(),
                "psnr_noisy_per_image": PSNRPerImage(),
                "ssim": StructuralSimilarityIndexMeasure(data_range=1.0, kernel_size=_SSIM_WINDOW),
            }
        )
        self.val_loss = MeanMetric()
        self.blind_psnr = BlindPSNR()
        self.blind_estimate: BlindEstimate | None = None
        self.image_channels: int | None = None
        self.image_format: dict[str, Any] = {}
        # A faster way to the output of a training batch of one shape, which is overwritten by the next.
        self.graphed: FixedShape | None = None
        self._losses = Losses()
        self._least_val_loss = math.inf
        self._random: Tensor | None = None
        self._resumed: dict[str, int] | None = None
        # Arguments of n2n.denoiser.Denoiser for the prediction of files: tile, overlap, batch, ensemble and range.
        self.denoiser_options: dict[str, Any] = {}
        self._denoiser: Any = None
        self._learned: list[nn.Parameter] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> DenoisingModule:
        """Copy all but what builds optimiser and scheduler: from a command line, these hold the Trainer and all of the data."""
        memo |= {id(build): build for build in (self.optimizer, self.scheduler)}
        new = memo[id(self)] = type(self).__new__(type(self))
        nn.Module.__setstate__(new, copy.deepcopy(self.__getstate__(), memo))  # type: ignore[no-untyped-call]
        return new

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise N×C×H×W in [0, 1]; the output is not clipped.

        Raises:
            InputError: if the backbone cannot take the images, or gives another shape.
        """
        denoised: Tensor = self.backbone(noisy.contiguous(memory_format=torch.channels_last))
        if denoised.shape != noisy.shape:
            raise InputError(
                f"the backbone {type(self.backbone).__name__} maps {tuple(noisy.shape)} to {tuple(denoised.shape)}: "
                "a backbone must keep the shape"
            )
        return denoised

    def fit_channels(self, channels: int) -> bool:
        """Build the backbone again, before training, if its ``channels`` are its class's default and the images have others.

        Only a backbone that came from a configuration is built again, and none whose channels were chosen.

        Returns:
            Whether that was done.
        """
        spec = self.hparams["backbone"]
        default = inspect.signature(type(self.backbone)).parameters.get("channels")
        configured = spec.get("init_args", {}).get("channels")
        if not self._from_config or default is None or configured != default.default or configured == channels:
            return False
        spec["init_args"]["channels"] = channels
        self.backbone = build(dict(spec)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        rank_zero_info(f"The images have {channels} channel{'s' * (channels != 1)}: so has the backbone now.")
        return True

    def setup(self, stage: str) -> None:
        """Refuse, before the first step, a backbone that cannot take the images or train on them."""
        datamodule = getattr(self.trainer, "datamodule", None)
        shape = getattr(datamodule, "image_shape", None)
        if shape is None:
            return
        if stage == "fit" and self.image_channels is None:
            self.fit_channels(shape[0])
        try:
            with torch.no_grad():
                self.eval()(torch.zeros(1, *shape, device=self.device))
        except RuntimeError as error:
            raise InputError(
                f"the backbone {type(self.backbone).__name__} cannot take images of {shape[0]}×{shape[1]}×{shape[2]} "
                f"({str(error).splitlines()[0]}): set its channels, or the source's, so that they agree"
            ) from error
        finally:
            self.train()
        self.image_channels = shape[0]
        self.image_format = getattr(datamodule, "image_format", {})
        suited, loss = getattr(datamodule, "suited_loss", None), type(self.loss)
        if stage == "fit" and suited is not None and loss.__name__ != suited.rpartition(".")[2]:
            rank_zero_warn(
                f"the noise of this source has no zero mean, so {loss.__name__} does not lead to the clean image: "
                f"use --model.loss {suited}"
            )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch of noisy views."""
        assert batch.target is not None
        epochs = self.trainer.max_epochs or 0
        if hasattr(self.loss, "progress") and epochs > 0:
            epoch = self.current_epoch + batch_idx / self.trainer.num_training_batches
            self.loss.progress = epoch / epochs  # type: ignore[assignment]
        forward: Callable[[Tensor], Tensor] = self
        # A regularizer calls the network once more, and needs both outputs.
        if self.graphed is not None and batch.noisy.shape == self.graphed.shape and batch.regularizer is None:
            forward = self.graphed
        denoised = forward(batch.noisy).float()
        loss: Tensor = self.loss(denoised, batch.target)
        if batch.regularizer is not None:
            loss = loss + batch.regularizer(self, denoised, batch.target)
        # Kept on the device and logged once an epoch: logging each step would cost more than the step's own overhead.
        if self._losses.add(loss.detach()):
            self._check_losses()
        return loss

    def _check_losses(self) -> None:
        """Raise an InputError if a loss since the last look is no finite number."""
        self._losses.look()
        if self._losses.bad is None:
            return
        lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        advice = f"lower the learning rate, which is {lr:.2g} here"
        if self.trainer.precision in ("16-mixed", "16-true"):
            advice = f"choose --trainer.precision bf16-mixed or 32-true, or {advice}"
        elif not self.trainer.gradient_clip_val:
            advice += ", or limit the gradients (--trainer.gradient_clip_val 1)"
        raise InputError(
            f"the training diverged: the loss of step {self._losses.bad + 1} of epoch {self.current_epoch} is not a finite "
            f"number; {advice}. {self._saved}"
        )

    def _check_val_loss(self) -> None:
        """Raise an InputError if the network has become much worse than it was."""
        loss, least = float(self.val_loss.compute()), self._least_val_loss
        self._least_val_loss = min(least, loss)
        collapsed = math.isfinite(least) and not loss <= _COLLAPSED * least
        # The scale of a loss that changes in the course of training says nothing.
        if collapsed and not hasattr(self.loss, "progress"):
            raise InputError(
                f"the training diverged: val/loss is {loss:.3g} after epoch {self.current_epoch}, and was {least:.3g} "
                "before; lower the learning rate, or let it fall (--model.scheduler n2n.schedules.OneCycle "
                f"--model.scheduler_interval step). {self._saved}"
            )

    @property
    def _saved(self) -> str:
        """Where the last good state of a training that fails is."""
        keepers = self.trainer.checkpoint_callbacks
        paths = [str(path) for one in keepers if (path := getattr(one, "best_model_path", ""))]
        return f"What was saved before stays: {paths[-1]}" if paths else "Nothing had been saved yet"

    def on_train_start(self) -> None:
        """Go on with the state of the training that was interrupted, if it was."""
        self._restore()

    def _restore(self) -> None:
        # What fails here is the fault of the checkpoint, which TrainingCLI sees by this name.
        for optimizer in self.trainer.optimizers:
            check_state(optimizer)
        if self._random is not None:
            torch.set_rng_state(self._random)
            self._random = None
        # Lightning does so, too, unless a scheduler has asked for the number of steps before.
        if self._resumed is not None and isinstance(loader := self.trainer.train_dataloader, PairLoader):
            loader.load_state_dict(self._resumed)
            self._resumed = None

    def on_train_epoch_start(self) -> None:
        """Start the epoch's mean loss."""
        self._losses = Losses()

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean loss."""
        self._check_losses()
        if self._losses.steps:
            self.log("train/loss", self._losses.total / self._losses.steps, prog_bar=True, sync_dist=True)

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Score one batch against clean images, against other noisy views, or both; returns the denoised ones, not clipped."""
        noisy, other, clean = batch.noisy, batch.target, batch.clean
        denoised: Tensor = self(noisy).float()
        reference = other if clean is None else clean
        self.val_loss.update(self.loss(denoised, reference), weight=len(noisy))
        self.log("val/loss", self.val_loss, batch_size=len(noisy))
        if clean is not None:
            self._score(noisy, denoised, clean)
        if other is not None and batch.independent:
            # Both directions: a mean of twice as many outputs, and the identity behind the blind estimate needs both.
            denoised_other = self(other).float()
            self.blind_psnr.update(noisy, other, denoised, denoised_other, batch.scene)
            if clean is not None:
                self._score(other, denoised_other, clean)
        return denoised

    def _score(self, noisy: Tensor, denoised: Tensor, clean: Tensor) -> None:
        """Update the metrics against clean images."""
        for name, metric in self.val_metrics.items():
            assert isinstance(metric, Metric)
            if name == "ssim" and min(noisy.shape[-2:]) < _SSIM_WINDOW:
                continue
            # SSIM clips like PSNR: what is scored is the picture that the user gets. In half precision its convolutions would
            # lose the variances, which are small differences of large numbers: 0.6 instead of 0.8.
            with torch.autocast(noisy.device.type, enabled=False):
                metric.update(noisy if "noisy" in name else denoised.clamp(0.0, 1.0), clean)
            self.log(f"val/{name}", metric, batch_size=len(noisy), prog_bar=name == "psnr_per_image")

    def on_validation_epoch_start(self) -> None:
        """Look at the losses of the training so far, before time is spent on it."""
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self._check_losses()

    def on_validation_epoch_end(self) -> None:
        """Log the PSNR without clean images, where it can be said, and what checkpoints are chosen by without them.

        Raises:
            InputError: if the training has diverged.
        """
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self._check_val_loss()
        if not self.blind_psnr.update_called:
            return
        self.blind_estimate = self.blind_psnr.compute()
        self.blind_psnr.reset()
        for name, value in self._blind_figures().items():
            # The processes have the same value by now; to say so keeps Lightning from warning.
            self.log(name, value, prog_bar=name == "val/psnr_blind", sync_dist=True)

    def _blind_figures(self) -> dict[str, float]:
        """Return what can be said without clean images in the last validation."""
        if self.blind_estimate is None:
            return {}
        mse, psnr, low, high, noisy = (float(value) for value in self.blind_estimate)
        figures = {"mse_blind": mse, "psnr_noisy_blind": noisy, "psnr_blind_low": low, "psnr_blind_high": high}
        if self.blind_estimate.sayable:
            figures["psnr_blind"] = psnr
        # Nothing where nothing can be said; a curve has a gap there.
        return {f"val/{name}": value for name, value in figures.items() if math.isfinite(value)}

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        """Denoise N×C×H×W in [0, 1], which is not clipped, or a file of :class:`n2n.data.image_files.ImageFiles`.

        Returns:
            The denoised tensor, or a :class:`n2n.denoiser.pipeline.Prediction`.
        """
        if isinstance(batch, Tensor):
            return self(batch).float()
        # Not at the top: only prediction of files needs image formats.
        from n2n.denoiser.pipeline import Prediction, trainer_denoiser

        if self._denoiser is None:
            # The denoiser freezes them.
            self._learned = [parameter for parameter in self.backbone.parameters() if parameter.requires_grad]
            self._denoiser = trainer_denoiser(
                self.backbone,
                self.image_channels,
                self.device,
                str(self.trainer.precision),
                self.image_format,
                self.denoiser_options,
            )
        return Prediction(self._denoiser, batch)

    def on_predict_end(self) -> None:
        """Drop the denoiser, and let the network learn again, which is this module's own."""
        for parameter in self._learned:
            parameter.requires_grad_(True)
        self._denoiser, self._learned = None, []

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser and the scheduler that the configuration names."""
        if not any(True for _ in self.parameters()):
            raise InputError(f"the backbone {type(self.backbone).__name__} has no weights to train: choose another")
        optimizer = _built("optimizer", self.optimizer, self.parameters())
        # Mixed precision does not clip the gradients of one that would unscale them itself.
        if not self.trainer.gradient_clip_val:
            optimizer = fused(optimizer)
        if self.scheduler is None:
            return optimizer
        scheduler = _built("scheduler", self.scheduler, optimizer)
        # Schedules that want to know how long the training is.
        if getattr(scheduler, "total_steps", 0) is None:
            steps, epochs = self.trainer.estimated_stepping_batches, self.trainer.max_epochs or -1
            if steps == float("inf") or epochs < 0:
                raise InputError(f"the scheduler {type(scheduler).__name__} needs an end: set --trainer.max_epochs")
            scheduler.total_steps = steps if self.scheduler_interval == "step" else epochs  # type: ignore[attr-defined]
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": scheduler,
                "interval": self.scheduler_interval,
                "monitor": "val/loss",
            },
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what prediction needs to know about the images, as plain values."""
        # Those without clean images may be of an earlier epoch among the trainer's: one that nothing can be said of logs none.
        figures = {
            name: float(value)
            for name, value in self.trainer.callback_metrics.items()
            if name.startswith("val/") and "blind" not in name
        } | self._blind_figures()
        blind = str(self.blind_estimate) if self.blind_estimate is not None else None
        checkpoint["n2n"] = {
            "image_channels": self.image_channels,
            **self.image_format,
            "figures": figures,
            "psnr_blind": blind,
        }
        self._losses.look()
        # What a training that goes on needs beside what Lightning keeps: also in the middle of an epoch, and whatever draws
        # random numbers of the process's generator, such as dropout. On several devices each would need its own.
        checkpoint["n2n"]["training"] = {
            "losses": [self._losses.total, self._losses.steps],
            "least_val_loss": self._least_val_loss,
            "random": torch.get_rng_state(),
            "loader": self._loader_state(),
        }

    def _loader_state(self) -> dict[str, int] | None:
        loader = self.trainer.train_dataloader
        return loader.state_dict() if isinstance(loader, PairLoader) else None

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Take back what ``on_save_checkpoint`` added."""
        kept = checkpoint.get("n2n", {})
        if (training := kept.get("training")) is not None:
            # A hostile file may hold anything: what is not of its kind fails here, where the checkpoint is blamed for it.
            total, steps = training["losses"]
            self._losses, self._least_val_loss = Losses(float(total), int(steps)), float(training["least_val_loss"])
            self._random, self._resumed = training["random"], training["loader"]
            torch.Generator().set_state(self._random)
            if self._resumed is not None:
                self._resumed = {"batches": int(self._resumed["batches"])}
        self.image_channels = kept.get("image_channels")
        before, now = {name: kept[name] for name in ("range", "dtype") if name in kept}, self.image_format
        if before and now and before["dtype"] == now["dtype"] and before["range"] != now["range"]:
            (low, high), (other_low, other_high) = before["range"], now["range"]
            raise InputError(
                f"the checkpoint was trained on values of {low:g} to {high:g}, and those of this source are read as "
                f"{other_low:g} to {other_high:g}: set its value_range to [{low:g}, {high:g}]"
            )
        self.image_format = now or before


def _built(what: str, build: Callable[[Any], Built], of: Any) -> Built:
    """Build the optimiser or the scheduler, which only now look at their arguments."""
    try:
        return build(of)
    except InputError:
        raise
    except Exception as error:  # it may be anybody's class
        raise InputError(f"--model.{what} cannot be built ({reason(error)}): change its arguments") from error
