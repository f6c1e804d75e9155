"""Pairs cut from photographs, real or generated: the work that their sources share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from n2n.data.corruption import Pixels, PixelSampling


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
