"""The noise of an image that is denoised, and how it differs from the noise that the network was trained on.

It is measured in the flattest blocks of the noisy image. The difference of noisy and denoised image would not do: a network
that learnt white noise removes only the white part of other noise. What the denoised image has left in the same blocks shows
noise that differs in another way, such as noise that is the same in all colours.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from n2n.data.noise import BINS, BLOCK, LOW, REST, TRANSFORM, TrainedNoise, correlations
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
# Noise of a smaller sigma is not judged: much of it is texture, and JPEG changes it.
_WEAK = 4 / 255
# Noise fits the training's if its correlation is at most _MORE above the training's and at most _LESS below, and its sigma at
# most _STRONGER times the largest and at least _WEAKER times the least there. These limits were chosen on crops of 40
# photographs with noise of 17 kinds and on 48 micrographs, so that no remark is wrong there.
_MORE, _LESS, _STRONGER, _WEAKER = 0.3, 0.1, 1.15, 0.5
# Part of the sigma that may be left at some brightness. On 50 other photographs "gaussian" leaves 0.56 of white noise at most,
# and 0.96 or more of the same noise after JPEG that halves the resolution for colour. Of clean photographs 2 % have a texture,
# such as grass, that looks like noise everywhere, so the remark says "if".
_LEFT = 0.65
_TRAINED = "this checkpoint was trained on"
# Checkpoints that come with n2n, for correlated and for white noise.
_PHOTOGRAPHS, _WHITE = "for a photograph, try --ckpt_path camera", "try --ckpt_path gaussian"


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
    neighbours, _, variance = correlations(spectrum)
    left = ((both[:count, 1] @ TRANSFORM[:, REST]) ** 2).mean() / flat.mean()
    return NoiseLevel(place, count, variance**0.5, neighbours, float(left**0.5))


def misfit(noise: list[NoiseLevel], trained: TrainedNoise, scale: ValueRange) -> str | None:
    """Return a line if an image's noise is none that the network was trained on; None if it fits, or cannot be judged."""
    if not noise:
        return None
    counts, sigmas = np.array([one.flat for one in noise]), np.array([one.sigma for one in noise])
    span = scale.high - scale.low
    sigma = _mean(sigmas, counts)
    line, suited = _correlation(noise, trained) if sigma >= _WEAK else (None, "")
    if line is None and trained.at_edges and sigma >= _WEAK:
        line = f"lies in flat parts too (sigma {sigma * span:.3g} of {span:g}), and {_TRAINED} noise that lies mostly at edges"
        suited = _WHITE
    if line is None and not trained.at_edges:
        line, suited = _level(noise, trained, span), "choose another checkpoint"
    if line is not None:
        return f"the noise here {line}: {suited}, or train on your own pairs"
    # At each brightness, because texture that passes for noise stays.
    if sigma < _WEAK or not min(one.left for one in noise) > _LEFT:
        return None
    left = _mean(np.array([one.left for one in noise]) * sigmas, counts)
    # No checkpoint that comes with n2n suits noise that is white from pixel to pixel, and that "gaussian" does not know.
    suited = f"{_PHOTOGRAPHS}, or " if trained.neighbours[1] < _LESS < _neighbours(noise) else ""
    return (
        f"of sigma {sigma * span:.3g} in flat parts, {left * span:.3g} is left: if that is noise and no fine texture, "
        f"{suited}train on your own pairs"
    )


def _mean(sigmas: NDArray[Any], counts: NDArray[Any]) -> float:
    return float(np.sqrt(np.average(sigmas**2, weights=counts)))


def _neighbours(noise: list[NoiseLevel]) -> float:
    return float(np.average([one.neighbours for one in noise], weights=[one.flat * one.sigma**2 for one in noise]))


def _correlation(noise: list[NoiseLevel], trained: TrainedNoise) -> tuple[str | None, str]:
    """Say that the correlation of neighbouring pixels differs from that of the training, and which checkpoint suits it."""
    low, high = trained.neighbours
    here = _neighbours(noise)
    # At each brightness, because texture that passes for noise is correlated.
    if min(one.neighbours for one in noise) > high + _MORE:
        learnt = "white noise" if high < _LESS else f"noise that is less so ({high:.2g} at most)"
        return f"is correlated between neighbouring pixels ({here:.2g}), and {_TRAINED} {learnt}", _PHOTOGRAPHS
    if here < low - _LESS:
        is_so = "is white" if here < _LESS else f"is correlated between neighbouring pixels by {here:.2g} only"
        learnt = f"noise that is correlated between neighbouring pixels ({low:.2g} to {high:.2g})"
        return f"{is_so}, and {_TRAINED} {learnt}", _WHITE
    return None, ""


def _level(noise: list[NoiseLevel], trained: TrainedNoise, span: float) -> str | None:
    """Say that the sigma differs from that of the training at the same brightness."""
    # What was not trained on at a brightness is not judged there.
    both = [(one.flat, one.sigma, *learnt) for one in noise if (learnt := trained.sigma[one.place]) is not None]
    if not both:
        return None
    counts, sigmas, low, high = np.array(both).T
    stronger, weaker = sigmas > _STRONGER * high, (sigmas < _WEAKER * low) & (low > 2 * _WEAK)
    for word, wrong in (("stronger", stronger), ("weaker", weaker)):
        # In most of the flat blocks, because texture may pass for noise in some.
        if counts[wrong].sum() > counts.sum() / 2:
            here, least, most = (span * one for one in (_mean(sigmas[wrong], counts[wrong]), low.min(), high.max()))
            return (
                f"is {word} (sigma {here:.3g} of {span:g}) than any that this checkpoint learnt at this brightness "
                f"({least:.3g} to {most:.3g})"
            )
    return None
