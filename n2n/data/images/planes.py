"""Pages that hold the channels of one image, read together; and channels that are read as pages of their own."""

from __future__ import annotations

import math
import tempfile
from abc import abstractmethod
from collections.abc import Collection, Iterator
from itertools import product
from pathlib import Path

import numpy as np

from n2n.data.images.base import ALL, Array, ImageReader
from n2n.data.images.writer import ImageWriter, regroup

# Bytes of an image that is kept in memory while its channels are parted; a larger one goes to a temporary file.
_IN_MEMORY = 2**28
# Rows that are parted at a time.
_ROWS = 256


class _Rearranged(ImageReader):
    """Another open image, whose samples are delivered in another way.

    Args:
        inner: the image; it is closed with this one.
    """

    def __init__(self, inner: ImageReader) -> None:
        self.inner = inner
        super().__init__(inner.path)

    def _open(self) -> None:
        inner = self.inner
        self._files.callback(inner.close)
        self.pages, self.height, self.width, self.channels = inner.pages, inner.height, inner.width, inner.channels
        self.dtype, self.metadata, self.remarks = inner.dtype, inner.metadata, inner.remarks
        self.white, self.nodata, self.inverted = inner.white, inner.nodata, inner.inverted
        self._rearrange()
        # Whoever rearranges axes names them, which the file need not have done.
        self.named = inner.named

    @abstractmethod
    def _rearrange(self) -> None:
        """Name the axes, and set what differs from the inner image."""


class Together(_Rearranged):
    """Another open image, with the pages along one of its axes as channels.

    Args:
        inner: the image; it is closed with this one. Its pages have one sample a pixel.
        axis: the letter of one of its page axes.
        extra: how many of these pages, the last ones, are no image content but copied unchanged.
    """

    def __init__(self, inner: ImageReader, axis: str, extra: int = 0) -> None:
        self._axis, self.extra = axis, extra
        super().__init__(inner)

    def _rearrange(self) -> None:
        inner = self.inner
        if inner.channels + inner.extra > 1:
            raise self._error(
                f"has other axes than {inner.axes}: expected either {self._axis} or channels as the last axis"
            )
        at = inner.page_axes.index(self._axis)
        shape = inner.page_shape
        count = shape[at]
        numbers = np.arange(inner.pages).reshape(shape)
        # The inner pages of each page, one row each.
        self.inner_pages: list[list[int]] = np.moveaxis(numbers, at, -1).reshape(-1, count).tolist()
        self.pages, self.channels = len(self.inner_pages), count - self.extra
        others = inner.page_axes.replace(self._axis, "", 1)
        lead = shape[:at] + shape[at + 1 :]
        self._name_axes((*lead, self.height, self.width, count), f"{others}YX{self._axis}")
        inner._keep = count

    def _decode(self, page: int, start: int, stop: int) -> Array:
        return np.concatenate([self.inner.samples(number, start, stop) for number in self.inner_pages[page]], axis=2)


class Apart(_Rearranged):
    """Another open image, with each of its channels as a page of its own; they follow each other, the last axis C fastest.

    Its inner image has no extra samples.
    """

    def _rearrange(self) -> None:
        inner = self.inner
        self.pages, self.channels = inner.pages * inner.channels, 1
        self._name_axes((*inner.page_shape, inner.channels, self.height, self.width), f"{inner.page_axes}CYX")

    def _decode(self, page: int, start: int, stop: int) -> Array:
        whole, channel = divmod(page, self.inner.channels)
        return self.inner.samples(whole, start, stop)[..., channel : channel + 1]


class Floats(_Rearranged):
    """Another open image as float32 without extra samples, which is what a map of its pixels is written like."""

    def _rearrange(self) -> None:
        inner = self.inner
        self.dtype = np.dtype(np.float32)
        last = (inner.channels,) if inner.channels > 1 else ()
        letter = (inner.axes[-1] if inner.axes[-1] in "CS" else "C") if last else ""
        self._name_axes((*inner.page_shape, self.height, self.width, *last), f"{inner.page_axes}YX{letter}")

    def _decode(self, page: int, start: int, stop: int) -> Array:
        return self.inner.rows(page, start, stop).astype(np.float32)


def channels_together(image: ImageReader) -> ImageReader:
    """Return an image with its pages along C as channels; the image itself if it has none."""
    return Together(image, "C") if "C" in image.page_axes and image.channels + image.extra == 1 else image


def channels_apart(image: ImageReader) -> ImageReader:
    """Return an image with its channels, if its last axis is C, as pages; the image itself if it is not."""
    return Apart(image) if image.axes[-1] == "C" and image.channels > 1 and not image.extra else image


class PartingWriter(ImageWriter):
    """Writes a :class:`Together` as the pages of its inner image.

    The first page may need rows of the last strips, so the image is kept until it is whole: in memory if it is small, else in a
    temporary file beside the output.

    Args:
        inner: writes the pages.
        like: the image whose strips come.
    """

    takes_inverted = True  # the inner writer refuses what its format cannot say

    def __init__(self, inner: ImageWriter, like: Together) -> None:
        super().__init__(inner.path, like)
        self._inner, self._together, self.remarks = inner, like, inner.remarks

    def _kept(self) -> Collection[str]:
        return ALL  # the inner writer says what is lost

    def _write(self, path: Path, strips: Iterator[Array]) -> None:
        like = self._together
        with tempfile.TemporaryFile(dir=path.parent) as file:
            shape = (like.inner.pages, like.height, like.width)
            whole: Array
            if math.prod(shape) * like.dtype.itemsize <= _IN_MEMORY:
                whole = np.empty(shape, like.dtype)
            else:
                whole = np.memmap(file, like.dtype, "w+", shape=shape)
            tops = range(0, like.height, _ROWS)
            places = product(like.inner_pages, tops)
            heights = (min(_ROWS, like.height - top) for _, top in product(like.inner_pages, tops))
            for (numbers, top), strip in zip(places, regroup(strips, heights), strict=True):
                for number, plane in zip(numbers, np.moveaxis(strip, 2, 0), strict=True):
                    whole[number, top : top + len(strip)] = plane
            self._inner._write(path, (page[top : top + _ROWS, :, None] for page in whole for top in tops))
