"""Augmentations: random changes of the training views, on their device, new ones at each step."""

# No postponed annotations, for the same reason as in n2n.data.corruption.base.

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from n2n.data.batch import Batch
from n2n.errors import InputError


# Not a Protocol, for the same reason as Corruption.
class Augmentation(ABC):
    """Base class of augmentations. After each, the two views still show one image with independent noise.

    To add your own, inherit from this class. It is chosen by its import path (``class_path``).

    Attributes:
        needs_noisy_target: whether the target must be a noisy view, because input and target are exchanged.
    """

    needs_noisy_target: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return a changed batch; the tensors of the given one stay as they are.

        Args:
            batch: ``noisy`` and ``target``, N×C×H×W in [0, 1]; ``clean`` is None.
            generator: generator of the random numbers, on the device of the batch.
        """


def _on_both(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    assert batch.target is not None
    return batch._replace(noisy=change(batch.noisy), target=change(batch.target))


def _coins(images: Tensor, generator: torch.Generator, *sizes: int) -> Tensor:
    """Toss a coin for each image, N×1×1×1, or for each pixel if H and W are given."""
    shape = (len(images), 1, *(sizes or (1, 1)))
    return torch.rand(shape, generator=generator, device=images.device) < 0.5


class FlipsAndRotations(Augmentation):
    """Flips and rotates each image by quarter turns, with equal probability; images that are not square are only flipped.

    Sources that cut patches (captures, stacks, clean images) already do so; the course's files need it.
    """

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Flip and rotate both views alike."""
        noisy, target = batch.noisy, batch.target
        assert target is not None
        turns: list[Callable[[Tensor], Tensor]] = [lambda x: x.flip(-1), lambda x: x.flip(-2)]
        if noisy.shape[-1] == noisy.shape[-2]:
            turns.append(lambda x: x.transpose(-1, -2))
        for turn in turns:
            # With where instead of an index, the host does not wait for the number of turned images.
            coins = _coins(noisy, generator)
            noisy, target = torch.where(coins, turn(noisy), noisy), torch.where(coins, turn(target), target)
        return batch._replace(noisy=noisy, target=target)


class ChannelShuffle(Augmentation):
    """Permutes the channels of each image at random; grey images stay as they are."""

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Permute the channels of both views alike."""
        N, C = batch.noisy.shape[:2]
        orders = torch.rand((N, C), generator=generator, device=batch.noisy.device).argsort(dim=1)[:, :, None, None]
        return _on_both(batch, lambda x: x.gather(1, orders.expand_as(x)))


class Grey(Augmentation):
    """Makes some images grey: one channel, chosen at random, takes the place of all.

    Noise and image are then the same in all channels, as in a grey image that a network of several channels gets. Images of
    one channel stay as they are.

    Args:
        p: chance of an image to become grey.

    Raises:
        InputError: unless ``p`` is from 0 to 1.
    """

    def __init__(self, p: float = 0.25) -> None:
        if not 0 <= p <= 1:
            raise InputError(f"Grey's p is {p}: expected a chance from 0 to 1")
        self.p = p

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Repeat the same channel of both views."""
        N, C = batch.noisy.shape[:2]
        chances, places = torch.rand((2, N, 1), generator=generator, device=batch.noisy.device)
        chosen = torch.where(chances < self.p, (places * C).long(), torch.arange(C, device=batch.noisy.device))
        order = chosen[:, :, None, None]
        return _on_both(batch, lambda x: x.gather(1, order.expand_as(x)))


class Contrast(Augmentation):
    """Multiplies the contrast of each image by a random factor, and shifts its brightness within [0, 1].

    Views in [0, 1] stay in it, and noise with zero mean keeps zero mean. The noise is multiplied by the same factor, so the
    network also learns weaker noise than that of the images.

    Args:
        least: the smallest factor, above 0, at most 1.
        invert: whether half of the images, at random, become negatives.

    Raises:
        InputError: if ``least`` is out of range.
    """

    def __init__(self, least: float = 0.5, invert: bool = True) -> None:
        if not 0 < least <= 1:
            raise InputError(f"Contrast's least is {least}: expected a factor above 0, at most 1")
        self.least, self.invert = least, invert

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Map both views alike."""
        noisy = batch.noisy
        chances = torch.rand((2, len(noisy), 1, 1, 1), generator=generator, device=noisy.device)
        factors = self.least + (1 - self.least) * chances[0]
        lowest = chances[1] * (1 - factors)
        if self.invert:
            inverted = _coins(noisy, generator)
            factors, lowest = torch.where(inverted, -factors, factors), torch.where(inverted, 1 - lowest, lowest)
        return _on_both(batch, lambda x: torch.addcmul(lowest, x, factors))


class PairSwap(Augmentation):
    """Exchanges input and target of half of the pairs, at random."""

    needs_noisy_target = True

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Swap the views of some pairs."""
        return _exchange(batch, _coins(batch.noisy, generator))


class PixelExchange(Augmentation):
    """Exchanges half of the pixels between the two views, at random, all channels of a pixel together.

    Any such mixture is again a view of the same scene with zero-mean noise, so a pair gives 2^(H·W) pairs. The noise must be
    independent from pixel to pixel: otherwise the input shows a part of the target's noise.
    """

    needs_noisy_target = True

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Exchange pixels."""
        return _exchange(batch, _coins(batch.noisy, generator, *batch.noisy.shape[-2:]))


def _exchange(batch: Batch, where: Tensor) -> Batch:
    assert batch.target is not None
    noisy = torch.where(where, batch.target, batch.noisy)
    return batch._replace(noisy=noisy, target=torch.where(where, batch.noisy, batch.target))
