"""More from the same pairs: what is changed in a batch of training views, on their device, anew at each step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from n2n.data.batch import Batch
from n2n.errors import InputError


# Not a Protocol, for the reason that Corruption is none.
class Augmentation(ABC):
    """Changes the views of a training batch so that they are still views of one image with independent noise.

    A class of your own inherits from this one and is chosen by its import path (``class_path``).

    Attributes:
        needs_noisy_target: whether the target must be a noisy view; a clean one cannot take its part.
    """

    needs_noisy_target: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Change a batch; its images are left as they are.

        Args:
            batch: noisy and target, N×C×H×W; none of its other images is there.
            generator: of the random numbers, on the device of the batch.
        """


def _on_both(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    assert batch.target is not None
    return batch._replace(noisy=change(batch.noisy), target=change(batch.target))


def _coins(images: Tensor, generator: torch.Generator, *sizes: int) -> Tensor:
    """Toss a coin for each image, N×1×1×1, or for each pixel if H and W are given."""
    shape = (len(images), 1, *(sizes or (1, 1)))
    return torch.rand(shape, generator=generator, device=images.device) < 0.5


class FlipsAndRotations(Augmentation):
    """Turns each image into one of its eight orientations, each as likely; four of them where it is not square.

    Sources that cut patches (captures, stacks, clean images) do so already; pairs of one size, such as the course's, they do
    not.
    """

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Turn both views alike."""
        noisy, target = batch.noisy, batch.target
        assert target is not None
        turns: list[Callable[[Tensor], Tensor]] = [lambda x: x.flip(-1), lambda x: x.flip(-2)]
        if noisy.shape[-1] == noisy.shape[-2]:
            turns.append(lambda x: x.transpose(-1, -2))
        for turn in turns:
            # Chosen by where, not by index: a GPU need not wait to know how many there are.
            coins = _coins(noisy, generator)
            noisy, target = torch.where(coins, turn(noisy), noisy), torch.where(coins, turn(target), target)
        return batch._replace(noisy=noisy, target=target)


class ChannelShuffle(Augmentation):
    """Puts the channels of each image into an order of its own, each as likely; grey images stay as they are."""

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Order the channels of both views alike."""
        N, C = batch.noisy.shape[:2]
        orders = torch.rand((N, C), generator=generator, device=batch.noisy.device).argsort(dim=1)[:, :, None, None]
        return _on_both(batch, lambda x: x.gather(1, orders.expand_as(x)))


class Contrast(Augmentation):
    """Lowers each image's contrast by a factor of its own, and moves its brightness within what that leaves.

    Views in [0, 1] stay there, and noise of zero mean keeps it. But it is weaker by the same factor, so that the network also
    learns weaker noise than the images have.

    Args:
        least: the smallest factor, up to 1.
        invert: whether every other image, at random, becomes its negative.

    Raises:
        InputError: if ``least`` is out of bounds.
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
    """Exchanges input and target of every other pair, at random: each view is denoised in turn."""

    needs_noisy_target = True

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Swap the views of some pairs."""
        assert batch.target is not None
        return _exchange(batch, _coins(batch.noisy, generator))


class PixelExchange(Augmentation):
    """Exchanges every other pixel between the two views, at random and all its channels together.

    Any mixture of the two is again a view with the same noise, so that a pair becomes 2^(H·W). Only for noise that is
    independent from pixel to pixel: of correlated noise, the input would show what the target's is.
    """

    needs_noisy_target = True

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Exchange pixels."""
        assert batch.target is not None
        return _exchange(batch, _coins(batch.noisy, generator, *batch.noisy.shape[-2:]))


def _exchange(batch: Batch, where: Tensor) -> Batch:
    assert batch.target is not None
    noisy = torch.where(where, batch.target, batch.noisy)
    return batch._replace(noisy=noisy, target=torch.where(where, batch.noisy, batch.target))
