"""What two captures of one scene say about their noise, with no clean image: the conditions of Noise2Noise.

Training on pairs needs noise with zero mean that is independent between the two captures (Lehtinen et al. 2018, section 2).
The difference of two captures holds the noise and nothing of the scene, so it shows a drift in brightness and a correlation
between neighbouring pixels. What both captures share cannot be seen in it; that is looked for where the scene is flat.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A drift above this part of the noise's standard deviation adds over 1 % to the error of the network.
_DRIFT = 0.1
# Correlations from here on are worth a line.
_SPACE = 0.15
# Nothing within so many standard errors is worth one: in small images chance alone is over the limits above.
_ERRORS = 4
# Fine texture is shared, too, and where a scene has it everywhere it looks like noise: so the median over scenes must be high.
_SHARED = 0.3
# Side of the blocks among which the flat ones are looked for, the part of them that is taken for flat, and how many pixels
# those must have in all for a correlation to mean something.
_BLOCK = 16
_FLAT = 0.03
_ENOUGH = 500


@dataclass(frozen=True)
class PairReport:
    """What was found in two captures of a scene.

    Attributes:
        identical: whether every pixel is the same.
        sigma: standard deviation of the noise of one capture, in the units of the file.
        drift: mean brightness of the second capture less that of the first, in units of ``sigma``.
        space: correlation of the noise of neighbouring pixels, -1 to 1.
        shared: correlation of the noise of the two captures where the scene is flat, -1 to 1; 0 where nothing is flat.
        pixels: how many of each capture were compared, which says how far chance carries the figures above.
    """

    identical: bool
    sigma: float = 0.0
    drift: float = 0.0
    space: float = 0.0
    shared: float = 0.0
    pixels: int = 1 << 20


def _high_pass(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Difference along both axes: white noise keeps its variance (times 4), smooth images vanish."""
    rows = image[1:] - image[:-1]
    return rows[:, 1:] - rows[:, :-1]


def _blocks(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cut H×W into blocks, one a row."""
    H, W = (side // _BLOCK * _BLOCK for side in image.shape)
    return image[:H, :W].reshape(H // _BLOCK, _BLOCK, W // _BLOCK, _BLOCK).swapaxes(1, 2).reshape(-1, _BLOCK**2)


def _shared_noise(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Correlation of the high frequencies of two captures, H×W, in the blocks that vary least."""
    if min(first.shape) <= _BLOCK:
        return 0.0
    a, b = _blocks(_high_pass(first)), _blocks(_high_pass(second))
    # Flat is judged by means of 4×4 pixels, which hold other frequencies than what is correlated: judging by the same ones
    # would select for chance.
    mean = (
        _blocks((first[1:, 1:] + second[1:, 1:]) / np.float32(2))
        .reshape(-1, _BLOCK // 4, 4, _BLOCK // 4, 4)
        .mean((2, 4))
    )
    roughness = mean.reshape(len(mean), -1).std(1)
    # Blocks without any noise (saturated, masked) say nothing.
    usable = (a.std(1) > 0) & (b.std(1) > 0)
    a, b, roughness = a[usable], b[usable], roughness[usable]
    # Of small images all blocks would have to be taken, flat or not.
    if _FLAT * a.size < _ENOUGH:
        return 0.0
    flat = roughness <= np.quantile(roughness, _FLAT)
    a, b = a[flat], b[flat]
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def compare(first: NDArray[Any], second: NDArray[Any]) -> PairReport:
    """Compare two captures of one scene, H×W×C of any dtype and range."""
    if np.array_equal(first, second):
        return PairReport(identical=True, pixels=first[..., 0].size)
    a, b = (image.astype(np.float32).mean(axis=2) for image in (first, second))
    difference = b - a
    drift = float(difference.mean())
    noise = difference - drift
    # The noise of two captures; of the colours' mean, which is what all the figures here are of.
    variance = float((noise**2).mean())
    if variance == 0:
        return PairReport(identical=False, drift=float("inf"), pixels=difference.size)
    products = (
        [(noise[1:] * noise[:-1]).mean(), (noise[:, 1:] * noise[:, :-1]).mean()] if min(noise.shape) > 1 else [0.0]
    )
    space = float(np.mean(products)) / variance
    sigma = (variance / 2) ** 0.5
    return PairReport(False, sigma, drift / sigma, space, _shared_noise(a, b), difference.size)


def remarks(reports: Sequence[tuple[str, PairReport]]) -> list[str]:
    """Say in one line each what is wrong with the pairs, given by the scenes' names; empty if nothing is."""
    lines = []
    different = [(name, report) for name, report in reports if not report.identical]
    total = len(different)

    def collect(value: Callable[[PairReport], float], limit: float, error: float, text: str, advice: str) -> None:
        """Say which pairs are over the limit; ``{worst}`` in the text is the largest value.

        ``error`` is the standard error of the value times the root of the number of pixels.
        """
        found = [
            (abs(value(report)), name, value(report))
            for name, report in different
            if abs(value(report)) > max(limit, _ERRORS * error / report.pixels**0.5)
        ]
        if found:
            _, name, worst = max(found)
            lines.append(
                f"warning: {text.format(worst=f'{worst:.2f}')} in {len(found)} of {total} scenes (most in {name}): {advice}"
            )

    collect(
        lambda report: report.drift,
        _DRIFT,
        # The mean of a difference, which has the noise of both captures.
        2**0.5,
        "brightness drifts between captures, by {worst} times the noise",
        "the network learns the mean of both, and PSNR without clean images comes out too low",
    )
    collect(
        lambda report: report.space,
        _SPACE,
        1.0,
        "the difference of two captures is correlated between neighbouring pixels ({worst})",
        "either something moved between the captures, or the noise is not white, which methods for single images need",
    )
    shared = float(np.median([report.shared for _, report in different])) if different else 0.0
    if shared > _SHARED:
        lines.append(
            f"warning: captures of a scene share part of their noise (correlation {shared:.2f} where the scenes are flat), or "
            "the noise is small beside their texture: what they share stays, and PSNR without clean images comes out too high"
        )
    return lines
