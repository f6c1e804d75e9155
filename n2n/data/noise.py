"""The noise that a checkpoint was trained on: how strong it is in flat parts, and how correlated between neighbouring pixels.

All is measured in blocks of 8×8 pixels, by their cosine transform. The low frequencies say how flat a block is, and the others
hold the noise. They are independent in white noise, so that choosing flat blocks does not choose weak noise (Ponomarenko et
al. 2007, An automatic approach to lossy compression of AVIRIS images; Colom and Buades 2013, IPOL 3, pages 173-210).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from n2n.errors import InputError

# Side of a block, in pixels.
BLOCK = 8
# Brightnesses that are told apart: equal parts of the range from black to white.
BINS = 8
# Fewest pairs that describe the noise, in all and at one brightness, and most pairs in which it is measured.
_LEAST, _LEAST_BIN, _MOST = 32, 32, 512
# The weakest and the strongest are quantiles over the pairs.
_QUANTILES = (0.02, 0.98)
# Part of a pair's blocks that counts as its flat ones, and as its rough ones. These are compared if their brightnesses differ
# by less than _ALIKE of the brightness, because the noise of photons depends on it.
_PART, _ALIKE = 0.25, 0.25
# The noise lies mostly at edges if in a fifth of the pairs its sigma in flat blocks is below this part of that in rough ones.
# The fifth of them has 0.4 for the paper's pixel sampling of photographs and 0.67 for that of dead leaves, which are rarely
# flat; 0.88 for cameras' noise, and 0.93 or more for that of sensors.
_EDGES, _FIFTH = 0.75, 0.2

Pixels = NDArray[np.float32]


def _transform() -> Pixels:
    """Return the cosine transform (DCT-II, orthonormal) of flattened blocks: 64×64, for ``pixels @ matrix``."""
    k = np.arange(BLOCK)
    rows = np.sqrt(2 / BLOCK) * np.cos(np.pi * (2 * k + 1) * k[:, None] / (2 * BLOCK))
    rows[0] /= np.sqrt(2)
    return np.kron(rows, rows).T.astype(np.float32)


_ORDER = np.add.outer(np.arange(BLOCK), np.arange(BLOCK)).ravel()
TRANSFORM = _transform()
LOW, REST = (_ORDER > 0) & (_ORDER < 3), _ORDER > 2


def blocks(images: NDArray[Any], side: int = BLOCK) -> NDArray[Any]:
    """Cut ...×H×W into flattened blocks, ...×(number of blocks)×side²; rows and columns that are left over are dropped."""
    *more, H, W = images.shape
    rows, columns = H // side, W // side
    cut = images[..., : rows * side, : columns * side].reshape(*more, rows, side, columns, side)
    return cut.swapaxes(-2, -3).reshape(*more, rows * columns, side**2)


def correlation(spectrum: NDArray[Any]) -> tuple[float, float]:
    """Return the correlation of neighbouring pixels, and the variance, of noise by its mean spectrum.

    Args:
        spectrum: mean squares of the 64 coefficients. The low frequencies also have the image, so the nearest others stand in.
    """
    known = np.where(REST, spectrum, spectrum[_ORDER == 3].mean()).reshape(BLOCK, BLOCK)
    # At the frequencies 0 to pi; the ends count half.
    power = np.pad(known, ((0, 1), (0, 1)), mode="edge")
    weights = np.ones(BLOCK + 1)
    weights[[0, -1]] = 0.5
    power = power * np.outer(weights, weights) / weights.sum() ** 2
    total = float(power.sum())
    wave = np.cos(np.pi * np.arange(BLOCK + 1) / BLOCK)
    along = float((power @ wave).sum() + (wave @ power).sum()) / 2
    return (along / total, total) if total > 0 else (0.0, 0.0)


Span = tuple[float, float]


@dataclass(frozen=True)
class TrainedNoise:
    """The noise that a network was trained on. Each is the least and the largest over the training pairs.

    Attributes:
        sigma: standard deviation in flat parts, 1 for the range from black to white, at 8 brightnesses from dark to bright;
            None where too few pairs are flat.
        neighbours: correlation of neighbouring pixels, -1 to 1.
        at_edges: whether the noise lies mostly at edges, as that of pixel sampling: flat parts have less than rough ones of the
            same brightness.
    """

    sigma: tuple[Span | None, ...]
    neighbours: Span
    at_edges: bool = False

    @classmethod
    def from_plain(cls, values: object) -> Self | None:
        """Read ``noise`` of a checkpoint, which may be hostile; None if it has none.

        Raises:
            InputError: if it does not describe a noise.
        """
        if values is None:
            return None
        wrong = InputError("the checkpoint describes its noise in another way than n2n does: train it again")
        # Older checkpoints also have "second", the correlation with the second pixel.
        if type(values) is not dict or set(values) - {"second"} != {"sigma", "neighbours", "at_edges"}:
            raise wrong
        sigma, neighbours = values["sigma"], values["neighbours"]
        spans = [(one, 0.0, 1e6) for one in sigma if one is not None] if type(sigma) is list else []
        spans += [(neighbours, -1.0, 1.0)]
        if type(sigma) is not list or len(sigma) != BINS or not all(_is_span(*one) for one in spans):
            raise wrong
        if type(values["at_edges"]) is not bool:
            raise wrong
        pairs = tuple(None if one is None else (float(one[0]), float(one[1])) for one in sigma)
        return cls(pairs, _span(neighbours), values["at_edges"])

    def plain(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        sigma = [None if one is None else list(one) for one in self.sigma]
        return {"sigma": sigma, "neighbours": list(self.neighbours), "at_edges": self.at_edges}


def _is_span(value: object, least: float, most: float) -> bool:
    """Whether a value is a list of two numbers within limits, the smaller one first."""
    if type(value) is not list or len(value) != 2 or not all(type(one) in (int, float) for one in value):
        return False
    return bool(least <= value[0] <= value[1] <= most)


def _span(value: list[float]) -> Span:
    return float(value[0]), float(value[1])


class PairNoise:
    """Measures the noise of training pairs by the difference of the two views, which has no image in it."""

    def __init__(self) -> None:
        # A row for each pair: brightness and sigma of its flat blocks, sigma of its rough ones (NaN if none are alike), and the
        # correlation of neighbouring pixels.
        self._pairs: list[NDArray[Any]] = []
        self._count = 0

    @property
    def complete(self) -> bool:
        """Whether enough pairs were measured."""
        return self._count >= _MOST

    def add(self, noisy: Tensor, target: Tensor) -> None:
        """Add pairs, N×C×H×W each, 0 black and 1 white. Those with values without data (NaN) or without noise are left out.

        A GPU waits here.
        """
        if min(noisy.shape[2:]) < 2 * BLOCK:
            return
        for first, second in zip(*(view.detach().float().cpu().numpy() for view in (noisy, target)), strict=True):
            found = _measure(first, second)
            if found is not None:
                self._pairs.append(found)
        self._count += len(noisy)

    def describe(self) -> TrainedNoise | None:
        """Return the noise of the pairs; None if they are too few."""
        if len(self._pairs) < _LEAST:
            return None
        brightness, flat, rough, neighbours = np.array(self._pairs).T
        places = np.clip(brightness * BINS, 0, BINS - 1).astype(int)
        at = [flat[places == place] for place in range(BINS)]
        sigma = tuple(_quantiles(one) if len(one) >= _LEAST_BIN else None for one in at)
        ratios = (flat / rough)[np.isfinite(rough)]
        at_edges = len(ratios) >= _LEAST and bool(np.quantile(ratios, _FIFTH) < _EDGES)
        return TrainedNoise(sigma, _quantiles(neighbours), at_edges)


def _quantiles(values: NDArray[Any]) -> Span:
    low, high = np.quantile(values, _QUANTILES)
    return round(float(low), 4), round(float(high), 4)


def _measure(noisy: Pixels, target: Pixels) -> NDArray[Any] | None:
    """Measure one pair, C×H×W each; None if it cannot be measured."""
    if not np.isfinite(noisy + target).all():
        return None
    views = blocks(np.stack([noisy, target]))
    # Noise has the variance of one view in both.
    difference, both = ((views[0] + sign * views[1]) @ TRANSFORM / np.float32(np.sqrt(2)) for sign in (-1, 1))
    spectra, energies = (difference**2).mean(0), (both**2).mean(0)
    neighbours, variance = correlation(spectra.mean(0))
    if variance <= 0:
        return None
    order = np.argsort(energies[:, LOW].mean(1))
    count = max(1, int(_PART * len(order)))
    flat, rough = order[:count], order[-count:]
    brightness = views.mean((0, 1, 3))
    level = brightness[flat].mean()
    alike = rough[np.abs(brightness[rough] - level) < _ALIKE * abs(level)]
    sigma, at_rough = (math.sqrt(spectra[some].mean()) if len(some) else math.nan for some in (flat, alike))
    return np.array([level, sigma, at_rough or math.nan, neighbours])
