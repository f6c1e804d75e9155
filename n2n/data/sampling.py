"""Pairs cut from photographs, real or generated: the work that their sources share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from n2n.data.corruption import Pixels, PixelSampling
from n2n.data.store import Draw, RawBatch


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


class PhotographStore:
    """Pairs that are pixel-sampled from photographs anew at each step: other crops, and other pixels of their cells.

    Every photograph gets as many crops, whatever its size.

    Args:
        pixels: T×C uint8, the pixels of all photographs one after another, row by row; usually memory-mapped.
        sizes: height and width of each photograph, at least those of a crop.
        sampling: the noise.
        pairs: how many make an epoch.
        remarks: lines for the user on where the photographs came from.
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
    ) -> None:
        self.sampling, self.pairs, self.remarks = sampling, pairs, remarks
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
        widths = self._sizes[photo, 1]
        corners = rng.integers(0, self._sizes[photo] - self.sampling.crop + 1)
        starts = self._first[photo] + corners[:, 0] * widths + corners[:, 1]
        views = (torch.from_numpy(self.sampling.picks(starts, widths, rng)) for _ in range(2))
        # N×H×W×C in memory, which is what the network wants.
        first, second = (self._pixels[view.to(self._pixels.device)].permute(0, 3, 1, 2) for view in views)
        return RawBatch(first, second, None, seed)
