"""Base classes of image readers and writers. An image file has pages of rows, which are read and written in strips."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from n2n.data.images.axes import Layout, check_axes, unnamed
from n2n.errors import InputError, reason

Array = NDArray[Any]

# Pixels of a PNG or JPEG file, which is decoded as a whole: Pillow's own limit.
MAX_PIXELS = 178_956_970
# Bytes of one strip, tile or chunk, or of the array of an .npz file, once it is unpacked.
MAX_BLOCK = 2**30
# Pixels and bytes of one row. Large images are read by rows, so several rows must fit into the memory.
MAX_WIDTH = 2**18
MAX_ROW = 2**23
# Integers of 32 bits and more do not fit into the float32 that networks compute in.
DTYPES = ("uint8", "int8", "uint16", "int16", "float16", "float32", "float64")

# Weights of red, green and blue in grey: Rec. 601, as Pillow converts.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Metadata:
    """Metadata that is copied from one format to another.

    That is the colour profile; the EXIF block with the orientation, since pixels are not rotated; the pixels per inch,
    horizontal and vertical; the XMP block; Photoshop's block, which holds IPTC; and for grey images
    the lookup table that shows them in false colours, 256×3 or 65536×3 uint16.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None
    photoshop: bytes | None = None
    palette: Array | None = None


ALL = frozenset(field.name for field in fields(Metadata))


