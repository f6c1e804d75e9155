"""How a FITS file stores values: big-endian, and as BZERO + BSCALE × what is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from n2n.data.images.base import Array
from n2n.data.images.gaps import beside

_STORED = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
# BZERO of integers of the other sign, by BITPIX (FITS standard 4.0, table 11).
_OTHER_SIGN = {8: -(2**7), 16: 2**15, 32: 2**31, 64: 2**63}


@dataclass(frozen=True)
class Values:
    """The values of one image.

    Attributes:
        stored: dtype in the file.
        dtype: of the values.
        scale: BSCALE.
        zero: BZERO.
        blank: BLANK, the stored integer that means "no data"; None without one. Values that are floats get NaN for it.
    """

    stored: np.dtype[Any]
    dtype: np.dtype[Any]
    scale: float = 1.0
    zero: float = 0.0
    blank: int | None = None

    @property
    def nodata(self) -> float | None:
        """The value that means "no data", if it is an integer."""
        return None if self.blank is None or self.dtype.kind == "f" else self.blank + self.zero

    @classmethod
    def of(cls, header: Mapping[str, Any]) -> Values:
        """Return what a header says."""
        bits = int(header["BITPIX"])
        scale, zero = float(header.get("BSCALE", 1)), float(header.get("BZERO", 0))
        stored = np.dtype(_STORED[bits])
        native = stored.newbyteorder("=")
        blank = header.get("BLANK") if stored.kind != "f" else None
        if type(blank) is not int or not np.iinfo(stored).min <= blank <= np.iinfo(stored).max:
            blank = None
        if (scale, zero) == (1, 0):
            return cls(stored, native, blank=blank)
        if scale == 1 and zero == _OTHER_SIGN.get(bits):
            return cls(stored, np.dtype(f"{'i' if bits == 8 else 'u'}{bits // 8}"), scale, zero, blank)
        if not (np.isfinite([scale, zero]).all() and scale):
            raise ValueError(f"BSCALE is {scale} and BZERO {zero}")
        return cls(stored, np.dtype(np.float32 if bits in (8, 16) else np.float64), scale, zero, blank)

    def read(self, raw: Array) -> Array:
        """Return the values of stored numbers."""
        if not self._scaled:
            return raw.astype(self.dtype, copy=False)
        if self.dtype.kind != "f":
            flipped: Array = raw.astype(raw.dtype.newbyteorder("=")).view(self.dtype) ^ self._flip
            return flipped
        values = (raw * self.scale + self.zero).astype(self.dtype)
        return values if self.blank is None else np.where(raw == self.blank, np.nan, values).astype(self.dtype)

    def write(self, values: Array) -> Array:
        """Return what to store for values of :attr:`dtype`; those that do not fit are clipped."""
        if not self._scaled:
            return values.astype(self.stored)
        if self.dtype.kind != "f":
            stored: Array = (values ^ self._flip).view(self.stored.newbyteorder("=")).astype(self.stored)
            return stored
        plain = (values.astype(np.float64) - self.zero) / self.scale
        if self.stored.kind == "f":
            return plain.astype(self.stored)
        limits = np.iinfo(self.stored)
        stored = np.clip(np.rint(plain), limits.min, limits.max)
        if self.blank is not None:
            # No denoised value becomes "no data", and no infinity a number.
            moved = np.where(stored == self.blank, beside(self.blank, self.stored), stored)
            stored = np.where(np.isfinite(plain), moved, self.blank)
        return stored.astype(self.stored)

    @property
    def _scaled(self) -> bool:
        return (self.scale, self.zero) != (1, 0)

    @property
    def _flip(self) -> Any:
        """The sign bit."""
        return np.array(1 << (8 * self.stored.itemsize - 1), f"u{self.stored.itemsize}").view(self.dtype)
