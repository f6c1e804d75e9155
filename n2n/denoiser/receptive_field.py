"""Measurement of the receptive field and the stride of a network, because a backbone can be any module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# Sides, in pixels, of the probe images. A network that sees farther than half the largest counts as global.
_SIDES = (64, 128, 256, 512)
_STRIDES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class ReceptiveField:
    """The receptive field of a network.

    Attributes:
        margin: for tiles on the network's grid, the output depends on pixels outside the tile only within this many pixels of
            the tile's edge; None if all of the output depends on them.
        stride: the grid of the network, in pixels. An image that is moved by this much gives the same output, moved as much.
    """

    margin: int | None
    stride: int


@torch.no_grad()
def measure(forward: Callable[[Tensor], Tensor], channels: int) -> ReceptiveField:
    """Measure the receptive field of a network on the CPU that maps N×C×H×W to the same shape, C = ``channels``."""
    margin = _reach(forward, channels, _SIDES[0], _SIDES[0])
    if margin is None:
        # Thin images are cheap and give a lower bound of the margin. Then probe the smallest square that can contain it.
        least = _reach(forward, channels, _SIDES[-1], _SIDES[0])
        for side in _SIDES[1:]:
            if margin is None and least is not None and least < side // 2:
                margin = _reach(forward, channels, side, side)
    return ReceptiveField(margin, _stride(forward, channels, margin) if margin is not None else _STRIDES[-2])


def _reach(forward: Callable[[Tensor], Tensor], channels: int, side: int, across: int) -> int | None:
    """Return how far NaN in one half of an image, side×across pixels, spreads into the other half; None if it reaches its end.

    The result is the largest number of lines over all four halves. Unlike gradients or finite changes, NaN is not hidden by
    weights or activations that are zero.
    """
    half, most = side // 2, 0
    for axis in (2, 3):
        probe = torch.zeros(2, channels, *((side, across) if axis == 2 else (across, side)), device="cpu")
        probe[0].narrow(axis - 1, 0, half).fill_(torch.nan)
        probe[1].narrow(axis - 1, half, half).fill_(torch.nan)
        lines = forward(probe).isnan().any(dim=1).any(dim=4 - axis)
        # From the middle downwards or to the right, and upwards or to the left.
        for reached in (lines[0, half:], lines[1, :half].flip(0)):
            if reached.any():
                most = max(most, int(reached.nonzero().max()) + 1)
        if most == half:
            return None
    return most


def _stride(forward: Callable[[Tensor], Tensor], channels: int, margin: int) -> int:
    generator = torch.Generator().manual_seed(0)
    reach = -(-(margin + _STRIDES[-2]) // 16) * 16
    side = 2 * reach + 32
    image = torch.rand(1, channels, side, side, generator=generator, device="cpu")
    inner = (..., slice(reach, -reach), slice(reach, -reach))
    whole = forward(image)[inner]

    def keeps(stride: int) -> bool:
        # Rolling keeps the size. The pixels that come in at the edges do not reach the inner part.
        moved = forward(image.roll((-stride, -stride), (-2, -1))).roll((stride, stride), (-2, -1))[inner]
        return float((moved - whole).abs().max()) <= 1e-4 * float(whole.abs().max())

    if keeps(1):
        return 1
    # If a stride keeps the output, so do its multiples. Try the largest first.
    found = _STRIDES[-1]
    for stride in _STRIDES[-2:0:-1]:
        if not keeps(stride):
            break
        found = stride
    return found
