"""Batches, cut from a store in a shuffled order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from n2n.data.batch import RawBatch
from n2n.data.stores.base import Store
from n2n.system.threads import Prefetch


def _seeds(count: int, *numbers: int) -> list[int]:
    """Make seeds of several numbers, below 2^63."""
    state = np.random.SeedSequence(numbers).generate_state(count, np.uint64)
    return [int(number) >> 1 for number in state]


@dataclass(eq=False)
class PairSampler:
    """Chooses the pairs of each batch: shuffled anew each epoch, divided among the processes without repetition.

    Lightning finds it as the loader's ``sampler`` and calls ``set_epoch``, so that a resumed run uses the order of the
    uninterrupted one.

    Args:
        pairs: number of pairs.
        batch_size: pairs per batch and process.
        shuffle: whether to draw a new order each epoch. If so, all processes get the same number of batches of the same sizes,
            as training needs, and up to ``world_size - 1`` pairs of an epoch are left out. If not, each pair is used once.
        seed: seed of the order.
        rank: number of this process.
        world_size: number of processes.
        device: device of the indices.
        epoch: number of the epoch.
    """

    pairs: int
    batch_size: int
    shuffle: bool
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    device: torch.device | str = "cpu"
    epoch: int = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch."""
        self.epoch = epoch

    def batch_seeds(self) -> list[int]:
        """Return a seed for each batch of the epoch; it differs between processes, epochs and batches."""
        return _seeds(len(self), self.seed, self.epoch, self.rank)

    @property
    def _share(self) -> int:
        """Number of pairs of this process."""
        return self.pairs // self.world_size if self.shuffle else len(range(self.rank, self.pairs, self.world_size))

    def __len__(self) -> int:
        """Return the number of batches of this process."""
        return -(-self._share // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the indices of one batch after another, int64, on ``device``."""
        if self.shuffle:
            # The seed mixes both numbers, so that epoch 1 of seed 0 differs from epoch 0 of seed 1.
            generator = torch.Generator().manual_seed(_seeds(1, self.seed, self.epoch)[0])
            order = torch.randperm(self.pairs, generator=generator)
        else:
            order = torch.arange(self.pairs)
        mine = order[self.rank :: self.world_size][: self._share]
        # All at once, because a copy for each batch would wait for the device.
        yield from torch.split(mine.to(self.device), self.batch_size)


@dataclass(eq=False)
class PairLoader:
    """Yields batches cut from a store.

    It is not a ``torch.utils.data.DataLoader``: a batch is a few indexed reads, so workers would only add copies.

    Args:
        store: store of the images.
        sampler: chooses the images of each batch.
        ahead: number of batches that a thread cuts in advance and copies to pinned memory, from which they travel to a GPU
            while it computes; 0 if the store is on the device, or the device is the CPU.
        training: whether the batches are trained on.
    """

    store: Store
    sampler: PairSampler
    ahead: int = 0
    training: bool = False

    batch_sampler: ClassVar[None] = None  # Lightning reads it from any loader with a sampler

    def __post_init__(self) -> None:
        self._given = self._skipped = 0

    def __len__(self) -> int:
        return len(self.sampler)

    def state_dict(self) -> dict[str, int]:
        """Return the number of batches of the epoch that were yielded."""
        return {"batches": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Skip, in this epoch only, the batches that were yielded before the interruption."""
        # A complete epoch is not repeated, and the next one is complete, too.
        self._skipped = state["batches"] if 0 <= state["batches"] < len(self) else 0

    def __iter__(self) -> Iterator[RawBatch]:
        self._given, self._skipped = self._skipped, 0
        plan = zip(self.sampler, self.sampler.batch_seeds(), strict=True)
        batches = (self.store.batch(indices, seed) for indices, seed in islice(plan, self._given, None))
        if not self.ahead:
            yield from map(self._count, batches)
            return
        with Prefetch(map(_pinned, batches), self.ahead) as ahead:
            yield from map(self._count, ahead)

    def _count(self, batch: RawBatch) -> RawBatch:
        self._given += 1
        return batch._replace(training=self.training)


def _pinned(batch: RawBatch) -> RawBatch:
    return batch.map(lambda images: images.pin_memory())
