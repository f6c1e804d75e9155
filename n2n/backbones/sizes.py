"""Checks of the sizes in arguments, and padding of images to multiples of a number of pixels."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from n2n.errors import InputError


def at_least_one(network: nn.Module, **sizes: int) -> None:
    """Raise InputError for an argument below 1. Without it torch builds empty layers, or fails without naming the argument."""
    for name, size in sizes.items():
        if size < 1:
            raise InputError(f"{type(network).__name__}'s {name} is {size}: expected at least 1")


def on_multiples(step: int, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a network that needs H and W to be multiples of ``step`` pixels to N×C×H×W of any size.

    Other images are padded at the bottom and on the right by repeating the last row and column, and the output is cropped. So
    the network's grid starts at the first pixel, as tiles expect.
    """
    H, W = x.shape[-2:]
    # The exporter can prove these sizes for all H and W. An exported graph has no branches, so it always pads.
    bottom, right = step * ((H + step - 1) // step) - H, step * ((W + step - 1) // step) - W
    if not (torch.compiler.is_exporting() or bottom or right):
        return network(x)
    return F.pad(network(F.pad(x, (0, right, 0, bottom), mode="replicate")), (0, -right, 0, -bottom))
