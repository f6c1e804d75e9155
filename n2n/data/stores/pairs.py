"""Pairs of images of one size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from n2n.data.batch import RawBatch
from n2n.data.cache import Kept
from n2n.data.stores.base import Draw
from n2n.errors import InputError


class PairStore:
    """Pairs of uint8 images, all of one size, usually memory-mapped.

    Args:
        first: a noisy view of each image, N×C×H×W uint8.
        second: another noisy view, of the same shape, or None.
        clean: the clean images, of the same shape, or None.
        remarks: lines for the user on the origin of the images.

    Raises:
        InputError: if they are not uint8 N×C×H×W of one shape, or empty.
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
        # Indices on the images' device, so that the host is not needed to cut a batch.
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
        """Open cached views, V×N×C×H×W; if ``clean``, the last of them is the clean one."""
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
