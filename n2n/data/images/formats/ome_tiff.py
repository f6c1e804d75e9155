"""OME-TIFF files of images that come from other formats, with names of axes, pixel size and names of channels."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from n2n.data.images.axes import Layout
from n2n.data.images.base import Array, ImageReader
from n2n.data.images.formats.tiff.reader import TiffReader
from n2n.data.images.formats.tiff.writer import CLASSIC, STRIP, TiffWriter
from n2n.data.images.writer import ImageWriter, regroup

# Axes of one image in OME's model; along others, there are several images.
_OME = "TZCYXS"
# float16 is no type of OME's.
_DTYPES = ("uint8", "int8", "uint16", "int16", "float32", "float64")


def ome_tiff_writer(path: Path, like: ImageReader) -> ImageWriter:
    """Return a writer of OME-TIFF; of plain TIFF for a TIFF file, whose description is kept, and for axes without names."""
    plain = isinstance(like, TiffReader) or not like.named or str(like.dtype) not in _DTYPES
    if plain or not Layout.of(like.axes, like.shape).in_order or _several(like) is None:
        return TiffWriter(path, like)
    return OmeTiffWriter(path, like)


def _several(like: ImageReader) -> int | None:
    """Return how many axes are not OME's; None if they are not the first ones."""
    count = next(at for at, letter in enumerate(like.axes) if letter in _OME)
    return count if all(letter in _OME for letter in like.axes[count:]) else None


class OmeTiffWriter(ImageWriter):
    """Writes OME-TIFF strip by strip. What the other image has as ``ome`` is added to the description of each image.

    Its keys are those of :meth:`tifffile.OmeXml.addimage`: ``PhysicalSizeX`` and so on.
    """

    def __init__(self, path: Path, like: ImageReader) -> None:
        super().__init__(path, like)
        if hasattr(like, "ome"):
            self.remarks.append(
                "becomes OME-TIFF: axes, pixel size and names of channels are kept, other metadata are not"
            )

    def _kept(self) -> Collection[str]:
        return ("icc",)

    def _write(self, path: Path, strips: Iterator[Array]) -> None:
        like = self.like
        several = _several(like) or 0
        samples = like.channels + like.extra
        row = like.width * samples * like.dtype.itemsize
        rows = max(1, min(like.height, STRIP // row))
        heights = [min(rows, like.height - top) for top in range(0, like.height, rows)]
        metadata = {"axes": like.axes[several:]} | dict(getattr(like, "ome", {}))
        images = math.prod(like.shape[:several])
        options: dict[str, Any] = {"photometric": "rgb" if like.channels == 3 and "S" in like.axes else "minisblack"}
        if samples > 1:
            options |= {"planarconfig": "contig", "extrasamples": [2] * like.extra or None}
        little = like.dtype.newbyteorder("<")
        big = like.pages * like.height * row > CLASSIC
        with tifffile.TiffWriter(path, bigtiff=big, byteorder="<", ome=True) as tiff:
            for _ in range(images):
                wanted = (height for _ in range(like.pages // images) for height in heights)
                pieces = (np.ascontiguousarray(strip, little).tobytes() for strip in regroup(strips, wanted))
                tiff.write(
                    pieces, shape=like.shape[several:], dtype=little, metadata=metadata, rowsperstrip=rows, maxworkers=1,
                    iccprofile=like.metadata.icc, **options,
                )  # fmt: skip
