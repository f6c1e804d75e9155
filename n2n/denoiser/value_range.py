"""Which values of an image are the 0 and the 1 that the network was trained on."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from n2n.data.images.base import DTYPES
from n2n.errors import InputError

# What the 32 bits that networks compute in can still square or divide by.
_FAR = 1e18


@dataclass(frozen=True)
class ValueRange:
    """The values that become 0 and 1.

    Raises:
        InputError: if they are no finite numbers, the first less than the second.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        # The difference of two finite numbers may be infinite, or vanish in the 32 bits that images are computed in.
        if not (math.isfinite(self.low) and math.isfinite(self.high) and 1 / _FAR < self.high - self.low < _FAR):
            raise InputError(f"the range is {self}: expected two finite numbers, the low one first")

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"

    def limits(self, dtype: np.dtype[Any], least: float, most: float) -> tuple[float, float]:
        """Return what integers are clipped to: this range, wider where the image's own values are, within the dtype."""
        info = np.iinfo(dtype)
        return max(info.min, min(self.low, least)), min(info.max, max(self.high, most))


_UINT8: np.dtype[Any] = np.dtype(np.uint8)
UNIT = ValueRange(0.0, 1.0)


def full_range(dtype: np.dtype[Any]) -> ValueRange:
    """Return all values of an integer dtype."""
    return ValueRange(float(np.iinfo(dtype).min), float(np.iinfo(dtype).max))


@dataclass(frozen=True)
class TrainedRange:
    """What a network was trained on.

    Attributes:
        values: the values of the training images that were 0 and 1.
        dtype: of the training images.
    """

    values: ValueRange = ValueRange(0.0, 255.0)
    dtype: np.dtype[Any] = _UINT8

    @classmethod
    def from_plain(cls, values: object, dtype: object) -> TrainedRange:
        """Take what a checkpoint says; None, None is a checkpoint that does not say, of 8-bit images.

        Raises:
            InputError: if it is no range or no dtype of images.
        """
        if values is None and dtype is None:
            return cls()
        if not (isinstance(values, list | tuple) and len(values) == 2 and all(_is_number(v) for v in values)):
            raise InputError("the range in the checkpoint is no range: expected [low, high]")
        if not (isinstance(dtype, str) and dtype in DTYPES):
            raise InputError(f"the dtype in the checkpoint is none of images: expected one of {', '.join(DTYPES)}")
        return cls(ValueRange(float(values[0]), float(values[1])), np.dtype(str(dtype)))

    def resolve(self, dtype: np.dtype[Any], given: ValueRange | None = None) -> ValueRange:
        """Return the range of an image.

        That which is given; for the dtype trained on (any float, for floats) the training's; for other integers all values of
        their dtype; for floats, where training was on integers, 0 to 1.

        Raises:
            InputError: for integers, where training was on floats in another range than 0 to 1: nothing says what they mean.
        """
        if given is not None:
            return given
        floats, trained_on_floats = dtype.kind == "f", self.dtype.kind == "f"
        if dtype == self.dtype or (floats and trained_on_floats):
            return self.values
        if floats:
            return UNIT
        if trained_on_floats and self.values != UNIT:
            raise InputError(
                f"{dtype} values for a network trained on {self.dtype} values from {self.values}: say with --range LOW HIGH "
                "(range= in Python) which of them mean the same"
            )
        return full_range(dtype)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < sys.float_info.max


@dataclass(frozen=True)
class Survey:
    """What values an image has.

    Attributes:
        least: the smallest finite value.
        most: the largest.
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
        """Survey both together."""
        return Survey(min(self.least, other.least), max(self.most, other.most), self.bad + other.bad)

    def check(self, values: ValueRange) -> None:
        """Refuse values that would spread over the image.

        Args:
            values: the image's range.

        Raises:
            InputError: with their number, or how far they go.
        """
        if max(self.most, -self.least) - values.low > _FAR * (values.high - values.low):
            raise InputError(
                f"its values go from {self.least:g} to {self.most:g}, too far from the range of {values}: replace them first"
            )
        if self.bad:
            raise InputError(f"{self.bad:,} values are NaN or infinite: replace them first")

    def remark(self, values: ValueRange, floats: bool) -> str | None:
        """Say in one line that the image has values outside its range; None if it has none.

        Noise crosses the ends of a range of floats: a tenth of it is let pass.
        """
        slack = 0.1 * (values.high - values.low) if floats else 0.0
        if self.least >= values.low - slack and self.most <= values.high + slack:
            return None
        line = f"its values go from {self.least:g} to {self.most:g}, outside the network's range of {values}"
        if floats and values == UNIT and self.least >= 0 and 1 < self.most <= 255:
            return f"{line}: it looks like 8-bit values, divide by 255 or give --range 0 255 (range= in Python)"
        return f"{line}: if they mean something else, give --range LOW HIGH (range= in Python)"
