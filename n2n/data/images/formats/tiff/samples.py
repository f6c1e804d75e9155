"""Conversion of the samples that a TIFF file stores for a pixel to channels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile

from n2n.data.images.base import Array
from n2n.data.images.formats.lookup import is_lookup_table
from n2n.errors import InputError

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_JPEG = 7  # its decoder returns RGB
_ALPHA = (1, 2)
_UINT8: np.dtype[Any] = np.dtype(np.uint8)


class Samples(NamedTuple):
    """The samples of a pixel, as in :class:`n2n.data.images.ImageReader`.

    Attributes:
        convert: maps rows×W×stored samples to rows×W×(C + extra).
        palette: as in :class:`n2n.data.images.Metadata`.
    """

    channels: int
    extra: int
    dtype: np.dtype[Any]
    convert: Callable[[Array], Array] | None = None
    palette: Array | None = None


def find_samples(page: tifffile.TiffPage, stored: int, path: Path) -> Samples:
    """Find the channels of a page with a number of stored samples; raises InputError for pixels that n2n does not read."""
    assert page.dtype is not None
    dtype, photometric = page.dtype.newbyteorder("="), int(page.photometric)
    if photometric == _PALETTE:
        if page.colormap is None or stored != 1:
            raise InputError(f"{path} is damaged: a palette image without its palette")
        colours = np.asarray(page.colormap).T
        if is_lookup_table(colours, page.bitspersample):
            return Samples(1, 0, dtype, palette=colours)
        palette = (colours >> 8).astype(np.uint8)
        if (palette == palette[:, :1]).all():
            return Samples(1, 0, _UINT8, lambda index: palette[:, :1][index[..., 0].astype(np.uint16)])
        return Samples(3, 0, _UINT8, lambda index: palette[index[..., 0].astype(np.uint16)])
    if photometric == _CMYK:
        if stored < 4 or dtype.kind != "u":
            raise InputError(f"{path} holds {stored} inks of {dtype}, which n2n does not read: convert it to RGB")
        return Samples(3, stored - 4, dtype, _cmyk_to_rgb)
    if photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR):
        kind = getattr(page.photometric, "name", photometric)
        raise InputError(f"{path} holds {kind!s:.40} values, which n2n does not read: convert it to RGB or grey")
    if photometric == _YCBCR and int(page.compression) != _JPEG:
        raise InputError(f"{path} holds YCbCr values, which n2n reads in JPEG compression only: convert it to RGB")
    channels = stored
    if photometric in (_RGB, _YCBCR) and stored > 3:
        channels = 3
    elif page.extrasamples and page.extrasamples[-1] in _ALPHA and stored > 1:
        channels = stored - 1
    if dtype.kind == "b" or page.bitspersample == 1:
        white, on, off = int(photometric != _WHITE_IS_ZERO), np.uint8(255), np.uint8(0)
        return Samples(channels, stored - channels, _UINT8, lambda bits: np.where(bits == white, on, off))
    return Samples(channels, stored - channels, dtype)


def _cmyk_to_rgb(inks: Array) -> Array:
    """Convert CMYK as Pillow does, (1 − ink)·(1 − black); further samples are passed through."""
    top = np.iinfo(inks.dtype).max
    light = top - inks[..., :4].astype(np.uint64)
    rgb = (light[..., :3] * light[..., 3:] + top // 2) // top
    return np.concatenate([rgb.astype(inks.dtype), inks[..., 4:]], axis=2)
