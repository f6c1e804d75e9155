"""Binary PGM and PPM files (Netpbm's P5 and P6) of 8 or 16 bits, read and written by rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from n2n.data.images.base import Array, ImageReader
from n2n.data.images.formats.arrays import RawRows
from n2n.data.images.formats.fixed import FixedReader
from n2n.data.images.writer import ImageWriter
from n2n.system.files import file_size

_SPACE = rb"(?:\s|#[^\n\r]*[\n\r])+"
_HEADER = re.compile(rb"P([56])" + _SPACE + rb"(\d{1,9})" + _SPACE + rb"(\d{1,9})" + _SPACE + rb"(\d{1,5})\s")
_MOST_HEADER = 2**12


class PnmReader(FixedReader):
    """A grey (P5) or RGB (P6) image. Values are as stored; ``most`` is the one that means white."""

    def _open(self) -> None:
        size = file_size(self.path)
        file = self._files.enter_context(self.path.open("rb"))
        start = file.read(_MOST_HEADER)
        found = _HEADER.match(start)
        if found is None:
            other = ", P1 to P3 hold text" if re.match(rb"P[1-4]\s", start) else ""
            raise self._error(f"is not binary PGM or PPM: expected a file that starts with P5 or P6{other}")
        kind, width, height, self.most = (int(number) for number in found.groups())
        if not 0 < self.most < 2**16:
            raise self._error(f"says that white is {self.most}: expected 1 to 65535")
        stored = np.dtype(">u2" if self.most > 255 else "u1")
        self.dtype = stored.newbyteorder("=")
        if self.most < np.iinfo(self.dtype).max:
            self.white = self.most
        self._fix_axes((height, width, 3) if kind == 6 else (height, width), "YXS" if kind == 6 else "YX")
        if (need := found.end() + height * width * self.channels * stored.itemsize) > size:
            raise self._error(f"is cut off: its header says {need:,} bytes, and the file has {size:,}")
        file.seek(need)
        if re.match(rb"P[1-6]\s", file.read(3)):
            raise self._error("holds several images: expected one; split it")
        self._rows = RawRows(file, found.end(), stored, self.width * self.channels)

    def _decode(self, page: int, start: int, stop: int) -> Array:
        rows = self._rows.read(start, stop).astype(self.dtype, copy=False)
        return rows.reshape(stop - start, self.width, self.channels)


class PnmWriter(ImageWriter):
    """Writes PGM or PPM row by row. The value for white is that of the other file if that is PGM or PPM."""

    def __init__(self, path: Path, like: ImageReader) -> None:
        super().__init__(path, like)
        suffix = path.suffix.lower()
        self._accept(suffix[1:].upper(), ("uint8", "uint16"), {".pgm": (1,), ".ppm": (3,)}.get(suffix, (1, 3)))

    def _write(self, path: Path, strips: Iterator[Array]) -> None:
        like = self.like
        most = like.most if isinstance(like, PnmReader) else np.iinfo(like.dtype).max
        with path.open("wb") as file:
            file.write(f"P{5 if like.channels == 1 else 6}\n{like.width} {like.height}\n{most}\n".encode())
            for strip in strips:
                file.write(np.minimum(strip, most).astype(like.dtype.newbyteorder(">")).tobytes())
