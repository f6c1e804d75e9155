"""Pixels without data: which they are, and what the network sees in their place."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def find_gaps(samples: NDArray[Any], nodata: float | None) -> NDArray[np.bool_] | None:
    """Return where samples are NaN, infinite or ``nodata``; None if they are nowhere."""
    known: NDArray[np.bool_] | None = np.isfinite(samples) if samples.dtype.kind == "f" else None
    if nodata is not None:
        known = samples != nodata if known is None else known & (samples != nodata)
    return None if known is None or known.all() else ~known


def beside(nodata: float, dtype: np.dtype[Any]) -> float:
    """Return the integer next to ``nodata`` that an integer dtype can hold."""
    return nodata + 1 if nodata < np.iinfo(dtype).max else nodata - 1


def keep_gaps(before: NDArray[Any], after: NDArray[Any], gaps: NDArray[np.bool_], nodata: float | None) -> NDArray[Any]:
    """Return the values after a change, with those of the gaps from before; no integer becomes ``nodata`` by the change."""
    if nodata is not None and after.dtype.kind != "f":
        after = np.where(after == nodata, after.dtype.type(beside(nodata, after.dtype)), after)
    return np.where(gaps, before, after)


def nodata_value(text: object, dtype: np.dtype[Any]) -> float | None:
    """Return the value that means "no data", as a file states it; None if no sample of the dtype can have it, or for NaN."""
    try:
        value = float(str(text).strip("\0 \n"))
    except ValueError:
        return None
    if dtype.kind == "f":
        # Often the dtype's own limit, rounded.
        most = float(np.finfo(dtype).max)
        return float(dtype.type(max(-most, min(value, most)))) if abs(value) <= most * (1 + 1e-6) else None
    limits = np.iinfo(dtype)
    return value if value.is_integer() and limits.min <= value <= limits.max else None


def fill_gaps(images: Tensor) -> Tensor:
    """Replace NaN and infinity by the mean of the nearest other pixels, or by 0.5 where a channel has no others.

    The image is averaged to half its size again and again, without these, until a pixel has a value (the pull-push algorithm,
    Gortler et al. 1996, "The Lumigraph", section 3.4). So neighbours of a gap see values like their own.

    Args:
        images: N×C×H×W float32.
    """
    known = images.isfinite()
    return _pull_push(images.nan_to_num(0.0, 0.0, 0.0), known.to(images.dtype))


def _pull_push(images: Tensor, weights: Tensor) -> Tensor:
    """Fill pixels of weight 0; the others are 1, or between 0 and 1 for averages."""
    size = images.shape[-2:]
    if size == (1, 1):
        return torch.where(weights > 0, images, 0.5)
    # Weighted means of 2×2 pixels, of fewer at the ends of odd sides.
    total = F.avg_pool2d(weights, 2, ceil_mode=True)
    means = F.avg_pool2d(images * weights, 2, ceil_mode=True) / total.clamp(min=torch.finfo(total.dtype).tiny)
    smaller = _pull_push(means, (4 * total).clamp(max=1.0))
    return torch.where(weights > 0, images, F.interpolate(smaller, size=size, mode="bilinear", align_corners=False))
