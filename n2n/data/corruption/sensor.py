"""The white noise of sensors: Gaussian read-out noise, photon noise, and both."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from n2n.data.corruption.base import Corruption, Level, check_level, count_photons, draw_level, highest

# The smallest share of photon noise: the mean number of photons of a white pixel stays finite.
_LEAST_SHARE = 1e-6


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


@dataclass(frozen=True)
class SensorNoise(Corruption):
    """Adds Poisson-Gaussian noise: mean x, variance sigma² · ((1 - photons) + 2 · photons · x).

    This is the model of Foi et al. 2008 (see :class:`n2n.data.corruption.PoissonGaussian`) with other parameters. Sigma is the
    standard deviation at mid-grey (0.5), whatever the share of photon noise, so a range of sigma covers all strengths evenly.
    Both views of a pair get the same sigma and share, as two captures by one camera do.

    Args:
        sigma: standard deviation at mid-grey, in grey levels of 0 to 255; a number, or a range [low, high] from which that of
            each image is drawn uniformly.
        photons: share of photon noise in the variance at mid-grey. 0 is Gaussian noise alone, 1 photon noise alone. A number,
            or a range.

    Raises:
        InputError: unless sigma is at least 0 and photons from 0 to 1, or for a range whose low end is above its high end.
    """

    sigma: Level = (0.0, 55.0)
    photons: Level = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_level("sigma", self.sigma)
        check_level("photons", self.photons, most=1.0)

    def __call__(self, clean: Tensor, generator: torch.Generator | None) -> Tensor:
        """Add the noise: N×C×H×W -> the same shape."""
        return self._add(clean, *self._draw(clean, generator), generator)

    def pair(self, images: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """Draw two views with independent noise of one strength, N×C×H×W each; returns them and the images."""
        levels = self._draw(images, generator)
        return self._add(images, *levels, generator), self._add(images, *levels, generator), images

    def _draw(self, clean: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Draw sigma in the range [0, 1] of images, and the share, N×1×1×1 each."""
        return draw_level(self.sigma, clean, generator) / 255, draw_level(self.photons, clean, generator)

    def _add(self, clean: Tensor, sigma: Tensor, photons: Tensor, generator: torch.Generator | None) -> Tensor:
        noise = torch.randn(clean.shape, generator=generator, device=clean.device) * sigma
        # The argument decides: to look at the drawn values would wait for the device.
        if not highest(self.photons):
            return clean + noise
        # Photons per unit of brightness. At sigma 0 there are very many of them, which leaves a noise that cannot be seen.
        peak = 1 / (2 * photons.clamp(min=_LEAST_SHARE) * sigma.clamp(min=0.01 / 255) ** 2)
        return torch.addcmul(count_photons(clean, peak, generator), noise, (1 - photons).sqrt())
