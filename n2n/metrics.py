"""PSNR over a whole set, per image, and without clean images."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from n2n.system.text import counted

# Keeps the logarithm finite for identical images, at 80 dB. From the paper, section II.
EPSILON = 1e-8


def psnr_from_mse(mse: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of mean squared errors, of any shape, between images in [0, 1].

    ``-10 * log10(mse + 1e-8)`` (Januszek, Parshikov and Roust 2022, section II).
    """
    return -10.0 * torch.log10(mse + EPSILON)


def squared_error_per_image(images: Tensor, clean: Tensor) -> Tensor:
    """Mean squared error of each image, N×C×H×W -> N. ``images`` are clipped to [0, 1], as they are when written to a file.

    Raises:
        ValueError: if the shapes differ, because broadcasting would silently compute something else.
    """
    if images.shape != clean.shape:
        raise ValueError(f"images are {tuple(images.shape)} but clean images are {tuple(clean.shape)}")
    return (images.float().clamp(0.0, 1.0) - clean.float()).square().flatten(1).mean(dim=1)


def _millions_of_values(images: Tensor) -> float:
    """Return C·H·W of N×C×H×W images, in millions, so that sums in float32 are exact enough. N may be 0."""
    return math.prod(images.shape[1:]) / 1e6


class _Mean(Metric):
    """A weighted sum and its weight, independent of batch sizes and the number of devices."""

    full_state_update, is_differentiable, higher_is_better = False, False, True
    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", default=torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("weight", default=torch.tensor(0.0), dist_reduce_fx="sum")

    def _add(self, values: Tensor, weight: float) -> None:
        self.total += values.sum() * weight
        self.weight += values.numel() * weight

    def compute(self) -> Tensor:
        """Return the mean of everything added; NaN if there was nothing, or if any value was NaN."""
        return self.total / self.weight


class MeanLoss(_Mean):
    """Mean of losses. Unlike torchmetrics' ``MeanMetric``, it keeps NaN, which says that the training diverged."""

    higher_is_better = False

    def update(self, loss: Tensor, images: int) -> None:
        """Add the mean loss of some images."""
        self._add(loss, images)


class PSNR(_Mean):
    """PSNR in dB of the mean squared error over all pixels of all images (the paper's formula).

    ``update`` takes images and clean images, N×C×H×W in [0, 1]; it clips the images to this range. All pixels have the same
    weight, so larger images count more.
    """

    def update(self, images: Tensor, clean: Tensor) -> None:
        """Add a batch."""
        self._add(squared_error_per_image(images, clean), _millions_of_values(images))

    def compute(self) -> Tensor:
        """Return the PSNR in dB of everything added."""
        return psnr_from_mse(self.total / self.weight)


class PSNRPerImage(_Mean):
    """Mean over images of the PSNR of each image, in dB, as in the paper's Table I.

    ``update`` takes the same as that of :class:`PSNR`. On the paper's data this mean is about 1 dB higher, because of flat
    images, which have nearly no noise there.
    """

    def update(self, images: Tensor, clean: Tensor) -> None:
        """Add a batch."""
        self._add(psnr_from_mse(squared_error_per_image(images, clean)), 1.0)


# Fewer scenes give no interval: it would cover the true value far less often than it says (tests/long/coverage.py).
LEAST_SCENES = 5


class BlindEstimate(NamedTuple):
    """Result of :class:`BlindPSNR`.

    Attributes:
        mse: estimated mean squared error to the clean images; if the error is small, the estimate may be negative by chance.
        psnr: PSNR in dB of that error; NaN if it is not positive.
        low: lower end of the 95 % interval of the PSNR for scenes like these; NaN below ``LEAST_SCENES``.
        high: upper end of the interval; infinite if it includes an error of zero.
        noisy: PSNR in dB of the noisy views, from their difference.
        scenes: number of scenes.
    """

    mse: Tensor
    psnr: Tensor
    low: Tensor
    high: Tensor
    noisy: Tensor
    scenes: int

    def figures(self) -> dict[str, float]:
        """Return the figures that can be reported, by their logged names."""
        figures = {"mse_blind": self.mse, "psnr_blind": self.psnr, "psnr_noisy_blind": self.noisy}
        figures |= {"psnr_blind_low": self.low, "psnr_blind_high": self.high}
        return {name: float(value) for name, value in figures.items() if math.isfinite(value)}

    def __str__(self) -> str:
        """Return the PSNR, or why it cannot be estimated."""
        psnr, low, high = (float(value) for value in (self.psnr, self.low, self.high))
        if not self.mse > 0:
            return "cannot be estimated: the estimated error is not positive, because there are too few pixels"
        if self.scenes < LEAST_SCENES:
            few = counted(self.scenes, "scene")
            return f"about {psnr:.2f} dB (from {few}; an interval needs at least {LEAST_SCENES}: hold out more)"
        upper = "no upper limit" if math.isinf(high) else f"{high:.2f} dB"
        return f"{psnr:.2f} dB (95 % interval {low:.2f} dB to {upper}, for scenes like these {self.scenes})"


