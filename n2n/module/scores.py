"""The figures of a validation or test."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.image import StructuralSimilarityIndexMeasure

from n2n.metrics import PSNR, BlindEstimate, BlindPSNR, MeanLoss, PSNRPerImage
from n2n.system.hardware import CUDA

# Side of SSIM's Gaussian window; smaller images have no SSIM (Wang et al. 2004).
_SSIM_WINDOW = 11


class Scores(nn.Module):
    """Collects the figures of one validation or test, over all batches and processes.

    Every process must add batches of the same kind (with or without clean images and pairs), if need be of no images:
    :meth:`compute` then runs the same collectives in all of them, whatever the images' sizes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loss = MeanLoss()
        self.against_clean = nn.ModuleDict(
            {
                "psnr": PSNR(),
                "psnr_per_image": PSNRPerImage(),
                "psnr_noisy": PSNR(),
                "psnr_noisy_per_image": PSNRPerImage(),
                "ssim": StructuralSimilarityIndexMeasure(data_range=1.0),
            }
        )
        self.blind = BlindPSNR()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Scores:
        """Move to a device, but keep float32 in a network of half precision: a sum would soon be too large for more values."""
        moved: Scores = super()._apply(lambda values: fn(values).to(values.dtype), recurse)  # type: ignore[no-untyped-call]
        return moved

    def add_loss(self, loss: Tensor, images: int) -> None:
        """Add the mean loss of some images."""
        self.loss.update(loss, images)

    def add(self, noisy: Tensor, denoised: Tensor, clean: Tensor) -> None:
        """Add images with clean ones, N×C×H×W in [0, 1] each; noisy and denoised images are clipped here."""
        for name, metric in self.against_clean.items():
            assert isinstance(metric, Metric)
            if name == "ssim" and min(noisy.shape[-2:]) < _SSIM_WINDOW:
                continue
            images = noisy if "noisy" in name else denoised.clamp(0.0, 1.0)
            # SSIM's variances are small differences of large numbers, which less precision loses. In bfloat16 it may be 0.6
            # instead of 0.8, and in TF32, which cuDNN takes for float32, 0.991 instead of 0.9996.
            kind = torch.float64 if name == "ssim" and clean.device.type in CUDA else torch.float32
            with torch.autocast(clean.device.type, enabled=False):
                metric.update(images.to(kind), clean.to(kind))

    def add_pair(
        self, first: Tensor, second: Tensor, denoised_first: Tensor, denoised_second: Tensor, scene: int | None
    ) -> None:
        """Add pairs of views with independent noise, see :class:`n2n.metrics.BlindPSNR`."""
        self.blind.update(first, second, denoised_first, denoised_second, scene)

    def compute(self) -> tuple[dict[str, float], BlindEstimate | None]:
        """Return the figures by their names, and the estimate without clean images, of all processes; then start anew."""
        with warnings.catch_warnings():
            # Of SSIM if no image of this process was large enough, and of the loss if no pixel was known.
            warnings.filterwarnings("ignore", "The ``compute`` method of metric")
            figures = {"loss": float(self.loss.compute())}
            if self.against_clean["psnr"].update_called:
                figures |= {name: float(metric.compute()) for name, metric in self.against_clean.items()}  # type: ignore[operator]
        if math.isnan(figures.get("ssim", 0.0)):
            del figures["ssim"]
        blind = self.blind.compute() if self.blind.update_called else None
        if blind is not None:
            figures |= blind.figures()
        for metric in (self.loss, self.blind, *self.against_clean.values()):
            metric.reset()  # type: ignore[operator]
        return figures, blind
