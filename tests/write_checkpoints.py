"""Checkpoints without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from n2n.backbones.spec import describe


def write_checkpoint(path: str, backbone: nn.Module | str, channels: int = 3, **images: Any) -> Path:
    """Write what ``n2n fit`` leaves of a network; a name is that of a class without arguments."""
    spec = {"class_path": backbone} if isinstance(backbone, str) else describe(backbone)
    weights = {} if isinstance(backbone, str) else backbone.state_dict()
    content = {
        "hyper_parameters": {"backbone": spec},
        "state_dict": {f"backbone.{name}": value for name, value in weights.items()},
        "n2n": {"image_channels": channels, **images},
    }
    torch.save(content, path)
    return Path(path)
