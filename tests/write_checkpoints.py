"""Checkpoints without training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from n2n.backbones import ModelFinal
from n2n.backbones.spec import describe


def _one_layer(kernel: Tensor, channels: int) -> nn.Module:
    """Build a network that filters each channel by a 3×3 kernel, and does nothing else."""
    # A slope of 1 makes the activation the identity.
    network = ModelFinal(channels, widths=(), bias=False, negative_slope=1.0)
    network.load_state_dict({"layers.0.weight": torch.eye(channels)[:, :, None, None] * kernel})
    return network


def same(channels: int) -> nn.Module:
    """Build a network of n2n that changes nothing."""
    kernel = torch.zeros(3, 3)
    kernel[1, 1] = 1.0
    return _one_layer(kernel, channels)


def mean(channels: int) -> nn.Module:
    """Build a network of n2n that takes the mean of 3×3 pixels."""
    return _one_layer(torch.full((3, 3), 1 / 9), channels)


def write_checkpoint(
    path: str, backbone: nn.Module | Callable[[int], nn.Module], channels: int = 3, **images: Any
) -> Path:
    """Write what ``n2n fit`` leaves of a network, or of one that a function makes for a number of channels."""
    network = backbone if isinstance(backbone, nn.Module) else backbone(channels)
    content = {
        "pytorch-lightning_version": "2.6.0",
        "hyper_parameters": {"backbone": describe(network)},
        "state_dict": {f"backbone.{name}": value for name, value in network.state_dict().items()},
        "n2n": {"image_channels": channels, **images},
    }
    torch.save(content, path)
    return Path(path)
