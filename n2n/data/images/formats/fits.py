"""FITS files (https://fits.gsfc.nasa.gov): images of two axes or more, also compressed. This needs ``astropy``."""

from __future__ import annotations

import gzip
import math
import re
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from astropy.io import fits

from n2n.data.images.base import MAX_BLOCK, Array, ImageReader, check_piece, refusing_damage
from n2n.data.images.formats.arrays import RawRows
from n2n.data.images.formats.fits_values import Values
from n2n.data.images.formats.fixed import FixedReader
from n2n.data.images.formats.table import split_part
from n2n.data.images.writer import ImageWriter, join_strips, regroup
from n2n.errors import InputError

_WANTED = "a whole FITS image"
# A file consists of blocks of these bytes.
_RECORD = 2880
# Rows that are written together.
_ROWS = 64
_BITPIX = {"u1": 8, "i1": 8, "i2": 16, "u2": 16, "f4": -32, "f8": -64}
_ZERO = {"i1": -128, "u2": 2**15}


def _unzip(path: Path) -> BinaryIO:
    """Return the content of a .gz file."""
    with refusing_damage(path, _WANTED, " or not a .gz file"), gzip.open(path) as file:
        content = file.read(MAX_BLOCK + 1)
    if len(content) > MAX_BLOCK:
        raise InputError(f"{path} unpacks to more than 1 GiB: unpack it first (gunzip)")
    return BytesIO(content)


class FitsReader(FixedReader):
    """The image of a FITS file, read by rows; compressed ones by rows of their tiles, .gz as a whole.

    Of several images in a file those of one shape, type and name (but for the digits in it, as in CCD1 and CCD2) are pages.
    Otherwise ``FILE:NAME`` or ``FILE:NUMBER`` names one. Three axes are ZYX. Integers with BSCALE and BZERO are the values that
    these say: unsigned or signed integers by the convention, else floats.
    """

    def _open(self) -> None:
        file, part = split_part(self.path)
        # What the file holds, unpacked.
        self.source = self._files.enter_context(_unzip(file) if file.suffix.lower() == ".gz" else file.open("rb"))
        with refusing_damage(file, _WANTED, " or not a FITS file"):
            self.hdus = self._files.enter_context(fits.open(self.source, mode="readonly", memmap=False))
            images = [(number, hdu) for number, hdu in enumerate(self.hdus) if hdu.is_image and len(hdu.shape) >= 2]
            self.chosen = self._choose(images, part)
            self._describe()

    def _choose(self, images: list[tuple[int, Any]], part: str | None) -> list[int]:
        """Return the numbers of the HDUs to read."""
        listed = ", ".join(f"{number} {hdu.name} ({'×'.join(map(str, hdu.shape))})" for number, hdu in images[:9])
        if part:
            named = [
                number for number, hdu in images if part.upper() in (str(number), hdu.name, f"{hdu.name},{hdu.ver}")
            ]
            if len(named) != 1:
                raise self._error(f"is not one image (in the file are {listed or 'none'}): name one by its number")
            return named
        if not images:
            raise self._error("holds no image of two axes or more: expected one (tables and spectra are none)")
        values = [Values.of(hdu.header) for _, hdu in images]
        kinds = {
            (hdu.shape, one.dtype, one.nodata, re.sub(r"\d+", "", hdu.name), isinstance(hdu, fits.CompImageHDU))
            for (_, hdu), one in zip(images, values, strict=True)
        }
        if len(images) > 1 and (len(kinds) > 1 or len(images[0][1].shape) > 2):
            raise self._error(
                f"holds several images ({listed}): name one by its number or name, {self.path.name}:NUMBER"
            )
        return [number for number, _ in images]

    def _describe(self) -> None:
        hdus = [self.hdus[number] for number in self.chosen]
        self.values = [Values.of(hdu.header) for hdu in hdus]
        first = hdus[0]
        if mosaic := first.header.get("BAYERPAT"):
            self.remarks = [
                f"its header says that it is a colour mosaic (BAYERPAT {mosaic!s:.8}), and it is read as one grey image, which "
                "mixes the colours: save each colour of the mosaic as an image of its own"
            ]
        self.compressed = isinstance(first, fits.CompImageHDU)
        self.dtype, self.nodata = self.values[0].dtype, self.values[0].nodata
        shape = tuple(int(size) for size in first.shape)
        axes = ("Q" * (len(shape) - 3) + "ZYX")[-len(shape) :]
        self._fix_axes((len(hdus), *shape) if len(hdus) > 1 else shape, "Q" + axes if len(hdus) > 1 else axes)
        self._each = self.pages // len(hdus)
        if self.compressed:
            tile = first.tile_shape
            check_piece(self.path, math.prod(tile) * self.dtype.itemsize)
            self._block = max(1, min(self.height, tile[-2]))
            return
        size = self.source.seek(0, 2)
        self.places = [int(hdu.fileinfo()["datLoc"]) for hdu in hdus]
        if (need := max(self.places) + math.prod(shape) * self.values[0].stored.itemsize) > size:
            raise self._error(f"is cut off: its header says {need:,} bytes, and the file has {size:,}")

    def _decode(self, page: int, start: int, stop: int) -> Array:
        number, plane = divmod(page, self._each)
        values = self.values[number]
        if self.compressed:
            section = self.hdus[self.chosen[number]].section
            at = np.unravel_index(plane, section.shape[:-2]) if section.ndim > 2 else ()
            rows = section[(*(int(i) for i in at), slice(start, stop), slice(None))]
            if values.nodata is not None and rows.dtype.kind == "f":
                rows = np.where(np.isnan(rows), values.nodata, rows)  # astropy has NaN for BLANK
            return np.asarray(rows).astype(self.dtype, copy=False)[..., None]
        top = plane * self.height
        raw = RawRows(self.source, self.places[number], values.stored, self.width).read(top + start, top + stop)
        return values.read(raw)[..., None]


