"""The planes of an array that a network denoises: N×C×H×W, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Planes:
    """How an array becomes N×C×H×W for a network.

    Attributes:
        shape: of the array.
        order: its axes in the order N, C, H, W; several axes are N, and there may be no C.
        has_channels: whether there is a C.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]
    has_channels: bool

    @classmethod
    def of(cls, axes: str, shape: tuple[int, ...], channels: int | None) -> Planes:
        """Return the planes of an array.

        Args:
            axes: its letters. S are channels; C are channels if their number fits the network, or if the network takes any
                number, one by one or together.
            shape: its sizes.
            channels: of the network; None for any.
        """
        letter = "S" if "S" in axes else "C"
        at = axes.find(letter)
        if letter == "C" and at >= 0 and channels not in (None, 1, shape[at]):
            at = -1
        last = ((at,) if at >= 0 else ()) + (axes.index("Y"), axes.index("X"))
        pages = tuple(i for i in range(len(axes)) if i not in last)
        return cls(shape, (*pages, *last), at >= 0)

    @property
    def channels(self) -> int:
        """C; 1 if there is no such axis."""
        return self.shape[self.order[-3]] if self.has_channels else 1

    def take(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the planes of the array, N×C×H×W."""
        height, width = (self.shape[at] for at in self.order[-2:])
        return array.transpose(self.order).reshape(-1, self.channels, height, width)

    def put_back(self, planes: NDArray[Any]) -> NDArray[Any]:
        """Return N×C×H×W in the shape and the order of the array."""
        assert planes.size == math.prod(self.shape)
        ordered = planes.reshape([self.shape[at] for at in self.order])
        return np.ascontiguousarray(ordered.transpose(np.argsort(self.order)))
