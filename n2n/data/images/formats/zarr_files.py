"""zarr arrays and OME-Zarr images, read and written by chunks. This needs the package ``zarr``."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from n2n.data.images.base import Array, ImageReader
from n2n.data.images.formats.arrays import ArrayReader
from n2n.data.images.formats.chunked import (
    check_claims,
    default_chunks,
    note_unwritten,
    read_rows,
    unwritten,
    write_rows,
)
from n2n.data.images.formats.ome_axes import letters
from n2n.data.images.formats.ome_zarr import OmeImage, find_image
from n2n.data.images.writer import ImageWriter
from n2n.errors import InputError, reason

# Codecs of numcodecs that run no code from the file, as its pickle codec does.
_CODECS = {
    *("adler32", "astype", "bitround", "blosc", "bz2", "crc32", "crc32c", "delta", "fixedscaleoffset", "fletcher32"),
    *("gzip", "jenkins_lookup3", "lz4", "lzma", "packbits", "pcodec", "quantize", "shuffle", "zfpy", "zlib", "zstd"),
}


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
    """A zarr array, or the largest size of the image in an OME-Zarr group, read by rows of chunks.

    A group names the axes, and so does an array of format 3 whose dimensions have letters for names.
    """

    def _open(self) -> None:
        path = self.path
        held = _size(path)
        try:
            node = zarr.open(path, mode="r")
            dict(node.attrs)
        except Exception as error:  # hostile metadata fails in JSON, in codecs, ...
            raise InputError(f"{path} is not a zarr array ({reason(error)}): expected one") from None
        self.ome: OmeImage | None = None
        if isinstance(node, zarr.Group):
            self.ome = find_image(node, path)
            node = self.ome.array
        # Format 2 uses the codecs of numcodecs.
        named = [codec.codec_id for codec in (*node.compressors, *(node.filters or ())) if hasattr(codec, "codec_id")]
        if unsafe := sorted(set(named) - _CODECS):
            raise InputError(f"{path} is encoded by {', '.join(unsafe)}, which n2n does not read: use zstd or blosc")
        self.array = node
        self.dtype = np.dtype(node.dtype).newbyteorder("=")
        # Arrays of format 2 have no names of dimensions.
        names = getattr(node.metadata, "dimension_names", None) or ()
        self._layout = self._name_axes(node.shape, self.ome.axes if self.ome else letters(names))
        self.pages, self.height, self.width, self.channels = self._layout.sizes
        stored = node.shards or node.chunks
        self._block = min(self.height, stored[self._layout.rows])
        check_claims(path, node.shape, stored, self.dtype.itemsize, held)

    def _decode(self, page: int, start: int, stop: int) -> Array:
        return read_rows(self.array, self._layout, page, start, stop).astype(self.dtype, copy=False)


class ZarrWriter(ImageWriter):
    """Writes a zarr array, with the chunks, compressors and attributes of the other file if that is a zarr array.

    An OME-Zarr image becomes an OME-Zarr group of its version, which holds the one size that was read; a remark names the rest.
    """

    def __init__(self, path: Path, like: ImageReader) -> None:
        super().__init__(path, like)
        if isinstance(like, ZarrReader) and like.ome is not None:
            note_unwritten(self, unwritten(like.ome.others))

    def _write(self, path: Path, strips: Iterator[Array]) -> None:
        like = self.like
        options: dict[str, Any] = {"chunks": default_chunks(like)}
        if like.named:
            options["dimension_names"] = list(like.axes.lower())
        store: Path | zarr.Group = path
        if isinstance(like, ZarrReader):
            source = like.array
            options = {"chunks": source.chunks, "shards": source.shards, "compressors": source.compressors,
                       "filters": source.filters, "fill_value": source.fill_value, "attributes": dict(source.attrs),
                       "zarr_format": source.metadata.zarr_format}  # fmt: skip
            if source.metadata.zarr_format == 3:
                options["dimension_names"] = source.metadata.dimension_names
                options["chunk_key_encoding"] = source.metadata.chunk_key_encoding
            else:
                options["chunk_key_encoding"] = {"name": "v2", "separator": source.metadata.dimension_separator}
            if like.ome is not None:
                store = zarr.create_group(path, zarr_format=options.pop("zarr_format"), attributes=like.ome.attributes)
                options["name"] = like.ome.place
        create = store.create_array if isinstance(store, zarr.Group) else partial(zarr.create_array, store)
        array = create(shape=like.shape, dtype=like.dtype, **options)
        write_rows(array, like, strips, (array.shards or array.chunks)[like.axes.index("Y")])
