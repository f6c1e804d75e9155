"""PSNR as the paper defines it, over a whole set and image by image, and without clean images."""

from __future__ import annotations

from typing import Literal, NamedTuple

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


def _megapixels(images: Tensor) -> float:
    """Size of each of N×C×H×W images; in millions, to stay where float32 is exact enough."""
    return images[0].numel() / 1e6


class _Mean(Metric):
    """Sums something up, so that batch sizes and devices do not matter."""

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", default=torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("weight", default=torch.tensor(0.0), dist_reduce_fx="sum")

    def _add(self, values: Tensor, weight: float) -> None:
        self.total += values.sum() * weight
        self.weight += values.numel() * weight


class PSNR(_Mean):
    """PSNR in dB of one mean squared error over all pixels of all images: the paper's formula.

    ``update`` takes images and clean images, N×C×H×W in [0, 1]; images outside the range are clipped. Every pixel counts the
    same, so larger images count more.
    """

    def update(self, images: Tensor, clean: Tensor) -> None:
        """Add a batch."""
        self._add(squared_error_per_image(images, clean), _megapixels(images))

    def compute(self) -> Tensor:
        """Return the PSNR in dB of everything added."""
        return psnr_from_mse(self.total / self.weight)


class PSNRPerImage(_Mean):
    """Mean over images of each image's PSNR in dB: what the figures in the paper's Table I are.

    Takes what :class:`PSNR` takes. The two differ by about 1 dB on the paper's data, since flat images, which are nearly
    free of noise there, raise this mean and hardly touch the other.
    """

    def update(self, images: Tensor, clean: Tensor) -> None:
        """Add a batch."""
        self._add(psnr_from_mse(squared_error_per_image(images, clean)), 1.0)

    def compute(self) -> Tensor:
        """Return the mean PSNR in dB of the images added."""
        return self.total / self.weight


# Width in dB of an interval beyond which its middle says nothing.
WIDE = 2.0


class BlindEstimate(NamedTuple):
    """What :class:`BlindPSNR` found.

    Attributes:
        mse: estimated mean squared error to the clean images; by chance it may be negative where the error is small.
        psnr: PSNR in dB of that error; NaN where it is not positive.
        low: lower end of the 95 % interval of the PSNR; NaN where one scene says nothing on the spread.
        high: upper end of it; infinite where an error of zero cannot be excluded.
        noisy: PSNR in dB of the noisy views, from their difference.
    """

    mse: Tensor
    psnr: Tensor
    low: Tensor
    high: Tensor
    noisy: Tensor

    @property
    def sayable(self) -> bool:
        """Whether the PSNR means something: the error is positive and its interval, if there is one, not wide."""
        return bool(self.mse > 0) and not bool(self.high - self.low > WIDE)

    def __str__(self) -> str:
        """Say the PSNR, or why it cannot be said."""
        psnr, low, high = (float(value) for value in (self.psnr, self.low, self.high))
        if not self.mse > 0:
            return (
                "cannot be estimated: the estimated error is not positive, so it is lost in the noise of too few pixels"
            )
        if low != low:
            return f"about {psnr:.2f} dB (from one scene, so with no interval)"
        if not self.sayable:
            upper = "unbounded" if high == float("inf") else f"{high:.2f} dB"
            return f"too uncertain to say (95 % interval from {low:.2f} dB to {upper}): hold out more scenes"
        return f"{psnr:.2f} dB (95 % interval {low:.2f} to {high:.2f} dB)"


# Student's t for a two-sided 95 % interval, by degrees of freedom from 1.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def t95(freedom: int) -> float:
    """Student's t for a two-sided 95 % interval: a table, then the first terms of its expansion around the normal's."""
    if freedom <= len(_T95):
        return _T95[freedom - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


class BlindPSNR(Metric):
    """PSNR in dB over the whole set, with no clean image.

    For two views x₁, x₂ of one image with independent zero-mean noise, and any φ,
    ½(‖φ(x₁) − x₂‖² + ‖φ(x₂) − x₁‖²) − ½‖x₁ − x₂‖² is an unbiased estimate of the mean squared error of the two outputs,
    whatever the variances of the noises: each view's noise is independent of the other's output, so the cross terms vanish.
    It estimates what :class:`PSNR` measures.

    The 95 % interval is Student's, of the mean over scenes weighted by size (a ratio estimate). A bootstrap over a handful of
    scenes would claim far too much: of 3 it covers the truth in 7 of 10 cases.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    errors: list[Tensor]
    noises: list[Tensor]
    sizes: list[Tensor]
    scenes: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("errors", "noises", "sizes", "scenes"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(
        self,
        first: Tensor,
        second: Tensor,
        denoised_first: Tensor,
        denoised_second: Tensor,
        scene: int | None = None,
    ) -> None:
        """Add a batch.

        Args:
            first: a view of each image, N×C×H×W with its range mapped to [0, 1]; not clipped, which would bias its noise.
            second: the other view.
            denoised_first: what the network made of ``first``; clipped here, like what :class:`PSNR` scores.
            denoised_second: what it made of ``second``.
            scene: number of the scene that all of them show; None if each shows its own. What one scene says counts once.
        """
        one = squared_error_per_image(denoised_first, second)
        other = squared_error_per_image(denoised_second, first)
        noise = (first.float() - second.float()).square().flatten(1).mean(dim=1) / 2
        self.errors.append((one + other) / 2 - noise)
        self.noises.append(noise)
        self.sizes.append(torch.full_like(noise, _megapixels(first)))
        self.scenes.append(torch.full_like(noise, -1 if scene is None else scene, dtype=torch.int64))

    def compute(self) -> BlindEstimate:
        """Return the estimate of everything added."""
        errors, noises, sizes = (_cat(values).double().cpu() for values in (self.errors, self.noises, self.sizes))
        mse = (errors * sizes).sum() / sizes.sum()
        noisy = psnr_from_mse((noises * sizes).sum() / sizes.sum())
        nan = torch.tensor(float("nan"))
        psnr = psnr_from_mse(mse) if mse > 0 else nan
        # Images that show their own scene get numbers of their own.
        scenes = _cat(self.scenes).cpu()
        scenes = torch.where(scenes < 0, -1 - torch.arange(len(scenes)), scenes)
        scene = torch.unique(scenes, return_inverse=True)[1]
        count = int(scene.max()) + 1
        if count < 2:
            return BlindEstimate(mse, psnr, nan, nan, noisy)
        residual = torch.zeros(count, dtype=torch.float64).index_add_(0, scene, sizes * (errors - mse))
        spread = (residual.square().sum() * count / (count - 1)).sqrt() / sizes.sum()
        best, worst = (mse + sign * t95(count - 1) * spread for sign in (-1, 1))
        high = psnr_from_mse(best) if best > 0 else torch.tensor(float("inf"))
        low = psnr_from_mse(worst) if worst > 0 else nan
        return BlindEstimate(mse, psnr, low, high, noisy)


def _cat(values: list[Tensor] | Tensor) -> Tensor:
    """Join what was added; after the processes were joined it is one tensor already."""
    return values if isinstance(values, Tensor) else torch.cat(values)


def better(figure: str) -> Literal["min", "max"]:
    """Return whether the smallest or the largest of a figure of this name is the best."""
    return "min" if "loss" in figure or "mse" in figure else "max"
