"""Outliers among the captures: hot pixels, stuck ones, and the tracks of cosmic rays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from n2n.data.images.extremes import Extremes
from n2n.data.scenes.frames import Frame, first_few

# Outliers are at most this part of all values. More of them are content, such as the noise of impulses.
_MOST = 1e-3
# Pixels at a time.
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Place:
    """A capture in the flat array: its pixels from ``start`` to before ``stop``, and their extremes."""

    frame: Frame
    start: int
    stop: int
    extremes: Extremes


@dataclass(frozen=True)
class Outliers:
    """The outliers of all captures, see :class:`n2n.data.images.extremes.Extremes`.

    Attributes:
        rest: the extremes of all other values.
    """

    pixels: NDArray[Any]
    limits: tuple[float, float]
    places: Sequence[Place]
    counts: Sequence[int]
    found: Extremes
    rest: Extremes

    def limit(self, low: float, high: float) -> list[str]:
        """Limit the outliers to a range in the array, where one would outweigh all others in the loss; returns a line.

        If the range holds them all, nothing is limited or said.
        """
        if low <= self.found.least and self.found.most <= high:
            return []
        for place in self.places:
            for block, beyond in _beyond(self.pixels, place, self.limits):
                block[beyond] = np.clip(block[beyond], low, high)
        names = [f"{place.frame} ({count})" for place, count in zip(self.places, self.counts, strict=True)]
        number = sum(self.counts)
        are = "values are outliers" if number > 1 else "value is an outlier"
        return [
            f"warning: {number:,} {are}, such as hot pixels or cosmic rays, in {first_few(names)}: from {self.found.least:g} "
            f"to {self.found.most:g}, where all others go from {self.rest.least:g} to {self.rest.most:g}. They are limited to "
            f"{low:g} to {high:g}; to keep them, set --data.source.value_range"
        ]


def find_outliers(pixels: NDArray[Any], places: Sequence[Place]) -> Outliers | None:
    """Find the outliers in a flat array, T×C; None if there are none, or too many."""
    whole = Extremes.joined(place.extremes for place in places)
    if not whole.suspect:
        return None
    low, high = limits = whole.limits
    suspects, counts, rest, found = [], [], Extremes(), Extremes()
    for place in places:
        if low <= place.extremes.least and place.extremes.most <= high:
            rest |= place.extremes
            continue
        count = 0
        for block, beyond in _beyond(pixels, place, limits):
            count += int(beyond.sum())
            found |= _range(block[beyond])
            rest |= _range(block[~beyond])
        suspects.append(place)
        counts.append(count)
    total = sum(place.stop - place.start for place in places) * pixels.shape[1]
    if sum(counts) > max(1, _MOST * total):
        return None
    return Outliers(pixels, limits, suspects, counts, found, rest)


def _range(values: NDArray[Any]) -> Extremes:
    """Return the extremes of values in any order, without NaN."""
    values = values[np.isfinite(values)]
    return Extremes(float(values.min()), float(values.max())) if values.size else Extremes()


def _beyond(
    pixels: NDArray[Any], place: Place, limits: tuple[float, float]
) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]:
    """Yield blocks of a capture, and which of their values are beyond the limits."""
    for start in range(place.start, place.stop, _BLOCK):
        block = pixels[start : min(start + _BLOCK, place.stop)]
        yield block, (block < limits[0]) | (block > limits[1])
