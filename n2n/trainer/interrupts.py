"""Ctrl-C, SIGTERM and SIGHUP save a training after the current step, also in the middle of an epoch."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from n2n.checkpoints.on_disk import LAST
from n2n.errors import Interrupted
from n2n.trainer.logger import RunLogger

# SIGHUP comes when a terminal is closed or a connection lost. Windows has SIGBREAK in its place.
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
# Least steps between two checks whether another process was interrupted, each of which is a message among all processes.
_STEPS = 20


class _Stop(BaseException):
    """Leaves the Trainer. After a KeyboardInterrupt it would kill the other processes and end this one."""


class _Signals(Callback):
    """Handles signals while a Trainer runs.

    Attributes:
        signum: the last signal that came.
        result: what to raise after a :class:`_Stop`.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self.result: Interrupted | None = None
        self._handled: list[signal.Signals] = []

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals.

        Raises:
            Interrupted: if one of them ended the Trainer, or came when nothing was left to stop.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        # What nohup started goes on when its terminal is closed.
        self._handled = [n for n in before if n.name != "SIGHUP" or before[n] != signal.SIG_IGN]
        self._listen()
        try:
            yield
            if self.signum is not None:
                # It came in the last step. A command that trains several networks must not go on with the next one.
                raise Interrupted(self.signum)
        except _Stop:
            raise (self.result or Interrupted(self.signum or signal.SIGINT)) from None
        except SystemExit as error:
            # Lightning raises it after a KeyboardInterrupt.
            cause = error.__context__
            if isinstance(cause, KeyboardInterrupt):
                raise (cause if isinstance(cause, Interrupted) else Interrupted(self.signum or signal.SIGINT)) from None
            raise
        finally:
            for number in self._handled:
                signal.signal(number, before[number])

    def _listen(self) -> None:
        for number in self._handled:
            signal.signal(number, self._take)

    def _take(self, signum: int, frame: FrameType | None) -> None:
        raise NotImplementedError


class StopAtOnce(_Signals):
    """Ends a prediction when a signal comes; further signals do not disturb the cleaning up."""

    def _take(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum = signum
            raise _Stop

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Handle SIGTERM again, for which Lightning has installed a handler of its own."""
        self._listen()


class StopAndSave(_Signals):
    """Saves a training after the step in which a signal came, and ends it; a second signal ends it at once, unsaved.

    Outside the training steps a signal raises a KeyboardInterrupt.
    """

    def __init__(self) -> None:
        super().__init__()
        self._training = False
        self._last: Path | None = None

    def _take(self, signum: int, frame: FrameType | None) -> None:
        again, self.signum = self.signum is not None, signum
        if self._training and not again:
            return
        if self._training and self._last is not None and self._last.is_file():
            raise Interrupted(signum, "at once (the steps since the last epoch are lost)", self._last)
        raise Interrupted(signum)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """From now on a signal waits for the end of the step."""
        self._training = True
        keepers = (one for one in trainer.checkpoint_callbacks if isinstance(one, ModelCheckpoint))
        # That of the last checkpoint: the best ones may be in another folder.
        folder = next((one.dirpath for one in keepers if one.filename == Path(LAST).stem), None)
        self._last = Path(folder) / LAST if folder is not None else None
        # Lightning has installed a handler of its own, which does not save the steps since the last epoch.
        self._listen()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """From now on a signal does not wait."""
        self._training = False

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop, unless this was the last step of the epoch: its validation comes first then.

        Gradients are not saved, so those that are added up over some batches are used first.
        """
        every = trainer.accumulate_grad_batches
        if trainer.world_size > 1:
            every *= math.ceil(_STEPS / every)
        if (batch_idx + 1) % every:
            return
        if batch_idx + 1 < trainer.num_training_batches and self._interrupted(trainer):
            steps = f" after {batch_idx + 1} of {trainer.num_training_batches} steps"
            self._stop(trainer, f"in epoch {trainer.current_epoch + 1}{steps}", save=True)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop between two epochs; the first is saved already."""
        if self._interrupted(trainer):
            self._stop(trainer, f"after epoch {trainer.current_epoch}", save=False)

    def _interrupted(self, trainer: L.Trainer) -> bool:
        # All processes stop after the same step: those that went on would wait for the others.
        return trainer.strategy.reduce_boolean_decision(self.signum is not None, all=False)

    def _stop(self, trainer: L.Trainer, where: str, save: bool) -> None:
        if save and self._last is not None:
            trainer.save_checkpoint(self._last, weights_only=False)
        if trainer.is_global_zero and isinstance(trainer.logger, RunLogger):
            trainer.logger.note_minutes()
        there = self._last if self._last is not None and self._last.is_file() else None
        self._training = False
        self.result = Interrupted(self.signum or signal.SIGINT, where, there)
        raise _Stop


@contextmanager
def end_others(trainer: L.Trainer) -> Iterator[None]:
    """End the processes that a Trainer started if this one fails: they may wait for it. Lightning does so on Ctrl-C alone."""
    try:
        yield
    except (Exception, _Stop) as error:
        if (launcher := trainer.strategy.launcher) is not None:
            # Windows has no SIGKILL; SIGTERM ends a process there at once.
            launcher.kill(signal.SIGTERM if isinstance(error, _Stop) else getattr(signal, "SIGKILL", signal.SIGTERM))
            # Lightning's thread that watches them would end this process, too, which may have more to do.
            getattr(launcher, "procs", []).clear()
        raise
