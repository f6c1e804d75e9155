"""A trained network, applied to images of any size."""

from n2n.denoiser.denoiser import Denoiser

__all__ = ["Denoiser"]
