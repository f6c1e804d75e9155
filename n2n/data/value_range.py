"""The image values that are mapped to 0 and 1, the range of the network."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from n2n.data.images.base import DTYPES
from n2n.errors import InputError

# Largest number, in either direction, that float32 can still square or divide by.
FLOAT32_SAFE = 1e18


@dataclass(frozen=True)
class ValueRange:
    """The values that are mapped to 0 and 1.

    Raises:
        InputError: if they are not two finite numbers, the low one first, whose difference float32 can compute with.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        # The difference of two finite numbers may be infinite, or become 0 in float32.
        difference = self.high - self.low
        finite = math.isfinite(self.low) and math.isfinite(self.high)
        if not (finite and 1 / FLOAT32_SAFE < difference < FLOAT32_SAFE):
            raise InputError(
                f"the range is {self}: expected two finite numbers, the low one first, 1e-18 to 1e18 apart"
            )

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


_UINT8: np.dtype[Any] = np.dtype(np.uint8)
UNIT = ValueRange(0.0, 1.0)


@dataclass(frozen=True)
class TrainedRange:
    """The range and the dtype of the images that a network was trained on."""

    values: ValueRange = ValueRange(0.0, 255.0)
    dtype: np.dtype[Any] = _UINT8

    @classmethod
    def from_plain(cls, values: object, dtype: object) -> TrainedRange:
        """Read ``range`` and ``dtype`` of a checkpoint; where both are None, the training images were 8-bit.

        Raises:
            InputError: if they are not a range and a dtype of images.
        """
        if values is None and dtype is None:
            return cls()
        if not (isinstance(values, list | tuple) and len(values) == 2 and all(_is_number(v) for v in values)):
            raise InputError("the range in the checkpoint is no range: expected [low, high]")
        if not (isinstance(dtype, str) and dtype in DTYPES):
            raise InputError(f"the dtype in the checkpoint is none of images: expected one of {', '.join(DTYPES)}")
        return cls(ValueRange(float(values[0]), float(values[1])), np.dtype(dtype))

    def resolve(self, dtype: np.dtype[Any], given: ValueRange | None = None, white: float | None = None) -> ValueRange:
        """Return the range of images of a dtype.

        It is the first of these that applies: ``given``; the training's range, for the training's dtype or if both are
        floats; 0 to 1, for floats; 0 to ``white``, for integers of fewer bits than their dtype's; the full range of the dtype,
        for other integers. The training's range does not apply to bits that cannot reach its end.

        Args:
            dtype: of the images.
            given: what the user said.
            white: the largest value that the bits of the image's samples hold, if they are fewer than those of the dtype.

        Raises:
            InputError: for integers, if the network was trained on floats in another range than 0 to 1.
        """
        if given is not None:
            return given
        floats, trained_on_floats = dtype.kind == "f", self.dtype.kind == "f"
        reached = white is None or self.values.high <= white
        if (dtype == self.dtype and reached) or (floats and trained_on_floats):
            return self.values
        if floats:
            return UNIT
        if trained_on_floats and self.values != UNIT:
            raise InputError(
                f"{dtype} values for a network trained on {self.dtype} values from {self.values}: say with --range LOW HIGH "
                "(range= in Python) which of them mean the same"
            )
        return (
            ValueRange(float(np.iinfo(dtype).min), float(np.iinfo(dtype).max))
            if white is None
            else ValueRange(0.0, white)
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < sys.float_info.max
