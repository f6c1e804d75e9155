"""The smallest and the largest value of images, and which values are outliers."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# How far outliers lie beyond the medians, in spans of the medians.
_BEYOND = 3


@dataclass(frozen=True)
class Extremes:
    """The finite extremes of images: of their pixels, and of the medians of 3×3 pixels.

    Outliers, such as hot pixels and the tracks of cosmic rays, are one or two pixels wide, so they are in no median of 3×3
    pixels. A star or a bead is in one: an optical system spreads a point over pixels, and if the spot is at least 2 px wide at
    half its height, a median is at least a quarter of its peak. So values are outliers if they lie farther outside the range
    of the medians than three times that range.
    """

    least: float = math.inf
    most: float = -math.inf
    low: float = math.inf
    high: float = -math.inf

    @classmethod
    def of(cls, pixels: NDArray[Any]) -> Extremes:
        """Return the extremes of one image, or of some of its rows, H×W×C; NaN and infinity are skipped."""
        values = pixels
        if pixels.dtype.kind == "f" and not (finite := np.isfinite(pixels)).all():
            if not finite.any():
                return cls()
            values = pixels[finite]
            pixels = np.where(finite, pixels, np.nan)
        least, most = float(values.min()), float(values.max())
        if min(pixels.shape[:2]) < 3:
            return cls(least, most, least, most)
        medians = _medians(pixels)
        if medians.dtype.kind == "f":
            medians = medians[np.isfinite(medians)]
        return cls(least, most, float(medians.min()), float(medians.max())) if medians.size else cls(least, most)

    @classmethod
    def joined(cls, parts: Iterable[Extremes]) -> Extremes:
        """Return the extremes of several images together."""
        return functools.reduce(operator.or_, parts, cls())

    def __or__(self, other: Extremes) -> Extremes:
        """Return the extremes of both images together."""
        least, low = min(self.least, other.least), min(self.low, other.low)
        return Extremes(least, max(self.most, other.most), low, max(self.high, other.high))

    @property
    def limits(self) -> tuple[float, float]:
        """The values beyond which pixels are outliers; infinite if the images are flat."""
        span = self.high - self.low
        if not 0 < span < math.inf:
            return -math.inf, math.inf
        return self.low - _BEYOND * span, self.high + _BEYOND * span

    @property
    def suspect(self) -> bool:
        """Whether a value is beyond the limits."""
        low, high = self.limits
        return self.least < low or self.most > high


def _medians(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return the medians of 3×3 pixels: H×W×C -> (H - 2)×(W - 2)×C. Sort the columns of three, then take the middle ones."""
    first, second, third = pixels[:-2], pixels[1:-1], pixels[2:]
    small, large = np.minimum(first, second), np.maximum(first, second)
    lows, highs = np.minimum(small, third), np.maximum(large, third)
    middles = np.maximum(small, np.minimum(large, third))
    low = np.maximum(np.maximum(lows[:, :-2], lows[:, 1:-1]), lows[:, 2:])
    high = np.minimum(np.minimum(highs[:, :-2], highs[:, 1:-1]), highs[:, 2:])
    middle = _median(middles[:, :-2], middles[:, 1:-1], middles[:, 2:])
    return _median(low, middle, high)


def _median(a: NDArray[Any], b: NDArray[Any], c: NDArray[Any]) -> NDArray[Any]:
    medians: NDArray[Any] = np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))
    return medians
