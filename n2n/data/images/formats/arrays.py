"""Arrays in .npy and .npz files, and which of their axes are pages, rows, columns and channels."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

import numpy as np

from n2n.data.images.axes import Layout, unnamed
from n2n.data.images.base import MAX_BLOCK, Array, ImageReader, refusing_damage
from n2n.data.images.writer import ImageWriter
from n2n.errors import InputError, reason
from n2n.system.files import file_size


class RawRows:
    """Reads rows of ``row`` uncompressed samples, which start at a byte offset. Uses no memory map, to keep memory flat."""

    def __init__(self, file: Any, offset: int, dtype: np.dtype[Any], row: int) -> None:
        self._file, self._offset, self._dtype, self._row = file, offset, dtype, row

    def read(self, start: int, stop: int) -> Array:
        """Read rows, (stop - start)×(samples in a row)."""
        samples = np.empty((stop - start, self._row), self._dtype)
        self._file.seek(self._offset + start * self._row * self._dtype.itemsize)
        done = self._file.readinto(samples.view(np.uint8).reshape(-1))
        if done != samples.nbytes:
            raise ValueError("the file ends too early")
        return samples


def read_header(file: IO[bytes], path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return what an .npy header says: shape, whether the order is Fortran's, and dtype. No pickled object is loaded."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except Exception as error:  # a hostile header fails in the tokenizer, in ast, in NumPy, ...
        raise InputError(f"{path} is not an array that NumPy saved ({reason(error)}): expected .npy or .npz") from None
    if not all(0 <= size < 2**63 for size in shape):
        raise InputError(f"{path} is not an array that NumPy saved (no array has its shape): expected .npy or .npz")
    if dtype.hasobject or dtype.kind not in "uifbc":
        raise InputError(f"{path} holds {'Python objects, none of which was loaded' if dtype.hasobject else dtype}: "
                         "expected an array of numbers")  # fmt: skip
    return shape, fortran, dtype


def _rows_of(array: Array, page: int, page_shape: tuple[int, ...], start: int, stop: int, channels: int) -> Array:
    """Return rows of an array of pages×H×W, with channels after them or not: rows×W×C."""
    at: tuple[Any, ...] = tuple(map(int, np.unravel_index(page, page_shape))) if page_shape else ()
    rows: Array = array[(*at, slice(start, stop))]
    return rows.reshape(*rows.shape[:2], channels)


class ArrayReader(ImageReader):
    """Base class of readers of arrays, whose axes may be in any order."""


class NpyReader(ArrayReader):
    """An .npy file, read row by row."""

    def _open(self) -> None:
        path, size = self.path, file_size(self.path)
        file = self._files.enter_context(path.open("rb"))
        self.shape, fortran, self.stored = read_header(file, path)
        self.dtype = self.stored.newbyteorder("=")
        layout = self._name_axes(self.shape)
        self.pages, self.height, self.width, self.channels = layout.sizes
        offset, values = file.tell(), math.prod(self.shape)
        if offset + values * self.stored.itemsize > size:
            raise InputError(
                f"{path} is cut off: its header says {'×'.join(map(str, self.shape))} {self.dtype}, and the file has "
                f"{size - offset:,} bytes of them"
            )
        self._rows = RawRows(file, offset, self.stored, self.width * self.channels)
        # In other orders, a row is scattered over the whole file. With a memory map, the system reads only what is needed.
        self._mapped: Array | None = None
        if (fortran or not layout.in_order) and values:  # an empty file cannot be mapped
            order: Literal["F", "C"] = "F" if fortran else "C"
            self._mapped = np.memmap(file, self.stored, "r", offset, self.shape, order).transpose(layout.order)

    def _decode(self, page: int, start: int, stop: int) -> Array:
        if self._mapped is not None:
            return _rows_of(self._mapped, page, self.page_shape, start, stop, self.channels).astype(self.dtype)
        top = page * self.height
        rows = self._rows.read(top + start, top + stop).astype(self.dtype, copy=False)
        return rows.reshape(stop - start, self.width, self.channels)

    def close(self) -> None:
        """Close the file."""
        self._mapped = None
        super().close()


class NpzReader(ArrayReader):
    """An .npz file with one array, which is decompressed as a whole."""

    _array: Array | None

    def _open(self) -> None:
        path, self._array = self.path, None
        file_size(path)
        with refusing_damage(path, "one array", " or not an .npz file"), zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len(names) != 1:
                listed = ", ".join(f"{name.removesuffix('.npy'):.30}" for name in names[:5])
                raise InputError(f"{path} holds {len(names)} arrays ({listed}): expected one; save it as .npy")
            self.name = names[0]
            # NumPy uses these two. Others may take as much memory as they claim.
            if archive.infolist()[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise InputError(f"{path} has a compression that NumPy does not use: use numpy.savez_compressed")
            with archive.open(self.name) as file:
                self.shape, self._fortran, self.stored = read_header(file, path)
            size = math.prod(self.shape) * self.stored.itemsize
            if size > min(MAX_BLOCK, archive.getinfo(self.name).file_size):
                raise InputError(
                    f"{path} says that it unpacks to {size:,} bytes: expected what it holds, and at most {MAX_BLOCK:,}; "
                    "save it as .npy"
                )
        self.dtype = self.stored.newbyteorder("=")
        self._layout = self._name_axes(self.shape)
        self.pages, self.height, self.width, self.channels = self._layout.sizes

    def _decode(self, page: int, start: int, stop: int) -> Array:
        if self._array is None:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.name) as file:
                read_header(file, self.path)
                data = file.read(math.prod(self.shape) * self.stored.itemsize)
            array = np.frombuffer(data, self.stored).reshape(self.shape, order="F" if self._fortran else "C")
            self._array = array.transpose(self._layout.order).astype(self.dtype, copy=False)
        return _rows_of(self._array, page, self.page_shape, start, stop, self.channels)

    def close(self) -> None:
        """Free the array."""
        self._array = None
        super().close()


class ArrayWriter(ImageWriter):
    """Base class of writers of arrays, whose file does not name the axes."""

    def __init__(self, path: Path, like: ImageReader) -> None:
        super().__init__(path, like)
        if not isinstance(like, ArrayReader) and Layout.of(unnamed(like.shape), like.shape) != Layout.of(
            like.axes, like.shape
        ):
            raise self._refuse(f"an array cannot say which of its axes are {like.axes}", "a TIFF file")


def _stored(like: ImageReader) -> np.dtype[Any]:
    stored: np.dtype[Any] = getattr(like, "stored", like.dtype)
    return stored


def _write_array(file: IO[bytes], like: ImageReader, strips: Iterator[Array]) -> None:
    """Write an array as .npy to an open file, in the order of its axes."""
    head = {"descr": np.lib.format.dtype_to_descr(_stored(like)), "fortran_order": False, "shape": like.shape}
    np.lib.format.write_array_header_2_0(file, head)
    for strip in strips:
        file.write(np.ascontiguousarray(strip, _stored(like)).data)


def _fill(array: Array, like: ImageReader, strips: Iterator[Array]) -> None:
    """Write strips to their places in an array whose axes are in any order."""
    ordered, page, top = array.transpose(Layout.of(like.axes, like.shape).order), 0, 0
    for strip in strips:
        _rows_of(ordered, page, like.page_shape, top, top + len(strip), strip.shape[2])[...] = strip
        page, top = (page, top + len(strip)) if top + len(strip) < like.height else (page + 1, 0)


class NpyWriter(ArrayWriter):
    """Writes an .npy file row by row."""

    def _write(self, path: Path, strips: Iterator[Array]) -> None:
        like = self.like
        if Layout.of(like.axes, like.shape).in_order:
            with path.open("wb") as file:
                _write_array(file, like, strips)
            return
        array = np.lib.format.open_memmap(path, "w+", _stored(like), like.shape)
        _fill(array, like, strips)
        array.flush()


class NpzWriter(ArrayWriter):
    """Writes an .npz file with one array, which keeps its name in the other file."""

    def _write(self, path: Path, strips: Iterator[Array]) -> None:
        # Without folders: a hostile name could overwrite other files when the archive is unpacked.
        name = PurePosixPath(getattr(self.like, "name", "").replace("\\", "/")).name
        name = name if name.endswith(".npy") else "image.npy"
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open(name, "w", force_zip64=True) as file,
        ):
            if Layout.of(self.like.axes, self.like.shape).in_order:
                _write_array(file, self.like, strips)
                return
            array = np.empty(self.like.shape, _stored(self.like))
            _fill(array, self.like, strips)
            np.lib.format.write_array(file, array)