class FitsWriter(ImageWriter):
    """Writes FITS, gzipped for .gz.

    From a FITS file it keeps all headers and all HDUs that were not denoised, byte for byte; their compression if they are
    compressed, floats without loss; and checksums, where there are some, fit the new pixels.
    """

    def __init__(self, path: Path, like: ImageReader) -> None:
        super().__init__(path, like)
        self._gz = path.suffix.lower() == ".gz"
        if isinstance(like, FitsReader):
            if like.compressed:
                check_piece(like.path, math.prod(like.shape) * like.dtype.itemsize)
            elif path.suffix.lower() == ".fz":
                raise InputError(
                    f"{path}: {like.path} is not compressed inside; name a file that ends with .fits or .fits.gz"
                )
            return
        if like.channels + like.extra > 1:
            raise self._refuse(f"FITS cannot hold {like.channels + like.extra} values in a pixel", "a .tif file")
        if like.dtype.str[1:] not in _BITPIX:
            raise self._refuse(f"FITS cannot hold {like.dtype} values", "a .tif file")
        if path.suffix.lower() == ".fz":
            raise InputError(f"{path}: {like.path} is no compressed FITS; name a file that ends with .fits or .fits.gz")

    def _write(self, path: Path, strips: Iterator[Array]) -> None:
        like = self.like
        plain = path.with_name("plain") if self._gz else path
        if not isinstance(like, FitsReader):
            with plain.open("wb") as file:
                self._write_new(file, strips)
        elif like.compressed:
            self._write_compressed(plain, like, strips)
        else:
            with plain.open("wb") as file:
                self._write_like(file, like, strips)
            self._mend_checksums(plain, like)
        if self._gz:
            with plain.open("rb") as file, gzip.open(path, "wb", 6) as zipped:
                shutil.copyfileobj(file, zipped)

    def _write_new(self, file: BinaryIO, strips: Iterator[Array]) -> None:
        kind = self.like.dtype.str[1:]
        cards: list[tuple[str, Any]] = [("SIMPLE", True), ("BITPIX", _BITPIX[kind]), ("NAXIS", len(self.like.shape))]
        cards += [(f"NAXIS{i}", size) for i, size in enumerate(self.like.shape[::-1], 1)]
        cards += [("BSCALE", 1), ("BZERO", _ZERO[kind])] if kind in _ZERO else []
        header = fits.Header(cards)
        file.write(header.tostring().encode("ascii"))
        values = Values.of(header)
        for strip in strips:
            file.write(values.write(strip).tobytes())
        file.write(b"\0" * (-file.tell() % _RECORD))

    def _write_like(self, file: BinaryIO, like: FitsReader, strips: Iterator[Array]) -> None:
        """Write everything in the order of the source file, with other pixels."""
        pages, source = like.pages // len(like.chosen), like.source
        tops = range(0, like.height, _ROWS)
        for place, values in zip(like.places, like.values, strict=True):
            source.seek(file.tell())
            _copy(source, file, place - file.tell())
            heights = (min(_ROWS, like.height - top) for _ in range(pages) for top in tops)
            for strip in regroup(strips, heights):
                file.write(values.write(strip).tobytes())
        source.seek(file.tell())
        shutil.copyfileobj(source, file)

    def _mend_checksums(self, path: Path, like: FitsReader) -> None:
        if summed := self._summed(like):
            with fits.open(path, mode="update", memmap=True, do_not_scale_image_data=True) as hdus:
                for number in summed:
                    hdus[number].add_checksum()

    def _write_compressed(self, path: Path, like: FitsReader, strips: Iterator[Array]) -> None:
        pixels = join_strips(like, strips)
        with refusing_damage(like.path, _WANTED):  # astropy verifies only what it writes
            self._replace(like, pixels).writeto(path, checksum=self._summed(like) != [], output_verify="silentfix")

    def _replace(self, like: FitsReader, pixels: Array) -> fits.HDUList:
        """Return the HDUs of the other file with these pixels."""
        hdus = list(like.hdus)
        for number, plane in zip(like.chosen, np.split(pixels, len(like.chosen)), strict=True):
            old = like.hdus[number]
            # Quantised floats would lose what was denoised.
            floats = {"compression_type": "GZIP_2", "quantize_level": 0}
            kept = {"compression_type": old.compression_type}
            hdus[number] = fits.CompImageHDU(plane.reshape(old.shape), old.header, name=old.name or None,
                                             tile_shape=tuple(old.tile_shape),
                                             **(floats if like.dtype.kind == "f" else kept))  # fmt: skip
        return fits.HDUList(hdus)

    def _summed(self, like: FitsReader) -> list[int]:
        """Return the numbers of the HDUs with new pixels that have checksums."""
        return [number for number in like.chosen if {"CHECKSUM", "DATASUM"} & set(like.hdus[number].header)]


def _copy(source: BinaryIO, target: BinaryIO, count: int) -> None:
    while count > 0 and (piece := source.read(min(count, 2**20))):
        target.write(piece)
        count -= len(piece)
