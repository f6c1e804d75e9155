"""Corruptions, which make images noisy. One file per family; a class is chosen by ``class_path``."""

from n2n.data.corruption.base import Corruption
from n2n.data.corruption.cells import Pixels, PixelSampling, SampleCells
from n2n.data.corruption.gaussian import Gaussian
from n2n.data.corruption.poisson import Poisson, PoissonGaussian
from n2n.data.corruption.replacement import Bernoulli, Impulse
from n2n.data.corruption.text import TextOverlay

__all__ = [
    "Bernoulli",
    "Corruption",
    "Gaussian",
    "Impulse",
    "PixelSampling",
    "Pixels",
    "Poisson",
    "PoissonGaussian",
    "SampleCells",
    "TextOverlay",
]
