"""How far a training is, and learning rates that depend on it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from n2n.errors import InputError

if TYPE_CHECKING:
    from lightning import Trainer


def training_steps(trainer: Trainer, what: str) -> int:
    """Return the number of optimiser steps of the whole training.

    Args:
        trainer: the Trainer, while it fits.
        what: what depends on the number, for the message.

    Raises:
        InputError: if neither ``max_epochs`` nor ``max_steps`` ends the training.
    """
    steps = trainer.estimated_stepping_batches
    # -1 if the data has no length and max_steps is not set.
    if steps == math.inf or steps < 0:
        raise InputError(f"{what} needs an end: set --trainer.max_epochs or --trainer.max_steps")
    return int(steps)


def training_epochs(trainer: Trainer, what: str) -> int:
    """Return the number of epochs of the whole training, rounded up if ``max_steps`` ends it within one.

    Raises:
        InputError: as for :func:`training_steps`, and if the data has no length.
    """
    steps = training_steps(trainer, what)
    if trainer.num_training_batches == math.inf:  # also before the data is loaded
        trainer.fit_loop.setup_data()
    if trainer.num_training_batches == math.inf:
        raise InputError(
            f"{what} needs the length of an epoch, which this data does not tell: set scheduler_interval to step"
        )
    return math.ceil(steps / math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches))


def progress(trainer: Trainer) -> float:
    """Return how far the training is, from 0 (start) to 1 (end): the share of its optimiser steps that is done.

    It is 1 outside of training, and if neither ``max_epochs`` nor ``max_steps`` ends the training.
    """
    if trainer.state.fn != "fit":
        return 1.0
    steps = trainer.estimated_stepping_batches
    return min(1.0, trainer.global_step / steps) if 0 < steps < math.inf else 1.0


class OneCycle(LRScheduler):
    """One-cycle learning-rate schedule: the rate rises along a half cosine, then falls to 0 along another.

    See Smith and Topin, "Super-Convergence" (2017). Unlike PyTorch's ``OneCycleLR``, it does not need the number of steps:
    :class:`n2n.DenoisingModule` sets it. A run that is resumed for more or fewer epochs gets a longer or a shorter cycle, with
    a warning.

    Args:
        optimizer: its learning rate is the highest of the cycle.
        rise: fraction of the training in which the rate rises, between 0 and 1.
        start: first rate, as a fraction of the highest.
        total_steps: length of the training in steps of this scheduler; None until it is known.

    Raises:
        InputError: if ``rise`` is not between 0 and 1, ``start`` not from 0 to 1, or ``total_steps`` below 1.
    """

    def __init__(
        self, optimizer: Optimizer, rise: float = 0.2, start: float = 0.04, total_steps: int | None = None
    ) -> None:
        if not 0 < rise < 1:
            raise InputError(f"rise is {rise}: expected a fraction of the training, between 0 and 1")
        if not 0 <= start <= 1:
            raise InputError(f"start is {start}: expected a fraction of the highest rate, 0 to 1")
        if total_steps is not None and total_steps < 1:
            raise InputError(f"total_steps is {total_steps}: expected at least 1, or null until it is known")
        self.rise, self.start, self.total_steps = rise, start, total_steps
        super().__init__(optimizer)

    def factor(self, progress: float) -> float:
        """Return the rate at a point of the training, 0 to 1, as a fraction of the highest."""
        if progress < self.rise:
            return self.start + (1 - self.start) * (1 - math.cos(math.pi * progress / self.rise)) / 2
        return (1 + math.cos(math.pi * (min(progress, 1.0) - self.rise) / (1 - self.rise))) / 2

    def get_lr(self) -> list[float]:  # type: ignore[override]  # newer releases of torch also allow tensors
        """Return the rate of each parameter group."""
        progress = self.last_epoch / self.total_steps if self.total_steps else 0.0
        return [float(base) * self.factor(progress) for base in self.base_lrs]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, but not the length of the training, because a resumed run may be longer."""
        from lightning.pytorch.utilities import rank_zero_warn  # takes long to import

        planned, steps = state_dict.get("total_steps"), self.total_steps
        super().load_state_dict(state_dict | {"total_steps": steps})
        if isinstance(planned, int) and steps is not None and planned != steps:
            rates = ", ".join(f"{rate:.2g}" for rate in dict.fromkeys(self.get_lr()))
            rank_zero_warn(
                f"the schedule {type(self).__name__} was planned for {planned:,} steps and is for {steps:,} now: the learning "
                f"rate goes on at {rates}"
            )
