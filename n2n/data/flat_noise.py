"""The noise of one image, measured where it is flat, at several brightnesses."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from n2n.data.noise import BINS, BLOCK, LOW, REST, TRANSFORM, correlation
from n2n.data.value_range import ValueRange

# Of a large image, _MOST to twice as many blocks are kept, with at most _CHANNELS channels each.
_MOST, _CHANNELS = 4096, 3
# Blocks with a larger part of clipped values are left out.
_CLIPPED = 0.2
# At each brightness, this part of the blocks counts as flat, and at least _LEAST blocks. Brightnesses with fewer than _BLOCKS
# blocks are not judged, and no image with fewer than _FLAT flat blocks in all.
_PART, _LEAST, _BLOCKS, _FLAT = 0.05, 16, 160, 32
# Texture varies from block to block, noise does not. Limits for noise: the standard deviation of the blocks' energies, beyond
# that of chance, relative to their mean; and the energy of the next flattest blocks relative to that of the flattest.
_SPREAD, _GROWTH = 0.35, 1.3


class NoiseLevel(NamedTuple):
    """Noise at one brightness.

    Attributes:
        place: which brightness, from 0 (dark) on.
        flat: number of flat blocks.
        sigma: standard deviation, 1 for the range from black to white.
        neighbours: correlation of neighbouring pixels, -1 to 1.
        left: sigma of the same blocks after denoising, relative to ``sigma``.
    """

    place: int
    flat: int
    sigma: float
    neighbours: float
    left: float


class BlockSample:
    """Keeps a few thousand blocks of an image that passes by, evenly spread."""

    def __init__(self, scale: ValueRange) -> None:
        self._scale = scale
        self._kept: list[NDArray[Any]] = []
        # Every _step-th block is kept; _count blocks came so far, and _size are kept.
        self._step, self._count, self._size = 1, 0, 0

    def add(self, noisy: NDArray[Any], denoised: NDArray[Any], gaps: NDArray[np.bool_] | None) -> None:
        """Add the next rows, H×W×C, before and after the denoising; ``gaps`` says which values have no data."""
        H, W = (side // BLOCK for side in noisy.shape[:2])
        chosen = np.arange(-self._count % self._step, H * W, self._step)
        self._count += H * W
        at = divmod(chosen, max(W, 1))
        found = np.stack([_grid(one)[at] for one in (noisy, denoised)], 1)
        if gaps is not None:
            found = found[~_grid(gaps)[at].any((1, 2, 3))]
        if not len(found):
            return
        self._kept.append(found)
        self._size += len(found)
        if self._size > 2 * _MOST:
            self._kept = [np.concatenate(self._kept)[::2]]
            self._size = len(self._kept[0])
            self._step *= 2

    def noise(self) -> list[NoiseLevel]:
        """Measure the noise at all brightnesses where there is some: in blocks that are flat, and differ by chance alone."""
        if self._size < _BLOCKS:
            return []
        kept = np.concatenate(self._kept)
        # Blocks, before and after, channels, pixels.
        values = np.moveaxis(kept, 4, 2).reshape(len(kept), 2, -1, BLOCK**2)
        noisy = values[:, 0]
        clipped = ((noisy == noisy.min()) | (noisy == noisy.max())).mean((1, 2)) > _CLIPPED
        both = (values[~clipped & (np.ptp(noisy, (1, 2)) > 0)] - np.float32(self._scale.low)).astype(np.float32)
        both /= np.float32(self._scale.high - self._scale.low)
        pixels = both[:, 0]
        places = np.clip(pixels.mean((1, 2)) * BINS, 0, BINS - 1).astype(int)
        roughness = ((pixels @ TRANSFORM[:, LOW]) ** 2).mean((1, 2))
        found = []
        for place in range(BINS):
            at = np.flatnonzero(places == place)
            if len(at) >= _BLOCKS:
                flattest = at[np.argsort(roughness[at])]
                one = _measure(place, both[flattest[: 4 * max(_LEAST, int(_PART * len(at)))]])
                found += [] if one is None else [one]
        return found if sum(one.flat for one in found) >= _FLAT else []


def _grid(rows: NDArray[Any]) -> NDArray[Any]:
    """Return the blocks of H×W×C, (H/8)×(W/8)×8×8×C, of 3 channels at most."""
    H, W, C = rows.shape[0] // BLOCK, rows.shape[1] // BLOCK, min(rows.shape[2], _CHANNELS)
    return rows[: H * BLOCK, : W * BLOCK, :C].reshape(H, BLOCK, W, BLOCK, C).swapaxes(1, 2)


def _measure(place: int, both: NDArray[np.float32]) -> NoiseLevel | None:
    """Measure noise in blocks before and after denoising, the flattest quarter first; None if they have texture."""
    count, pixels = len(both) // 4, both[:, 0]
    spectra = ((pixels @ TRANSFORM) ** 2).mean(1)
    energies, spectrum = spectra[:, REST].mean(1), spectra[:count].mean(0)
    flat, next_flat = energies[:count], energies[2 * count :].mean()
    if not flat.mean() > 0:
        return None
    # The energy of normal noise varies so much.
    chance = 2 * float((spectrum[REST] ** 2).sum() / spectrum[REST].sum() ** 2) / pixels.shape[1]
    if flat.var() > (_SPREAD**2 + chance) * flat.mean() ** 2 or next_flat > _GROWTH * flat.mean():
        return None
    neighbours, variance = correlation(spectrum)
    left = ((both[:count, 1] @ TRANSFORM[:, REST]) ** 2).mean() / flat.mean()
    return NoiseLevel(place, count, variance**0.5, neighbours, float(left**0.5))


def neighbours(noise: list[NoiseLevel]) -> float:
    """Return the correlation of neighbouring pixels, over all brightnesses."""
    return float(np.average([one.neighbours for one in noise], weights=[one.flat * one.sigma**2 for one in noise]))
