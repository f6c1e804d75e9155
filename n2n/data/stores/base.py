"""The interface of stores, which keep images and cut batches out of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from n2n.data.batch import Batch, RawBatch


class Draw(Protocol):
    """Makes noisy views on the device, new ones at each step.

    Attributes:
        from_clean: whether it starts from clean images, so that the batch has clean images.
        suited_loss: import path of the loss that the views need; None if any loss for noise with zero mean suits.
        augmentable: whether the two views show the same pixels, so that augmentations may change or exchange them.
    """

    from_clean: bool
    augmentable: bool
    suited_loss: str | None

    def __call__(self, images: Tensor, generator: torch.Generator) -> Batch:
        """Draw views of images.

        Args:
            images: N×C×H×W in [0, 1].
            generator: generator of the random numbers, on the images' device.
        """


class Store(Protocol):
    """Images to train or validate on.

    Attributes:
        remarks: lines for the user on the origin and the faults of the images.
        range: values of the files that become 0 and 1.
        dtype: name of the files' NumPy dtype.
        gaps: whether NaN in the images means pixels without data, which do not count.
        draw: makes noisy views of ``RawBatch.first``; None if the store has noisy views.
        one_by_one: whether the images differ in size, so that each is a batch of its own.
        index_device: device of the indices that ``batch`` takes.
        resident: whether the images are on another device than the CPU.
    """

    remarks: Sequence[str]
    range: tuple[float, float]
    dtype: str
    gaps: bool = False
    draw: Draw | None = None
    one_by_one: bool = False
    # Stores draw random numbers on the host, even if the images are on a device, so that all devices get the same batches.
    index_device: torch.device = torch.device("cpu")
    resident: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes that ``to`` takes on a device; 0 if the images cannot be moved."""

    def to(self, device: torch.device) -> Store:
        """Return the store with its images on a device, where it also cuts its batches."""

    def __len__(self) -> int:
        """Return the number of pairs per epoch."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W of the network's input; of the first image if they differ in size."""

    @property
    def has_clean(self) -> bool:
        """Whether all clean images are known, in the store or because ``draw`` starts from them."""

    @property
    def has_pairs(self) -> bool:
        """Whether there are two views of every image, with independent noise."""

    def batch(self, indices: Tensor, seed: int) -> RawBatch:
        """Cut a batch out by int64 indices on ``index_device``; ``seed`` is that of all its random numbers."""
