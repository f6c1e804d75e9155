"""TIFF files of every common kind, read strip by strip or tile by tile."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from n2n.data.images.arrays import RawRows
from n2n.data.images.base import MAX_BLOCK, Array, ImageReader, Metadata
from n2n.data.images.pictures import exif_block
from n2n.errors import InputError, reason
from n2n.system.files import file_size

_JPEG = 7
# What unpacks to no more than it is asked for, whatever the data say: none, CCITT, LZW, Deflate, PackBits, LZMA, Zstandard;
# JPEG's own header is checked.
COMPRESSIONS = (1, 2, 3, 4, 5, _JPEG, 8, 32773, 32946, 34925, 34926, 50000)
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _INKS, _YCBCR = 0, 1, 2, 3, 5, 6
_ALPHA = (1, 2)
_ORIENTATION = 274
# The most bytes that compressions make of one, beyond what any does: a header that says more lies. Samples of less than 8
# bits are unpacked without compression too.
_MOST_RATIO = {1: 16, 5: 2048, 8: 2048, 32773: 2048, 32946: 2048}
# tifffile's own limit of tags in a directory; bytes of the values of a tag's types.
_MOST_TAGS = 4096
_TYPE_BYTES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
# Bytes of tags that are read at once: of any file, and for each of its bytes, since pages may share a palette.
_LEAST_KEPT, _MOST_KEPT = 2**26, 4
_PER_INCH = {2: 1.0, 3: 2.54}


class TiffReader(ImageReader):
    """A TIFF or BigTIFF file; its pages are its images in their order, without reduced copies.

    1-bit images become uint8 (0 and 255), palette and CMYK images RGB. RGB images have 3 channels, others as many as samples;
    opacity, and what an RGB image has beyond its colours, are extra samples.

    Attributes:
        tiff: the open file.
        converted: whether its samples are not what ``rows`` gives, as with palettes.
        first: its first page.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        if (size := file_size(path)) == 0:
            raise InputError(f"{path} is empty (0 bytes): expected a TIFF image")
        _check_directories(path, size)
        try:
            self.tiff = tifffile.TiffFile(path, _multifile=False)
        except Exception as error:  # tifffile raises what its parsers raise
            raise InputError(f"{path} is damaged or not a TIFF image ({reason(error)})") from None
        try:
            self._describe(size)
        except InputError:
            self.tiff.close()
            raise
        except Exception as error:
            self.tiff.close()
            raise InputError(f"{path} is damaged ({reason(error)}): expected a whole TIFF image") from None
        except BaseException:
            self.tiff.close()
            raise

    def _describe(self, size: int) -> None:
        pages = [page for page in self.tiff.pages if isinstance(page, tifffile.TiffPage | tifffile.TiffFrame)]
        first = pages[0]
        assert isinstance(first, tifffile.TiffPage)
        self.first = first
        self._pages: list[Any] = [page for page in pages if page is first or not _is_reduced(page)]
        if others := [page for page in self._pages if page.keyframe.hash != first.hash]:
            a, b = (f"{'×'.join(map(str, page.keyframe.shape)):.60}" for page in (first, others[0]))
            raise InputError(
                f"{self.path} holds images of several kinds (one of {a}, one of {b}): expected one; split it"
            )
        if first.compression not in COMPRESSIONS:
            kind = getattr(first.compression, "name", first.compression)
            raise InputError(
                f"{self.path} is compressed by {kind!s:.40}, which n2n does not read: save it with LZW or Deflate"
            )
        if first.dtype is None:
            raise InputError(
                f"{self.path} holds {first.bitspersample!s:.40}-bit samples of a kind that n2n does not read"
            )
        self._planes, depth, self.height, self.width, self._contig = first.shaped
        if depth != 1:
            raise InputError(
                f"{self.path} holds volumes in one page, which n2n does not read: save a page for every plane"
            )
        self._find_rows(size)
        self._find_samples()
        samples = self.channels + self.extra
        self.converted = self._convert is not None
        self.shape = (
            *((self.pages,) if self.pages > 1 else ()),
            *(self.height, self.width),
            *((samples,) if samples > 1 else ()),
        )
        icc = first.tags.valueof(34675) if self._convert is None else None
        turned = first.tags.valueof(_ORIENTATION)
        exif = exif_block(int(turned)) if isinstance(turned, int) else None
        self.metadata = Metadata(icc if isinstance(icc, bytes) else None, exif, self._dpi())
        self._check()

    def _find_rows(self, size: int) -> None:
        """Find out where the samples lie, and that the file has them."""
        first = self.first
        self.pages = len(self._pages)
        assert first.dtype is not None
        stored = np.dtype(first.dtype).newbyteorder(self.tiff.byteorder)
        page_bytes = math.prod(first.shaped) * stored.itemsize
        if first.is_memmappable and all(_in_one_piece(page) for page in self._pages):
            self._starts = [page.dataoffsets[0] for page in self._pages]
            if self.pages == 1 and size >= self._starts[0] + 2 * page_bytes:
                # Programs such as ImageJ write one directory for a whole stack, which lies behind its first page.
                series = self.tiff.series[0]
                if series.dataoffset == self._starts[0] and (pages := series.nbytes // page_bytes) > 1:
                    self.pages, self._starts = pages, [self._starts[0] + i * page_bytes for i in range(pages)]
            if (need := max(self._starts) + page_bytes) > size:
                raise InputError(f"{self.path} is cut off: its pages need {need:,} bytes, and the file has {size:,}")
            self._stored = stored
            return
        self._block = first.tilelength if first.is_tiled else min(first.rowsperstrip, self.height)
        across = -(-self.width // first.tilewidth) if first.is_tiled else 1
        self._across, self._down = across, -(-self.height // self._block)
        down = self._down
        for number, page in enumerate(self._pages):
            offsets, counts = page.dataoffsets, page.databytecounts
            if len(offsets) != len(counts) or len(offsets) < self._planes * across * down:
                raise InputError(f"{self.path} is damaged: page {number + 1} lacks some of its strips or tiles")
            for offset, count in zip(offsets, counts, strict=True):
                if offset <= 0 or count <= 0 or offset + count > size:
                    raise InputError(
                        f"{self.path} is cut off or damaged: page {number + 1} has pieces beyond the file's end"
                    )
        piece = (first.tilelength * first.tilewidth if first.is_tiled else self._block * self.width) * self._contig
        piece *= stored.itemsize
        most = max(max(page.databytecounts) for page in self._pages) * _MOST_RATIO.get(
            int(first.compression), MAX_BLOCK
        )
        if piece > MAX_BLOCK:
            raise InputError(
                f"{self.path} is stored in pieces of {piece / 2**30:.1f} GiB, n2n takes 1: save it in smaller strips or tiles"
            )
        if most < piece:
            raise InputError(
                f"{self.path} is damaged: its pieces cannot unpack to the {piece:,} bytes that it says, {most:,} at most"
            )

    def _find_samples(self) -> None:
        """Find out which samples are channels, and how they become pixels."""
        first = self.first
        samples, stored = self._planes * self._contig, first.dtype
        assert stored is not None
        self.dtype = stored.newbyteorder("=")
        self._convert: Callable[[Array], Array] | None = None
        extras = tuple(int(kind) for kind in first.extrasamples)
        self.channels, self.extra = samples, 0
        photometric = int(first.photometric)
        if photometric in (_RGB, _YCBCR) and samples > 3:
            self.channels, self.extra = 3, samples - 3
        elif photometric == _INKS:
            if samples < 4 or stored.kind != "u":
                raise InputError(
                    f"{self.path} holds {samples} inks of {stored}, which n2n does not read: convert it to RGB"
                )
            self.channels, self.extra, self._convert = 3, samples - 4, _inks_to_rgb
        elif photometric == _PALETTE:
            colormap = first.colormap
            if colormap is None or samples != 1:
                raise InputError(f"{self.path} is damaged: a palette image without its palette")
            palette = (np.asarray(colormap).T >> 8).astype(np.uint8)
            self.channels, self.dtype, self._convert = (
                3,
                np.dtype(np.uint8),
                lambda index: palette[index[..., 0].astype(np.uint16)],
            )
        elif photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR):
            kind = getattr(first.photometric, "name", photometric)
            raise InputError(
                f"{self.path} holds {kind!s:.40} values, which n2n does not read: convert it to RGB or grey"
            )
        elif extras and extras[-1] in _ALPHA and samples > 1:
            self.channels, self.extra = samples - 1, 1
        if photometric != _PALETTE and (stored.kind == "b" or first.bitspersample == 1):
            white = 0 if photometric == _WHITE_IS_ZERO else 1
            self.dtype = np.dtype(np.uint8)
            self._convert = lambda bits: np.where(bits == white, np.uint8(255), np.uint8(0))

    def _dpi(self) -> tuple[float, float] | None:
        tags = self.first.tags
        unit = _PER_INCH.get(tags.valueof(296, 2))
        values = [tags.valueof(code) for code in (282, 283)]
        if unit is None or any(not isinstance(value, tuple) or len(value) != 2 or value[1] == 0 for value in values):
            return None
        x, y = (value[0] / value[1] * unit for value in values)
        return (x, y) if x > 0 and y > 0 else None

    def _decode(self, page: int, start: int, stop: int) -> Array:
        samples = self._contiguous(page, start, stop) if hasattr(self, "_starts") else self._pieces(page, start, stop)
        return self._convert(samples) if self._convert is not None else samples

    def _contiguous(self, page: int, start: int, stop: int) -> Array:
        row = self.width * self._contig
        size = self.height * row * self._stored.itemsize
        planes = [
            RawRows(self.tiff.filehandle, self._starts[page] + plane * size, self._stored, row).read(start, stop)
            for plane in range(self._planes)
        ]
        shape = (stop - start, self.width, self._contig)
        whole = np.concatenate([plane.reshape(shape) for plane in planes], axis=2) if self._planes > 1 else planes[0]
        return whole.reshape(*shape[:2], -1).astype(self._stored.newbyteorder("="), copy=False)

    def _pieces(self, page: int, start: int, stop: int) -> Array:
        """Decode the strips or tiles of some rows, which start at a piece's first row."""
        source, first = self._pages[page], self.first
        assert first.dtype is not None
        rows = np.empty((stop - start, self.width, self._planes * self._contig), first.dtype.newbyteorder("="))
        tables = first.jpegtables
        file = self.tiff.filehandle
        for plane in range(self._planes):
            for down in range(start // self._block, -(-stop // self._block)):
                for across in range(self._across):
                    index = (plane * self._down + down) * self._across + across
                    file.seek(source.dataoffsets[index])
                    data = file.read(source.databytecounts[index])
                    options: dict[str, Any] = {}
                    if first.compression == _JPEG:
                        self._check_jpeg(data)
                        options = {"jpegtables": tables, "jpegheader": first.jpegheader}
                    piece, (_, _, top, left, _), _ = first.decode(data, index, **options)
                    if piece is None:
                        raise ValueError(f"piece {index} is empty")
                    piece = piece[0, : stop - top, : self.width - left]
                    target = rows[top - start : top - start + piece.shape[0], left : left + piece.shape[1]]
                    target[..., plane * self._contig : (plane + 1) * self._contig] = piece
        return rows

    def _check_jpeg(self, data: bytes) -> None:
        """Refuse a JPEG piece whose own header asks for more memory than the file's."""
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            width, height = image.size
        first = self.first
        most = (first.tilewidth, first.tilelength) if first.is_tiled else (self.width, self._block)
        if width > most[0] or height > most[1]:
            raise ValueError(f"a piece of {most[0]}×{most[1]} px says that it has {width}×{height}")

    @property
    def is_plain(self) -> bool:
        """Whether every page has its own directory, and its samples side by side."""
        return self.pages == len(self._pages) and self._planes == 1 and not self.converted

    def page_tags(self, page: int) -> tifffile.TiffTags | None:
        """Return the tags of a page; None for pages behind the first that have no directory of their own."""
        if page >= len(self._pages):
            return None
        source = self._pages[page]
        return source.tags if isinstance(source, tifffile.TiffPage) else source.aspage().tags

    def close(self) -> None:
        """Close the file."""
        super().close()
        self.tiff.close()


def _check_directories(path: Path, size: int) -> None:
    """Refuse a file whose directories are a loop, or take more memory than the file is large.

    tifffile would read them for ever, and each time keep the values of their tags.

    Raises:
        InputError: if that is so. What else is wrong is told by tifffile.
    """
    kept = 0
    seen: set[int] = set()
    with path.open("rb") as file:
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 16:
            return
        big = head[2:4] in (b"+\0", b"\0+")
        # The number of tags, a tag, the offset of the next directory.
        number, tag, after = (
            struct.Struct(order + code) for code in (("Q", "HHQQ", "Q") if big else ("H", "HHII", "I"))
        )
        (at,) = after.unpack_from(head, 8 if big else 4)
        while 0 < at < size:
            if at in seen:
                raise InputError(f"{path} is damaged: its directories are a loop; expected a whole TIFF image")
            seen.add(at)
            file.seek(at)
            start = file.read(number.size)
            if len(start) < number.size or (count := number.unpack(start)[0]) > _MOST_TAGS:
                return
            directory = file.read(count * tag.size + after.size)
            if len(directory) < count * tag.size + after.size:
                return
            kept += sum(
                found * _TYPE_BYTES.get(kind, 1)
                for code, kind, found, _ in tag.iter_unpack(directory[: -after.size])
                if code in tifffile.TIFF.TAG_LOAD and found <= size
            )
            # Directories that overlap may be as many as the file has bytes.
            kept += len(directory)
            if kept > max(_LEAST_KEPT, _MOST_KEPT * size):
                raise InputError(
                    f"{path} is damaged: its directories say that they hold {kept:,} bytes, and the file has {size:,}"
                )
            (at,) = after.unpack_from(directory, count * tag.size)


def _in_one_piece(page: Any) -> bool:
    offsets, counts = page.dataoffsets, page.databytecounts
    return all(offset + count == after for offset, count, after in zip(offsets, counts, offsets[1:], strict=False))


def _is_reduced(page: Any) -> bool:
    return isinstance(page, tifffile.TiffPage) and bool(page.subfiletype & 1)


def _inks_to_rgb(inks: Array) -> Array:
    """CMYK to RGB as Pillow does it: (1 − ink)·(1 − black); samples beyond pass through."""
    top = np.iinfo(inks.dtype).max
    light = top - inks[..., :4].astype(np.uint64)
    rgb = (light[..., :3] * light[..., 3:] + top // 2) // top
    return np.concatenate([rgb.astype(inks.dtype), inks[..., 4:]], axis=2)
