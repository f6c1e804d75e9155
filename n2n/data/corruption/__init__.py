"""Corruptions, which make images noisy. A class is chosen by its import path (``class_path``)."""

from n2n.data.corruption.base import Corruption
from n2n.data.corruption.cells import Pixels, PixelSampling, SampleCells
from n2n.data.corruption.microscope import Microscope
from n2n.data.corruption.pipeline import Camera
from n2n.data.corruption.replacement import Bernoulli, Impulse
from n2n.data.corruption.sensor import Gaussian, Poisson, PoissonGaussian, SensorNoise
from n2n.data.corruption.text import TextOverlay

__all__ = [
    "Bernoulli",
    "Camera",
    "Corruption",
    "Gaussian",
    "Impulse",
    "Microscope",
    "PixelSampling",
    "Pixels",
    "Poisson",
    "PoissonGaussian",
    "SampleCells",
    "SensorNoise",
    "TextOverlay",
]
