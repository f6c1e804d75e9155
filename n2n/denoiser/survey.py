"""A survey of an image's values before it is denoised: the smallest, the largest, and how many pixels have no data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from n2n.data.images.gaps import find_gaps
from n2n.data.value_range import FLOAT32_SAFE, UNIT, ValueRange
from n2n.denoiser.network import FARTHEST
from n2n.errors import InputError

# The largest value of an 8-bit image is seldom less; that of a rendering with lamps in it is.
_LEAST_WHITE = 32


@dataclass(frozen=True)
class Survey:
    """The smallest and the largest value of an image, and the number of its values without data: NaN, infinite or "nodata"."""

    least: float = math.inf
    most: float = -math.inf
    gaps: int = 0

    @classmethod
    def of(cls, values: NDArray[Any], nodata: float | None = None) -> Survey:
        """Survey an array, in which ``nodata`` means a value without data."""
        if (gaps := find_gaps(values, nodata)) is not None:
            rest = values[~gaps]
            least, most = (float(rest.min()), float(rest.max())) if rest.size else (math.inf, -math.inf)
            return cls(least, most, int(values.size - rest.size))
        return cls(float(values.min()), float(values.max()))

    def __or__(self, other: Survey) -> Survey:
        """Return the survey of both images together."""
        return Survey(min(self.least, other.least), max(self.most, other.most), self.gaps + other.gaps)

    def check(self, scale: ValueRange) -> None:
        """Raise InputError for values far outside the range, which a network would spread over the image."""
        if max(self.most, -self.least) - scale.low > FLOAT32_SAFE * (scale.high - scale.low):
            raise InputError(
                f"its values go from {self.least:g} to {self.most:g}, too far from the range of {scale}: replace them"
            )

    def limits(self, scale: ValueRange, dtype: np.dtype[Any], white: float | None = None) -> tuple[float, float] | None:
        """Return the limits for clipping denoised integers: the range, widened to the image's values. None for floats.

        ``white`` is the largest value of fewer bits than those of the dtype.
        """
        if dtype.kind == "f":
            return None
        info = np.iinfo(dtype)
        top = info.max if white is None else white
        return max(info.min, min(scale.low, self.least)), min(top, max(scale.high, self.most))

    def remarks(self, scale: ValueRange, floats: bool, nodata: float | None = None) -> list[str]:
        """Return lines that warn of values outside the range, and of values without data."""
        lines = []
        if self.gaps:
            kinds = [*(["NaN or infinite"] if floats else []), *([f"{nodata:g}"] if nodata is not None else [])]
            lines.append(f"{self.gaps:,} values are {' or '.join(kinds)}, so without data: they are left as they are")
        # Noise makes floats exceed their range.
        slack = 0.1 * (scale.high - scale.low) if floats else 0.0
        if self.least >= scale.low - slack and self.most <= scale.high + slack:
            return lines
        line = f"its values go from {self.least:g} to {self.most:g}, outside the network's range of {scale}"
        farthest = FARTHEST * (scale.high - scale.low)
        if self.least < scale.low - farthest or self.most > scale.high + farthest:
            low, high = scale.low - farthest, scale.high + farthest
            line += f", and what lies below {low:g} or above {high:g} is not denoised"
        if floats and scale == UNIT and self.least >= 0 and _LEAST_WHITE < self.most <= 255:
            return [
                *lines,
                f"{line}: it looks like 8-bit values, divide by 255 or give --range 0 255 (range= in Python)",
            ]
        return [*lines, f"{line}: if they mean something else, give --range LOW HIGH (range= in Python)"]
