"""Stores of images, and the batches cut from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from n2n.data.cache import Kept
from n2n.errors import InputError
from n2n.system.threads import Ahead


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
        index_device: where ``batch`` wants its indices.
        resident: whether the images are on a device that is not the CPU.
    """

    remarks: Sequence[str]
    range: tuple[float, float]
    dtype: str
    draw: Draw | None
    one_by_one: bool
    index_device: torch.device
    resident: bool

    @property
    def nbytes(self) -> int:
        """Size in bytes of all images, which ``to`` would take on a device; 0 if they cannot be moved."""

    def to(self, device: torch.device) -> Store:
        """Return the store with its images on a device, where its batches are cut, too."""

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
        """Cut a batch out, in one go, by int64 indices on ``index_device``; ``seed`` decides whatever is random about it."""


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
        # There, too: a batch is then cut without a word from the host.
        self.index_device = first.device
        self.resident = first.device.type != "cpu"

    @property
    def nbytes(self) -> int:
        """Size in bytes of all images."""
        return sum(images.nbytes for images in (self.first, self.second, self.clean) if images is not None)

    def to(self, device: torch.device) -> PairStore:
        """Copy the images to a device."""
        first, second, clean = (x if x is None else x.to(device) for x in (self.first, self.second, self.clean))
        assert first is not None
        return PairStore(first, second, clean, self.remarks)

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


def _seeds(count: int, *numbers: int) -> list[int]:
    """Make seeds of several numbers, below 2^63."""
    state = np.random.SeedSequence(numbers).generate_state(count, np.uint64)
    return [int(number) >> 1 for number in state]


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
        device: where the indices are wanted.
    """

    def __init__(
        self,
        pairs: int,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        self.pairs, self.batch_size, self.shuffle, self.seed = pairs, batch_size, shuffle, seed
        self.rank, self.world_size, self.epoch, self.device = rank, world_size, 0, device

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch."""
        self.epoch = epoch

    def batch_seeds(self) -> list[int]:
        """Return a seed for each batch of the epoch: another one for each process, epoch and batch."""
        return _seeds(len(self), self.seed, self.epoch, self.rank)

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
        """Give the indices of one batch after another, int64, on ``device``."""
        if self.shuffle:
            # Seeded by both numbers, so that epoch 1 of seed 0 is not epoch 0 of seed 1.
            generator = torch.Generator().manual_seed(_seeds(1, self.seed, self.epoch)[0])
            order = torch.randperm(self.pairs, generator=generator)
        else:
            order = torch.arange(self.pairs)
        mine = order[self.rank :: self.world_size][: self._share]
        # All at once: a copy for each batch would have to wait for the device.
        yield from torch.split(mine.to(self.device), self.batch_size)


class PairLoader:
    """Batches cut from a store; what the Trainer iterates over.

    Not a ``torch.utils.data.DataLoader``: a batch is a few indexed reads, so workers would add copies and save nothing.

    Args:
        store: of the images.
        sampler: says which of them make which batch.
        ahead: batches that a thread cuts ahead and puts into pinned memory, from which they travel to a GPU while that
            computes; 0 where the store is on the device already, or the device is the CPU.
    """

    batch_sampler: None = None  # Lightning looks here, too, in whatever has a sampler

    def __init__(self, store: Store, sampler: PairSampler, ahead: int = 0) -> None:
        self.store, self.sampler, self.ahead = store, sampler, ahead
        self._given = self._skipped = 0

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.sampler)

    def state_dict(self) -> dict[str, int]:
        """Return how many batches of the epoch were given."""
        return {"batches": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Leave out, in this epoch alone, the batches that were given before it was interrupted."""
        # Of an epoch that was whole nothing is asked for any more, and the next one is to be whole, too.
        self._skipped = state["batches"] if 0 <= state["batches"] < len(self) else 0

    def __iter__(self) -> Iterator[RawBatch]:
        """Give one batch after another."""
        self._given, self._skipped = self._skipped, 0
        plan = zip(self.sampler, self.sampler.batch_seeds(), strict=True)
        batches = (self.store.batch(indices, seed) for indices, seed in islice(plan, self._given, None))
        if not self.ahead:
            yield from map(self._count, batches)
            return
        with Ahead(map(_pinned, batches), self.ahead) as ahead:
            yield from map(self._count, ahead)

    def _count(self, batch: RawBatch) -> RawBatch:
        self._given += 1
        return batch


def _pinned(batch: RawBatch) -> RawBatch:
    first, second, clean = (x if x is None else x.pin_memory() for x in (batch.first, batch.second, batch.clean))
    assert first is not None
    return batch._replace(first=first, second=second, clean=clean)
