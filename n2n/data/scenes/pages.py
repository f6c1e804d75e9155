"""One page of an image file: opened, converted, and copied into an array."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from n2n.data.images import ImageReader
from n2n.data.images.base import LUMA
from n2n.data.images.extremes import Extremes
from n2n.data.images.gaps import find_gaps
from n2n.data.scenes.frames import Frame, ImageFormat
from n2n.data.scenes.opening import Opener
from n2n.errors import InputError

# Rows read at a time, so that an image larger than memory can be copied.
_ROWS = 256


def convert(rows: NDArray[Any], channels: int) -> NDArray[Any]:
    """Convert H×W×C pixels between grey and colour: grey is repeated, colour becomes luma."""
    if rows.shape[2] == channels:
        return rows
    if channels == 3:
        return np.repeat(rows, 3, axis=2)
    grey = rows.astype(np.float32) @ LUMA[:, None]
    return (np.rint(grey) if rows.dtype.kind in "ui" else grey).astype(rows.dtype)


def _cast(rows: NDArray[Any], dtype: np.dtype[Any], path: Path) -> NDArray[Any]:
    """Round floats to the dtype of the captures; raises InputError if a value does not fit."""
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    rounded = rows if dtype.kind == "f" else np.rint(rows)
    low, high = float(rounded.min()), float(rounded.max())
    if low < float(limits.min) or high > float(limits.max):
        raise InputError(
            f"{path} holds values of {low:g} to {high:g}, its captures are {dtype}, which does not hold them"
        )
    return rounded.astype(dtype)


def _without_gaps(rows: NDArray[Any], reader: ImageReader, dtype: np.dtype[Any]) -> tuple[NDArray[Any], int]:
    """Return rows with NaN in place of values without data, and the number of these."""
    gaps = find_gaps(rows, reader.nodata)
    if gaps is None:
        return rows, 0
    if dtype.kind != "f":
        raise InputError(f"{reader.path} holds pixels that are not finite numbers, its captures are {dtype}")
    return np.where(gaps, np.nan, rows.astype(dtype, copy=False)).astype(dtype, copy=False), int(gaps.sum())


@dataclass(frozen=True)
class Copied:
    """What was found out about a page while it was copied: its extremes, its values without data, a digest of its pixels."""

    extremes: Extremes
    gaps: int
    digest: bytes


def copy_page(reader: ImageReader, page: int, into: NDArray[Any]) -> Copied:
    """Copy one page into an H×W×C array. Values without data become NaN.

    Raises InputError if the page is damaged or holds no data, or a value does not fit into the array's dtype.
    """
    extremes, found, digest = Extremes(), 0, hashlib.blake2b(digest_size=16)
    for top in range(0, into.shape[0], _ROWS):
        rows, gaps = _without_gaps(reader.rows(page, top, min(top + _ROWS, into.shape[0])), reader, into.dtype)
        rows, found = convert(rows, into.shape[2]), found + gaps
        to = into[top : top + _ROWS]
        to[:] = rows if rows.dtype == into.dtype else _cast(rows, into.dtype, reader.path)
        # With the rows above, for the medians.
        extremes |= Extremes.of(into[max(0, top - 2) : top + _ROWS])
        digest.update(to.reshape(-1).view(np.uint8).data)
    if extremes.most < extremes.least:
        raise InputError(f"{reader.path} holds no data: all pixels are NaN, infinite or no data")
    return Copied(extremes, found, digest.digest())


class OpenFile(ExitStack):
    """Keeps the last file open, since the next page is often in it. At most one file is open at a time."""

    _path: Path | None = None
    _reader: ImageReader | None = None
    _error = ""

    def __init__(self, opener: Opener) -> None:
        super().__init__()
        self._opener = opener

    def open(self, frame: Frame, expected: ImageFormat) -> ImageReader:
        """Open the file of a frame, unless it is open; raises InputError if that fails, or its format has changed."""
        if frame.path != self._path:
            self.close()
            self._path, self._reader = frame.path, None
            try:
                self._reader = self.enter_context(self._opener(frame.path))
            except InputError as error:
                # Kept for the other pages, so that a large stack is not opened again for each of them.
                self._error = str(error)
        if self._reader is None:
            raise InputError(self._error)
        if ImageFormat.of(self._reader) != expected or frame.page >= self._reader.pages:
            raise InputError(f"{frame.path} changed while it was read")
        return self._reader
