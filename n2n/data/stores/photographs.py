"""Pairs cut from photographs, real or generated: the work that their sources share."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from n2n.data.batch import RawBatch
from n2n.data.corruption import Pixels, PixelSampling
from n2n.data.stores.base import Draw
from n2n.errors import InputError


def spread(pairs: int, photographs: int) -> list[int]:
    """Share ``pairs`` crops out among photographs, as evenly as whole numbers allow."""
    each, rest = divmod(pairs, photographs)
    return [each + (i < rest) for i in range(photographs)]


def sample_pairs(
    pairs: NDArray[np.uint8],
    photograph: Callable[[int], Pixels],
    crops: Sequence[int],
    sampling: PixelSampling,
    seed: Sequence[int],
    title: str,
) -> None:
    """Fill a store with pixel-sampled pairs, several photographs at a time.

    The result depends on the arguments alone, not on the number of threads: every photograph has its own random numbers.

    Args:
        pairs: the array to fill, 2×N×C×size×size for two noisy views, 3×N×C×size×size for these and the clean image; N is
            the sum of ``crops``.
        photograph: gives the i-th photograph, H×W×C uint8.
        crops: number of crops of each photograph.
        sampling: the noise.
        seed: of the crops and the noise.
        title: of the progress bar.
    """
    ends = np.cumsum(crops)

    def sample(i: int) -> int:
        rng = np.random.default_rng([*seed, i])
        photo = photograph(i)
        corners = sampling.corners(photo, crops[i], rng)
        to = slice(ends[i] - crops[i], ends[i])
        pairs[0, to] = sampling.noisy(photo, corners, rng)
        pairs[1, to] = sampling.noisy(photo, corners, rng)
        if len(pairs) == 3:
            pairs[2, to] = sampling.clean(photo, corners)
        return crops[i]

    # Threads, not processes: NumPy and Pillow release the interpreter for most of this, and a caller's script needs
    # no ``if __name__ == "__main__"``.
    with (
        ThreadPoolExecutor(os.cpu_count()) as threads,
        tqdm(total=int(ends[-1]), desc=title, unit="pair", unit_scale=True) as bar,
    ):
        try:
            for done in threads.map(sample, range(len(crops))):
                bar.update(done)
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise


@dataclass(frozen=True)
class Crops:
    """Crops of photographs, whose cells may have any size and direction.

    Attributes:
        sizes: height and width of the photographs in pixels, N×2.
        origins: row and column of the first corner of each crop in pixels, N×2, not rounded.
        axes: rows and columns (second axis) that the sides of a cell go, the one to the next cell below and the one to the
            next on its right (third axis), N×2×2.
        size: number of cells along a side of a crop.
    """

    sizes: NDArray[np.int64]
    origins: NDArray[np.float64]
    axes: NDArray[np.float64]
    size: int

    def picks(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw a point of each cell, and find the pixel that it lies in.

        Returns:
            The numbers of the pixels in their photographs, row by row, N×size×size.
        """
        # Drawn in single precision, which is fast, and added in double: sums of singles could round up to the next cell.
        down, right = rng.random((2, len(self.sizes), self.size, self.size), np.float32).astype(np.float64)
        steps = np.arange(self.size)
        down += steps[:, None]
        right += steps
        origins, axes, sizes = (x[..., None, None] for x in (self.origins, self.axes, self.sizes))
        rows, columns = (
            # Rounding can put a point that lies on the photograph's edge beyond it.
            np.clip((origins[:, i] + axes[:, i, 0] * down + axes[:, i, 1] * right).astype(np.int64), 0, sizes[:, i] - 1)
            for i in range(2)
        )
        numbers: NDArray[np.int64] = rows * sizes[:, 1] + columns
        return numbers


@dataclass(frozen=True)
class Shapes:
    """How crops differ from upright ones with cells of the same size.

    The noise is of the same kind in all of them: a uniformly chosen point of a cell stands for the cell.

    Args:
        zoom: the sides of the cells are multiplied by a factor from 1/zoom to zoom.
        turn: crops are turned by an angle up to this, either way, in degrees.

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
        """Draw a crop of each photograph; where it would not fit in, its cells are smaller.

        Args:
            sizes: height and width of the photographs in pixels, N×2.
            sampling: number of the cells, and the middle of their sides.
            rng: of the crops.
        """
        N, most, turn = len(sizes), math.log(self.zoom), math.radians(self.turn)
        sides, angles = sampling.cell * np.exp(rng.uniform(-most, most, N)), rng.uniform(-turn, turn, N)
        cos, sin = sides * np.cos(angles), sides * np.sin(angles)
        axes = np.stack([cos, -sin, sin, cos], axis=1).reshape(N, 2, 2)
        # Of the upright box around the crop.
        extents = sampling.size * np.abs(axes).sum(axis=2)
        fit = np.minimum(1, (sizes / extents).min(axis=1, keepdims=True))
        axes, extents = axes * fit[:, :, None], extents * fit
        room = sizes - extents
        corners = np.minimum(np.floor(rng.random((N, 2)) * (room + 1)), room)
        # The axes that go up or left begin at the other side of the box.
        return Crops(sizes, corners - sampling.size * np.minimum(axes, 0).sum(axis=2), axes, sampling.size)


class PhotographStore:
    """Pairs that are pixel-sampled from photographs anew at each step: other crops, and other pixels of their cells.

    Every photograph gets as many crops, whatever its size.

    Args:
        pixels: T×C uint8, the pixels of all photographs one after another, row by row; usually memory-mapped.
        sizes: height and width of each photograph.
        sampling: the noise.
        pairs: how many make an epoch.
        remarks: lines for the user on where the photographs came from.
        shapes: of the crops.
    """

    range = (0.0, 255.0)
    dtype = "uint8"
    draw: Draw | None = None
    one_by_one = False
    has_clean = False
    has_pairs = True
    # Also where the pixels are on a device: chance is drawn on the host, so that it draws the same everywhere.
    index_device = torch.device("cpu")

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        sizes: Sequence[tuple[int, int]],
        sampling: PixelSampling,
        pairs: int,
        remarks: Sequence[str] = (),
        shapes: Shapes = Shapes(),
    ) -> None:
        self.sampling, self.pairs, self.remarks, self.shapes = sampling, pairs, remarks, shapes
        self.resident = False
        # Writable memory that is never written to: torch warns about any other.
        self._pixels = torch.from_numpy(pixels)
        self._sizes = np.array(sizes, np.int64).reshape(-1, 2)
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
        """Return the number of pairs an epoch."""
        return self.pairs

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W of a noisy view."""
        return self._pixels.shape[1], self.sampling.size, self.sampling.size

    def batch(self, indices: Tensor, seed: int) -> RawBatch:
        """Draw a crop for each index, and two noisy views of it: uint8 N×C×H×W each."""
        rng = np.random.default_rng(seed)
        # An index stands for its share of the photographs; chance chooses among them where there are more than pairs.
        point = (indices.numpy() + rng.random(len(indices))) / self.pairs * len(self._sizes)
        photo = np.minimum(point.astype(np.int64), len(self._sizes) - 1)
        crops = self.shapes.draw(self._sizes[photo], self.sampling, rng)
        views = (torch.from_numpy(crops.picks(rng) + self._first[photo, None, None]) for _ in range(2))
        # N×H×W×C in memory, which is what the network wants.
        first, second = (self._pixels[view.to(self._pixels.device)].permute(0, 3, 1, 2) for view in views)
        return RawBatch(first, second, None, seed)
