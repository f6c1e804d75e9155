"""n2n: train a denoiser from noisy images alone (Noise2Noise), then denoise any image from the checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from n2n import backbones, data, losses, metrics, optimizers, schedules
    from n2n.data.datamodule import PairDataModule
    from n2n.denoiser import Denoiser
    from n2n.module import DenoisingModule

__version__ = "0.1.0"
__all__ = [
    "Denoiser",
    "DenoisingModule",
    "PairDataModule",
    "__version__",
    "backbones",
    "data",
    "losses",
    "metrics",
    "optimizers",
    "schedules",
]

_HOME = {
    "Denoiser": "n2n.denoiser",
    "DenoisingModule": "n2n.module",
    "PairDataModule": "n2n.data.datamodule",
}


def __dir__() -> list[str]:
    """Return the public names, for tab completion."""
    return sorted(__all__)


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that ``n2n --help`` and ``n2n predict`` do not wait for Lightning."""
    from importlib import import_module

    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in __all__:
        return import_module(f"n2n.{name}")
    raise AttributeError(f"module 'n2n' has no attribute {name!r}")
