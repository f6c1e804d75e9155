"""Ends a training that diverges, and names what to change."""

from __future__ import annotations

import math

import lightning as L
import torch
from torch import Tensor

from n2n.errors import InputError

# A validation loss of ten times the lowest one so far, 10 dB, means that the network has collapsed.
_COLLAPSED = 10.0
# Losses kept on the device before they are read: a GPU must finish its work for that.
_LOSSES = 100


class EpochLosses:
    """The training losses of an epoch: their sum, and the first that is not finite.

    Attributes:
        total: sum of the losses that were read.
        steps: number of losses added.
        bad: number of the first step, from 0, whose loss is not finite, among those that were read; None if all are.
    """

    def __init__(self, total: float = 0.0, steps: int = 0) -> None:
        self.total, self.steps = total, steps
        self.bad: int | None = None
        self._kept: list[Tensor] = []

    def add(self, loss: Tensor) -> bool:
        """Add a scalar; returns whether it is time to read the losses."""
        self._kept.append(loss)
        self.steps += 1
        return len(self._kept) >= _LOSSES

    def read(self) -> None:
        """Sum the losses added since the last call; waits for the device."""
        if not self._kept:
            return
        values = torch.stack(self._kept).float().cpu()
        first = self.steps - len(self._kept)
        self._kept = []
        self.total += float(values.double().sum())
        bad = (~values.isfinite()).nonzero()
        if len(bad) and self.bad is None:
            self.bad = first + int(bad[0])


def check_losses(losses: EpochLosses, trainer: L.Trainer) -> None:
    """Read the losses of this epoch.

    Raises:
        InputError: if one is not finite.
    """
    losses.read()
    if losses.bad is None:
        return
    lr = trainer.optimizers[0].param_groups[0]["lr"]
    advice = f"lower the learning rate, which is {lr:.2g} here"
    if trainer.precision in ("16-mixed", "16-true"):
        advice = f"choose --trainer.precision bf16-mixed or 32-true, or {advice}"
    elif not trainer.gradient_clip_val:
        advice += ", or limit the gradients (--trainer.gradient_clip_val 1)"
    raise InputError(
        f"the training diverged: the loss of step {losses.bad + 1} of epoch {trainer.current_epoch + 1} is not a finite "
        f"number; {advice}. {_saved(trainer)}"
    )


def check_validation_loss(loss: float, lowest: float, trainer: L.Trainer) -> None:
    """Compare the validation loss with the lowest one so far.

    Raises:
        InputError: if it is not finite, or many times the lowest one. Of losses below 0, such as a negative PSNR, a multiple
            says nothing.
    """
    if math.isfinite(lowest) and (not math.isfinite(loss) or loss > _COLLAPSED * lowest > 0):
        raise InputError(
            f"the training diverged: val/loss is {loss:.3g} after epoch {trainer.current_epoch + 1}, and was {lowest:.3g} "
            "before; lower the learning rate, or let it fall (--model.scheduler n2n.schedules.OneCycle "
            f"--model.scheduler_interval step). {_saved(trainer)}"
        )


def _saved(trainer: L.Trainer) -> str:
    """Return a sentence that names the last checkpoint of a training that fails."""
    paths = [str(path) for one in trainer.checkpoint_callbacks if (path := getattr(one, "best_model_path", ""))]
    if not paths:
        return "Nothing had been saved yet"
    return f"What was saved before stays, and a new training may begin with it: --model.start_from {paths[-1]}"
