"""A backbone with its loss: validation, test and prediction."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from n2n.data.batch import Batch, as_batch
from n2n.data.noise import TrainedNoise
from n2n.data.reading import FileBatch
from n2n.data.value_range import TrainedRange
from n2n.errors import InputError
from n2n.metrics import BlindEstimate
from n2n.module.scores import Scores


class EvaluationModule(L.LightningModule):
    """Denoises batches, and scores them against clean images, other noisy views, or both.

    All steps take a :class:`n2n.data.batch.Batch`, or what :func:`n2n.data.batch.as_batch` makes one of: noisy images
    N×C×H×W in [0, 1], ``(noisy, target)``, ``(noisy, target, clean)``, or a dict with these names.

    Args:
        backbone: maps N×C×H×W in [0, 1] to the same shape.
        loss: of the output and the target.

    Attributes:
        image_channels: C of the images that the backbone was trained on; None before training.
        image_format: ``range`` and ``dtype`` of their files, see :class:`n2n.data.batch.ImageInfo`.
        noise: the noise of the training images; None if unknown.
        denoiser_options: arguments of :class:`n2n.Denoiser` for the prediction of files: tile, overlap, batch, ensemble, range.
        blind_estimate: result of the last validation or test without clean images; None if there were no pairs.
    """

    def __init__(self, backbone: nn.Module, loss: nn.Module) -> None:
        super().__init__()
        if not isinstance(backbone, nn.Module):
            raise InputError(
                f"the backbone is a {type(backbone).__name__}: expected a torch.nn.Module, such as n2n.backbones.UNet()"
            )
        # In channels_last order, convolutions are 1.5 times as fast on CPUs, and faster on GPUs in half precision.
        self.backbone = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loss = loss
        self.scores = Scores()
        self.blind_estimate: BlindEstimate | None = None
        self.image_channels: int | None = None
        self.image_format: dict[str, Any] = {}
        self.noise: TrainedNoise | None = None
        self.denoiser_options: dict[str, Any] = {}
        self._denoiser: Any = None

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise N×C×H×W in [0, 1]; the output is not clipped.

        Raises:
            InputError: if the backbone returns another shape.
        """
        denoised: Tensor = self.backbone(noisy.to(self.dtype, memory_format=torch.channels_last))
        if denoised.shape != noisy.shape:
            raise InputError(
                f"the backbone {type(self.backbone).__name__} maps {tuple(noisy.shape)} to {tuple(denoised.shape)}: "
                "a backbone must keep the shape"
            )
        return denoised

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Score one batch against clean images, other noisy views, or both; returns the denoised images, not clipped."""
        return self._score(as_batch(batch))

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Score one batch like ``validation_step``."""
        return self._score(as_batch(batch))

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        """Denoise one batch of images, or one file of :class:`n2n.data.image_files.ImageFiles`.

        Returns:
            The denoised images, float32 N×C×H×W, not clipped; for a file a :class:`n2n.denoiser.pipeline.Prediction`.
        """
        if isinstance(batch, FileBatch):
            # Imported here: only the prediction of files needs them.
            from n2n.denoiser import Denoiser
            from n2n.denoiser.pipeline import Prediction

            if self._denoiser is None:
                # The Trainer calls them bf16-mixed, 32-true and so on.
                precision = str(self.trainer.precision).partition("-")[0]
                trained = TrainedRange.from_plain(self.image_format.get("range"), self.image_format.get("dtype"))
                self._denoiser = Denoiser(
                    *(self.backbone, self.image_channels, self.device, precision),
                    **self.denoiser_options,
                    trained=trained,
                    noise=self.noise,
                )
            return Prediction(self._denoiser, batch)
        denoised: Tensor = self(as_batch(batch).noisy)
        return denoised.float()

    def on_predict_end(self) -> None:
        """Drop the denoiser."""
        self._denoiser = None

    def _score(self, batch: Batch) -> Tensor:
        noisy, other, clean = batch.noisy, batch.target, batch.clean
        reference = other if clean is None else clean
        if reference is None:
            raise InputError(
                "the batches have nothing to compare with: expected (noisy, target) or (noisy, target, clean)"
            )
        fill, select = batch.around_network()

        def count(images: Tensor) -> Tensor:
            counted = select(images)
            # If nothing is known, no image, rather than one without pixels.
            return counted if counted.numel() else counted.reshape(0, images.shape[1], 1, 1)

        denoised: Tensor = self(fill(noisy)).float()
        result, denoised, noisy, reference = denoised, count(denoised), count(noisy), count(reference)
        if len(noisy):
            self.scores.add_loss(self.loss(denoised, reference), len(noisy))
        if clean is not None:
            self.scores.add(noisy, denoised, reference)
        if other is not None and batch.independent:
            # The estimate without clean images needs both directions; they also double the images of the other scores.
            denoised_other, other = count(self(fill(other)).float()), count(other)
            self.scores.add_pair(noisy, other, denoised, denoised_other, batch.scene)
            if clean is not None:
                self.scores.add(other, denoised_other, reference)
        return result

    def on_validation_epoch_end(self) -> None:
        """Log the figures as ``val/NAME``."""
        self.log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the figures as ``test/NAME``."""
        self.log_scores("test")

    def log_scores(self, stage: str) -> float:
        """Log the figures of all batches as ``STAGE/NAME``; returns the mean loss."""
        figures, self.blind_estimate = self.scores.compute()
        for name, value in figures.items():
            # All processes have the same value; sync_dist keeps Lightning from warning.
            self.log(f"{stage}/{name}", value, prog_bar=name in ("psnr_per_image", "psnr_blind"), sync_dist=True)
        return figures["loss"]
