"""Photographs from which fresh pairs are drawn at each step."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from n2n.data.batch import RawBatch
from n2n.data.corruption import PixelSampling
from n2n.data.stores.base import Draw
from n2n.data.stores.crops import CropVariation


class PhotographStore:
    """Pairs that are pixel-sampled from photographs, with new crops and new pixels of their cells at each step.

    All photographs get the same number of crops, whatever their size.

    Args:
        pixels: T×C uint8, the pixels of all photographs one after another, row by row; usually memory-mapped.
        sizes: height and width of each photograph.
        sampling: the noise.
        pairs: number of pairs an epoch.
        remarks: lines for the user on the origin of the photographs.
        variation: of the crops; None for upright ones with cells of one size.
    """

    range = (0.0, 255.0)
    dtype = "uint8"
    draw: Draw | None = None
    one_by_one = False
    has_clean = False
    has_pairs = True
    # Random numbers are drawn on the host, even if the pixels are on a device, so that all devices get the same.
    index_device = torch.device("cpu")

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        sizes: Sequence[tuple[int, int]],
        sampling: PixelSampling,
        pairs: int,
        remarks: Sequence[str] = (),
        variation: CropVariation | None = None,
    ) -> None:
        self.sampling, self.pairs, self.remarks = sampling, pairs, remarks
        self.variation = variation or CropVariation()
        self.resident = False
        # Never written to, but writable: torch warns about other memory.
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
        # Each index covers an equal part of the photographs. With more photographs than pairs, chance chooses one in that part.
        point = (indices.numpy() + rng.random(len(indices))) / self.pairs * len(self._sizes)
        photo = np.minimum(point.astype(np.int64), len(self._sizes) - 1)
        crops = self.variation.draw(self._sizes[photo], self.sampling, rng)
        views = (torch.from_numpy(crops.picks(rng) + self._first[photo, None, None]) for _ in range(2))
        # N×H×W×C in memory (channels_last), which is the fast order for the network.
        first, second = (self._pixels[view.to(self._pixels.device)].permute(0, 3, 1, 2) for view in views)
        return RawBatch(first, second, None, seed)
