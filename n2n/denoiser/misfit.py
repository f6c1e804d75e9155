"""The noise of an image that is denoised, and how it differs from the noise that the network was trained on.

It is measured in the flattest blocks of the noisy image. The difference of noisy and denoised image would not do: a network
that learnt white noise removes only the white part of other noise. What the denoised image has left in the same blocks shows
noise that differs in another way, such as noise that is the same in all colours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from n2n.data.flat_noise import NoiseLevel, neighbours
from n2n.data.noise import TrainedNoise
from n2n.data.value_range import ValueRange

# Noise of a smaller sigma is not judged: much of it is texture, and JPEG changes it.
_WEAK = 4 / 255
# Noise fits the training's if its correlation is at most _MORE above the training's and at most _LESS below, and its sigma at
# most _STRONGER times the largest and at least _WEAKER times the least there. These limits were chosen on crops of 40
# photographs with noise of 17 kinds and on 48 micrographs, so that no remark is wrong there.
_MORE, _LESS, _STRONGER, _WEAKER = 0.3, 0.1, 1.15, 0.5
# Part of the sigma that may be left at some brightness. On 50 other photographs "gaussian" leaves 0.56 of white noise at most,
# and 0.96 or more of the same noise after JPEG that halves the resolution for colour. Of 400 photographs 9 get the remark, 4 of
# which have a texture, such as grass, that looks like noise everywhere. So the remark says "if".
_LEFT = 0.65
_TRAINED = "this checkpoint was trained on"
# Checkpoints that come with n2n, for correlated and for white noise.
_PHOTOGRAPHS, _WHITE = "for a photograph, try --ckpt_path camera", "try --ckpt_path gaussian"


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
    suited = f"{_PHOTOGRAPHS}, or " if trained.neighbours[1] < _LESS < neighbours(noise) else ""
    return (
        f"of sigma {sigma * span:.3g} in flat parts, {left * span:.3g} is left: if that is noise and no fine texture, "
        f"{suited}train on your own pairs"
    )


def _mean(sigmas: NDArray[Any], counts: NDArray[Any]) -> float:
    return float(np.sqrt(np.average(sigmas**2, weights=counts)))


def _correlation(noise: list[NoiseLevel], trained: TrainedNoise) -> tuple[str | None, str]:
    """Say that the correlation of neighbouring pixels differs from that of the training, and which checkpoint suits it."""
    low, high = trained.neighbours
    here = neighbours(noise)
    # At each brightness, because texture that passes for noise is correlated.
    if min(one.neighbours for one in noise) > high + _MORE:
        learnt = "white noise" if high < _LESS else f"noise that is less so ({high:.2g} at most)"
        return f"is correlated between neighbouring pixels ({here:.2g}), and {_TRAINED} {learnt}", _PHOTOGRAPHS
    if here < min(low, 0) - _LESS:
        learnt = f"{_TRAINED} noise whose correlation is {low:.2g} to {high:.2g}"
        line = f"is correlated negatively between neighbouring pixels ({here:.2g}), as in a colour mosaic, and {learnt}"
        return line, "save each colour of a mosaic as an image of its own"
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
