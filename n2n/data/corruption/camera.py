"""The noise of cameras: Gaussian read-out noise, photon noise, and both."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from n2n.data.corruption.base import Corruption, Level, check_level, count_photons, draw_level


@dataclass(frozen=True)
class Gaussian(Corruption):
    """Adds a normal random number to every value.

    Lehtinen et al. 2018 (section 3.1) trained with sigma drawn from [0, 50] and tested with 25.

    Args:
        sigma: standard deviation in grey levels of 0 to 255: 25 is 25/255 of the range [0, 1]. A number, or a range [low, high]
            from which the sigma of each image is drawn uniformly.

    Raises:
        InputError: for a negative sigma, or a range whose low end is above its high end.
    """

    sigma: Level = 25.0

    def __post_init__(self) -> None:
        check_level("sigma", self.sigma)

    def __call__(self, clean: Tensor, generator: torch.Generator | None) -> Tensor:
        """Add the noise: N×C×H×W -> the same shape."""
        sigma = draw_level(self.sigma, clean, generator) / 255
        return torch.addcmul(clean, torch.randn(clean.shape, generator=generator, device=clean.device), sigma)


@dataclass(frozen=True)
class Poisson(Corruption):
    """Counts photons: a value x becomes Poisson(peak·x) / peak, with mean x and variance x / peak.

    The peak is the lambda of Lehtinen et al. 2018 (section 3.2), who trained with [0, 50] (from 0.001 in their code) and tested
    with 30. Negative values count as 0; images in [0, 1] have none.

    Args:
        peak: mean number of photons of a white pixel. A number, or a range [low, high] from which the peak of each image is
            drawn uniformly.

    Raises:
        InputError: unless the peak is above 0, or for a range whose low end is above its high end.
    """

    peak: Level = 30.0

    def __post_init__(self) -> None:
        check_level("peak", self.peak, above=True)

    def __call__(self, clean: Tensor, generator: torch.Generator | None) -> Tensor:
        """Count the photons: N×C×H×W -> the same shape, at least 0."""
        return count_photons(clean, draw_level(self.peak, clean, generator), generator)


@dataclass(frozen=True)
class PoissonGaussian(Corruption):
    """Counts photons and adds the read-out noise of a camera: mean x, variance x / peak + (sigma / 255)².

    This is the model of raw data of Foi et al. 2008 (Practical Poissonian-Gaussian noise modeling and fitting for single-image
    raw-data), with a = 1 / peak and b = (sigma / 255)².

    Args:
        peak: mean number of photons of a white pixel; a number, or a range as for :class:`Poisson`.
        sigma: standard deviation of the Gaussian part in grey levels of 0 to 255; a number, or a range.

    Raises:
        InputError: unless the peak is above 0 and sigma at least 0, or for a range whose low end is above its high end.
    """

    peak: Level = 30.0
    sigma: Level = 5.0

    def __post_init__(self) -> None:
        check_level("peak", self.peak, above=True)
        check_level("sigma", self.sigma)

    def __call__(self, clean: Tensor, generator: torch.Generator | None) -> Tensor:
        """Count the photons and add the noise: N×C×H×W -> the same shape."""
        return Gaussian(self.sigma)(Poisson(self.peak)(clean, generator), generator)
