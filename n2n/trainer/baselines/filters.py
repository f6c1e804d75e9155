"""Classical filters, each with a few strengths to choose from. Total variation and BM3D need packages of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from n2n.system.hardware import known_to_be_deterministic


class Noise(NamedTuple):
    """Noise whose variance is ``slope`` · brightness + ``floor``, in images in [0, 1] (Foi et al. 2008)."""

    slope: float
    floor: float

    def sigma(self, brightness: float) -> float:
        """Return the standard deviation at a brightness."""
        return math.sqrt(max(self.slope * brightness + self.floor, 1e-8))


class Filter(NamedTuple):
    """A filter of images.

    Attributes:
        name: for the user.
        strengths: to choose from; what they mean depends on the filter.
        apply: filters N×C×H×W in [0, 1], given a strength and the images' noise.
        slow: whether it takes seconds for an image.
        least: side in pixels of the smallest images that it takes; the package bm3d crashes on smaller ones.
    """

    name: str
    strengths: Sequence[float]
    apply: Callable[[Tensor, float, Noise], Tensor]
    slow: bool = False
    least: int = 1


def gaussian_blur(images: Tensor, sigma: float, _: Noise) -> Tensor:
    """Blur N×C×H×W by a Gaussian with a standard deviation in pixels."""
    radius = math.ceil(3 * sigma)
    x = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    weights = torch.exp(-0.5 * (x / sigma) ** 2)
    weights = (weights / weights.sum()).expand(images.shape[1], 1, 1, -1)
    # Repeating the edge, unlike reflecting it, works for images of any size.
    wide = F.conv2d(F.pad(images, (radius, radius, 0, 0), "replicate"), weights, groups=images.shape[1])
    return F.conv2d(F.pad(wide, (0, 0, radius, radius), "replicate"), weights.mT, groups=images.shape[1])


def median(images: Tensor, side: float, _: Noise) -> Tensor:
    """Take the median over squares with a side in pixels, N×C×H×W."""
    size = int(side)
    N, C, H, W = images.shape
    padded = F.pad(images, (size // 2,) * 4, "replicate")
    # One image at a time, because a pixel becomes size² values.
    # PyTorch refuses it because the index of a median may differ between runs. Its value does not.
    with known_to_be_deterministic():
        found = [F.unfold(one.unsqueeze(1), size).median(dim=1).values for one in padded]
    return torch.stack(found).reshape(N, C, H, W)


def total_variation(images: Tensor, strength: float, noise: Noise) -> Tensor:
    """Minimise total variation (Chambolle 2004), with a weight of ``strength`` times the noise at the image's mean."""
    from skimage.restoration import denoise_tv_chambolle

    def one(image: NDArray[np.float32]) -> NDArray[np.float32]:
        weight = strength * noise.sigma(float(image.mean()))
        done: NDArray[np.float32] = denoise_tv_chambolle(image, weight=weight, channel_axis=0)  # type: ignore[no-untyped-call]
        return done

    return _each(images, one)


def bm3d(images: Tensor, strength: float, noise: Noise) -> Tensor:
    """Stabilise the variance (generalised Anscombe transform), filter by BM3D, and transform back.

    See Dabov et al. 2007 and, for the exact inverse, Mäkitalo and Foi 2013. BM3D gets ``strength`` times the standard deviation
    of the noise.
    """
    import bm3d as package

    profile = package.BM3DProfile()
    profile.num_threads = torch.get_num_threads()

    def one(image: NDArray[np.float32]) -> NDArray[np.float32]:
        values = np.moveaxis(image.astype(np.float64), 0, 2)
        filtered = package.bm3d_rgb if values.shape[2] == 3 else package.bm3d
        a, b = noise
        if a < 1e-6:
            done = filtered(values, strength * noise.sigma(0.5), profile)
        else:
            stable = 2 * np.sqrt(np.maximum(values / a + 3 / 8 + b / a**2, 0))
            # BM3D expects values in about [0, 1].
            scale = max(float(stable.max()), 1.0)
            stable = np.maximum(filtered(stable / scale, strength / scale, profile) * scale, 1.0)
            inverse = (
                stable**2 / 4
                + math.sqrt(3 / 2) / (4 * stable)
                - 11 / (8 * stable**2)
                + 5 * math.sqrt(3 / 2) / (8 * stable**3)
            )
            done = a * (inverse - 1 / 8 - b / a**2)
        return np.moveaxis(np.asarray(done).reshape(values.shape), 2, 0).astype(np.float32)

    return _each(images, one)


def _each(images: Tensor, one: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Tensor:
    return torch.stack([torch.from_numpy(one(image.cpu().numpy())) for image in images]).to(images.device)


def filters() -> list[Filter]:
    """Return the filters that can run here."""
    found = [
        Filter("Gaussian blur", (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0), gaussian_blur),
        Filter("median", (3, 5, 7), median),
    ]
    if find_spec("skimage") is not None:
        found.append(Filter("total variation", (0.5, 0.8, 1.2, 1.8, 2.7, 4.0), total_variation))
    if find_spec("bm3d") is not None:
        found.append(Filter("VST + BM3D", (1.0, 1.6), bm3d, slow=True, least=32))
    return found
