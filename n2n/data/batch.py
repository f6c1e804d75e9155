"""Batches before and after they reach the device, and what is known about the images before the first one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from n2n.data.images.gaps import fill_gaps
from n2n.errors import InputError
from n2n.losses import Halves


class RawBatch(NamedTuple):
    """A batch as the store returns it: N×C×H×W in the files' dtype and range.

    Attributes:
        first: one noisy view of each image, or the images from which the store's ``draw`` makes views.
        second: another noisy view; None if there is none, or if ``draw`` makes it.
        clean: the clean images, if they are known.
        seed: seed of the random numbers that ``draw`` and augmentations use.
        scene: number of the scene that all images of the batch show; None if each image shows its own.
        training: whether the batch comes from the training store; the loader sets it.
    """

    first: Tensor
    second: Tensor | None
    clean: Tensor | None
    seed: int
    scene: int | None = None
    training: bool = False

    def map(self, change: Callable[[Tensor], Tensor]) -> RawBatch:
        """Return the batch with all its images changed."""
        second, clean = (x if x is None else change(x) for x in (self.second, self.clean))
        return self._replace(first=change(self.first), second=second, clean=clean)


class Batch(NamedTuple):
    """A batch on its device: float32, the images' range mapped to [0, 1], not clipped.

    Attributes:
        noisy: input of the network, N×C×H×W.
        target: another noisy view of the same images, or None.
        clean: the clean images, or None.
        halves: the images from which the pair was taken, for losses that need them; None if the pair is not half-size.
        independent: whether ``noisy`` and ``target`` differ by independent noise alone, as PSNR without clean images needs.
        scene: number of the scene that all images of the batch show; None if each image shows its own.
        gaps: whether NaN in the images means pixels without data, which do not count.
    """

    noisy: Tensor
    target: Tensor | None = None
    clean: Tensor | None = None
    halves: Halves | None = None
    independent: bool = True
    scene: int | None = None
    gaps: bool = False

    @property
    def known(self) -> Tensor:
        """Where all the images have data: N×1×H×W bool."""
        images = [image for image in (self.noisy, self.target, self.clean) if image is not None]
        return torch.stack([image.isfinite().all(1, keepdim=True) for image in images]).all(0)

    def around_network(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """Return what fills pixels without data before a network, and what takes the others of its output, to be measured.

        N×C×H×W -> 1×C×1×K. Without gaps, both change nothing.
        """
        if not self.gaps:
            return _all, _all
        known = self.known.squeeze(1)
        return fill_gaps, lambda images: images.movedim(1, -1)[known].T[None, :, None]


def _all(images: Tensor) -> Tensor:
    return images


def as_batch(batch: Batch | Tensor | Sequence[Tensor] | Mapping[str, Tensor]) -> Batch:
    """Return what a DataLoader yields as a :class:`Batch`.

    Args:
        batch: a Batch; noisy images alone; ``(noisy, target)`` or ``(noisy, target, clean)``; or a dict with these names.

    Raises:
        InputError: for anything else.
    """
    if isinstance(batch, Batch):
        return batch
    if isinstance(batch, Tensor):
        return _checked(Batch(batch))
    if isinstance(batch, Mapping) and "noisy" in batch and batch.keys() <= {"noisy", "target", "clean"}:
        return _checked(Batch(batch["noisy"], batch.get("target"), batch.get("clean")))
    if isinstance(batch, list | tuple) and 1 <= len(batch) <= 3:
        return _checked(Batch(*batch))
    raise InputError(
        f"the DataLoader yields a {type(batch).__name__}: expected noisy images, (noisy, target), (noisy, target, clean), or a "
        "dict with these names"
    )


def _checked(batch: Batch) -> Batch:
    for name, images in zip(("noisy", "target", "clean"), batch, strict=False):
        if images is None and name != "noisy":
            continue
        if not isinstance(images, Tensor):
            raise InputError(
                f"the DataLoader yields {name} images as {type(images).__name__}: expected a tensor N×C×H×W"
            )
        if images.ndim != 4 or not images.is_floating_point():
            # A data set that is given in place of a DataLoader yields single images.
            raise InputError(
                f"the DataLoader yields {name} images of shape {tuple(images.shape)} and {images.dtype}: expected a batch "
                "N×C×H×W of floats in [0, 1], as torch.utils.data.DataLoader makes it of a data set"
            )
    return batch


class ImageInfo(NamedTuple):
    """What is known about the images before the first batch.

    Attributes:
        shape: C, H, W of the network's input; of the first image if they differ in size.
        range: values of the files that become 0 and 1.
        dtype: name of the files' NumPy dtype.
        suited_loss: import path of the loss that the targets need; None if any loss for zero-mean noise suits.
    """

    shape: tuple[int, int, int]
    range: tuple[float, float]
    dtype: str
    suited_loss: str | None = None


@runtime_checkable
class WantsImageInfo(Protocol):
    """A LightningModule that the data module tells about its images."""

    def set_images(self, images: ImageInfo) -> None:
        """Receive what is known about the images; called in the data module's ``setup``."""
