"""Checking the sizes in the arguments of networks."""

from __future__ import annotations

from torch import nn

from n2n.errors import InputError


def at_least_one(network: nn.Module, **sizes: int) -> None:
    """Raise InputError for a size below 1, with which torch would build empty layers, or fail without naming it.

    Args:
        network: the network that has the sizes.
        **sizes: its arguments.
    """
    for name, size in sizes.items():
        if size < 1:
            raise InputError(f"{type(network).__name__}'s {name} is {size}: expected at least 1")