# Student's t for a two-sided 95 % interval, by degrees of freedom from 1.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def t95(freedom: int) -> float:
    """Return Student's t for a two-sided 95 % interval: from a table, then by its expansion around the normal quantile."""
    if freedom <= len(_T95):
        return _T95[freedom - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


class BlindPSNR(Metric):
    """Estimate of :class:`PSNR` without clean images.

    Let x₁, x₂ be two views of one image with independent zero-mean noise, and φ any function. Then
    ½(‖φ(x₁) − x₂‖² + ‖φ(x₂) − x₁‖²) − ½‖x₁ − x₂‖² is an unbiased estimate of the mean squared error of the two outputs, for
    any two variances of the noise: the noise of each view is independent of the output of the other, so the cross terms vanish.

    The 95 % interval is Student's interval of the mean over scenes, weighted by size (a ratio estimate). It is about the mean
    over all scenes like these, not over these scenes alone. It is given from five scenes on, however wide it is: to
    show it only where it is narrow would select lucky cases.
    """

    full_state_update, is_differentiable, higher_is_better = False, False, True
    errors: list[Tensor]
    noises: list[Tensor]
    sizes: list[Tensor]
    scenes: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("errors", "noises", "sizes", "scenes"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(
        self, first: Tensor, second: Tensor, denoised_first: Tensor, denoised_second: Tensor, scene: int | None = None
    ) -> None:
        """Add a batch.

        Args:
            first: a view of each image, N×C×H×W, its range mapped to [0, 1]; not clipped, because that would bias the noise.
            second: the other view.
            denoised_first: output of the network for ``first``; clipped here, as in :class:`PSNR`.
            denoised_second: output of the network for ``second``.
            scene: number of the scene that all images show; None if each shows its own. The interval counts a scene once.
        """
        one = squared_error_per_image(denoised_first, second)
        other = squared_error_per_image(denoised_second, first)
        noise = (first.float() - second.float()).square().flatten(1).mean(dim=1) / 2
        self.errors.append((one + other) / 2 - noise)
        self.noises.append(noise)
        self.sizes.append(torch.full_like(noise, _millions_of_values(first)))
        self.scenes.append(torch.full_like(noise, -1 if scene is None else scene, dtype=torch.int64))

    def compute(self) -> BlindEstimate:
        """Return the estimate of everything added."""
        # Apple's GPUs have no float64.
        errors, noises, sizes = (
            dim_zero_cat(values).cpu().double() for values in (self.errors, self.noises, self.sizes)
        )
        nan = torch.tensor(float("nan"))
        if not len(errors):
            return BlindEstimate(nan, nan, nan, nan, nan, 0)
        mse = (errors * sizes).sum() / sizes.sum()
        noisy = psnr_from_mse((noises * sizes).sum() / sizes.sum())
        psnr = psnr_from_mse(mse) if mse > 0 else nan
        # Images that show their own scene get unique negative numbers.
        scenes = dim_zero_cat(self.scenes).cpu()
        scenes = torch.where(scenes < 0, -1 - torch.arange(len(scenes)), scenes)
        scene = torch.unique(scenes, return_inverse=True)[1]
        count = int(scene.max()) + 1
        if count < LEAST_SCENES:
            return BlindEstimate(mse, psnr, nan, nan, noisy, count)
        residual = torch.zeros(count, dtype=torch.float64).index_add_(0, scene, sizes * (errors - mse))
        spread = (residual.square().sum() * count / (count - 1)).sqrt() / sizes.sum()
        best, worst = (mse + sign * t95(count - 1) * spread for sign in (-1, 1))
        high = psnr_from_mse(best) if best > 0 else torch.tensor(float("inf"))
        low = psnr_from_mse(worst) if worst > 0 else nan
        return BlindEstimate(mse, psnr, low, high, noisy, count)


def better(figure: str) -> Literal["min", "max"]:
    """Return whether the smallest ("min") or the largest ("max") value of a figure is the best, by its name."""
    return "min" if "loss" in figure or "mse" in figure else "max"
