"""What a batch of pairs is, before and after it reaches its device."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


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
