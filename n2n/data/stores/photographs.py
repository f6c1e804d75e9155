"""Photographs from which fresh pairs are drawn at each step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from n2n.data.batch import RawBatch
from n2n.data.corruption import PixelSampling
from n2n.data.stores.base import Store
from n2n.errors import InputError
from n2n.system.hardware import to_device


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
        """Draw a uniform point of each cell; returns the number of the pixel that contains it, N×size×size.

        Pixels are numbered row by row in each photograph.
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
    """Random size and direction of the cells of crops. The noise stays the same: one uniform point of each cell.

    Args:
        zoom: the sides of the cells are multiplied by a factor from 1/zoom to zoom.
        turn: crops are rotated by up to this angle in degrees, in both directions.

    Raises:
        InputError: for a zoom below 1 or above 8, or an angle below 0 or above 180.
    """

    zoom: float = 1.0
    turn: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.zoom <= 8:
            raise InputError(f"zoom is {self.zoom}: expected a factor from 1 to 8")
        if not 0 <= self.turn <= 180:
            raise InputError(f"turn is {self.turn}: expected an angle from 0 to 180 degrees")

    def draw(self, sizes: NDArray[np.int64], sampling: PixelSampling, rng: np.random.Generator) -> Crops:
        """Draw a crop of each photograph, given their heights and widths, N×2. Cells of crops that do not fit shrink."""
        N, most, turn = len(sizes), math.log(self.zoom), math.radians(self.turn)
        sides, angles = sampling.cell * np.exp(rng.uniform(-most, most, N)), rng.uniform(-turn, turn, N)
        cos, sin = sides * np.cos(angles), sides * np.sin(angles)
        axes = np.stack([cos, -sin, sin, cos], axis=1).reshape(N, 2, 2)
        # Height and width of the upright box around each crop.
        extents = sampling.size * np.abs(axes).sum(axis=2)
        fit = np.minimum(1, (sizes / extents).min(axis=1, keepdims=True))
        axes, extents = axes * fit[:, :, None], extents * fit
        room = sizes - extents
        corners = np.minimum(np.floor(rng.random((N, 2)) * (room + 1)), room)
        # An axis that points up or left starts at the other side of the box.
        return Crops(sizes, corners - sampling.size * np.minimum(axes, 0).sum(axis=2), axes, sampling.size)


@dataclass(eq=False)
class PhotographStore(Store):
    """Pairs that are pixel-sampled from photographs, with new crops and new pixels of their cells at each step.

    All photographs get the same number of crops, whatever their size.

    Args:
        pixels: T×C uint8, the pixels of all photographs one after another, row by row; usually memory-mapped.
        sizes: height and width of each photograph.
        sampling: the noise.
        pairs: number of pairs an epoch.
        remarks: lines for the user on the origin of the photographs.
        variation: of the crops; by default they are upright, with cells of one size.
    """

    pixels: NDArray[np.uint8]
    sizes: Sequence[tuple[int, int]]
    sampling: PixelSampling
    pairs: int
    remarks: Sequence[str] = ()
    variation: CropVariation = CropVariation()

    range = (0.0, 255.0)
    dtype = "uint8"
    has_clean = False
    has_pairs = True

    def __post_init__(self) -> None:
        # Never written to, but writable: torch warns about other memory.
        self._pixels = torch.from_numpy(self.pixels)
        self._sizes = np.array(self.sizes, np.int64).reshape(-1, 2)
        areas = self._sizes.prod(axis=1)
        self._first = np.cumsum(areas) - areas

    @property
    def nbytes(self) -> int:
        """Size in bytes of all photographs."""
        return self._pixels.nbytes

    def to(self, device: torch.device) -> PhotographStore:
        """Copy the photographs to a device."""
        moved = copy(self)
        moved._pixels, moved.resident = self._pixels.to(device), device.type != "cpu"
        return moved

    def __len__(self) -> int:
        return self.pairs

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W of a noisy view."""
        return self._pixels.shape[1], self.sampling.size, self.sampling.size

    def batch(self, indices: Tensor, seed: int) -> RawBatch:
        """Draw a crop for each index, and two noisy views of it: uint8 N×C×H×W each."""
        rng = np.random.default_rng(seed)
        # Each index covers an equal part of the photographs. With more photographs than pairs, chance chooses one in that part.
        point = (indices.numpy() + rng.random(len(indices))) / self.pairs * len(self._sizes)
        photo = np.minimum(point.astype(np.int64), len(self._sizes) - 1)
        crops = self.variation.draw(self._sizes[photo], self.sampling, rng)
        views = (torch.from_numpy(crops.picks(rng) + self._first[photo, None, None]) for _ in range(2))
        # N×H×W×C in memory (channels_last), which is the fast order for the network.
        first, second = (self._pixels[to_device(view, self._pixels.device)].permute(0, 3, 1, 2) for view in views)
        return RawBatch(first, second, None, seed)
