"""Pixel-sampled pairs of photographs, real or generated, that are made once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from n2n.data.corruption import Pixels, PixelSampling


def spread(pairs: int, photographs: int) -> list[int]:
    """Divide ``pairs`` crops among photographs as evenly as possible; returns the number of each photograph."""
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
    """Fill an array with pixel-sampled pairs, several photographs at a time.

    The result does not depend on the number of threads: each photograph has its own random number generator.

    Args:
        pairs: the array to fill, uint8: 2×N×C×size×size for two noisy views, 3×N×C×size×size for these and the clean image. N
            is the sum of ``crops``.
        photograph: returns the i-th photograph, H×W×C uint8.
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

    # Threads, not processes: NumPy and Pillow release the interpreter lock for most of this, and a caller's script needs no
    # ``if __name__ == "__main__"``.
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
