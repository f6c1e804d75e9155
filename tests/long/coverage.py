"""How often the 95 % interval of the PSNR without clean images covers the true value: ``python -m tests.long.coverage``.

For each number of scenes it simulates 300 sets. The squared errors of the scenes come from a smooth distribution (uniform) or a
heavy-tailed one (log-normal, sigma 1). The true value is the mean of the distribution, so the one for all scenes like these.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from n2n.metrics import LEAST_SCENES, BlindPSNR, psnr_from_mse

SETS = 300
COUNTS = (2, 3, 5, 10, 30)
MEAN = 0.01
DRAWS: dict[str, Callable[[int, torch.Generator], Tensor]] = {
    "smooth": lambda count, generator: 2 * MEAN * torch.rand(count, generator=generator),
    "heavy-tailed": lambda count, generator: MEAN * torch.exp(torch.randn(count, generator=generator) - 0.5),
}


def coverage(kind: str, count: int, sets: int = SETS) -> float | None:
    """Return the fraction of intervals that cover the true value; None if no interval is given."""
    generator = torch.Generator().manual_seed(count)
    truth = float(psnr_from_mse(torch.tensor(MEAN, dtype=torch.float64)))
    covered = 0
    for _ in range(sets):
        errors = DRAWS[kind](count, generator)
        clean = torch.full((count, 1, 16, 16), 0.5)
        first, second = (clean + 0.05 * torch.randn(clean.shape, generator=generator) for _ in range(2))
        denoised = clean + errors.sqrt()[:, None, None, None]
        blind = BlindPSNR()
        blind.update(first, second, denoised, denoised)
        estimate = blind.compute()
        if math.isnan(estimate.high):
            return None
        # Without a lower end nothing is claimed there.
        covered += not truth < float(estimate.low) and truth < float(estimate.high)
    return covered / sets


def main() -> None:
    """Print the table."""
    print("| scenes | " + " | ".join(DRAWS) + " |\n|--:|" + "--:|" * len(DRAWS))
    for count in COUNTS:
        found = [coverage(kind, count) for kind in DRAWS]
        cells = ["no interval" if value is None else f"{value:.0%}" for value in found]
        print(f"| {count} | {' | '.join(cells)} |")
    print(f"\nIntervals are given from {LEAST_SCENES} scenes on.")


if __name__ == "__main__":
    main()
