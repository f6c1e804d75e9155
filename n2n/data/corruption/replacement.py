"""Noise that replaces a part of the pixels and keeps the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from n2n.data.corruption.base import Corruption, Level, check_level, draw_level


def _chosen(p: Tensor, images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Choose each pixel with the probability of its image, the same for all channels: N×1×1×1 -> N×1×H×W bool."""
    N, _, H, W = images.shape
    return torch.rand(N, 1, H, W, generator=generator, device=images.device) < p


@dataclass(frozen=True)
class Bernoulli(Corruption):
    """Drops pixels at random: x becomes x·m / keep, where m is 1 with probability ``keep`` and else 0.

    Because of the division the mean is x, so MSE is the right loss; the variance is x²·(1 − keep) / keep. Lehtinen et al. 2018
    (section 3.2) do not divide, and leave missing pixels out of the loss, Σ (m·(f − y))². Both losses have their minimum at the
    clean image. Theirs has less noise in its gradient, but needs the mask of the target. Their p is 1 − keep: [0, 0.95] in
    training and 0.5 in the test, so keep is [0.05, 1] and 0.5.

    Args:
        keep: probability that a pixel is kept. A number, or a range [low, high] from which that of each image is drawn
            uniformly.

    Raises:
        InputError: unless keep is above 0 and at most 1, or for a range whose low end is above its high end.
    """

    keep: Level = 0.5

    def __post_init__(self) -> None:
        check_level("keep", self.keep, most=1.0, above=True)

    def __call__(self, clean: Tensor, generator: torch.Generator | None) -> Tensor:
        """Mask the pixels: N×C×H×W -> the same shape."""
        keep = draw_level(self.keep, clean, generator)
        return clean * (_chosen(keep, clean, generator) / keep)


@dataclass(frozen=True)
class Impulse(Corruption):
    """Replaces pixels by random colours (random-valued impulse noise).

    A replaced pixel is uniform over [0, 1] in each channel, so the mean of a noisy pixel is (1 − p)·x + p/2. Its mean is not
    x, and neither is its median if p is above 0.5, but its mode is. MSE, and L1 for such p, would give greyish images; the
    right loss is :class:`n2n.losses.AnnealedL0`, which seeks the mode (Lehtinen et al. 2018, section 3.2; they trained with p
    drawn from [0, 0.95]).

    Args:
        p: probability that a pixel is replaced. A number, or a range [low, high] from which that of each image is drawn
            uniformly.

    Raises:
        InputError: unless p lies in [0, 1], or for a range whose low end is above its high end.
    """

    p: Level = 0.5

    zero_mean: ClassVar[bool] = False
    suited_loss: ClassVar[str] = "n2n.losses.AnnealedL0"

    def __post_init__(self) -> None:
        check_level("p", self.p, most=1.0)

    def __call__(self, clean: Tensor, generator: torch.Generator | None) -> Tensor:
        """Replace the pixels: N×C×H×W -> the same shape."""
        replaced = _chosen(draw_level(self.p, clean, generator), clean, generator)
        return torch.where(replaced, torch.rand(clean.shape, generator=generator, device=clean.device), clean)
