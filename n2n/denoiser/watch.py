"""What an image's values show while it is denoised: a shift of the mean, a range that they hardly fill, and another noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from n2n.data.flat_noise import BlockSample
from n2n.data.images.extremes import Extremes
from n2n.data.noise import TrainedNoise
from n2n.data.value_range import ValueRange
from n2n.denoiser.misfit import misfit

# About one row in this many is compared with its denoised row, and the first of this many parts of each band is searched for
# the largest median; more of small images.
_SAMPLED = 16
# Least shift of the mean that is remarked on: in standard deviations of the removed noise, as for the drift between captures;
# in standard errors; and in standard deviations of the image. The last was chosen on 24 micrographs and 96 noisy photographs,
# where "course" is never warned about, and a ModelFinal that learnt 7 epochs of dead leaves on 38 images, all dim, whose means
# it lowers by 1 to 11 %.
_SHIFT, _ERRORS, _CONTRAST = 0.1, 4, 0.02
# Least contrast, as part of the range. An image of one value, such as a black frame, has no noise to compare a shift with.
_FLAT = 1e-6
# Values that fill a larger part of the range may be those of a dark image.
_SMALL = 0.25
# The mean of an image, as part of the range, that is advised: there that ModelFinal, the least exact, shifts it by 1 % at most.
_MEAN = 0.2


class Watch:
    """Watches an image being denoised. Rows are sampled, which takes little time.

    Args:
        scale: the range of the image.
        guessed: whether the range is that of the dtype alone, and neither the training's nor stated by anybody.
        noise: that the network was trained on; None if unknown, and the image's is not judged.
    """

    def __init__(self, scale: ValueRange, guessed: bool, noise: TrainedNoise | None = None) -> None:
        self.scale, self.guessed, self.noise = scale, guessed, noise
        self._blocks = BlockSample(scale)
        self.extremes = Extremes()
        # Number and sums: of values, of their squares, of differences by the denoising, and of these squared.
        self._sums = np.zeros(5)

    def add(self, noisy: NDArray[Any], denoised: NDArray[Any], gaps: NDArray[np.bool_] | None) -> None:
        """Add the next rows, H×W×C, before and after the denoising; ``gaps`` says which have no data."""
        if self.guessed:
            some, known = max(_SAMPLED, len(noisy) // _SAMPLED), noisy if gaps is None else noisy[~gaps]
            rows = noisy[:some] if gaps is None else np.where(gaps[:some], np.nan, noisy[:some])
            self.extremes |= Extremes.of(rows)
            if known.size:
                self.extremes |= Extremes(float(known.min()), float(known.max()))
        if self.noise is not None:
            self._blocks.add(noisy, denoised, gaps)
        # An odd step: networks that shrink the image by 2 and 4 err by another amount on rows that 4 divides.
        step = max(1, min(_SAMPLED, len(noisy) // _SAMPLED)) | 1
        before, after = (rows[::step].astype(np.float64).ravel() - self.scale.low for rows in (noisy, denoised))
        if gaps is not None:
            known = ~gaps[::step].ravel()
            before, after = before[known], after[known]
        change = after - before
        self._sums += [before.size, before.sum(), before @ before, change.sum(), change @ change]

    def remarks(self) -> list[str]:
        """Return lines on the whole image."""
        narrow = self._narrow()
        if narrow is not None:
            # With another range, the others may not hold.
            return [narrow]
        noise = None if self.noise is None else misfit(self._blocks.noise(), self.noise, self.scale)
        return [line for line in (self._shift(), noise) if line is not None]

    def _narrow(self) -> str | None:
        """Say that the values fill a small part of the range."""
        least, most = self.extremes.least, self.extremes.most
        if not self.guessed or not math.isfinite(most):
            return None
        outliers = self.extremes.suspect
        if outliers:
            least, most = self.extremes.low, self.extremes.high
        low, high = _suggested(least, most, floats=self.scale.high <= 1)
        part = (high - low) / (self.scale.high - self.scale.low)
        if part > _SMALL:
            return None
        few = " but for a few outliers" if outliers else ""
        return (
            f"its values go from {least:g} to {most:g} only{few}, a small part of the range of {self.scale}: if {high:g} is "
            f"white, give --range {low:g} {high:g} (range= in Python)"
        )

    def _shift(self) -> str | None:
        """Say that the mean shifts by more than the noise allows."""
        count, total, squares, shifted, shifted_squares = self._sums.tolist()
        if not count:
            return None
        mean, shift = total / count, shifted / count
        contrast = math.sqrt(max(0.0, squares / count - mean**2))
        if contrast <= _FLAT * (self.scale.high - self.scale.low):
            return None
        noise = math.sqrt(max(0.0, shifted_squares / count - shift**2))
        if not abs(shift) > max(_SHIFT * noise, _ERRORS * noise / math.sqrt(count), _CONTRAST * contrast):
            return None
        part = f" ({100 * shift / mean:+.1f} %)" if mean > abs(shift) else ""
        line = (
            f"denoising shifts its mean by {shift:+.3g}{part}, {abs(shift) / noise if noise else math.inf:.2g} times the noise "
            "that it removes, which is more than chance: the network does not suit this brightness"
        )
        low, high = self.scale.low, float(f"{self.scale.low + mean / _MEAN:.2g}")
        if not low < high < low + 0.7 * (self.scale.high - low):
            return f"{line}; choose another checkpoint"
        return f"{line}; choose another checkpoint, or give a range such as --range {low:g} {high:g} (range= in Python)"


def _suggested(least: float, most: float, floats: bool) -> tuple[float, float]:
    """Return a range of whole bits that holds some values: 0 to 4095, for example, or for floats 0 to 1/16."""
    if floats:
        # Negative values are noise.
        return 0.0, 2.0 ** math.ceil(math.log2(most)) if most > 0 else math.inf
    bits = max(8, int(max(most, -least)).bit_length())
    high = float((1 << bits) - 1)
    return (-high - 1 if least < 0 else 0.0), high
