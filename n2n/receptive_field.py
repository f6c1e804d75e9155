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
    margin = None
    for side in _SIDES:
        margin = _margin(forward, channels, side, device)
        if margin is not None:
            break
    return ReceptiveField(margin, _stride(forward, channels, margin, device) if margin is not None else _STRIDES[-2])


def _margin(forward: Callable[[Tensor], Tensor], channels: int, side: int, device: torch.device) -> int | None:
    """Put NaN into one half of an image, four ways; it spreads through every layer exactly as far as the weights reach.

    Unlike gradients or finite changes, NaN is not hidden by weights or activations that happen to be zero.
    """
    half = side // 2
    probe = torch.zeros(4, channels, side, side, device=device)
    probe[0, :, :half] = probe[1, :, half:] = probe[2, :, :, :half] = probe[3, :, :, half:] = torch.nan
    seen = forward(probe).isnan().any(dim=1)
    rows, columns = seen.any(dim=2), seen.any(dim=1)
    # Lines of the other half that NaN reached: from the middle downwards, upwards, to the right, to the left.
    reached = [rows[0, half:], rows[1, :half].flip(0), columns[2, half:], columns[3, :half].flip(0)]
    margins = [int(lines.nonzero().max()) + 1 if lines.any() else 0 for lines in reached]
    return max(margins) if max(margins) < half else None


def _stride(forward: Callable[[Tensor], Tensor], channels: int, margin: int, device: torch.device) -> int:
    generator = torch.Generator().manual_seed(0)
    for stride in _STRIDES[:-1]:
        reach = -(-(margin + stride) // 16) * 16
        side = 2 * reach + 32
        image = torch.rand(1, channels, side, side, generator=generator).to(device)
        inner = (..., slice(reach, -reach), slice(reach, -reach))
        whole = forward(image)[inner]
        # Rolled, so that the size stays; what comes in at the edges does not reach the inner part.
        moved = forward(image.roll((-stride, -stride), (-2, -1))).roll((stride, stride), (-2, -1))[inner]
        if float((moved - whole).abs().max()) <= 1e-4 * float(whole.abs().max()):
            return stride
    return _STRIDES[-1]
