"""What every image file is to the rest of n2n: pages of rows, read and written strip by strip."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from n2n.errors import InputError, reason
from n2n.system.files import replacing

Array = NDArray[Any]

# Pixels of a PNG or JPEG file, which is decoded whole: Pillow's own limit.
MAX_PIXELS = 178_956_970
# Bytes that one strip, tile or chunk, or the array of an .npz file, may unpack to.
MAX_BLOCK = 2**30
# Pixels of one row: what is streamed is streamed by rows; and bytes of it.
MAX_WIDTH = 2**18
MAX_ROW = 2**23
# 32-bit and wider integers do not fit into the float32 that networks compute in.
DTYPES = ("uint8", "int8", "uint16", "int16", "float16", "float32", "float64")

# What writers of formats raise when they are to say again what the other file says of itself, which may be wrong.
_BY_METADATA = (
    *(ValueError, TypeError, LookupError, AttributeError, OverflowError, RuntimeError, AssertionError),
    struct.error,
)

# Grey of red, green and blue: Rec. 601, Pillow's own conversion.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Metadata:
    """What travels with the pixels from one format to another.

    Attributes:
        icc: colour profile.
        exif: EXIF block, with the orientation; pixels are as stored, not turned.
        dpi: pixels per inch, horizontal and vertical.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None


class ImageReader(ABC):
    """An open image file; a context manager.

    Attributes:
        path: the file.
        pages: number of images in it, all of one size.
        height: H in pixels.
        width: W in pixels.
        channels: C, without opacity and other samples that are no image content.
        extra: samples of a pixel that pass through, after its channels: 1 for opacity, mostly 0.
        dtype: of the samples, in the machine's byte order.
        shape: of the array as its file states it; pages×H×W×(C + extra) for files that are no arrays.
        metadata: what travels to other formats.
    """

    path: Path
    pages: int
    height: int
    width: int
    channels: int
    extra: int = 0
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    metadata: Metadata = Metadata()
    # Rows that must be decoded together.
    _block: int = 1

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kept: tuple[int, int, int] = (-1, 0, 0)
        self._samples: Array | None = None

    def _check(self) -> None:
        """Refuse what the rest of n2n cannot work on; called once the attributes are there."""
        if str(self.dtype) not in DTYPES:
            raise InputError(
                f"{self.path} holds {self.dtype} values: expected one of {', '.join(DTYPES)}; convert the file"
            )
        if min(self.pages, self.height, self.width, self.channels) < 1:
            raise InputError(f"{self.path} holds no pixels (its shape is {'×'.join(map(str, self.shape))})")
        if self.width > MAX_WIDTH:
            raise InputError(f"{self.path} is {self.width} px wide, n2n takes {MAX_WIDTH}: cut it up, or turn it")
        row = self.width * (self.channels + self.extra) * self.dtype.itemsize
        if row > MAX_ROW:
            raise InputError(
                f"{self.path} has rows of {row / 2**20:.1f} MiB ({self.channels + self.extra} values a pixel), n2n takes "
                f"{MAX_ROW / 2**20:.0f}: cut it up"
            )
        size = self._block * row
        if self._block > 1 and size > MAX_BLOCK:
            raise InputError(
                f"{self.path} is stored in pieces of {size / 2**30:.1f} GiB, n2n takes 1: save it in smaller strips, tiles or "
                "chunks"
            )

    @abstractmethod
    def _decode(self, page: int, start: int, stop: int) -> Array:
        """Decode whole blocks of rows, (stop - start)×W×(C + extra)."""

    def samples(self, page: int, start: int, stop: int) -> Array:
        """Read rows with all their samples, (stop - start)×W×(C + extra), in the file's own values.

        Nothing is read but the blocks that hold these rows, and the last of them is kept for the next call.

        Raises:
            InputError: if the file is damaged there.
        """
        first, last = start - start % self._block, min(self.height, -(-stop // self._block) * self._block)
        parts, decoded = [], first
        kept_page, kept_start, kept_stop = self._kept
        if self._samples is not None and page == kept_page and kept_start <= start < kept_stop:
            parts.append(self._samples[start - kept_start : stop - kept_start])
            decoded = kept_stop
        if decoded < stop:
            fresh = self._read(page, decoded, last)
            parts.append(fresh[max(0, start - decoded) : stop - decoded])
            if self._block > 1:
                keep = last - 1 - (last - 1) % self._block
                self._kept, self._samples = (page, keep, last), fresh[keep - decoded :]
                if keep > decoded:
                    self._samples = self._samples.copy()  # not to hold the rows before it
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _read(self, page: int, start: int, stop: int) -> Array:
        try:
            return self._decode(page, start, stop)
        except (InputError, MemoryError):
            raise
        # Decoders raise many kinds for damaged data, some with their own base classes.
        except Exception as error:
            raise InputError(f"{self.path} is damaged ({reason(error)}): expected a whole image") from None

    def rows(self, page: int, start: int, stop: int) -> Array:
        """Read rows of one page, (stop - start)×W×C, in the file's own dtype and values.

        Raises:
            InputError: if the file is damaged there.
        """
        return self.samples(page, start, stop)[..., : self.channels]

    def strips(self, height: int) -> Iterator[Array]:
        """Read all rows of all pages in order, ``height`` at a time; none spans two pages.

        Yields:
            rows×W×(C + extra), as :meth:`samples` gives them.

        Raises:
            InputError: if the file is damaged.
        """
        for page in range(self.pages):
            for top in range(0, self.height, height):
                yield self.samples(page, top, min(top + height, self.height))

    def close(self) -> None:
        """Close the file."""
        self._samples = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ImageWriter(ABC):
    """Writes an image file that is like another in pages, size, channels and dtype; all of it or nothing."""

    def __init__(self, path: Path, like: ImageReader) -> None:
        self.path, self.like = path, like

    def write(self, strips: Iterable[Array]) -> None:
        """Write all rows of all pages in order.

        Args:
            strips: arrays of rows×W×(C + extra) with any number of rows, of the dtype of the file; they are asked for one
                after the other, and none spans two pages. If they raise, no file is left.

        Raises:
            InputError: if the file cannot be written there.
        """
        failed: list[Exception] = []

        def noted() -> Iterator[Array]:
            try:
                # Not "yield from", which would close the strips with this: who gives them may want to go on.
                for strip in strips:  # noqa: UP028
                    yield strip
            except Exception as error:
                failed.append(error)
                raise

        try:
            with replacing(self.path) as part:
                self._write(part, noted())
        except OSError as error:
            raise InputError(f"cannot write {self.path} ({error.strerror or error})") from error
        except (InputError, MemoryError):
            raise
        except _BY_METADATA as error:
            if error in failed:
                raise
            raise InputError(f"cannot write {self.path} like {self.like.path} ({reason(error)})") from error

    @abstractmethod
    def _write(self, path: Path, strips: Iterator[Array]) -> None:
        """Write the whole file to a path of its own."""

    def _refuse(self, what: str, other: str) -> InputError:
        return InputError(f"{self.path}: {what}, as {self.like.path} has; name {other}")
