"""Learning rates that know how long the training is."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from n2n.errors import InputError


class OneCycle(LRScheduler):
    """The rate rises along a half cosine, then falls to nothing along another (Smith and Topin 2017).

    Unlike PyTorch's ``OneCycleLR`` it need not be told the number of steps: :class:`n2n.DenoisingModule` does that, so any
    number of epochs and any batch size will do, and a run that is resumed for more epochs gets a longer cycle.

    Args:
        optimizer: whose rate is the highest of the cycle.
        rise: part of the training in which the rate rises, between 0 and 1.
        start: the first rate, as a part of the highest.
        total_steps: length of the training in steps of this scheduler; None until it is known.

    Raises:
        InputError: if ``rise`` is not between 0 and 1, ``start`` no part, or ``total_steps`` below 1.
    """

    def __init__(
        self, optimizer: Optimizer, rise: float = 0.2, start: float = 0.04, total_steps: int | None = None
    ) -> None:
        if not 0 < rise < 1:
            raise InputError(f"rise is {rise}: expected a part of the training, between 0 and 1")
        if not 0 <= start <= 1:
            raise InputError(f"start is {start}: expected a part of the highest rate, 0 to 1")
        if total_steps is not None and total_steps < 1:
            raise InputError(f"total_steps is {total_steps}: expected at least 1, or null until it is known")
        self.rise, self.start, self.total_steps = rise, start, total_steps
        super().__init__(optimizer)

    def factor(self, progress: float) -> float:
        """Return the rate at some point of the training, 0 to 1, as a part of the highest."""
        if progress < self.rise:
            return self.start + (1 - self.start) * (1 - math.cos(math.pi * progress / self.rise)) / 2
        return (1 + math.cos(math.pi * (min(progress, 1.0) - self.rise) / (1 - self.rise))) / 2

    def get_lr(self) -> list[float]:  # type: ignore[override]  # newer releases of torch allow tensors, too
        """Return the rate of each group of parameters."""
        progress = self.last_epoch / self.total_steps if self.total_steps else 0.0
        return [float(base) * self.factor(progress) for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Leave the length of the training out: a resumed run may be longer."""
        return {name: value for name, value in super().state_dict().items() if name != "total_steps"}
