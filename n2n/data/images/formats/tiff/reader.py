"""TIFF files of all common kinds, read strip by strip or tile by tile."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from n2n.data.images.base import MAX_BLOCK, Array, ImageReader, check_piece, refusing_damage
from n2n.data.images.formats.arrays import RawRows
from n2n.data.images.formats.tiff.axes import OTHER_FILES, find_axes
from n2n.data.images.formats.tiff.directories import check_directories
from n2n.data.images.formats.tiff.samples import find_samples
from n2n.data.images.formats.tiff.tags import INKS, file_metadata
from n2n.data.images.gaps import nodata_value
from n2n.system.files import file_size

_JPEG = 7
# Decoders that never return more bytes than requested: none, CCITT, LZW, Deflate, PackBits, LZMA, Zstandard. A JPEG piece
# states its own size, which is checked.
_COMPRESSIONS = (1, 2, 3, 4, 5, _JPEG, 8, 32773, 32946, 34925, 34926, 50000)
# Most bytes that one compressed byte can become; a file that claims more is damaged. Uncompressed samples of less than 8 bits
# are unpacked too.
_MOST_RATIO = {1: 16, 5: 2048, 8: 2048, 32773: 2048, 32946: 2048}
_RGB = 2
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT, _ICC = 282, 283, 296, 34675
_GDAL_NODATA = 42113
# Bits of NewSubfileType: a smaller copy of another image, a mask of one.
_REDUCED, _MASK = 1, 4
# Bits of samples that are packed, without a gap.
_PACKED_BITS = (*range(2, 8), *range(9, 16))
# Inches, by the unit of the resolution: in an inch, in a centimetre.
_PER_INCH = {2: 1.0, 3: 2.54}


class TiffReader(ImageReader):
    """A TIFF or BigTIFF file. Its pages are its images, in their order, without reduced copies.

    1-bit images become uint8 (0 and 255), palette and CMYK images RGB. RGB images have 3 channels, others as many as samples.
    Opacity is an extra sample, and so are all samples of an RGB image after its colours.
    """

    def _open(self) -> None:
        if (size := file_size(self.path)) == 0:
            raise self._error("is empty (0 bytes): expected a TIFF image")
        check_directories(self.path, size)
        with refusing_damage(self.path, "a whole TIFF image", " or not a TIFF image"):
            self.tiff = self._files.enter_context(tifffile.TiffFile(self.path, **OTHER_FILES))
            self._describe(size)

    def _describe(self, size: int) -> None:
        pages = [page for page in self.tiff.pages if isinstance(page, tifffile.TiffPage | tifffile.TiffFrame)]
        first = pages[0]
        assert isinstance(first, tifffile.TiffPage)
        self.first = first
        self._pages: list[Any] = [page for page in pages if page is first or not _kind(page) & (_REDUCED | _MASK)]
        # Remarks on directories that are no images of their own, such as the overviews of a GeoTIFF.
        kinds = [_kind(page) for page in pages if page is not first]
        smaller, masks = (sum(bool(kind & bit) for kind in kinds) for bit in (_REDUCED, _MASK))
        counts = {"smaller sizes": smaller, "masks": masks}
        self.unwritten = [f"its {name} ({count}) are not written" for name, count in counts.items() if count]
        if others := [page for page in self._pages if page.keyframe.hash != first.hash]:
            a, b = (f"{page.keyframe.dtype} {'×'.join(map(str, page.keyframe.shape))}" for page in (first, others[0]))
            a, b = a[:60], b[:60]
            raise self._error(f"holds images of several kinds (one of {a}, one of {b}): expected one; split it")
        if first.compression not in _COMPRESSIONS:
            kind = getattr(first.compression, "name", first.compression)
            raise self._error(f"is compressed by {kind!s:.40}, which n2n does not read: save it with LZW or Deflate")
        if first.dtype is None:
            raise self._error(f"holds {first.bitspersample!s:.40}-bit samples of a kind that n2n does not read")
        self._planes, depth, self.height, self.width, self._contig = first.shaped
        if depth != 1:
            raise self._error("holds volumes in one page, which n2n does not read: save a page for every plane")
        self._stored = first.dtype.newbyteorder(self.tiff.byteorder)
        # Images in the file; each has one plane, or several.
        self._images = len(self._pages)
        # Offsets of the pages in the file; None if a page is stored in pieces, which are strips or tiles.
        self._offsets: list[int] | None = None
        if (first.is_memmappable or _is_in_words(first)) and all(_in_one_piece(page) for page in self._pages):
            self._offsets = self._find_offsets(size)
        else:
            self._find_pieces(size)
        samples = find_samples(first, self._planes * self._contig, self.path)
        self.channels, self.extra, self.dtype, self._convert, palette = samples
        # Whether ``rows`` returns other samples than the stored ones, as with palettes. These need all planes.
        self.converted = self._convert is not None
        self.inverted = int(first.photometric) == 0 and not self.converted
        self._describe_axes()
        if not self.converted:
            if self.dtype.kind == "u" and first.bitspersample in _PACKED_BITS:
                self.white = float(2**first.bitspersample - 1)
            self.nodata = nodata_value(first.tags.valueof(_GDAL_NODATA), self.dtype)
        # The colour profile of inks does not fit the RGB that they become.
        icc = None if int(first.photometric) == INKS else first.tags.valueof(_ICC)
        self.metadata = file_metadata(self.tiff, icc if isinstance(icc, bytes) else None, self._dpi(), palette)

    def _describe_axes(self) -> None:
        """Set axes, pages and channels. Planes are pages, unless a pixel is converted from the samples in all of them."""
        planes = 1 if self.converted else self._planes
        samples = (self.channels + self.extra) // planes
        lead = [size for size in (self._images, planes) if size > 1]
        shape = (*lead, self.height, self.width, *((samples,) if samples > 1 else ()))
        axes: str | None = None
        stated = (
            None if self.converted else find_axes(self.tiff, self._images, (planes, self.height, self.width, samples))
        )
        if stated is not None:
            axes, shape = stated
        elif planes > 1 or samples > 1:
            # Samples that are no colours are channels.
            letter = "S" if planes > 1 or self.channels == 3 else "C"
            axes = "Q" * (self._images > 1) + (f"{letter}YX" if planes > 1 else f"YX{letter}")
        elif len(shape) == 2:
            axes = "YX"
        else:
            axes = "Q" * len(lead) + "YX"
        layout = self._name_axes(shape, axes)
        if layout.order != tuple(range(len(shape))) or (samples > 1) != (layout.channels is not None):
            raise self._error(
                f"has other axes than {self.axes}: expected {'YXS' if samples > 1 else 'YX'} as the last ones"
            )
        self.pages = self._images * planes
        if planes > 1:
            if self.axes[len(lead) - 1 if stated is None else -3] == "S":
                self.extra_planes = self.extra
            self.channels, self.extra = 1, 0
            self._say_planes(stated is not None)

    def _say_planes(self, stated: bool) -> None:
        """Say how planes are read. They can be two things, because tifffile writes 3 or 4 slices as planes of colours."""
        if self._given is not None or not stated or int(self.first.photometric) != _RGB:
            return
        colours = "red, green and blue" if self._planes == 3 else "red, green, blue and opacity"
        text, axes = self.first.description, self.axes
        if axes[-3] != "S":
            self.remarks = [
                f"it says that its {self._planes} planes are {colours}, and that its axes are {axes}: read as {axes}"
            ]
        elif axes == "SYX" and text.startswith('{"shape"') and '"axes"' not in text:
            self.remarks = [
                f"its {self._planes} planes are read as {colours}, as it says; if they are slices, give --axes ZYX "
                "(in training --data.source.axes ZYX)"
            ]

    def _find_offsets(self, size: int) -> list[int]:
        page_bytes = math.prod(self.first.shaped) * self._stored.itemsize
        offsets = [page.dataoffsets[0] for page in self._pages]
        if self._images == 1 and size >= offsets[0] + 2 * page_bytes:
            # Programs such as ImageJ write one directory for a stack; its other pages follow the first.
            series = self.tiff.series[0]
            if series.dataoffset == offsets[0]:
                self._images = max(1, series.nbytes // page_bytes)
                offsets = [offsets[0] + i * page_bytes for i in range(self._images)]
        if (need := max(offsets) + page_bytes) > size:
            raise self._error(f"is cut off: its pages need {need:,} bytes, and the file has {size:,}")
        return offsets

    def _find_pieces(self, size: int) -> None:
        first = self.first
        self._block = first.tilelength if first.is_tiled else min(first.rowsperstrip, self.height)
        self._across = -(-self.width // first.tilewidth) if first.is_tiled else 1
        self._down = -(-self.height // self._block)
        for number, page in enumerate(self._pages, 1):
            offsets, counts = page.dataoffsets, page.databytecounts
            if len(offsets) != len(counts) or len(offsets) < self._planes * self._across * self._down:
                raise self._error(f"is damaged: page {number} lacks some of its strips or tiles")
            for offset, count in zip(offsets, counts, strict=True):
                if offset <= 0 or count <= 0 or offset + count > size:
                    raise self._error(f"is cut off or damaged: page {number} has pieces beyond the file's end")
        width = first.tilewidth if first.is_tiled else self.width
        piece = self._block * width * self._contig * self._stored.itemsize
        check_piece(self.path, piece)
        longest = max(max(page.databytecounts) for page in self._pages)
        most = longest * _MOST_RATIO.get(int(first.compression), MAX_BLOCK)
        if most < piece:
            raise self._error(f"is damaged: its pieces cannot unpack to {piece:,} bytes, at most to {most:,}")

    def _dpi(self) -> tuple[float, float] | None:
        tags = self.first.tags
        unit = _PER_INCH.get(tags.valueof(_RESOLUTION_UNIT, 2))
        values = [tags.valueof(code) for code in (_X_RESOLUTION, _Y_RESOLUTION)]
        if unit is None or any(not isinstance(value, tuple) or len(value) != 2 or value[1] == 0 for value in values):
            return None
        x, y = (value[0] / value[1] * unit for value in values)
        return (x, y) if x > 0 and y > 0 else None

    def _decode(self, page: int, start: int, stop: int) -> Array:
        if self._convert is None:
            return self._read_plane(*divmod(page, self._planes), start, stop)
        planes = [self._read_plane(page, plane, start, stop) for plane in range(self._planes)]
        return self._convert(np.concatenate(planes, axis=2) if len(planes) > 1 else planes[0])

    def _read_plane(self, image: int, plane: int, start: int, stop: int) -> Array:
        if self._offsets is None:
            return self._read_pieces(image, plane, start, stop)
        row = self.width * self._contig
        offset = self._offsets[image] + plane * self.height * row * self._stored.itemsize
        rows = RawRows(self.tiff.filehandle, offset, self._stored, row).read(start, stop)
        return rows.reshape(stop - start, self.width, -1).astype(self._stored.newbyteorder("="), copy=False)

    def _read_pieces(self, image: int, plane: int, start: int, stop: int) -> Array:
        """Decode the strips or tiles of rows. Row ``start`` is the first row of a strip or tile."""
        source, first, file = self._pages[image], self.first, self.tiff.filehandle
        rows = np.empty((stop - start, self.width, self._contig), self._stored.newbyteorder("="))
        for down in range(start // self._block, -(-stop // self._block)):
            for across in range(self._across):
                index = (plane * self._down + down) * self._across + across
                file.seek(source.dataoffsets[index])
                data = file.read(source.databytecounts[index])
                options: dict[str, Any] = {}
                if first.compression == _JPEG:
                    self._check_jpeg(data)
                    options = {"jpegtables": first.jpegtables, "jpegheader": first.jpegheader}
                piece, (_, _, top, left, _), _ = first.decode(data, index, **options)
                if piece is None:
                    raise ValueError(f"piece {index} is empty")
                piece = piece[0, : stop - top, : self.width - left]
                rows[top - start : top - start + piece.shape[0], left : left + piece.shape[1]] = piece
        return rows

    def _check_jpeg(self, data: bytes) -> None:
        """Refuse a JPEG piece that states a larger size than the file does: it would be decoded at that size."""
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            width, height = image.size
        first = self.first
        most = (first.tilewidth, first.tilelength) if first.is_tiled else (self.width, self._block)
        if width > most[0] or height > most[1]:
            raise ValueError(f"a piece of {most[0]}×{most[1]} px says that it has {width}×{height}")

    @property
    def planes(self) -> int:
        """Number of pages in a directory: more than 1 if the samples of a pixel, or slices, lie in planes."""
        return self.pages // self._images

    @property
    def is_plain(self) -> bool:
        """Whether every image has a directory of its own, and its samples are as stored."""
        return self._images == len(self._pages) and not self.converted

    def directory(self, image: int) -> int | None:
        """Return the offset of an image's directory; None for those after the first that have none of their own."""
        return self._pages[image].offset if image < len(self._pages) else None


def _is_in_words(page: tifffile.TiffPage) -> bool:
    """Whether samples of 9 to 15 bits take two bytes each. The specification packs them; some cameras do not."""
    packed = page.bitspersample in _PACKED_BITS and page.bitspersample > 8 and not page.is_tiled
    return packed and page.compression == 1 and sum(page.databytecounts) == 2 * math.prod(page.shaped)


def _in_one_piece(page: Any) -> bool:
    offsets, counts = page.dataoffsets, page.databytecounts
    return all(offset + count == after for offset, count, after in zip(offsets, counts, offsets[1:], strict=False))


def _kind(page: Any) -> int:
    """Return the bits of NewSubfileType; frames have those of their page."""
    return int(page.subfiletype) if isinstance(page, tifffile.TiffPage) else 0
