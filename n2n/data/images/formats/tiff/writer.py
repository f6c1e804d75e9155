"""Writing TIFF files strip by strip or tile by tile, with the compression and layout of the source file."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile

from n2n.data.images.base import ALL, Array, ImageReader
from n2n.data.images.formats.pictures import JPEG_OPTIONS, PictureReader, lost_remark
from n2n.data.images.formats.png_chunks import lost
from n2n.data.images.formats.table import split_part
from n2n.data.images.formats.tags import EXIF, GPS, Tag, extratag, pack_tags
from n2n.data.images.formats.tiff.reader import TiffReader
from n2n.data.images.formats.tiff.tags import (
    ALWAYS,
    PER_BYTE,
    RESOLUTION,
    copied_tags,
    imagej_tags,
    resolution,
    tags_of,
    unmovable,
)
from n2n.data.images.writer import ImageWriter, regroup

_NONE, _LZW, _JPEG, _DEFLATE = 1, 5, 7, 8
_ENCODERS: dict[int, Callable[[Any], bytes | bytearray]] = {
    _LZW: imagecodecs.lzw_encode,
    _DEFLATE: imagecodecs.zlib_encode,
    32946: imagecodecs.zlib_encode,
    34925: imagecodecs.lzma_encode,
    50000: imagecodecs.zstd_encode,
}
_HORIZONTAL, _FLOATING = 2, 3
# Bytes of a strip before compression, if the source file's strips cannot be kept.
STRIP = 2**18
# Classic TIFF addresses 4 GiB, of which some is left for the tags. Larger files are BigTIFF.
CLASSIC = 2**32 - 2**25
_LEVEL = int(JPEG_OPTIONS["quality"])


class TiffWriter(ImageWriter):
    """Writes TIFF, or BigTIFF if the source file is BigTIFF or the image is too large for TIFF.

    From a TIFF file it keeps compression, predictor, strips or tiles, resolution, colour profile and the description of every
    page, so that ImageJ, OME and GeoTIFF readers see the same image. Samples lie in planes if they do there, else side by side,
    and those of 2 to 7 or 9 to 15 bits are packed.
    """

    takes_inverted = True

    def __init__(self, path: Path, like: ImageReader) -> None:
        super().__init__(path, like)
        # Bytes of tags that may still be written.
        self._left = max(ALWAYS, PER_BYTE * split_part(like.path)[0].stat().st_size)
        if isinstance(like, TiffReader):
            self.remarks += [*unmovable(like.tiff), *like.unwritten]
        elif isinstance(like, PictureReader) and like.png is not None and (names := lost(like.png.chunks)):
            self.remarks.append(lost_remark(names, "TIFF"))

    def _kept(self) -> Collection[str]:
        return ALL

    def _write(self, path: Path, strips: Iterator[Array]) -> None:
        like = self.like
        source = like if isinstance(like, TiffReader) else None
        samples, planes = like.channels + like.extra, 1 if source is None else source.planes
        size = like.pages * like.height * like.width * samples * like.dtype.itemsize
        big = size > CLASSIC or (source is not None and source.tiff.is_bigtiff)
        options, encode, heights, tile = self._storage(source, samples)
        if samples > 1 or planes > 1:
            options["planarconfig"] = "contig" if samples > 1 else "separate"
        colour = max(like.channels, min(planes, 3)) == 3 and not (
            source is not None and int(source.first.photometric) <= 1
        )
        options["photometric"] = ("ycbcr" if "subsampling" in options else "rgb") if colour else "minisblack"
        if like.inverted:
            options["photometric"] = "miniswhite"
        palette = like.metadata.palette
        if palette is not None and samples == planes == 1 and len(palette) == 256**like.dtype.itemsize:
            options |= {"photometric": "palette", "colormap": palette.T}
        extra = max(planes, samples) - (3 if colour else 1)
        options["extrasamples"] = [self._extra_kind(source, i - extra) for i in range(extra)] or None
        shape: tuple[int, ...] = (like.height, like.width, *((samples,) if samples > 1 else ()))
        if planes > 1:
            shape = (planes, *shape)
        with tifffile.TiffWriter(path, bigtiff=big, byteorder="<", ome=False, shaped=False) as tiff:
            for image in range(like.pages // planes):
                pieces = self._pieces(regroup(strips, heights * planes), encode, tile)
                tiff.write(
                    pieces, shape=shape, dtype=like.dtype, metadata=None, contiguous=False, software=False, maxworkers=1,
                    **options, **self._tags(source, image, tiff),
                )  # fmt: skip

    def _storage(
        self, source: TiffReader | None, samples: int
    ) -> tuple[dict[str, Any], Callable[[Array], bytes], list[int], tuple[int, int] | None]:
        """Choose how samples are stored: options of the file, an encoder of pieces, the heights of pieces, and the tile."""
        like = self.like
        row = like.width * samples * like.dtype.itemsize
        rows, tile, compression, predictor = max(1, min(like.height, STRIP // row)), None, _NONE, 1
        if source is not None:
            first = source.first
            compression, predictor = int(first.compression), int(first.predictor)
            if first.is_tiled and first.tilelength % 16 == 0 and first.tilewidth % 16 == 0:
                tile = (first.tilelength, first.tilewidth)
                rows = first.tilelength
            elif not first.is_tiled and first.rowsperstrip * row <= 16 * STRIP:
                rows = max(1, min(like.height, first.rowsperstrip))
        options: dict[str, Any] = {"tile": tile} if tile else {"rowsperstrip": rows}
        heights = [min(rows, like.height - top) for top in range(0, like.height, rows)]
        jpeg = compression == _JPEG and like.dtype == np.uint8 and samples in (1, 3)
        if like.white is not None:
            # tifffile compresses whole bytes only.
            bits = int(like.white).bit_length()
            return options | {"bitspersample": bits}, lambda piece: _packed(piece, bits), heights, tile
        if compression not in (_NONE, *_ENCODERS) and not jpeg:
            compression = _DEFLATE  # in place of those that n2n reads but does not write
        if compression == _NONE:
            return options, np.ndarray.tobytes, heights, tile
        options["compression"] = compression
        if jpeg:
            if samples == 3:
                options["subsampling"] = (1, 1)
            return options, _jpeg, heights, tile
        floating = like.dtype.kind == "f"
        if predictor != 1:
            predictor = _FLOATING if floating else _HORIZONTAL
            options["predictor"] = predictor
        encoder = _ENCODERS[compression]

        def encode(piece: Array) -> bytes:
            if predictor == _HORIZONTAL:
                piece = imagecodecs.delta_encode(piece, axis=-2)
            elif predictor == _FLOATING:
                piece = imagecodecs.floatpred_encode(piece, axis=-2)
            return bytes(encoder(np.ascontiguousarray(piece)))

        return options, encode, heights, tile

    def _pieces(
        self, strips: Iterator[Array], encode: Callable[[Array], bytes], tile: tuple[int, int] | None
    ) -> Iterator[bytes]:
        little = self.like.dtype.newbyteorder("<")
        for strip in strips:
            rows = np.ascontiguousarray(strip, little)
            if tile is None:
                yield encode(rows)
                continue
            high, wide = tile
            for left in range(0, rows.shape[1], wide):
                piece = rows[:, left : left + wide]
                missing = ((0, high - piece.shape[0]), (0, wide - piece.shape[1]), (0, 0))
                yield encode(np.ascontiguousarray(np.pad(piece, missing, mode="edge")))

    def _extra_kind(self, source: TiffReader | None, index: int) -> int:
        """Return the kind of an extra sample, by its negative index: 1 or 2 for opacity, 0 for unspecified."""
        if source is not None:
            kinds = tuple(int(kind) for kind in source.first.extrasamples)
            return kinds[index] if len(kinds) >= -index else 0
        return 2 if self.like.extra else 0

    def _tags(self, source: TiffReader | None, image: int, tiff: tifffile.TiffWriter) -> dict[str, Any]:
        """Return resolution, colour profile and other tags of one image. Directories that they point to are written first."""
        metadata = self.like.metadata
        extratags: list[Any] = []
        tags: list[Tag] | None = None
        options: dict[str, Any] = {}
        if source is None:
            tags = tags_of(metadata)
            options = {"resolution": metadata.dpi, "resolutionunit": "inch"} if metadata.dpi else {}
        elif (at := source.directory(image)) is not None:
            # A stack with one directory has one description, that of its first page.
            tags = copied_tags(source.tiff, at, self._left, source.is_plain, source.converted)
            options = resolution(tags)
            extratags = imagej_tags(source.tiff) if image == 0 else []
        for tag in tags or ():
            self._left -= len(tag.data)
            if tag.points:
                extratags.append(self._write_apart(tag, tiff))
            elif tag.code not in RESOLUTION:
                extratags.append(extratag(tag))
        return options | {"extratags": extratags} | ({} if tags is None else {"iccprofile": metadata.icc})

    def _write_apart(self, tag: Tag, tiff: tifffile.TiffWriter) -> tuple[str | int, int, int, int, bool]:
        """Write what a tag points to before the page, and return the tag."""
        file, big = tiff.filehandle, tiff.tiff.is_bigtiff
        end = file.seek(0, os.SEEK_END)
        at = end + end % 2
        file.write(bytes(end % 2) + (pack_tags(tag.inner, at, big) if tag.inner else tag.data))
        # By their numbers, tifffile would refuse directories.
        return {EXIF: "ExifTag", GPS: "GPSTag"}.get(tag.code, tag.code), 16 if big else 4, 1, at, False


def _packed(piece: Array, bits: int) -> bytes:
    """Pack samples of fewer bits than their dtype has; each row starts at a byte."""
    return bytes(imagecodecs.packints_encode(piece, bits, runlen=piece.shape[-2] * piece.shape[-1]))


def _jpeg(piece: Array) -> bytes:
    if piece.shape[-1] == 1:
        return bytes(imagecodecs.jpeg_encode(piece[..., 0], level=_LEVEL))
    options: dict[str, Any] = {"colorspace": "RGB", "outcolorspace": "YCBCR", "subsampling": "444"}
    return bytes(imagecodecs.jpeg_encode(piece, level=_LEVEL, **options))
