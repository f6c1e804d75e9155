"""The optimiser and the learning-rate scheduler of a training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import lightning as L
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.optim.lr_scheduler import ReduceLROnPlateau

from n2n.errors import InputError, reason
from n2n.optimizers import fused
from n2n.schedules import training_epochs, training_steps

Built = TypeVar("Built")


def build_optimizers(
    trainer: L.Trainer,
    module: L.LightningModule,
    make_optimizer: OptimizerCallable,
    make_scheduler: LRSchedulerCallable | None,
    interval: Literal["epoch", "step"],
) -> OptimizerLRScheduler:
    """Make the optimiser of a module's weights and its scheduler, for ``configure_optimizers``.

    Raises:
        InputError: if an argument is wrong, if the schedule depends on the length of a training without an end, or if
            ``ReduceLROnPlateau`` is stepped in each step.
    """
    optimizer = _built("optimizer", make_optimizer, module.parameters())
    # In mixed precision, Lightning cannot clip the gradients of a fused optimiser, which unscales them itself.
    if not trainer.gradient_clip_val:
        optimizer = fused(optimizer)
    if make_scheduler is None:
        return optimizer
    scheduler = _built("scheduler", make_scheduler, optimizer)
    if getattr(scheduler, "total_steps", 0) is None:
        length = training_steps if interval == "step" else training_epochs
        scheduler.total_steps = length(trainer, f"the scheduler {type(scheduler).__name__}")  # type: ignore[attr-defined]
    is_plateau = isinstance(scheduler, ReduceLROnPlateau)
    if is_plateau and interval == "step":
        raise InputError(
            "--model.scheduler_interval is step, and ReduceLROnPlateau needs the loss of a validation: expected epoch"
        )
    # Epochs without a validation have no figure for it.
    frequency = (trainer.check_val_every_n_epoch or 1) if is_plateau else 1
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": scheduler, "interval": interval, "frequency": frequency, "monitor": "val/loss"},
    }


def _built(what: str, make: Callable[[Any], Built], of: Any) -> Built:
    """Make the optimiser or the scheduler, which check their arguments only now."""
    try:
        return make(of)
    except InputError:
        raise
    except Exception as error:  # it may be anybody's class
        raise InputError(f"--model.{what} cannot be built ({reason(error)}): change its arguments") from error
