""".npy and .npz files, and how an array of any dimensions is told apart into pages, rows and channels."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from n2n.data.images.base import MAX_BLOCK, Array, ImageReader, ImageWriter
from n2n.errors import InputError, reason
from n2n.system.files import file_size


def layout(shape: tuple[int, ...], path: Path) -> tuple[int, int, int, int]:
    """Return pages, H, W and C of an array.

    Two axes are H×W. Of three or more, a last axis of 1 to 4 is C and the two before it H×W; otherwise the last two are H×W.
    All axes before them are pages.

    Raises:
        InputError: if there are fewer than two axes.
    """
    if len(shape) < 2:
        raise InputError(f"{path} holds an array of {len(shape)} axes: expected H×W, H×W×C, N×H×W or N×H×W×C")
    if len(shape) > 2 and 1 <= shape[-1] <= 4:
        return math.prod(shape[:-3]), shape[-3], shape[-2], shape[-1]
    return math.prod(shape[:-2]), shape[-2], shape[-1], 1


class RawRows:
    """Samples that lie in a file uncompressed and in order; nothing is mapped, so that memory stays flat.

    Args:
        file: open for reading bytes, by ``seek`` and ``readinto``.
        offset: of the first sample, in bytes.
        dtype: of the samples as stored.
        row: samples in a row.
    """

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
    """Read an .npy header: shape, whether the order is Fortran's, and dtype. No pickled object is touched."""
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

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        size = file_size(path)
        self._file = path.open("rb")
        try:
            self.shape, fortran, self.stored = read_header(self._file, path)
            self.dtype = self.stored.newbyteorder("=")
            self.pages, self.height, self.width, self.channels = layout(self.shape, path)
            offset = self._file.tell()
            if offset + math.prod(self.shape) * self.stored.itemsize > size:
                raise InputError(
                    f"{path} is cut off: its header says {'×'.join(map(str, self.shape))} {self.dtype}, and the file has "
                    f"{size - offset:,} bytes of them"
                )
            self._check()
            # Fortran's order scatters a row over the whole file: the system's mapping reads what it must.
            self._mapped = (
                np.memmap(self._file, self.stored, "r", offset, self.shape, "F").reshape(
                    self.pages, self.height, self.width, self.channels
                )
                if fortran
                else None
            )
            self._rows = RawRows(self._file, offset, self.stored, self.width * self.channels)
        except BaseException:
            self._file.close()
            raise

    def _decode(self, page: int, start: int, stop: int) -> Array:
        if self._mapped is not None:
            return np.array(self._mapped[page, start:stop], self.dtype)
        top = page * self.height
        rows = self._rows.read(top + start, top + stop).astype(self.dtype, copy=False)
        return rows.reshape(stop - start, self.width, self.channels)

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._mapped = None
        self._file.close()


class NpzReader(ImageReader):
    """An .npz file with one array in it; it is compressed as a whole, so it is unpacked whole."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        file_size(path)
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
                if len(names) != 1:
                    listed = ", ".join(f"{name.removesuffix('.npy'):.30}" for name in names[:5])
                    raise InputError(f"{path} holds {len(names)} arrays ({listed}): expected one; save it as .npy")
                self.name = names[0]
                # As NumPy saves them; others may take memory by what they claim.
                if archive.infolist()[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise InputError(
                        f"{path} is compressed in a way that NumPy has not: save it by numpy.savez_compressed"
                    )
                with archive.open(self.name) as file:
                    self.shape, self._fortran, self.stored = read_header(file, path)
                size = math.prod(self.shape) * self.stored.itemsize
                if size > min(MAX_BLOCK, archive.getinfo(self.name).file_size):
                    raise InputError(
                        f"{path} says that it unpacks to {size:,} bytes: expected what it holds, and at most {MAX_BLOCK:,}; "
                        "save it as .npy"
                    )
        except InputError:
            raise
        except Exception as error:  # damaged archives fail in many ways
            raise InputError(f"{path} is damaged or not an .npz file ({reason(error)})") from None
        self.dtype = self.stored.newbyteorder("=")
        self.pages, self.height, self.width, self.channels = layout(self.shape, path)
        self._check()
        self._array: Array | None = None

    def _decode(self, page: int, start: int, stop: int) -> Array:
        if self._array is None:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.name) as file:
                read_header(file, self.path)
                count = math.prod(self.shape)
                data = file.read(count * self.stored.itemsize)
            array = np.frombuffer(data, self.stored, count).reshape(self.shape, order="F" if self._fortran else "C")
            array = array.reshape(self.pages, self.height, self.width, self.channels)
            self._array = array.astype(self.dtype, copy=False)
        return self._array[page, start:stop]

    def close(self) -> None:
        """Let the array go."""
        super().close()
        self._array = None


class _ArrayWriter(ImageWriter):
    def __init__(self, path: Path, like: ImageReader) -> None:
        super().__init__(path, like)
        if layout(like.shape, like.path) != (like.pages, like.height, like.width, like.channels + like.extra):
            raise self._refuse(f"an array cannot say that it has {like.channels} channels", "a TIFF file")

    def _header(self, file: IO[bytes]) -> np.dtype[Any]:
        stored: np.dtype[Any] = getattr(self.like, "stored", self.like.dtype)
        head = {"descr": np.lib.format.dtype_to_descr(stored), "fortran_order": False, "shape": self.like.shape}
        np.lib.format.write_array_header_2_0(file, head)
        return stored


class NpyWriter(_ArrayWriter):
    """Writes an .npy file row by row."""

    def _write(self, path: Path, strips: Iterator[Array]) -> None:
        with path.open("wb") as file:
            stored = self._header(file)
            for strip in strips:
                file.write(np.ascontiguousarray(strip, stored).data)


class NpzWriter(_ArrayWriter):
    """Writes an .npz file with one array, under the name that the other file's has."""

    def _write(self, path: Path, strips: Iterator[Array]) -> None:
        # Without the folders that it may have: whoever unpacks the file must not write elsewhere.
        name = PurePosixPath(getattr(self.like, "name", "").replace("\\", "/")).name
        name = name if name.endswith(".npy") else "image.npy"
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open(name, "w", force_zip64=True) as file,
        ):
            stored = self._header(file)
            for strip in strips:
                file.write(np.ascontiguousarray(strip, stored).data)
