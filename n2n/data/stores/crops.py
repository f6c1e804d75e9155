"""Crops of photographs whose cells have any size and direction."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from n2n.data.corruption import PixelSampling
from n2n.errors import InputError


@dataclass(frozen=True)
class Crops:
    """Crops of photographs. The cells of each crop are squares of one size and direction.

    Attributes:
        sizes: height and width of the photographs in pixels, N×2.
        origins: row and column of the first corner of each crop in pixels, N×2, not rounded.
        axes: vectors from a cell to its neighbours in pixels, N×2×2: the second axis is (rows, columns), the third (to the next
            cell below, to the next cell on the right).
        size: number of cells along a side of a crop.
    """

    sizes: NDArray[np.int64]
    origins: NDArray[np.float64]
    axes: NDArray[np.float64]
    size: int

    def picks(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw a uniform point of each cell, and return the pixel that contains it.

        Returns:
            Indices of the pixels in their photographs, row by row, N×size×size int64.
        """
        # Drawn in single precision for speed, and added in double: sums in single precision could round up to the next cell.
        down, right = rng.random((2, len(self.sizes), self.size, self.size), np.float32).astype(np.float64)
        steps = np.arange(self.size)
        down += steps[:, None]
        right += steps
        origins, axes, sizes = (x[..., None, None] for x in (self.origins, self.axes, self.sizes))
        rows, columns = (
            # Rounding can move a point at the photograph's edge outside.
            np.clip((origins[:, i] + axes[:, i, 0] * down + axes[:, i, 1] * right).astype(np.int64), 0, sizes[:, i] - 1)
            for i in range(2)
        )
        numbers: NDArray[np.int64] = rows * sizes[:, 1] + columns
        return numbers


@dataclass(frozen=True)
class CropVariation:
    """Random size and direction of the cells of crops.

    The kind of noise is always the same: a uniformly drawn point of a cell stands for the cell.

    Args:
        zoom: the sides of the cells are multiplied by a factor from 1/zoom to zoom.
        turn: crops are rotated by up to this angle in degrees, in both directions.

    Raises:
        InputError: for a zoom below 1 or above 8, or a negative angle.
    """

    zoom: float = 1.0
    turn: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.zoom <= 8:
            raise InputError(f"zoom is {self.zoom}: expected a factor from 1 to 8")
        if not 0 <= self.turn <= 180:
            raise InputError(f"turn is {self.turn}: expected an angle from 0 to 180 degrees")

    def draw(self, sizes: NDArray[np.int64], sampling: PixelSampling, rng: np.random.Generator) -> Crops:
        """Draw a crop of each photograph. If it does not fit, its cells are made smaller.

        Args:
            sizes: height and width of the photographs in pixels, N×2.
            sampling: number of cells, and their side before zoom.
            rng: random numbers of the crops.
        """
        N, most, turn = len(sizes), math.log(self.zoom), math.radians(self.turn)
        sides, angles = sampling.cell * np.exp(rng.uniform(-most, most, N)), rng.uniform(-turn, turn, N)
        cos, sin = sides * np.cos(angles), sides * np.sin(angles)
        axes = np.stack([cos, -sin, sin, cos], axis=1).reshape(N, 2, 2)
        # Of the upright box around the crop, in rows and columns.
        extents = sampling.size * np.abs(axes).sum(axis=2)
        fit = np.minimum(1, (sizes / extents).min(axis=1, keepdims=True))
        axes, extents = axes * fit[:, :, None], extents * fit
        room = sizes - extents
        corners = np.minimum(np.floor(rng.random((N, 2)) * (room + 1)), room)
        # An axis that points up or left starts at the other side of the box.
        return Crops(sizes, corners - sampling.size * np.minimum(axes, 0).sum(axis=2), axes, sampling.size)
