"""MRC2014 files of electron microscopes (ccpem.ac.uk/mrc_format), read and written by rows. This needs ``mrcfile``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from mrcfile.mrcfile import MrcFile
from mrcfile.utils import data_dtype_from_header, data_shape_from_header

from n2n.data.images.base import Array, ImageReader, refusing_damage
from n2n.data.images.formats.arrays import RawRows
from n2n.data.images.formats.fixed import FixedReader
from n2n.data.images.writer import ImageWriter
from n2n.system.files import file_size

_HEADER = 1024
# Rows whose mean and variance are computed together, in 64 bits.
_ROWS = 32
_MODES = {"int8": 0, "int16": 1, "float32": 2, "uint16": 6, "float16": 12}


class MrcReader(FixedReader):
    """An image (YX), a stack of images (QYX) or a volume (ZYX) in one of the modes 0, 1, 2, 6 and 12.

    Pages are images of a stack if the header says so, or the name ends with .mrcs, and planes along Z otherwise.
    """

    def _open(self) -> None:
        path, size = self.path, file_size(self.path)
        with refusing_damage(path, "a whole MRC file", " or not an MRC file"):
            with MrcFile(str(path), header_only=True) as opened:
                self.header, self.extended = opened.header.copy(), opened.extended_header.tobytes()
            self.byte_order = data_dtype_from_header(self.header)
            shape = tuple(int(n) for n in data_shape_from_header(self.header))
            stack = int(self.header.ispg) == 0 or path.suffix.lower() == ".mrcs"
            if stack and len(shape) == 3:
                self._fix_axes(shape, None, "QYX")
            else:
                self._fix_axes(shape, {2: "YX", 3: "ZYX", 4: "QZYX"}[len(shape)])
        self.dtype = self.byte_order.newbyteorder("=")
        offset = _HEADER + len(self.extended)
        if (need := offset + math.prod(shape) * self.byte_order.itemsize) > size:
            raise self._error(f"is cut off: its header says {need:,} bytes, and the file has {size:,}")
        file = self._files.enter_context(path.open("rb"))
        self._rows = RawRows(file, offset, self.byte_order, self.width)

    def _decode(self, page: int, start: int, stop: int) -> Array:
        top = page * self.height
        return self._rows.read(top + start, top + stop).astype(self.dtype, copy=False)[..., None]


class _Statistics:
    """Minimum, maximum, mean and standard deviation of values that come in parts."""

    def __init__(self) -> None:
        self.low, self.high, self.count, self.mean, self.squares = math.inf, -math.inf, 0, 0.0, 0.0

    def add(self, part: Array) -> None:
        self.low, self.high = min(self.low, float(part.min())), max(self.high, float(part.max()))
        # Chan, Golub and LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979.
        count, mean = part.size, float(part.mean(dtype=np.float64))
        total, apart = self.count + count, mean - self.mean
        self.squares += count * float(part.var(dtype=np.float64)) + apart**2 * self.count * count / total
        self.mean += apart * count / total
        self.count = total

    def put(self, header: Any) -> None:
        header.dmin, header.dmax, header.dmean = self.low, self.high, self.mean
        header.rms = math.sqrt(self.squares / self.count)


class MrcWriter(ImageWriter):
    """Writes MRC, with the header (voxel size, labels, origin) and the extended header of the other file if that is MRC."""

    def __init__(self, path: Path, like: ImageReader) -> None:
        super().__init__(path, like)
        if like.channels + like.extra > 1:
            raise self._refuse(f"MRC cannot hold {like.channels + like.extra} values in a pixel", "a .tif file")
        if str(like.dtype) not in _MODES:
            raise self._refuse(f"MRC cannot hold {like.dtype} values", "a .tif file")

    def _write(self, path: Path, strips: Iterator[Array]) -> None:
        like = self.like
        if isinstance(like, MrcReader):
            header, extended, stored = like.header.copy(), like.extended, like.byte_order
        else:
            header, extended, stored = self._new_header(path), b"", like.dtype.newbyteorder("<")
        statistics = _Statistics()
        with path.open("wb") as file:
            file.write(header.tobytes() + extended)
            for strip in strips:
                for top in range(0, len(strip), _ROWS):
                    statistics.add(strip[top : top + _ROWS])
                file.write(strip.astype(stored).tobytes())
            statistics.put(header)
            file.seek(0)
            file.write(header.tobytes())

    def _new_header(self, path: Path) -> Any:
        """Return a header that mrcfile makes for such an image."""
        like = self.like
        shape = (like.pages, like.height, like.width) if like.pages > 1 else (like.height, like.width)
        with mrcfile.new_mmap(str(path), shape, mrc_mode=_MODES[str(like.dtype)], overwrite=True) as made:
            if "Z" not in like.axes and like.pages > 1:
                made.set_image_stack()
            return made.header.copy()
