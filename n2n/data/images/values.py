"""Mapping of an image file's values to [0, 1], the range of the network, and back."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_unit(images: Tensor, low: float, high: float) -> Tensor:
    """Map values to float32, so that ``low`` becomes 0 and ``high`` becomes 1; nothing is clipped.

    The distance from ``low`` is exact to float32 even where ``low`` itself is too large for float32 to resolve the range.

    Args:
        images: of any shape, floats or integers of at most 16 bits.
        low: the value that becomes 0.
        high: the value that becomes 1.
    """
    span = high - low
    if images.dtype == torch.uint8 and not low:
        return images / span  # one pass over the memory instead of three, and the same numbers
    if images.dtype == torch.float64:
        return (images - low).div_(span).float()
    near, rest = _two_floats(low)
    images = images.float()
    # Not in place: float32 images are still the caller's memory here.
    images = images - near if near else images
    images = images - rest if rest else images
    return images / span


def from_unit(
    images: Tensor, low: float, high: float, dtype: torch.dtype, limits: tuple[float, float] | None = None
) -> Tensor:
    """Map [0, 1] back to ``low`` to ``high``, the inverse of :func:`to_unit`.

    Integers are rounded and clipped, floats are neither.

    Args:
        images: float32, of any shape.
        low: the value that 0 becomes.
        high: the value that 1 becomes.
        dtype: of the result. float64 is computed in float64, which Apple GPUs do not have.
        limits: least and largest value of integers; by default those of the dtype.
    """
    if dtype == torch.float64:
        values = images.double().mul_(high - low).add_(low)
    else:
        near, rest = _two_floats(low)
        values = images * (high - low)
        values = (values.add_(rest) if rest else values).add_(near)
    if dtype.is_floating_point:
        return values.to(dtype)
    least, most = limits or (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
    return values.round_().clamp_(least, most).to(dtype)


def _two_floats(value: float) -> tuple[float, float]:
    """Return the float32 that is nearest to a value, and what is left, so that their sum is exact to about 48 bits."""
    near = float(np.float32(value))
    return near, value - near
