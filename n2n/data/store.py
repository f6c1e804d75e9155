"""Stores of images, and the batches cut from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from n2n.data.cache import Kept
from n2n.errors import InputError


class RawBatch(NamedTuple):
    """A batch as it leaves the store: N×C×H×W in the images' own dtype and range.

    Attributes:
        first: one noisy view of each image, or whatever the store's ``draw`` makes views of.
        second: another noisy view; None where there is none, or where ``draw`` makes it.
        clean: the clean images, where they are known.
        seed: of the random numbers that ``draw`` may need.
        scene: number of the scene that all images of the batch show; None if each is of its own.
    """

    first: Tensor
    second: Tensor | None
    clean: Tensor | None
    seed: int
    scene: int | None = None


class Batch(NamedTuple):
    """A batch on its device, float32 with the images' range mapped to [0, 1], nothing clipped.

    Attributes:
        noisy: N×C×H×W, what the network sees.
        target: another noisy view of the same images; None only where ``clean`` is known.
        clean: the clean images, or None.
        regularizer: a further term of the training loss, or None. It is called with the network, its output for
            ``noisy``, and ``target``.
        independent: whether ``target`` shows the same as ``noisy`` but for independent noise, as PSNR without clean images
            needs.
        scene: number of the scene that all images of the batch show; None if each is of its own.
    """

    noisy: Tensor
    target: Tensor | None
    clean: Tensor | None = None
    regularizer: Regularizer | None = None
    independent: bool = True
    scene: int | None = None


Regularizer = Callable[[Callable[[Tensor], Tensor], Tensor, Tensor], Tensor]


class Draw(Protocol):
    """Makes noisy views on the device, anew at each step.

    Attributes:
        from_clean: whether the images are clean, so that the batch has clean images.
        suited_loss: import path of the loss that the noise needs, where it has no zero mean; else None.
        augmentable: whether the two views show the same pixels, so that both may be changed alike or exchanged.
    """

    from_clean: bool
    augmentable: bool
    suited_loss: str | None

    def __call__(self, images: Tensor, generator: torch.Generator, progress: float) -> Batch:
        """Draw views of N×C×H×W images in [0, 1]; ``progress`` runs from 0 to 1 over the training."""


class Store(Protocol):
    """Images to train or to validate on.

    Attributes:
        remarks: lines for the user on where the images came from and what is wrong with them.
        range: values of the files that become 0 and 1.
        dtype: name of the files' NumPy dtype.
        draw: makes noisy views of ``RawBatch.first``; None where the store itself has them.
        one_by_one: whether images differ in size, so that each is a batch of its own.
    """

    remarks: Sequence[str]
    range: tuple[float, float]
    dtype: str
    draw: Draw | None
    one_by_one: bool

    def __len__(self) -> int:
        """Return the number of pairs an epoch."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W of what the network sees; of the first image where they differ in size."""

    @property
    def has_clean(self) -> bool:
        """Whether the clean images are known, in the store or because ``draw`` starts from them."""

    @property
    def has_pairs(self) -> bool:
        """Whether there are two views of each image, with independent noise."""

    def batch(self, indices: Tensor, seed: int) -> RawBatch:
        """Cut a batch out, in one go, by int64 indices; ``seed`` decides whatever is random about it."""


