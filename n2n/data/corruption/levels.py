"""The level of a noise: fixed, or drawn for each image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from n2n.errors import InputError

# A range from YAML can also be a list.
Level = float | tuple[float, float]


def check_level(name: str, level: Level, least: float = 0.0, most: float = math.inf, above: bool = False) -> None:
    """Check that a level lies between ``least`` and ``most``.

    Args:
        name: name of the parameter, for the message.
        level: a number, or a range (low, high).
        least: smallest level.
        most: largest level.
        above: whether ``least`` itself is refused.

    Raises:
        InputError: if the level is outside, or a range has not two ends or has its low end above its high end.
    """
    ends = tuple(level) if isinstance(level, tuple | list) else (level, level)
    good = len(ends) == 2 and all(
        math.isfinite(end) and least <= end <= most and not (above and end == least) for end in ends
    )
    if not good or ends[0] > ends[1]:
        bounds = f"above {least:g}" if above else f"of at least {least:g}"
        bounds += "" if math.isinf(most) else f" and at most {most:g}"
        raise InputError(f"{name} is {level}: expected a number {bounds}, or a range [low, high] of such numbers")


def highest(level: Level) -> float:
    """Return the highest level that can be drawn."""
    return max(level) if isinstance(level, tuple | list) else level


def draw_level(level: Level, images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw the level of each of N images, uniform over a range. Returns N×1×1×1 on the device of the images."""
    N = len(images)
    if not isinstance(level, tuple | list):
        return images.new_full((N, 1, 1, 1), level)
    low, high = level
    return low + (high - low) * torch.rand(N, 1, 1, 1, generator=generator, device=images.device)
