"""Images of formats that are encoded as a whole."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from n2n.data.images.base import Array, ImageReader


def join_strips(like: ImageReader, strips: Iterator[Array]) -> Array:
    """Return all strips of an image as one array, pages×H×W×(C + extra)."""
    pixels = np.empty((like.pages, like.height, like.width, like.channels + like.extra), like.dtype)
    rows, top = pixels.reshape(-1, *pixels.shape[2:]), 0
    for strip in strips:
        rows[top : top + len(strip)] = strip
        top += len(strip)
    return pixels