@contextmanager
def refusing_damage(path: Path, wanted: str, otherwise: str = "") -> Iterator[None]:
    """Raise InputError in place of errors of any kind, which libraries raise for damaged files."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path} is damaged{otherwise} ({reason(error)}): expected {wanted}") from None


def check_piece(path: Path, size: int) -> None:
    """Refuse a file whose strips, tiles or chunks unpack to more than ``MAX_BLOCK`` bytes."""
    if size > MAX_BLOCK:
        raise InputError(f"{path} is stored in pieces of {size / 2**30:.1f} GiB, n2n takes 1: save it in smaller ones")


class ImageReader(ABC):
    """An open image file; a context manager.

    Attributes:
        path: the file.
        pages: number of images in it, all of one size.
        height: H in pixels.
        width: W in pixels.
        channels: C, without opacity and other samples that are no image content.
        extra: samples of a pixel after its channels, which are copied unchanged: 1 for opacity, mostly 0.
        dtype: of the samples, in the machine's byte order.
        shape: of the array as the file states it; for files that hold no array the axes of the pages, H, W, and C + extra if
            that is more than 1.
        axes: a letter for each axis of ``shape``, see :mod:`n2n.data.images.axes`.
        named: whether the file, or the caller, named the axes.
        white: the largest value that the samples' bits can hold, if the file says that it uses fewer than those of its dtype.
        nodata: the value of samples without data, if the file names one; NaN and infinity always mean that.
        inverted: whether 0 is white and the largest value black, as in some TIFF files; the samples are as stored.
        metadata: is copied to other formats.
        remarks: lines for the user on what the file leaves open.
    """

    path: Path
    pages: int
    height: int
    width: int
    channels: int
    extra: int = 0
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    axes: str
    named: bool = False
    white: float | None = None
    nodata: float | None = None
    inverted: bool = False
    metadata: Metadata = Metadata()
    remarks: Sequence[str] = ()
    # How many of the pages along an axis S, the last ones, are extra samples.
    extra_planes: int = 0
    # Rows that are decoded together.
    _block: int = 1
    # Pages whose last block of rows is kept.
    _keep: int = 1

    def __init__(self, path: Path, axes: str | None = None) -> None:
        """Open a file; ``axes`` replaces the names in it."""
        self.path, self._given = path, axes
        # What :meth:`close` closes.
        self._files = ExitStack()
        # The last block that was decoded of some pages: its first row, the row after its last, and its samples.
        self._kept: dict[int, tuple[int, int, Array]] = {}
        try:
            self._open()
            self._check()
        except BaseException:
            self.close()
            raise

    @abstractmethod
    def _open(self) -> None:
        """Open the file and set the attributes; the axes by :meth:`_name_axes`."""

    def _name_axes(self, shape: Sequence[int], axes: str | None = None) -> Layout:
        """Set shape and axes, given those that the file names; returns the layout.

        Raises:
            InputError: if there are fewer than two axes, or the axes that the caller gave do not fit.
        """
        self.shape, named = tuple(shape), self._given or axes
        if len(shape) < 2:
            raise self._error(f"holds an array of {len(shape)} axes: expected H×W, or more")
        try:
            self.axes, self.named = check_axes(named or unnamed(shape), shape), named is not None
        except InputError as error:
            raise self._error(f"has other axes: {error}") from None
        return Layout.of(self.axes, shape)

    @property
    def page_axes(self) -> str:
        """The letters of the axes that the pages run along, the last one fastest."""
        return "".join(self.axes[at] for at in Layout.of(self.axes, self.shape).pages)

    @property
    def page_shape(self) -> tuple[int, ...]:
        """The sizes of these axes."""
        return Layout.of(self.axes, self.shape).page_shape

    def _check(self) -> None:
        """Refuse images that n2n cannot process."""
        if str(self.dtype) not in DTYPES:
            raise self._error(f"holds {self.dtype} values: expected one of {', '.join(DTYPES)}")
        if min(self.pages, self.height, self.width, self.channels) < 1:
            raise self._error(f"holds no pixels (its shape is {'×'.join(map(str, self.shape))})")
        if self.width > MAX_WIDTH:
            raise self._error(f"is {self.width} px wide, n2n takes {MAX_WIDTH}: cut it up, or turn it")
        samples = self.channels + self.extra
        row = self.width * samples * self.dtype.itemsize
        if row > MAX_ROW:
            raise self._error(f"has rows of {row / 2**20:.1f} MiB ({samples} values a pixel), n2n takes 8: cut it up")
        check_piece(self.path, self._block * row)

    def _error(self, what: str) -> InputError:
        return InputError(f"{self.path} {what}")

    @abstractmethod
    def _decode(self, page: int, start: int, stop: int) -> Array:
        """Decode whole blocks of rows, (stop - start)×W×(C + extra)."""

    def samples(self, page: int, start: int, stop: int) -> Array:
        """Read rows with all their samples, (stop - start)×W×(C + extra), in the file's own dtype and values.

        Only the blocks that hold these rows are decoded. The last one of a page is kept for the next call.

        Raises:
            InputError: if the file is damaged there.
        """
        first, last = start - start % self._block, min(self.height, -(-stop // self._block) * self._block)
        parts, decoded = [], first
        if page in self._kept:
            kept_start, kept_stop, kept = self._kept[page]
            if kept_start <= start < kept_stop:
                parts.append(kept[start - kept_start : stop - kept_start])
                decoded = kept_stop
        if decoded < stop:
            fresh = self._read(page, decoded, last)
            parts.append(fresh[max(0, start - decoded) : stop - decoded])
            if self._block > 1:
                keep = last - 1 - (last - 1) % self._block
                # A copy frees the rows before it.
                kept = fresh[keep - decoded :].copy() if keep > decoded else fresh
                self._kept.pop(page, None)
                while len(self._kept) >= self._keep:
                    del self._kept[next(iter(self._kept))]
                self._kept[page] = keep, last, kept
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _read(self, page: int, start: int, stop: int) -> Array:
        try:
            return self._decode(page, start, stop)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # decoders raise many kinds for damaged data
            raise self._error(f"is damaged ({reason(error)}): expected a whole image") from None

    def rows(self, page: int, start: int, stop: int) -> Array:
        """Read rows of one page without extra samples, (stop - start)×W×C; otherwise as :meth:`samples`."""
        return self.samples(page, start, stop)[..., : self.channels]

    def strips(self, height: int) -> Iterator[Array]:
        """Yield all rows of all pages in order, ``height`` at a time or the rest of a page; otherwise as :meth:`samples`."""
        for page in range(self.pages):
            for top in range(0, self.height, height):
                yield self.samples(page, top, min(top + height, self.height))

    def close(self) -> None:
        """Close the file and free its pixels."""
        self._kept.clear()
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
