"""Resampling and smoothing as matrices, one for the rows and one for the columns, with parameters of its own for each image."""

from __future__ import annotations

import torch
from torch import Tensor


def apply(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Apply a separable linear filter: images N×C×H×W, rows N×H'×H and columns N×W'×W -> N×C×H'×W'."""
    return rows.unsqueeze(1) @ images @ columns.unsqueeze(1).mT


def resampling(scale: Tensor, given: int, wanted: int) -> Tensor:
    """Resample with the bicubic kernel of Keys 1981, widened where it makes images smaller, as Pillow does.

    The centres of both grids coincide. Beyond the edges the image is reflected.

    Args:
        scale: pixels of the wanted grid for each pixel of the given one, N×1×1.
        given: length of the given grid.
        wanted: length of the wanted grid.

    Returns:
        N×wanted×given; each row has the sum 1.
    """
    centre = (given - 1) / 2
    places = (torch.arange(wanted, device=scale.device)[:, None] - (wanted - 1) / 2) / scale + centre
    # Reflected at the last pixel, then at the first.
    places = (given - 1 - (given - 1 - places.abs()).abs()).clamp(0, given - 1)
    far = ((torch.arange(given, device=scale.device) - places) * scale.clamp(max=1)).abs()
    near = (1.5 * far - 2.5) * far * far + 1
    outer = ((-0.5 * far + 2.5) * far - 4) * far + 2
    weights = torch.where(far < 1, near, torch.where(far < 2, outer, 0.0))
    return weights / weights.sum(-1, keepdim=True)


def gaussian(sigma: Tensor, length: int) -> Tensor:
    """Smooth with a Gaussian: sigma in pixels, N×1×1 -> N×length×length; 0 changes nothing. Each row has the sum 1."""
    places = torch.arange(length, device=sigma.device)
    # Numbers below e^-80 would be denormal, which are slow.
    profile = torch.exp((-places.square() / (2 * sigma.clamp(min=0.1).square())).clamp(min=-80))
    weights = profile[:, 0, (places - places[:, None]).abs()]
    return weights / weights.sum(-1, keepdim=True)
