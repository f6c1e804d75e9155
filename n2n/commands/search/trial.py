"""One trial: a run of ``n2n fit`` that tells the study how good it is after each epoch."""

from __future__ import annotations

import gc
import math
import shutil
from pathlib import Path
from typing import Any

import lightning as L
import optuna
import torch
from lightning.pytorch.callbacks import Callback

from n2n.checkpoints.config import read_checkpoint
from n2n.checkpoints.on_disk import LAST
from n2n.commands.search.claims import Claim
from n2n.commands.search.space import Search
from n2n.errors import InputError
from n2n.trainer.logger import SaveConfig
from n2n.trainer.run import silence, train

# The trial's attributes beside WORKER: the configuration that ran, why it failed, the epoch of its value, and how long it took.
CONFIG, REASON, EPOCH, MINUTES = "config", "reason", "epoch", "minutes"


class _Lost(Exception):  # noqa: N818
    """Another process has taken the trial up."""


class _Unfit(Exception):  # noqa: N818
    """The trial has no value."""


class Reporter(Callback):
    """Tells the study the monitored figure after each epoch with a validation, and ends a trial that it prunes.

    Args:
        search: the section.
        claim: on the trial.
    """

    def __init__(self, search: Search, claim: Claim) -> None:
        self.trial, self.search, self.claim = claim.trial, search, claim
        self._value: float | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the configuration as it runs, with the channels of the images."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, SaveConfig):
                self.trial.set_user_attr(CONFIG, str(callback.parser.dump(callback.config, skip_unset=False)))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the figure."""
        if trainer.sanity_checking:
            return
        monitor, figures = self.search.monitor, trainer.callback_metrics
        if monitor not in figures:
            there = ", ".join(sorted(name for name in figures if name.startswith("val/")))
            raise _Unfit(f"the validation has no {monitor}; it has {there}")
        value = float(figures[monitor])
        if not math.isfinite(value):
            raise _Unfit(f"{monitor} is {value} in epoch {trainer.current_epoch}")
        if self.search.better(value, self._value):
            self._value = value

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report the best figure of this epoch's validations."""
        if self._value is None:
            return
        value, epoch, self._value = self._value, trainer.current_epoch, None
        if not self.claim.held():
            raise _Lost
        known = self.trial.storage.get_trial(self.trial._trial_id).intermediate_values
        # An epoch whose checkpoint a killed process had no time to write comes again.
        if epoch not in known:
            self.trial.report(value, epoch)
        last = (trainer.max_epochs or 0) - 1
        if epoch != last and self.trial.should_prune():
            raise optuna.TrialPruned


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    if isinstance(error, _Unfit | ValueError):
        return lines[0][:300]
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return "the GPU's memory was not enough"
    return f"{type(error).__name__}: {lines[0]}"[:300]


def _can_go_on(checkpoint: Path) -> bool:
    """Whether a run has a checkpoint to go on from; one that a kill cut short is none."""
    if not checkpoint.is_file():
        return False
    try:
        read_checkpoint(str(checkpoint))
    except InputError:
        return False
    return True


def run_trial(study: optuna.Study, search: Search, args: list[str], folder: Path, claim: Claim) -> bool:
    """Train one trial and tell the study how it ended.

    Args:
        study: shared.
        search: the section.
        args: of ``n2n fit``.
        folder: of the run; if it has a checkpoint, training goes on from it.
        claim: on the trial, which is begun or taken up again.

    Returns:
        Whether it ended here; False if another process took it up meanwhile.

    Raises:
        KeyboardInterrupt: on Ctrl-C or a signal to end; the trial is left for the next process.
    """
    trial = claim.trial
    state, reason = optuna.trial.TrialState.COMPLETE, None
    try:
        if claim.first or not _can_go_on(folder / "checkpoints" / LAST):
            # Of an earlier study, or killed before its first checkpoint.
            shutil.rmtree(folder, ignore_errors=True)
        with silence():
            train(args, folder, [Reporter(search, claim)])
    except optuna.TrialPruned:
        state = optuna.trial.TrialState.PRUNED
    except _Lost:
        return False
    except KeyboardInterrupt:
        claim.leave()
        raise
    except Exception as error:  # a trial may fail in any way, and the search goes on
        state, reason = optuna.trial.TrialState.FAIL, _reason(error)
    finally:
        # A trial's tensors must not stand in the next one's way.
        gc.collect()
        torch.cuda.empty_cache()
    if not claim.held():
        return False
    values = study._storage.get_trial(trial._trial_id).intermediate_values
    value = search.best_of(values)
    if state == optuna.trial.TrialState.COMPLETE and value is None:
        state, reason = optuna.trial.TrialState.FAIL, "it ended without a validation"
    attributes: dict[str, Any] = {MINUTES: claim.seconds / 60, REASON: reason}
    attributes[EPOCH] = None if value is None else next(epoch for epoch, known in values.items() if known == value)
    for name, content in attributes.items():
        trial.set_user_attr(name, content)
    study.tell(trial, value if state == optuna.trial.TrialState.COMPLETE else None, state)
    return True