class PairStore:
    """Images of one size that are views of each other, uint8, usually memory-mapped.

    Args:
        first: a noisy view of each image, N×C×H×W uint8.
        second: another noisy view, of the same shape, or None.
        clean: the clean images, of the same shape, or None.
        remarks: lines for the user on where the images came from.

    Raises:
        InputError: if they are not uint8 N×C×H×W of one shape, or hold nothing.
    """

    range = (0.0, 255.0)
    dtype = "uint8"
    draw: Draw | None = None
    one_by_one = False

    def __init__(
        self, first: Tensor, second: Tensor | None, clean: Tensor | None = None, remarks: Sequence[str] = ()
    ) -> None:
        for tensor in (first, second, clean):
            if tensor is None:
                continue
            if tensor.dtype != torch.uint8 or tensor.ndim != 4 or tensor.numel() == 0:
                raise InputError(f"expected uint8 images N×C×H×W, got {tensor.dtype} of shape {tuple(tensor.shape)}")
            if tensor.shape != first.shape:
                raise InputError(f"the two views differ in shape: {tuple(first.shape)} and {tuple(tensor.shape)}")
        self.first, self.second, self.clean, self.remarks = first, second, clean, remarks

    @classmethod
    def from_cache(cls, kept: Kept, clean: bool) -> PairStore:
        """Open V×N×C×H×W views; the last of them is the clean one if ``clean``."""
        views = torch.from_numpy(kept.array)
        return cls(views[0], views[1], views[2] if clean else None, kept.note["remarks"])

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.first)

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W of every image."""
        C, H, W = self.first.shape[1:]
        return C, H, W

    @property
    def has_clean(self) -> bool:
        """Whether the clean images are known."""
        return self.clean is not None

    @property
    def has_pairs(self) -> bool:
        """Whether there are two noisy views of each image."""
        return self.second is not None

    def batch(self, indices: Tensor, seed: int) -> RawBatch:
        """Cut pairs out by index: int64 N -> uint8 N×C×H×W each; nothing is random."""
        second = None if self.second is None else self.second[indices]
        clean = None if self.clean is None else self.clean[indices]
        return RawBatch(self.first[indices], second, clean, seed)


def _mix(*numbers: int) -> int:
    """Make one seed of several numbers, below 2^63."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1


class PairSampler:
    """Which pairs make which batch: shuffled anew each epoch, shared out among the processes without repetition.

    Lightning finds it as the loader's ``sampler`` and calls ``set_epoch``, so that a resumed run goes on in the order in
    which the uninterrupted one would have.

    Args:
        pairs: how many there are.
        batch_size: pairs a batch and process.
        shuffle: draw a new order each epoch. Then every process gets the same number of batches of the same size, as
            training needs, at the cost of at most ``world_size - 1`` pairs an epoch. Without it every pair is used once.
        seed: of the order.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(
        self, pairs: int, batch_size: int, shuffle: bool, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        self.pairs, self.batch_size, self.shuffle, self.seed = pairs, batch_size, shuffle, seed
        self.rank, self.world_size, self.epoch = rank, world_size, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch."""
        self.epoch = epoch

    def batch_seed(self, i: int) -> int:
        """Return a seed for the i-th batch of the epoch: another one for each process, epoch and batch."""
        return _mix(self.seed, self.epoch, self.rank, i)

    @property
    def _share(self) -> int:
        """Pairs of this process."""
        if self.shuffle:
            return self.pairs // self.world_size
        return len(range(self.rank, self.pairs, self.world_size))

    def __len__(self) -> int:
        """Return the number of batches of this process."""
        return -(-self._share // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        """Give the indices of one batch after another, int64."""
        if self.shuffle:
            # Seeded by both numbers, so that epoch 1 of seed 0 is not epoch 0 of seed 1.
            generator = torch.Generator().manual_seed(_mix(self.seed, self.epoch))
            order = torch.randperm(self.pairs, generator=generator)
        else:
            order = torch.arange(self.pairs)
        mine = order[self.rank :: self.world_size][: self._share]
        yield from torch.split(mine, self.batch_size)


class PairLoader:
    """Batches cut from a store; what the Trainer iterates over.

    Not a ``torch.utils.data.DataLoader``: a batch is a few indexed reads, so workers would add copies and save nothing.

    Args:
        store: of the images.
        sampler: says which of them make which batch.
    """

    batch_sampler: None = None  # Lightning looks here, too, in whatever has a sampler

    def __init__(self, store: Store, sampler: PairSampler) -> None:
        self.store, self.sampler = store, sampler

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[RawBatch]:
        """Give one batch after another."""
        for i, indices in enumerate(self.sampler):
            yield self.store.batch(indices, self.sampler.batch_seed(i))
