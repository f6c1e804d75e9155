"""Padding images of any size for networks that halve the resolution several times."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def on_multiples(step: int, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a network that needs H and W to be multiples of ``step`` to images of any size.

    Other images are padded at the bottom and on the right by repeating the last row and column, and the output is cropped: so
    the network's grid starts at the first pixel, as tiles expect.

    Args:
        step: in pixels.
        network: maps N×C×H×W to the same shape if H and W are multiples of ``step``.
        x: N×C×H×W, H and W at least 1.
    """
    H, W = x.shape[-2:]
    # The exporter can prove these sizes for all H and W. An exported graph has no branches, so it always pads.
    bottom, right = step * ((H + step - 1) // step) - H, step * ((W + step - 1) // step) - W
    if not (torch.compiler.is_exporting() or bottom or right):
        return network(x)
    return F.pad(network(F.pad(x, (0, right, 0, bottom), mode="replicate")), (0, -right, 0, -bottom))
