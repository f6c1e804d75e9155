"""The noise of fluorescence microscopes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from n2n.data.corruption.base import Corruption, Level, check_level, draw_level, draw_log_level
from n2n.data.corruption.pipeline import linear
from n2n.data.corruption.sensor import SensorNoise


@dataclass(frozen=True)
class Microscope(Corruption):
    """Makes micrographs of photographs: the blur of the optics, dim scenes, the detector's offset, and Poisson-Gaussian noise.

    A photograph x, blurred, becomes the scene black + exposure · x^gamma, with parameters drawn for each image. The scene is
    what :meth:`pair` returns as the clean image. Pixels of microscopes are small, so the optics leave hardly any detail of
    single pixels. The noise is that of :class:`SensorNoise` on the light without the offset:
    variance sigma² · ((1 - photons) + 2 · photons · (scene - black)). It is white. Nothing is clipped.

    The ranges cover the 9 confocal and two-photon fields that n2n is tried on (Zhang et al., "A Poisson-Gaussian denoising
    dataset with real fluorescence microscopy images", CVPR 2019): means of 0.04 to 0.13, offsets of 0.01 to 0.035, and a
    variance that grows by 0.017 to 0.08 for each unit of brightness, as photon noise of sigma 24 to 51 does.

    Args:
        sigma: standard deviation at mid-grey (light of 0.5), in grey levels of 0 to 255.
        photons: share of photon noise in the variance at mid-grey.
        exposure: brightness of a white pixel of the photograph, above 0; drawn evenly in its logarithm.
        gamma: exponent of the photograph, above 0. Above 1, it darkens the background and leaves bright structures.
        blur: sigma of the optics' Gaussian blur in pixels.
        black: what the detector gives without light, in the range [0, 1] of images.

    Raises:
        InputError: for a number out of range, or a range whose low end is above its high end.
    """

    sigma: Level = (0.0, 55.0)
    photons: Level = (0.5, 1.0)
    exposure: Level = (0.05, 1.0)
    gamma: Level = (1.0, 2.5)
    blur: Level = (0.0, 1.5)
    black: Level = (0.0, 0.05)

    def __post_init__(self) -> None:
        for name in ("exposure", "gamma"):
            check_level(name, getattr(self, name), above=True)
        check_level("blur", self.blur)
        check_level("black", self.black, most=1.0)
        self._noise()  # checks the other two

    def __call__(self, clean: Tensor, generator: torch.Generator | None) -> Tensor:
        """Make one micrograph of each image: N×C×H×W in [0, 1] -> the same shape."""
        light, black = self._scene(clean, generator)
        return black + self._noise()(light, generator)

    def pair(self, images: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """Make two micrographs of each image; returns them and their scene."""
        light, black = self._scene(images, generator)
        noisy, target, light = self._noise().pair(light, generator)
        return black + noisy, black + target, black + light

    def _noise(self) -> SensorNoise:
        return SensorNoise(self.sigma, self.photons)

    def _scene(self, images: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return the light of each scene, N×C×H×W, and the offset, N×1×1×1."""
        exposure = draw_log_level(self.exposure, images, generator)
        gamma = draw_level(self.gamma, images, generator)
        blur = draw_level(self.blur, images, generator)[..., 0]
        images = linear.apply(images.clamp(min=0), *(linear.gaussian(blur, size) for size in images.shape[-2:]))
        return exposure * images**gamma, draw_level(self.black, images, generator)
