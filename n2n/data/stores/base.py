"""What a store of images is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from n2n.data.batch import Batch, RawBatch


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
