"""One trial: a run of ``n2n fit`` that reports the monitored figure to Optuna after each epoch."""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path

import lightning as L
import optuna
import torch
from lightning.pytorch.callbacks import Callback
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial

from n2n.checkpoints.config import read_checkpoint
from n2n.checkpoints.on_disk import last_checkpoint
from n2n.commands.search.attempts import REASON
from n2n.commands.search.space import Search
from n2n.errors import InputError, reason
from n2n.system.hardware import release_memory
from n2n.trainer.logger import SaveConfig
from n2n.trainer.quiet import silence
from n2n.trainer.run import train

# User attributes: the configuration that ran, and how long the trial took, earlier attempts included.
CONFIG, MINUTES = "config", "minutes"


class TrialFailed(Exception):  # noqa: N818
    """The attempt has no value; the search continues."""


class Reporter(Callback):
    """Reports the monitored figure after each epoch with a validation, and ends a trial that is pruned.

    Args:
        trial: to report to.
        so_far: the attempt as stored, with what earlier attempts reported.
        search: the section.
    """

    def __init__(self, trial: optuna.Trial, so_far: FrozenTrial, search: Search) -> None:
        self.trial, self.search = trial, search
        self.values = dict(so_far.intermediate_values)
        self._value: float | None = None
        self._started = time.monotonic() - 60 * float(so_far.user_attrs.get(MINUTES, 0.0))

    def save_minutes(self) -> None:
        """Save how long the trial took so far."""
        self.trial.set_user_attr(MINUTES, (time.monotonic() - self._started) / 60)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the configuration as it runs, with the channels of the images."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, SaveConfig):
                self.trial.set_user_attr(CONFIG, str(callback.parser.dump(callback.config, skip_unset=False)))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the epoch's best figure."""
        if trainer.sanity_checking:
            return
        monitor, figures = self.search.monitor, trainer.callback_metrics
        if monitor not in figures:
            there = ", ".join(sorted(name for name in figures if name.startswith("val/")))
            raise TrialFailed(f"the validation has no {monitor}; it has {there}")
        value = float(figures[monitor])
        if not math.isfinite(value):
            raise TrialFailed(f"{monitor} is {value} in epoch {trainer.current_epoch + 1}")
        self._value = self.search.best_of([value] if self._value is None else [value, self._value])

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report the epoch's figure; raise TrialPruned if the pruner says so."""
        # Raises UpdateFinishedTrialError if another process has taken over the trial.
        self.save_minutes()
        if self._value is None:
            return
        value, epoch, self._value = self._value, trainer.current_epoch, None
        # A killed process may have reported an epoch whose checkpoint it could not write any more.
        if epoch not in self.values:
            self.values[epoch] = value
            self.trial.report(value, epoch)
        if epoch != (trainer.max_epochs or 0) - 1 and self.trial.should_prune():
            raise optuna.TrialPruned


def _reason(error: Exception) -> str:
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return "the GPU's memory was not enough"
    return reason(error) if isinstance(error, TrialFailed | ValueError) else f"{type(error).__name__}: {reason(error)}"


def can_continue(folder: Path) -> bool:
    """Whether the last checkpoint of a run can be read."""
    checkpoint = last_checkpoint(folder)
    if checkpoint is None:
        return False
    try:
        read_checkpoint(str(checkpoint))
    except InputError:
        return False
    return True


def run_trial(trial: optuna.Trial, so_far: FrozenTrial, search: Search, args: list[str], folder: Path) -> float:
    """Train one trial.

    Args:
        trial: running, its parameters chosen.
        so_far: the attempt as stored, before its parameters were chosen.
        search: the section.
        args: of ``n2n fit``.
        folder: of the run. An attempt that has parameters from an earlier one continues from the checkpoint in it.

    Returns:
        The monitored figure of the best epoch.

    Raises:
        KeyboardInterrupt: on Ctrl-C or SIGTERM.
        TrialFailed: if there is no value; the reason is saved.
        TrialPruned: if the pruner ended the trial.
        UpdateFinishedTrialError: if another process has taken over the trial.
    """
    reporter = Reporter(trial, so_far, search)
    try:
        if not so_far.params or not can_continue(folder):
            shutil.rmtree(folder, ignore_errors=True)
        with silence():
            train(args, folder, [reporter])
        value = search.best_of(reporter.values.values())
        if value is None:
            raise TrialFailed("it ended without a validation")
    except (optuna.TrialPruned, UpdateFinishedTrialError):
        raise
    except Exception as error:  # a trial may fail in any way, and the search continues
        reporter.save_minutes()
        trial.set_user_attr(REASON, _reason(error))
        raise TrialFailed from error
    finally:
        release_memory()  # for the next trial
    return value
