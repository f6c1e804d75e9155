"""Check two captures of one scene for the conditions of Noise2Noise, without a clean image.

Training on pairs needs noise with zero mean that is independent between the captures (Lehtinen et al. 2018, section 2). The
difference of two captures contains their noise and not the scene, so it shows a drift in brightness and a correlation between
neighbouring pixels. Noise that both captures share cancels in it, and is measured where the scene is flat. Captures of
different scenes differ by more than noise: their difference is as smooth as a scene, and they hardly correlate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from n2n.data.noise import blocks
from n2n.system.text import counted

# Figure of a report; largest value without a warning; its standard error times the square root of the number of pixels; text
# and advice. A drift of 0.1 adds 0.5 % of the noise's variance to the error that is estimated without clean images. It is
# the mean of a difference, which has the noise of both captures.
_PROBLEMS = (
    (
        "drift",
        0.1,
        2**0.5,
        "brightness drifts between captures, by {:.2f} times the noise",
        "PSNR without clean images is too low",
    ),
    (
        "space",
        0.15,
        1.0,
        "the difference of two captures is correlated between neighbouring pixels ({:.2f})",
        "something moved between the captures, or the noise is not white: do not use data/single.yaml for such images",
    ),
)
# Noise is of another kind where neighbouring pixels correlate by more than this. Real micrographs have 0.03 to 0.19 (confocal
# and two-photon), and 0.57 to 0.63 (wide field).
CORRELATED = 0.3
# No warning within this many standard errors: in small images chance alone passes the limits above.
_ERRORS = 4
# Largest correlation of the noise of two captures without a warning, as the median over the scenes, because fine texture
# everywhere looks like shared noise.
_SHARED = 0.3
# Side in pixels of the blocks that are searched for flat ones, the fraction of the blocks that counts as flat, and the number
# of pixels that the flat ones must have in all.
_BLOCK = 16
_FLAT = 0.03
_ENOUGH = 500
# Captures of different scenes: the means of 4×4 pixels, which contain little noise, correlate less than _ALIKE between the
# captures, and their difference correlates at least _SMOOTH between neighbours. For pairs of real microscope captures these are
# 0.77 to 0.99 and 0.01 to 0.62; for captures of different fields, or different photographs with noise, -0.3 to 0.55 and 0.6
# to 0.98. Images with fewer than _MEANS such means are not judged.
_MEAN = 4
_ALIKE = 0.7
_SMOOTH = 0.5
_MEANS = 64
# Groups of captures that are looked for in a scene.
_GROUPS = 4


@dataclass(frozen=True)
class PairReport:
    """Properties of two captures of a scene.

    Attributes:
        identical: whether every pixel is the same.
        sigma: standard deviation of the noise of one capture, in the units of the file.
        drift: mean brightness of the second capture minus that of the first, in units of ``sigma``.
        space: correlation of the noise of neighbouring pixels, -1 to 1.
        shared: correlation of the noise of the two captures where the scene is flat, -1 to 1; None if it cannot be judged.
        pixels: number of pixels compared; the standard errors of the figures depend on it.
        alike: correlation of the two captures, as means of 4×4 pixels, -1 to 1.
        smooth: correlation of neighbouring means of 4×4 pixels of the difference, -1 to 1.
    """

    identical: bool
    sigma: float = 0.0
    drift: float = 0.0
    space: float = 0.0
    shared: float | None = 0.0
    pixels: int = 1 << 20
    alike: float = 1.0
    smooth: float = 0.0

    @property
    def different_scenes(self) -> bool:
        """Whether the captures differ like captures of different scenes."""
        return _are_different(self.alike, self.smooth)


def _are_different(alike: float, smooth: float) -> bool:
    return alike < _ALIKE and smooth >= _SMOOTH


def _high_pass(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take differences along both axes: white noise remains, with 4 times the variance, and smooth images vanish."""
    rows = image[1:] - image[:-1]
    return rows[:, 1:] - rows[:, :-1]


