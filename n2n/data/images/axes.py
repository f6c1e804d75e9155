"""The names of an image's axes, and which of them are pages, rows, columns and channels.

This is the one convention of n2n. An axis has a letter of OME and tifffile: T time, Z depth, C channel, Y rows, X columns, S
the samples of a pixel (red, green, blue, opacity), Q no name. Other letters of tifffile stay as they are, and mean no more
than Q.

A last axis C or S holds the channels of a pixel. All other axes but Y and X are pages, in the order of the file.

An array without names is ...×H×W×C if its last axis has 1 to 4 entries and it has three axes or more, and ...×H×W otherwise:
``YX``, ``YXC``, ``QYX``, ``QYXC``, ``QQYX``, and so on. A file without names is read in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from n2n.errors import InputError

# The last axis of an array without names is C if it has at most this many entries.
_MOST_CHANNELS = 4
# A last axis that is shorter than the two before it by this factor may be channels too.
_THIN = 8
# Letters of which an image has one at most.
_ONCE = "TZCYXS"


def unnamed(shape: Sequence[int]) -> str:
    """Return the axes of an array without names; see the rule above."""
    last = "C" if len(shape) > 2 and 1 <= shape[-1] <= _MOST_CHANNELS else ""
    return "Q" * (len(shape) - 2 - len(last)) + "YX" + last


def check_axes(axes: str, shape: Sequence[int]) -> str:
    """Return axes that fit a shape, in capital letters.

    Raises:
        InputError: if they do not fit.
    """
    letters = axes.upper()
    size = "×".join(map(str, shape))
    if not axes.isascii() or not axes.isalpha():
        raise InputError(
            f"axes is {axes!r}: expected letters, such as TZCYX, YXS or QYX (Q for an axis without a name)"
        )
    if len(letters) != len(shape):
        raise InputError(
            f"axes is {letters}: expected one letter for each of the {len(shape)} axes of {size}, such as {unnamed(shape)}"
        )
    if "Y" not in letters or "X" not in letters or any(letters.count(letter) > 1 for letter in _ONCE):
        raise InputError(f"axes is {letters}: expected Y and X once each, and each of T, Z, C and S at most once")
    return letters


def check_named(channels: int | None, axes: str, shape: Sequence[int], named: bool, option: str) -> None:
    """Refuse an array without names that may have its channels elsewhere: on its third last axis, or on a thin last one.

    Args:
        channels: of the network.
        axes: of the array.
        shape: of the array.
        named: whether someone named the axes.
        option: by which they are named, for the message.

    Raises:
        InputError: if the axes could be read in two ways, of which one gives a wrong result.
    """
    if named or len(shape) < 3 or axes[-3:] != "QYX":
        return
    size, lead, (pages, height, width) = "×".join(map(str, shape)), axes[:-3], shape[-3:]
    if channels not in (None, 1) and pages == channels:
        other, what = "CYX", f"images of {channels} channels, or {channels} grey ones"
    elif _THIN * width <= min(pages, height):
        other, what = "YXC", f"an image of {pages}×{height} px and {width} channels, or {pages} of {height}×{width} px"
    else:
        return
    raise InputError(
        f"an array of {size} without names of its axes may be {what}: give {option} {lead}{other} or {option} {lead}QYX"
    )


def sizes(axes: str, shape: Sequence[int]) -> str:
    """Describe axes and their sizes: ``T 2 × Z 3 × Y 512 × X 512``."""
    return " × ".join(f"{letter} {size}" for letter, size in zip(axes, shape, strict=True))


class Layout(NamedTuple):
    """Which axes of an array are pages, rows, columns and channels.

    Attributes:
        pages: positions of the page axes, in their order.
        rows: position of Y.
        columns: position of X.
        channels: position of the last axis if it is C or S, else None.
        shape: of the array.
    """

    pages: tuple[int, ...]
    rows: int
    columns: int
    channels: int | None
    shape: tuple[int, ...]

    @classmethod
    def of(cls, axes: str, shape: Sequence[int]) -> Layout:
        """Return the layout of an array with these axes."""
        last = len(axes) - 1 if axes[-1] in "CS" else None
        pages = tuple(at for at, letter in enumerate(axes) if letter not in "YX" and at != last)
        return cls(pages, axes.index("Y"), axes.index("X"), last, tuple(shape))

    @property
    def page_shape(self) -> tuple[int, ...]:
        """Sizes of the page axes."""
        return tuple(self.shape[at] for at in self.pages)

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Number of pages, H, W and C."""
        channels = 1 if self.channels is None else self.shape[self.channels]
        return math.prod(self.page_shape), self.shape[self.rows], self.shape[self.columns], channels

    @property
    def order(self) -> tuple[int, ...]:
        """The axes in the order pages, Y, X, channels."""
        return (*self.pages, self.rows, self.columns, *(() if self.channels is None else (self.channels,)))

    @property
    def in_order(self) -> bool:
        """Whether the array has its axes in this order already, so that a page is one block of rows."""
        return self.order == tuple(range(len(self.shape)))
