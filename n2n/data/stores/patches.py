"""Random patches of images of any size and dtype."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from n2n.data.batch import RawBatch
from n2n.data.stores.scenes import SceneArray, channels_first
from n2n.system.hardware import to_device


def _cut(pixels: Any, grid: Any, numbers: Any) -> Any:
    """Cut patches out of T×C pixels: N×side×side×C.

    ``numbers`` are three for each patch: its first pixel, its orientation, the width of its scene. All arguments are NumPy
    arrays, or all are tensors.
    """
    first, turn, width = numbers[:, :, None, None]
    places = grid[turn[:, 0, 0]]
    return pixels[first + width * places[..., 0] + places[..., 1]]


@dataclass(eq=False, kw_only=True)
class PatchStore(SceneArray):
    """Random patches of the training scenes: other patches and other pairs of captures in each epoch.

    The number of patches of a scene is proportional to its area. Each scene must have room for a patch, and for pairs two
    captures.

    Args:
        patch: side of a patch in pixels.
        patches: number of patches an epoch.
        flips: whether patches are flipped and rotated by multiples of 90° at random, both views alike.
    """

    patch: int
    patches: int
    flips: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._top, end, self._width = np.array([[*s.rows, s.width] for s in self.scenes]).T
        height = end - self._top
        areas = np.cumsum(height * self._width, dtype=np.float64)
        self._ends = areas / areas[-1]
        self._room = np.stack([height, self._width], axis=1) - self.patch + 1
        self._count = np.array([len(s.starts) for s in self.scenes])
        self._first = np.cumsum(self._count) - self._count
        self._starts = np.concatenate([np.array(s.starts, np.int64) for s in self.scenes])
        # Row and column of each pixel of a patch in the eight orientations.
        y, x = np.mgrid[: self.patch, : self.patch]
        grids = [np.rot90(turned, k) for turned in (np.stack([y, x], 2), np.stack([x, y], 2)) for k in (0, 1, 2, 3)]
        self._grid = np.stack(grids if self.flips else grids[:1]).astype(np.int64)
        # The pixels and the grid on a device.
        self._moved: tuple[Tensor, Tensor] | None = None

    @property
    def nbytes(self) -> int:
        """Size in bytes of all captures, held-out ones included."""
        return self.pixels.nbytes

    def to(self, device: torch.device) -> PatchStore:
        """Copy the captures to a device."""
        moved = copy(self)
        moved.resident = device.type != "cpu"
        pixels = torch.from_numpy(self.pixels)
        if pixels.dtype == torch.uint16:
            pixels = pixels.view(torch.int16)  # CUDA cannot index uint16
        elif pixels.dtype == torch.float64:
            pixels = pixels.float()  # Apple's GPUs have no float64
        moved._moved = pixels.to(device), torch.from_numpy(self._grid).to(device)
        return moved

    def __len__(self) -> int:
        return self.patches

    @property
    def has_clean(self) -> bool:
        """Whether the patches are clean. The clean images of noisy scenes are used for validation only."""
        return self.draw is not None and self.draw.from_clean

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W of a patch at the input of the network."""
        side = self.patch // self.scale
        return self.pixels.shape[1], side, side

    def batch(self, indices: Tensor, seed: int) -> RawBatch:
        """Cut a patch at a random place for each index."""
        rng = np.random.default_rng(seed)
        # Each index covers an equal part of the area of all scenes, and a random point in that part chooses the scene: over the
        # epochs every scene is used, even if there are more scenes than patches.
        point = (indices.numpy() + rng.random(len(indices))) / self.patches
        scene = np.minimum(np.searchsorted(self._ends, point, side="right"), len(self.scenes) - 1)
        count, width = self._count[scene], self._width[scene]
        corner = rng.integers(0, self._room[scene]) + np.stack([self._top[scene], np.zeros_like(scene)], 1)
        offset = corner[:, 0] * width + corner[:, 1]
        turn = rng.integers(0, len(self._grid), len(scene))

        def cut(start: NDArray[np.int64]) -> Tensor:
            numbers = np.stack([start + offset, turn, width])
            if self._moved is None:
                # NumPy is faster than torch here.
                return channels_first(torch.from_numpy(_cut(self.pixels, self._grid, numbers)))
            pixels, grid = self._moved
            patches = _cut(pixels, grid, to_device(torch.from_numpy(numbers), pixels.device))
            return channels_first(patches.view(torch.uint16) if self.pixels.dtype == np.uint16 else patches)

        one = rng.integers(0, count)
        first = cut(self._starts[self._first[scene] + one])
        second = None
        if self.window != 0:
            reach = count if self.window is None else self.window
            low, high = np.maximum(0, one - reach), np.minimum(count - 1, one + reach)
            # Any of them but the first capture itself.
            other = rng.integers(low, high)
            other += other >= one
            second = cut(self._starts[self._first[scene] + other])
        return RawBatch(first, second, None, seed)
