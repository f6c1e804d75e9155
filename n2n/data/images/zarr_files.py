"""zarr arrays, read and written by chunks. This needs the package ``zarr``."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from n2n.data.images.arrays import ArrayReader, ArrayWriter
from n2n.data.images.axes import Layout
from n2n.data.images.base import Array, ImageReader, check_piece
from n2n.data.images.writer import regroup
from n2n.errors import InputError, reason

# Chunks without a file have the fill value, so a small folder may claim any size. An array may claim the first number of bytes,
# or the second for each byte of its folder.
_ALWAYS_ALLOWED, _ALLOWED_PER_BYTE = 2**30, 2**15
# Rows and columns of a chunk, if the source file has no chunks.
_CHUNK = 512
# Codecs of numcodecs that run no code from the file, as its pickle codec does.
_CODECS = {
    *("adler32", "astype", "bitround", "blosc", "bz2", "crc32", "crc32c", "delta", "fixedscaleoffset", "fletcher32"),
    *("gzip", "jenkins_lookup3", "lz4", "lzma", "packbits", "pcodec", "quantize", "shuffle", "zfpy", "zlib", "zstd"),
}


def is_zarr(path: Path) -> bool:
    """Whether a path is a zarr array or group."""
    marks = (".zarray", ".zgroup", "zarr.json")
    return path.is_dir() and (path.suffix.lower() == ".zarr" or any((path / mark).is_file() for mark in marks))


def _zarr(path: Path) -> Any:
    try:
        import zarr
    except ImportError:
        raise InputError(f"{path} is zarr, which needs another package: pip install zarr") from None
    return zarr


def _size(path: Path) -> int:
    """Return the bytes of all files in a folder. Refuse pipes and devices, which could block for ever."""
    size = 0
    try:
        for at, _, names in os.walk(path):
            for name in names:
                found = os.stat(os.path.join(at, name))  # noqa: PTH116, PTH118  # there may be a million
                if not stat.S_ISREG(found.st_mode):
                    raise InputError(f"{path} has something in it that is no file, {name}: expected a zarr array")
                size += found.st_size
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): expected a zarr array") from None
    return size


class ZarrReader(ArrayReader):
    """A zarr array, read by rows of chunks."""

    def _open(self) -> None:
        path = self.path
        zarr = _zarr(path)
        held = _size(path)
        try:
            node = zarr.open(path, mode="r")
            dict(node.attrs)
        except Exception as error:  # hostile metadata fails in JSON, in codecs, ...
            raise InputError(f"{path} is not a zarr array ({reason(error)}): expected one") from None
        if not isinstance(node, zarr.Array):
            inside = ", ".join(sorted(name for name, _ in node.arrays())[:5]) or "none"
            raise InputError(f"{path} is a zarr group (arrays in it: {inside}): name the array, {path.name}/ARRAY")
        # Format 2 uses the codecs of numcodecs.
        named = [codec.codec_id for codec in (*node.compressors, *(node.filters or ())) if hasattr(codec, "codec_id")]
        if unsafe := sorted(set(named) - _CODECS):
            raise InputError(f"{path} is encoded by {', '.join(unsafe)}, which n2n does not read: use zstd or blosc")
        self.array = node
        self.shape = tuple(node.shape)
        self.dtype = np.dtype(node.dtype).newbyteorder("=")
        self._layout = self._name_axes(self.shape)
        self.pages, self.height, self.width, self.channels = self._layout.sizes
        stored = node.shards or node.chunks
        self._block = min(self.height, stored[self._layout.rows])
        claimed = math.prod(self.shape) * self.dtype.itemsize
        if claimed > max(_ALWAYS_ALLOWED, _ALLOWED_PER_BYTE * held):
            raise InputError(
                f"{path} claims {claimed:,} bytes, and its folder has {held:,}: it was not written in full"
            )
        check_piece(path, math.prod(stored) * self.dtype.itemsize)

    def _decode(self, page: int, start: int, stop: int) -> Array:
        rows = self.array[place(self._layout, page, start, stop)]
        rows = rows if self._layout.rows < self._layout.columns else np.moveaxis(rows, 0, 1)
        return np.asarray(rows).reshape(stop - start, self.width, self.channels).astype(self.dtype, copy=False)


def place(layout: Layout, page: int, start: int, stop: int) -> tuple[int | slice, ...]:
    """Return the index of rows of a page in an array: rows and columns remain, in their order in the array."""
    index: list[int | slice] = [slice(None)] * len(layout.shape)
    if layout.pages:
        for axis, at in zip(layout.pages, np.unravel_index(page, layout.page_shape), strict=True):
            index[axis] = int(at)
    index[layout.rows] = slice(start, stop)
    return tuple(index)


class ZarrWriter(ArrayWriter):
    """Writes a zarr array, with the chunks, compressors and attributes of the other file if that is a zarr array."""

    def __init__(self, path: Path, like: ImageReader) -> None:
        self._zarr = _zarr(path)
        super().__init__(path, like)

    def _write(self, path: Path, strips: Iterator[Array]) -> None:
        like, shape = self.like, self.like.shape
        layout = Layout.of(like.axes, shape)
        chunks = [1] * len(shape)
        chunks[layout.rows], chunks[layout.columns] = min(_CHUNK, like.height), min(_CHUNK, like.width)
        if layout.channels is not None:
            chunks[layout.channels] = shape[layout.channels]
        options: dict[str, Any] = {"chunks": tuple(chunks)}
        if isinstance(like, ZarrReader):
            source = like.array
            options = {"chunks": source.chunks, "shards": source.shards, "compressors": source.compressors,
                       "filters": source.filters, "fill_value": source.fill_value, "attributes": dict(source.attrs),
                       "zarr_format": source.metadata.zarr_format}  # fmt: skip
            if source.metadata.zarr_format == 3:
                options["dimension_names"] = source.metadata.dimension_names
        array = self._zarr.create_array(path, shape=shape, dtype=like.dtype, **options)
        block = min(like.height, (array.shards or array.chunks)[layout.rows])
        tops = range(0, like.height, block)
        for page in range(like.pages):
            strip_heights = (min(block, like.height - top) for top in tops)
            for top, strip in zip(tops, regroup(strips, strip_heights), strict=True):
                rows = strip if layout.channels is not None else strip[..., 0]
                rows = rows if layout.rows < layout.columns else np.moveaxis(rows, 0, 1)
                array[place(layout, page, top, top + len(strip))] = rows