def _means(image: NDArray[Any]) -> NDArray[Any]:
    """Average H×W over squares of 4×4 pixels."""
    H, W = (side // _MEAN for side in image.shape)
    squares = image[: H * _MEAN, : W * _MEAN].reshape(H, _MEAN, W, _MEAN)
    means: NDArray[Any] = squares.mean((1, 3))
    return means


def _neighbours(noise: NDArray[Any]) -> float:
    """Return the covariance of neighbouring pixels of H×W values of zero mean; 0 for images one pixel wide."""
    if min(noise.shape) < 2:
        return 0.0
    return float(np.mean([(noise[1:] * noise[:-1]).mean(), (noise[:, 1:] * noise[:, :-1]).mean()]))


def _shared_noise(first: NDArray[np.float32], second: NDArray[np.float32]) -> float | None:
    """Correlate the high frequencies of two captures, H×W, in the flattest blocks; None if these are too few."""
    if min(first.shape) <= _BLOCK:
        return None
    a, b = (blocks(_high_pass(image), _BLOCK) for image in (first, second))
    # The flat blocks are chosen by means of 4×4 pixels. Choosing them by the frequencies that are correlated below would select
    # for chance.
    both = blocks((first[1:, 1:] + second[1:, 1:]) / np.float32(2), _BLOCK)
    mean = both.reshape(-1, _BLOCK // 4, 4, _BLOCK // 4, 4).mean((2, 4))
    roughness = mean.reshape(len(mean), -1).std(1)
    # Blocks without noise are saturated or masked.
    usable = (a.std(1) > 0) & (b.std(1) > 0)
    a, b, roughness = a[usable], b[usable], roughness[usable]
    # In a small image too many of the blocks would have to count as flat.
    if _FLAT * a.size < _ENOUGH:
        return None
    flat = roughness <= np.quantile(roughness, _FLAT)
    a, b = a[flat], b[flat]
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def _alike_and_smooth(first: NDArray[Any], second: NDArray[Any]) -> tuple[float, float]:
    """Return ``alike`` and ``smooth`` of a :class:`PairReport` for two captures, H×W; 1 and 0 if they cannot be judged."""
    a, b = map(_means, (first, second))
    if a.size < _MEANS:
        return 1.0, 0.0
    a, b = a - a.mean(), b - b.mean()
    spread = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    variance = float(((b - a) ** 2).mean())
    if spread == 0 or variance == 0:
        return 1.0, 0.0
    return float((a * b).sum()) / spread, _neighbours(b - a) / variance


def _greys(first: NDArray[Any], second: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], int] | None:
    """Return the mean of the channels of two captures, and the number of pixels that are known in both; None if it is 0.

    All others become constants, whose difference is the drift, so that the noise there is 0.
    """
    a, b = (image.astype(np.float32).mean(axis=2) for image in (first, second))
    known = np.isfinite(b - a)
    if not known.any():
        return None
    if not known.all():
        a, b = (np.where(known, image, image[known].mean()) for image in (a, b))
    return a, b, int(known.sum())


def show_different_scenes(first: NDArray[Any], second: NDArray[Any]) -> bool:
    """Whether two captures, H×W×C, differ like captures of different scenes."""
    found = _greys(first, second)
    return found is not None and _are_different(*_alike_and_smooth(*found[:2]))


def largest_group(starts: Sequence[int], differ: Callable[[int, int], bool]) -> list[int]:
    """Return most of the captures of a scene that show the same, compared with the first one of each group."""
    largest: list[int] = []
    rest = list(starts)
    for _ in range(_GROUPS):
        if len(rest) <= len(largest):
            break
        group = [rest[0], *(start for start in rest[1:] if not differ(rest[0], start))]
        rest = [start for start in rest if start not in group]
        largest = max(largest, group, key=len)
    return largest


def compare(first: NDArray[Any], second: NDArray[Any]) -> PairReport:
    """Compare two captures of one scene, H×W×C of any dtype and range. All figures are of the mean of the channels.

    Pixels that are NaN in one of them do not count.
    """
    if np.array_equal(first, second):
        return PairReport(identical=True, pixels=first[..., 0].size)
    found = _greys(first, second)
    if found is None:
        return PairReport(identical=False)
    a, b, pixels = found
    difference = b - a
    drift = float(difference.mean())
    noise = difference - drift
    # Of the noise of both captures, over the pixels that count.
    part = pixels / difference.size
    variance = float((noise**2).mean()) / part
    if variance == 0:
        return PairReport(identical=False, drift=float("inf"), pixels=pixels)
    sigma = (variance / 2) ** 0.5
    space = _neighbours(noise) / part / variance
    shared, alike_smooth = _shared_noise(a, b), _alike_and_smooth(a, b)
    return PairReport(False, sigma, drift / sigma, space, shared, pixels, *alike_smooth)


def mismatch(reports: Sequence[PairReport]) -> str | None:
    """Return one line if the captures of most scenes differ like captures of different scenes, else None."""
    different = [report for report in reports if not report.identical]
    found = [report for report in different if report.different_scenes]
    if 2 * len(found) <= len(different):
        return None
    most = max(report.alike for report in found)
    return (
        f"the captures that are paired show different scenes: they correlate by {most:.2f} or less in {len(found)} of "
        f"{counted(len(different), 'scene')}, captures of one scene by {_ALIKE:g} or more; check how the files are named and "
        "grouped, or set the source's check to false (--data.source.check false)"
    )


def remarks(reports: Sequence[tuple[str, PairReport]]) -> list[str]:
    """Return one line for each problem of the pairs, given with the names of their scenes.

    Pairs of different scenes say nothing about the noise.
    """
    lines = []
    different = [(name, report) for name, report in reports if not (report.identical or report.different_scenes)]
    for figure, limit, error, text, advice in _PROBLEMS:
        values = [(getattr(report, figure), name, report.pixels) for name, report in different]
        found = [
            (abs(value), name, value)
            for value, name, pixels in values
            if abs(value) > max(limit, _ERRORS * error / pixels**0.5)
        ]
        if found:
            _, name, worst = max(found)
            scenes = f"{len(found)} of {counted(len(different), 'scene')} (most in {name})"
            lines.append(f"warning: {text.format(worst)} in {scenes}: {advice}")
    judged = [report.shared for _, report in different if report.shared is not None]
    if different and not judged:
        side = _BLOCK * math.ceil(math.sqrt(_ENOUGH / _FLAT) / _BLOCK) + 1
        lines.append(
            "n2n could not check whether the captures of a scene share noise: the images are too small or too saturated (at "
            f"least {side}×{side} px are needed)"
        )
    shared = float(np.median(judged)) if judged else 0.0
    if shared > _SHARED:
        lines.append(
            f"warning: captures of a scene share part of their noise (correlation {shared:.2f} where the scenes are flat), or "
            "it is weak compared with their texture: shared noise is not removed, and PSNR without clean images is too high"
        )
    return lines
