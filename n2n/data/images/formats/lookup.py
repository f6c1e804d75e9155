"""Palettes that are lookup tables: they show intensities in false colours, so the indices are the values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Most of the way through all colours of a lookup table, as a multiple of that through 33 of them. Those of matplotlib have 1 to
# 1.5, palettes of photographs 2.4 to 11.
_MOST_DETOUR, _LEAST_COLOURS = 1.5, 16


def is_lookup_table(colours: NDArray[Any], bits: int) -> bool:
    """Whether a palette is a lookup table for intensities, as microscopes and ImageJ write them.

    Its colours change smoothly, so that every eighth of 256 entries tells nearly all. The colours of a picture that was reduced
    to a palette go to and fro.

    Args:
        colours: N×3.
        bits: of an index.
    """
    if bits not in (8, 16) or colours.shape != (2**bits, 3) or len(np.unique(colours, axis=0)) < _LEAST_COLOURS:
        return False
    path = colours.astype(np.float64)
    whole, coarse = (
        np.abs(np.diff(np.concatenate([path[::lag], path[-1:]]), axis=0)).sum() for lag in (1, len(path) // 32)
    )
    return bool(whole <= _MOST_DETOUR * coarse)
