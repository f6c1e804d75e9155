"""Strips of an image, which are arrays of some of its rows, cut anew to other heights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from n2n.data.images.base import Array


class Rows:
    """The rows of strips of any height, taken a number at a time.

    Args:
        strips: rows×W×(C + extra), in order; each is asked for only when it is needed.
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
