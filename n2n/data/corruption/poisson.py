"""Photon noise, alone and with the noise of the camera's electronics."""

# No postponed annotations: jsonargparse does not resolve those of dataclasses like these, and would take any value.

from dataclasses import dataclass

import torch
from torch import Tensor

from n2n.data.corruption.base import Corruption
from n2n.data.corruption.gaussian import Gaussian
from n2n.data.corruption.levels import Level, check_level, draw_level


@dataclass(frozen=True)
class Poisson(Corruption):
    """Counts photons: a value x becomes Poisson(peak·x) / peak, of mean x and variance x / peak.

    This is the lambda of Lehtinen et al. 2018 (section 3.2), who trained with [0, 50] (from 0.001 on, in their code) and
    tested with 30. Values below 0, which images in [0, 1] do not have, count as 0.

    Args:
        peak: mean number of photons of a white pixel. A number, or a range from which each image draws its own, uniformly.

    Raises:
        InputError: unless the peak is above 0, and a range's ends the right way round.
    """

    peak: Level = 30.0

    def __post_init__(self) -> None:
        check_level("peak", self.peak, above=True)

    def __call__(self, clean: Tensor, generator: torch.Generator | None) -> Tensor:
        """Count the photons: N×C×H×W -> the same shape, at least 0."""
        peak = draw_level(self.peak, clean, generator)
        # A negative rate would stop a GPU for the whole process.
        return torch.poisson((clean * peak).clamp_(min=0.0), generator=generator).div_(peak)


@dataclass(frozen=True)
class PoissonGaussian(Corruption):
    """Counts photons, and adds the read-out noise of a camera: of mean x and variance x / peak + (sigma / 255)².

    The model of raw data of Foi et al. 2008 (Practical Poissonian-Gaussian noise modeling and fitting for single-image
    raw-data), with a = 1 / peak and b = (sigma / 255)².

    Args:
        peak: mean number of photons of a white pixel; a number, or a range from which each image draws its own.
        sigma: standard deviation of the Gaussian part in grey levels of 0..255; a number, or a range likewise.

    Raises:
        InputError: unless the peak is above 0, sigma at least 0, and a range's ends the right way round.
    """

    peak: Level = 30.0
    sigma: Level = 5.0

    def __post_init__(self) -> None:
        check_level("peak", self.peak, above=True)
        check_level("sigma", self.sigma)

    def __call__(self, clean: Tensor, generator: torch.Generator | None) -> Tensor:
        """Count the photons and add the noise: N×C×H×W -> the same shape."""
        return Gaussian(self.sigma)(Poisson(self.peak)(clean, generator), generator)
