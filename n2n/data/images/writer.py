"""Base class of image writers, which write an image file in strips of rows."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

import numpy as np

from n2n.data.images.base import Array, ImageReader
from n2n.errors import InputError, reason
from n2n.system.files import replacing

# Raised by format writers when metadata copied from the source file is invalid.
_METADATA_ERRORS = (
    *(ValueError, TypeError, LookupError, AttributeError, OverflowError, RuntimeError, AssertionError),
    struct.error,
)

# What attributes of Metadata are called.
_NAMES = {
    "icc": "colour profile",
    "exif": "EXIF",
    "dpi": "resolution",
    "xmp": "XMP",
    "photoshop": "IPTC",
    "palette": "colour table",
}

# What is said of the colour profile of CMYK images.
INKS_PROFILE = "its colour profile is of CMYK, does not fit RGB and is not written"


class ImageWriter(ABC):
    """Writes an image file with the pages, size, channels and dtype of ``like``, an open image; all of it or nothing.

    Attributes:
        remarks: lines on what of the other file is not written.
        takes_inverted: whether the format can say that 0 is white.

    Raises:
        InputError: if the format cannot hold the image.
    """

    takes_inverted = False

    def __init__(self, path: Path, like: ImageReader) -> None:
        self.path, self.like = path, like
        if like.inverted and not self.takes_inverted:
            raise self._refuse("the format cannot say that 0 is white", "a .tif file")
        self.remarks: list[str] = []
        kept = self._kept()
        lost = [name for key, name in _NAMES.items() if getattr(like.metadata, key) is not None and key not in kept]
        if lost:
            self.remarks.append(f"not written, because the format cannot hold it: {', '.join(lost)}")

    def _kept(self) -> Collection[str]:
        """Return the attributes of :class:`~n2n.data.images.base.Metadata` that are written, or that other remarks name."""
        return ()

    def write(self, strips: Iterable[Array], before_replacing: Callable[[], object] = lambda: None) -> None:
        """Write all rows of all pages in order.

        Args:
            strips: arrays of rows×W×(C + extra), of any number of rows of one page, in the dtype of the file. Each is read when
                it is written. If reading one raises an error, no file is left.
            before_replacing: called when all is written, before the file takes its place. Windows replaces no file that is
                open: if the other image is the one to replace, this closes it.

        Raises:
            InputError: if the file cannot be written.
        """
        failed: list[Exception] = []

        def noted() -> Iterator[Array]:
            try:
                # "yield from" would close the strips with this generator, and the caller may go on reading them.
                for strip in strips:  # noqa: UP028
                    yield strip
            except Exception as error:
                failed.append(error)
                raise

        try:
            with replacing(self.path) as part:
                self._write(part, noted())
                before_replacing()
        except OSError as error:
            raise InputError(f"cannot write {self.path} ({error.strerror or error})") from error
        except (InputError, MemoryError):
            raise
        except _METADATA_ERRORS as error:
            if error in failed:
                raise
            raise InputError(f"cannot write {self.path} like {self.like.path} ({reason(error)})") from error

    @abstractmethod
    def _write(self, path: Path, strips: Iterator[Array]) -> None:
        """Write the whole file to another path."""

    def _accept(
        self,
        name: str,
        dtypes: Collection[str],
        channels: Collection[int] = (1, 3),
        extra: int = 0,
        paged: bool = False,
        pixels: int | None = None,
        side: int | None = None,
    ) -> None:
        """Refuse an image that a format of whole pictures cannot hold.

        Args:
            name: of the format, for the message.
            dtypes: that it holds.
            channels: numbers of channels that it holds.
            extra: most extra samples of a pixel.
            paged: whether it may have several pages.
            pixels: most pixels of a page; None for any number.
            side: most pixels of a row or column; None for any number.
        """
        like, wrong = self.like, None
        if str(like.dtype) not in dtypes:
            wrong = f"{like.dtype} values"
        elif like.pages > 1 and not paged:
            wrong = f"{like.pages} pages"
        elif like.channels not in channels or like.extra > extra:
            wrong = f"{like.channels} channels{f' and {like.extra} of opacity' if like.extra else ''}"
        elif (pixels and like.height * like.width > pixels) or (side and max(like.height, like.width) > side):
            wrong = f"{like.width}×{like.height} pixels"
        if wrong:
            raise self._refuse(f"{name} cannot hold {wrong}", "a .tif file")

    def _refuse(self, what: str, other: str) -> InputError:
        return InputError(f"{self.path}: {what}, as {self.like.path} has; name {other}")


class Rows:
    """Takes a given number of rows at a time from strips of any height.

    Args:
        strips: rows×W×(C + extra), in order; each is read only when it is needed.
    """

    def __init__(self, strips: Iterator[Array]) -> None:
        self._strips = strips
        self._left: Array | None = None

    def take(self, height: int) -> Array:
        """Return the next rows, height×W×(C + extra)."""
        parts, have = [], 0
        while have < height:
            strip = next(self._strips) if self._left is None else self._left
            part = strip[: height - have]
            self._left = strip[len(part) :] if len(part) < len(strip) else None
            parts.append(part)
            have += len(part)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def regroup(strips: Iterator[Array], heights: Iterable[int]) -> Iterator[Array]:
    """Cut strips of any height into strips of the given heights."""
    rows = Rows(strips)
    for height in heights:
        yield rows.take(height)


def join_strips(like: ImageReader, strips: Iterator[Array]) -> Array:
    """Return all strips of an image as one array, pages×H×W×(C + extra)."""
    pixels = np.empty((like.pages, like.height, like.width, like.channels + like.extra), like.dtype)
    rows, top = pixels.reshape(-1, *pixels.shape[2:]), 0
    for strip in strips:
        rows[top : top + len(strip)] = strip
        top += len(strip)
    return pixels
