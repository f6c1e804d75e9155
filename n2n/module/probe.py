"""Tries a network on one image before the training starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from n2n.errors import InputError, reason
from n2n.system.hardware import is_out_of_memory
from n2n.system.torch_files import STORED_DTYPES


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode; afterwards each of its modules gets its own mode back."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def device_of(network: nn.Module) -> torch.device:
    """Return the device of a network's weights; the CPU if it has none."""
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))


def is_constant(network: nn.Module, shape: tuple[int, int, int]) -> bool:
    """Whether a network's output hardly depends on its input, so that it is the same for noise and for a black image.

    Args:
        network: maps N×C×H×W to the same shape.
        shape: C, H, W of the images.
    """
    noise = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)).to(device_of(network))
    with torch.no_grad(), evaluating(network):
        difference = network(noise) - network(torch.zeros_like(noise))
    # A thousandth of the range is less than half a grey level of 8 bits.
    return bool(difference.abs().max() < 1e-3)


def probe(network: nn.Module, shape: tuple[int, int, int]) -> None:
    """Run a network on one black image, on the device where its weights are.

    Args:
        network: maps N×C×H×W to the same shape.
        shape: C, H, W of the image.

    Raises:
        InputError: if the network cannot take it.
    """
    try:
        with torch.no_grad(), evaluating(network):
            network(torch.zeros(1, *shape, device=device_of(network)))
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        name = type(getattr(network, "backbone", network)).__name__
        raise InputError(
            f"the backbone {name} cannot take images of {shape[0]}×{shape[1]}×{shape[2]} "
            f"({reason(error)}): set its channels, or the source's, so that they agree"
        ) from error


def check_dtypes(network: nn.Module) -> None:
    """Refuse a network whose weights a checkpoint could not be read with.

    Raises:
        InputError: if there is one.
    """
    for name, weight in network.state_dict().items():
        if isinstance(weight, torch.Tensor) and weight.dtype not in STORED_DTYPES:
            raise InputError(
                f"the backbone's {name} is {weight.dtype}, which checkpoints of n2n do not hold: expected one of "
                f"{', '.join(str(dtype).removeprefix('torch.') for dtype in STORED_DTYPES)}"
            )
