"""PSNR as the paper defines it, over a whole set and image by image."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

# Keeps the logarithm finite for identical images: 80 dB at most. From the paper, section II.
EPSILON = 1e-8


def psnr_from_mse(mse: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of a mean squared error between images in [0, 1].

    ``-10 * log10(mse + 1e-8)`` (Januszek, Parshikov and Roust 2022, section II). Any shape, element by element.
    """
    return -10.0 * torch.log10(mse + EPSILON)


def squared_error_per_image(images: Tensor, clean: Tensor) -> Tensor:
    """Mean squared error of each image, N×C×H×W -> N, with ``images`` clipped to [0, 1] first.

    Clipped, because what is scored is the picture that the user gets, and a written picture is clipped.

    Raises:
        ValueError: if the shapes differ; broadcasting would score something else in silence.
    """
    if images.shape != clean.shape:
        raise ValueError(f"images are {tuple(images.shape)} but clean images are {tuple(clean.shape)}")
    return (images.float().clamp(0.0, 1.0) - clean.float()).square().flatten(1).mean(dim=1)


class _MeanOverImages(Metric):
    """Sums something over images, so that batch sizes and devices do not matter."""

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    total: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", default=torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("images", default=torch.tensor(0), dist_reduce_fx="sum")

    def _add(self, values: Tensor) -> None:
        self.total += values.sum()
        self.images += values.numel()


class PSNR(_MeanOverImages):
    """PSNR in dB of one mean squared error over all pixels of all images: the paper's formula.

    ``update`` takes images and clean images, N×C×H×W in [0, 1], all of one size; images outside the range are clipped.
    """

    def update(self, images: Tensor, clean: Tensor) -> None:
        """Add a batch."""
        self._add(squared_error_per_image(images, clean))

    def compute(self) -> Tensor:
        """Return the PSNR in dB of everything added."""
        return psnr_from_mse(self.total / self.images)


class PSNRPerImage(_MeanOverImages):
    """Mean over images of each image's PSNR in dB: what the figures in the paper's Table I are.

    Takes what :class:`PSNR` takes. The two differ by about 1 dB on the paper's data, since flat images, which are nearly
    free of noise there, raise this mean and hardly touch the other.
    """

    def update(self, images: Tensor, clean: Tensor) -> None:
        """Add a batch."""
        self._add(psnr_from_mse(squared_error_per_image(images, clean)))

    def compute(self) -> Tensor:
        """Return the mean PSNR in dB of the images added."""
        return self.total / self.images
