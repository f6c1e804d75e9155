"""Sizes of networks that mean something."""

from __future__ import annotations

from torch import nn

from n2n.errors import InputError


def at_least_one(network: nn.Module, **sizes: int) -> None:
    """Refuse sizes below 1, by which torch builds layers that hold nothing, or fails without a name.

    Args:
        network: that has the sizes.
        **sizes: by the names of its arguments.

    Raises:
        InputError: naming the first.
    """
    for name, size in sizes.items():
        if size < 1:
            raise InputError(f"{type(network).__name__}'s {name} is {size}: expected at least 1")
