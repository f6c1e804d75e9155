"""How far a network looks, and on which grid: measured, because a backbone can be any module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# Sides of the images that are probed, in pixels. Beyond half the largest a network counts as global.
_SIDES = (64, 128, 256, 512)
_STRIDES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class ReceptiveField:
    """What tiles must know about a network.

    Attributes:
        margin: pixels from the edge of a tile within which the output depends on what lies outside the tile, for tiles on
            the network's grid; None if all of it does.
        stride: moving the image by this many pixels moves the output and changes nothing else.
    """

    margin: int | None
    stride: int


@torch.no_grad()
def measure(forward: Callable[[Tensor], Tensor], channels: int, device: torch.device) -> ReceptiveField:
    """Measure a network's receptive field.

    Args:
        forward: the network, N×C×H×W to the same shape.
        channels: C.
        device: of the network.
    """
    margin = _margin(forward, channels, _SIDES[0], device)
    if margin is None:
        # Over thin images first, which cost little: a network looks there at least as far as it says, and often farther in
        # square ones. What they leave open is told by the smallest square that can.
        least = _reach(forward, channels, _SIDES[-1], _SIDES[0], device)
        for side in _SIDES[1:]:
            if margin is None and least is not None and least < side // 2:
                margin = _margin(forward, channels, side, device)
    return ReceptiveField(margin, _stride(forward, channels, margin, device) if margin is not None else _STRIDES[-2])


def _margin(forward: Callable[[Tensor], Tensor], channels: int, side: int, device: torch.device) -> int | None:
    return _reach(forward, channels, side, side, device)


def _reach(
    forward: Callable[[Tensor], Tensor], channels: int, side: int, across: int, device: torch.device
) -> int | None:
    """Put NaN into one half of an image, four ways; it spreads through every layer exactly as far as the weights reach.

    Unlike gradients or finite changes, NaN is not hidden by weights or activations that happen to be zero.

    Args:
        forward: the network.
        channels: C.
        side: pixels along the axis that is halved.
        across: pixels along the other.
        device: of the network.

    Returns:
        Lines of the other half that NaN reached, the most of the four; None if it reached all of them.
    """
    half, most = side // 2, 0
    for axis in (2, 3):
        probe = torch.zeros(2, channels, *((side, across) if axis == 2 else (across, side)), device=device)
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


def _stride(forward: Callable[[Tensor], Tensor], channels: int, margin: int, device: torch.device) -> int:
    generator = torch.Generator().manual_seed(0)
    reach = -(-(margin + _STRIDES[-2]) // 16) * 16
    side = 2 * reach + 32
    image = torch.rand(1, channels, side, side, generator=generator).to(device)
    inner = (..., slice(reach, -reach), slice(reach, -reach))
    whole = forward(image)[inner]

    def keeps(stride: int) -> bool:
        # Rolled, so that the size stays; what comes in at the edges does not reach the inner part.
        moved = forward(image.roll((-stride, -stride), (-2, -1))).roll((stride, stride), (-2, -1))[inner]
        return float((moved - whole).abs().max()) <= 1e-4 * float(whole.abs().max())

    if keeps(1):
        return 1
    # What moves with a stride moves with its multiples: from the largest down to the first that fails.
    found = _STRIDES[-1]
    for stride in _STRIDES[-2:0:-1]:
        if not keeps(stride):
            break
        found = stride
    return found
