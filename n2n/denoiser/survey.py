"""Which values an image has, before it is denoised: their ends, and those that are no numbers."""

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
    """The least and the largest value of an image.

    Attributes:
        least: the smallest finite value.
        most: the largest finite value.
        bad: number of values that are NaN or infinite.
    """

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
        """Refuse values that a network would spread over the image: NaN, infinity, and those far outside its range.

        Raises:
            InputError: with the number of such values, or with the least and the largest.
        """
        if max(self.most, -self.least) - scale.low > FLOAT32_SAFE * (scale.high - scale.low):
            raise InputError(
                f"its values go from {self.least:g} to {self.most:g}, too far from the range of {scale}: replace them first"
            )
        if self.bad:
            raise InputError(f"{self.bad:,} values are NaN or infinite: replace them first")

    def limits(self, scale: ValueRange, dtype: np.dtype[Any]) -> tuple[float, float] | None:
        """Return the ends to which denoised integers are clipped; None for floats, which are not clipped.

        They are those of the range, or of the image where it exceeds the range, within the dtype.
        """
        if dtype.kind == "f":
            return None
        info = np.iinfo(dtype)
        return max(info.min, min(scale.low, self.least)), min(info.max, max(scale.high, self.most))

    def remark(self, scale: ValueRange, floats: bool) -> str | None:
        """Return a line that warns of values outside the range; None if there are none.

        Noise makes floats exceed their range, so a tenth of the range is tolerated on each side.
        """
        slack = 0.1 * (scale.high - scale.low) if floats else 0.0
        if self.least >= scale.low - slack and self.most <= scale.high + slack:
            return None
        line = f"its values go from {self.least:g} to {self.most:g}, outside the network's range of {scale}"
        if floats and scale == UNIT and self.least >= 0 and 1 < self.most <= 255:
            return f"{line}: it looks like 8-bit values, divide by 255 or give --range 0 255 (range= in Python)"
        return f"{line}: if they mean something else, give --range LOW HIGH (range= in Python)"
