"""The LightningModule: a backbone that learns to map one noisy view onto the other."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.image import StructuralSimilarityIndexMeasure

from n2n.backbones.spec import describe
from n2n.errors import InputError
from n2n.metrics import PSNR, PSNRPerImage

# Side of the window of SSIM's Gaussian; smaller images have no SSIM (Wang et al. 2004).
_SSIM_WINDOW = 11


class DenoisingModule(L.LightningModule):
    """Trains a backbone on pairs of noisy images (Noise2Noise) and validates it against clean ones.

    For independent zero-mean noises, the expected squared error to the other noisy view is the one to the clean image plus
    a constant (Lehtinen et al. 2018), so minimising the one minimises the other. Nothing is clipped before the loss:
    clipping would bias the noise.

    Args:
        backbone: maps N×C×H×W in [0, 1] to the same shape.
        loss: of the output and the target.
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
        if isinstance(self.hparams.get("backbone"), nn.Module):
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
        self.image_channels: int | None = None
        self._loss_sum: Tensor | None = None
        self._steps = 0

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

    def setup(self, stage: str) -> None:
        """Refuse, before the first step, a backbone that cannot take the images or train on them."""
        datamodule = getattr(self.trainer, "datamodule", None)
        shape = getattr(datamodule, "image_shape", None)
        if shape is None:
            return
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

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of one batch of noisy views."""
        noisy, target = batch
        loss: Tensor = self.loss(self(noisy).float(), target)
        # Summed on the device and logged once an epoch: logging each step would cost more than the step's own overhead.
        detached = loss.detach()
        self._loss_sum = detached if self._loss_sum is None else self._loss_sum + detached
        self._steps += 1
        return loss

    def on_train_epoch_start(self) -> None:
        """Start the epoch's mean loss."""
        self._loss_sum, self._steps = None, 0

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean loss."""
        if self._loss_sum is not None:
            self.log("train/loss", self._loss_sum / self._steps, prog_bar=True, sync_dist=True)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Score one batch of noisy and clean images; returns the denoised ones, not clipped."""
        noisy, clean = batch
        denoised: Tensor = self(noisy).float()
        self.log("val/loss", self.loss(denoised, clean), batch_size=len(noisy), sync_dist=True)
        for name, metric in self.val_metrics.items():
            assert isinstance(metric, Metric)
            if name == "ssim" and min(noisy.shape[-2:]) < _SSIM_WINDOW:
                continue
            # SSIM clips like PSNR: what is scored is the picture that the user gets.
            metric.update(noisy if "noisy" in name else denoised.clamp(0.0, 1.0), clean)
            self.log(f"val/{name}", metric, batch_size=len(noisy), prog_bar=name == "psnr_per_image")
        return denoised

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser and the scheduler that the configuration names."""
        optimizer = self.optimizer(self.parameters())
        if self.scheduler is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": self.scheduler(optimizer),
                "interval": self.scheduler_interval,
                "monitor": "val/loss",
            },
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what prediction needs to know about the images, as plain values."""
        checkpoint["n2n"] = {"image_channels": self.image_channels}

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Take back what ``on_save_checkpoint`` added."""
        self.image_channels = checkpoint.get("n2n", {}).get("image_channels")
