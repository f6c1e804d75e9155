"""Arrays in .npy and .npz files, and which of their axes are pages, rows, columns and channels."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from n2n.data.images.base import MAX_BLOCK, Array, ImageReader, ImageWriter, refusing_damage
from n2n.errors import InputError, reason
from n2n.system.files import file_size


def has_channel_axis(shape: tuple[int, ...]) -> bool:
    """Whether the last axis of an array is C: one of 1 to 4, of three axes or more."""
    return len(shape) > 2 and 1 <= shape[-1] <= 4


def layout(shape: tuple[int, ...], path: Path) -> tuple[int, int, int, int]:
    """Return pages, H, W and C of an array.

    The last axes are H×W×C, or H×W where :func:`has_channel_axis` is false. All axes before them are pages.

    Raises:
        InputError: if there are fewer than two axes.
    """
    if len(shape) < 2:
        raise InputError(f"{path} holds an array of {len(shape)} axes: expected H×W, H×W×C, N×H×W or N×H×W×C")
    *pages, H, W, C = shape if has_channel_axis(shape) else (*shape, 1)
    return math.prod(pages), H, W, C


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


class NpyReader(ImageReader):
    """An .npy file, read row by row."""

    def _open(self) -> None:
        path, size = self.path, file_size(self.path)
        file = self._files.enter_context(path.open("rb"))
        self.shape, fortran, self.stored = read_header(file, path)
        self.dtype = self.stored.newbyteorder("=")
        self.pages, self.height, self.width, self.channels = layout(self.shape, path)
        offset, values = file.tell(), math.prod(self.shape)
        if offset + values * self.stored.itemsize > size:
            raise InputError(
                f"{path} is cut off: its header says {'×'.join(map(str, self.shape))} {self.dtype}, and the file has "
                f"{size - offset:,} bytes of them"
            )
        self._rows = RawRows(file, offset, self.stored, self.width * self.channels)
        # In Fortran's order, a row is scattered over the whole file. With a memory map, the system reads only what is needed.
        self._mapped: Array | None = None
        if fortran and values:  # an empty file cannot be mapped
            mapped = np.memmap(file, self.stored, "r", offset, self.shape, "F")
            self._mapped = mapped.reshape(self.pages, self.height, self.width, self.channels)

    def _decode(self, page: int, start: int, stop: int) -> Array:
        if self._mapped is not None:
            return np.array(self._mapped[page, start:stop], self.dtype)
        top = page * self.height
        rows = self._rows.read(top + start, top + stop).astype(self.dtype, copy=False)
        return rows.reshape(stop - start, self.width, self.channels)

    def close(self) -> None:
        """Close the file."""
        self._mapped = None
        super().close()


class NpzReader(ImageReader):
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
        self.pages, self.height, self.width, self.channels = layout(self.shape, path)

    def _decode(self, page: int, start: int, stop: int) -> Array:
        if self._array is None:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.name) as file:
                read_header(file, self.path)
                data = file.read(math.prod(self.shape) * self.stored.itemsize)
            array = np.frombuffer(data, self.stored).reshape(self.shape, order="F" if self._fortran else "C")
            array = array.reshape(self.pages, self.height, self.width, self.channels)
            self._array = array.astype(self.dtype, copy=False)
        return self._array[page, start:stop]

    def close(self) -> None:
        """Free the array."""
        self._array = None
        super().close()


class ArrayWriter(ImageWriter):
    """Base class of writers of arrays, in which only the shape says whether there are channels."""

    def __init__(self, path: Path, like: ImageReader) -> None:
        super().__init__(path, like)
        if layout(like.shape, like.path) != (like.pages, like.height, like.width, like.channels + like.extra):
            raise self._refuse(f"an array cannot say that it has {like.channels} channels", "a TIFF file")


def _write_array(file: IO[bytes], like: ImageReader, strips: Iterator[Array]) -> None:
    """Write an array as .npy to an open file."""
    stored: np.dtype[Any] = getattr(like, "stored", like.dtype)
    head = {"descr": np.lib.format.dtype_to_descr(stored), "fortran_order": False, "shape": like.shape}
    np.lib.format.write_array_header_2_0(file, head)
    for strip in strips:
        file.write(np.ascontiguousarray(strip, stored).data)


class NpyWriter(ArrayWriter):
    """Writes an .npy file row by row."""

    def _write(self, path: Path, strips: Iterator[Array]) -> None:
        with path.open("wb") as file:
            _write_array(file, self.like, strips)


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
            _write_array(file, self.like, strips)
