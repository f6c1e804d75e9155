"""Base class of the sources that sample pixels of photographs, real or generated, and keep the pairs."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from n2n.data.cache import Allocate, Cache
from n2n.data.corruption import Pixels, PixelSampling
from n2n.data.sources.base import PairSource, check_seed
from n2n.data.stores.base import Store
from n2n.data.stores.pairs import PairStore


class Photos(NamedTuple):
    """The number of photographs, the i-th of them (H×W×C uint8), the number of pairs, and the note that the cache keeps."""

    number: int
    photo: Callable[[int], Pixels]
    pairs: int
    note: dict[str, Any]


class SampledPairs(PairSource, ABC):
    """Base class: the pairs are made once, kept in the cache folder, and depend on the arguments alone."""

    # Begins the names of the folders in the cache.
    kind: ClassVar[str]
    # Of the progress bar, before "training pairs".
    verb: ClassVar[str]

    def __init__(self, channels: int, crop: int, cell: int, seed: int, cache_dir: str | None) -> None:
        check_seed(seed)
        self.channels, self.sampling, self.seed, self.cache_dir = channels, PixelSampling(crop, cell), seed, cache_dir

    def _recipe(self, held_out: bool, **more: Any) -> dict[str, Any]:
        """Return everything that the pixels of the pairs depend on."""
        sampling = asdict(self.sampling)
        return {"clean": held_out, "channels": self.channels, "seed": self.seed, **sampling, **more}

    @abstractmethod
    def _plan(self, held_out: bool) -> tuple[dict[str, Any], Callable[[], Photos]]:
        """Return the recipe of the training or validation pairs, and what opens their photographs."""

    def _open(self, held_out: bool, clean: bool) -> tuple[PairStore, dict[str, Any]]:
        """Map the pairs, after making them if the cache does not have them; returns the store and the note."""
        recipe, find = self._plan(held_out)
        recipe |= {"target": "clean"} if clean and not held_out else {}

        def build(allocate: Allocate) -> dict[str, Any]:
            photos = find()
            views = allocate((2 + clean, photos.pairs, self.channels, self.sampling.size, self.sampling.size), np.uint8)
            title = f"{self.verb} {'validation' if held_out else 'training'} pairs"
            _sample(views, photos, self.sampling, (self.seed, int(held_out)), title)
            return photos.note

        kept = Cache(f"{self.kind}-{'val' if held_out else 'train'}", recipe, self.cache_dir).open(build)
        views = torch.from_numpy(kept.array)
        return PairStore(views[0], views[1], views[2] if clean else None, kept.note["remarks"]), kept.note

    def _pairs(self, held_out: bool, clean: bool) -> PairStore:
        return self._open(held_out, clean)[0]

    def train_pairs(self) -> Store:
        """Map the training pairs, and make them first if the cache does not have them."""
        return self._pairs(held_out=False, clean=False)

    def clean_train_pairs(self) -> Store:
        """Map the same training pairs with their clean images."""
        return self._pairs(held_out=False, clean=True)

    def val_pairs(self) -> Store:
        """Map the validation pairs, and make them first if the cache does not have them."""
        return self._pairs(held_out=True, clean=True)


def _sample(views: NDArray[np.uint8], photos: Photos, sampling: PixelSampling, seed: Sequence[int], title: str) -> None:
    """Fill V×N×C×H×W with two noisy views of crops, and their clean images if V is 3, several photographs at a time.

    The result does not depend on the number of threads: each photograph has its own random number generator.
    """
    each, rest = divmod(photos.pairs, photos.number)

    def sample(i: int) -> int:
        rng = np.random.default_rng([*seed, i])
        photo, first, count = photos.photo(i), each * i + min(i, rest), each + (i < rest)
        corners = sampling.corners(photo, count, rng)
        to = slice(first, first + count)
        for noisy in views[:2]:
            noisy[to] = sampling.noisy(photo, corners, rng)
        if len(views) == 3:
            views[2, to] = sampling.clean(photo, corners)
        return count

    # Threads, not processes: NumPy and Pillow release the interpreter lock for most of this, and a caller's script needs no
    # ``if __name__ == "__main__"``.
    with (
        ThreadPoolExecutor(os.cpu_count()) as threads,
        tqdm(total=photos.pairs, desc=title, unit="pair", unit_scale=True) as bar,
    ):
        try:
            for done in threads.map(sample, range(photos.number)):
                bar.update(done)
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
