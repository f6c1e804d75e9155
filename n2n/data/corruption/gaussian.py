"""Additive white Gaussian noise."""

# No postponed annotations: jsonargparse would not resolve those of these dataclasses, and would accept any value.

from dataclasses import dataclass

import torch
from torch import Tensor

from n2n.data.corruption.base import Corruption
from n2n.data.corruption.levels import Level, check_level, draw_level


@dataclass(frozen=True)
class Gaussian(Corruption):
    """Adds a normal random number to every value.

    Lehtinen et al. 2018 (section 3.1) trained with sigma drawn from [0, 50] and tested with 25.

    Args:
        sigma: standard deviation in grey levels of 0 to 255: 25 is 25/255 of the range [0, 1]. A number, or a range [low, high]
            from which the sigma of each image is drawn uniformly.

    Raises:
        InputError: for a negative sigma, or a range whose low end is above its high end.
    """

    sigma: Level = 25.0

    def __post_init__(self) -> None:
        check_level("sigma", self.sigma)

    def __call__(self, clean: Tensor, generator: torch.Generator | None) -> Tensor:
        """Add the noise: N×C×H×W -> the same shape."""
        sigma = draw_level(self.sigma, clean, generator) / 255
        noise = torch.randn(clean.shape, generator=generator, device=clean.device)
        return torch.addcmul(clean, noise, sigma)
