"""From sRGB to the sensor's linear colours and back, after Brooks et al. 2019 (arXiv:1811.11127)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from n2n.system.hardware import constant

# From XYZ to the colours of four cameras, and from linear sRGB to XYZ, as in the code of Brooks et al.
_XYZ_TO_CAMERA = (
    ((1.0234, -0.2969, -0.2266), (-0.5625, 1.6328, -0.0469), (-0.0703, 0.2188, 0.6406)),
    ((0.4913, -0.0541, -0.0202), (-0.6130, 1.3513, 0.2906), (-0.1564, 0.2151, 0.7183)),
    ((0.8380, -0.2630, -0.0639), (-0.2887, 1.0725, 0.2496), (-0.0627, 0.1427, 0.5438)),
    ((0.6596, -0.2079, -0.0562), (-0.4782, 1.3016, 0.1933), (-0.0970, 0.1581, 0.5181)),
)
_RGB_TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
# Linear brightness from which highlights are saturated more and more.
_INFLECTION = 0.9


@dataclass(frozen=True)
class Colours:
    """How one camera renders colours, for each of N images.

    Attributes:
        to_camera: matrices from linear sRGB to the sensor's colours, N×3×3; None for a monochrome sensor.
        gains: factors of the channels, white balance and brightness in one, N×C×1×1.
        curved: whether the tone curve is applied, N×1×1×1.
    """

    to_camera: Tensor | None
    gains: Tensor
    curved: Tensor


def camera_matrices(weights: Tensor, strength: Tensor) -> Tensor:
    """Mix four cameras' colour matrices: weights N×4, strength N×1×1 from 0 (none) to 1 -> N×3×3, rows of sum 1."""
    cameras = constant(_XYZ_TO_CAMERA, weights.device)
    mixed = torch.einsum("nk,kij->nij", weights, cameras) @ constant(_RGB_TO_XYZ, weights.device)
    mixed = mixed / mixed.sum(-1, keepdim=True)
    return torch.lerp(torch.eye(3, device=weights.device), mixed, strength)


def unprocess(images: Tensor, colours: Colours) -> Tensor:
    """Undo tone curve, gamma, colour matrix and gains: sRGB in [0, 1] -> the sensor's linear light, N×C×H×W.

    Highlights keep their brightness instead of being divided by the gains, so that they saturate when they are multiplied
    again (Brooks et al., section 3.4). Elsewhere :func:`process` is the inverse.
    """
    images = images.clamp(0, 1)
    images = torch.where(colours.curved, 0.5 - torch.sin(torch.asin(1 - 2 * images) / 3), images)
    linear = torch.where(images <= 0.04045, images / 12.92, ((images + 0.055) / 1.055).clamp(min=0) ** 2.4)
    if colours.to_camera is not None:
        linear = torch.einsum("nij,njhw->nihw", colours.to_camera, linear)
    saturated = ((linear.mean(1, keepdim=True) - _INFLECTION).clamp(min=0) / (1 - _INFLECTION)) ** 2
    factors = 1 / colours.gains
    return linear * torch.maximum(saturated + (1 - saturated) * factors, factors)


def process(linear: Tensor, colours: Colours) -> Tensor:
    """Apply gains, colour matrix, sRGB's gamma (IEC 61966-2-1) and the tone curve 3x² - 2x³: linear light -> sRGB in [0, 1]."""
    linear = (linear * colours.gains).clamp(max=1)
    if colours.to_camera is not None:
        back, _ = torch.linalg.inv_ex(colours.to_camera)
        linear = torch.einsum("nij,njhw->nihw", back, linear)
    linear = linear.clamp(0, 1)
    images = torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return torch.where(colours.curved, images * images * (3 - 2 * images), images)
