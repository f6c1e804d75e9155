"""Pairs of images of one size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from n2n.data.batch import RawBatch
from n2n.data.stores.base import Store
from n2n.errors import InputError


@dataclass(eq=False)
class PairStore(Store):
    """Pairs of uint8 images, all of one size, usually memory-mapped.

    Args:
        first: a noisy view of each image, N×C×H×W uint8.
        second: another noisy view, of the same shape, or None.
        clean: the clean images, of the same shape, or None.
        remarks: lines for the user on the origin of the images.

    Raises:
        InputError: if they are not uint8 N×C×H×W of one shape, or empty.
    """

    first: Tensor
    second: Tensor | None
    clean: Tensor | None = None
    remarks: Sequence[str] = ()

    range = (0.0, 255.0)
    dtype = "uint8"

    def __post_init__(self) -> None:
        for tensor in self._images:
            if tensor.dtype != torch.uint8 or tensor.ndim != 4 or tensor.numel() == 0:
                raise InputError(f"expected uint8 images N×C×H×W, got {tensor.dtype} of shape {tuple(tensor.shape)}")
            if tensor.shape != self.first.shape:
                raise InputError(f"the two views differ in shape: {tuple(self.first.shape)} and {tuple(tensor.shape)}")
        # Indices on the images' device, so that the host is not needed to cut a batch.
        self.index_device = self.first.device
        self.resident = self.first.device.type != "cpu"

    @property
    def _images(self) -> list[Tensor]:
        return [images for images in (self.first, self.second, self.clean) if images is not None]

    @property
    def nbytes(self) -> int:
        """Size in bytes of all images."""
        return sum(images.nbytes for images in self._images)

    def to(self, device: torch.device) -> PairStore:
        """Copy the images to a device."""
        second, clean = (x if x is None else x.to(device) for x in (self.second, self.clean))
        return PairStore(self.first.to(device), second, clean, self.remarks)

    def __len__(self) -> int:
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
        second, clean = (x if x is None else x[indices] for x in (self.second, self.clean))
        return RawBatch(self.first[indices], second, clean, seed)
