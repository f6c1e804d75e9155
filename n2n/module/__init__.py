"""The LightningModule that trains, validates, tests and predicts."""

from n2n.module.denoising import DenoisingModule

__all__ = ["DenoisingModule"]
