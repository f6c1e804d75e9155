"""A survey of an image's values before it is denoised: the smallest, the largest, and how many are not finite."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from n2n.denoiser.value_range import FLOAT32_SAFE, UNIT, ValueRange
from n2n.errors import InputError


@dataclass(frozen=True)
class Survey:
    """The smallest and the largest finite value of an image, and the number of values that are NaN or infinite."""

    least: float = math.inf
    most: float = -math.inf
    bad: int = 0

    @classmethod
    def of(cls, values: NDArray[Any]) -> Survey:
        """Survey an array."""
        if values.dtype.kind == "f" and not (finite := np.isfinite(values)).all():
            rest = values[finite]
            least, most = (float(rest.min()), float(rest.max())) if rest.size else (math.inf, -math.inf)
            return cls(least, most, int(values.size - rest.size))
        return cls(float(values.min()), float(values.max()))

    def __or__(self, other: Survey) -> Survey:
        """Return the survey of both images together."""
        return Survey(min(self.least, other.least), max(self.most, other.most), self.bad + other.bad)

    def check(self, scale: ValueRange) -> None:
        """Raise InputError for NaN, infinity and values far outside the range, which a network would spread over the image."""
        if max(self.most, -self.least) - scale.low > FLOAT32_SAFE * (scale.high - scale.low):
            raise InputError(
                f"its values go from {self.least:g} to {self.most:g}, too far from the range of {scale}: replace them"
            )
        if self.bad:
            raise InputError(f"{self.bad:,} values are NaN or infinite: replace them first")

    def limits(self, scale: ValueRange, dtype: np.dtype[Any]) -> tuple[float, float] | None:
        """Return the limits for clipping denoised integers: the range, widened to the image's values. None for floats."""
        if dtype.kind == "f":
            return None
        info = np.iinfo(dtype)
        return max(info.min, min(scale.low, self.least)), min(info.max, max(scale.high, self.most))

    def remark(self, scale: ValueRange, floats: bool) -> str | None:
        """Return a line that warns of values outside the range; None if there are none."""
        # Noise makes floats exceed their range.
        slack = 0.1 * (scale.high - scale.low) if floats else 0.0
        if self.least >= scale.low - slack and self.most <= scale.high + slack:
            return None
        line = f"its values go from {self.least:g} to {self.most:g}, outside the network's range of {scale}"
        if floats and scale == UNIT and self.least >= 0 and 1 < self.most <= 255:
            return f"{line}: it looks like 8-bit values, divide by 255 or give --range 0 255 (range= in Python)"
        return f"{line}: if they mean something else, give --range LOW HIGH (range= in Python)"
