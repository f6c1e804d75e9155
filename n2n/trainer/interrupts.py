"""Ctrl-C and SIGTERM in a training: it is saved where it is, in the middle of an epoch too."""

from __future__ import annotations

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

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Steps from one question whether another process was interrupted to the next: each is a message between all.
_QUESTIONS = 20


class _Stop(BaseException):
    """Leaves the Trainer, which would end the process after a KeyboardInterrupt."""


class StopAndSave(Callback):
    """Saves a training after the step in which a signal came, and ends it. A second signal ends it at once, unsaved."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self.result: Interrupted | None = None
        self._training = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen for Ctrl-C and SIGTERM; before and after the training itself they raise a KeyboardInterrupt.

        Raises:
            Interrupted: if the training was interrupted.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        self._listen()
        try:
            yield
        except _Stop:
            assert self.result is not None
            raise self.result from None
        except SystemExit as error:
            # Lightning's answer to a KeyboardInterrupt.
            if isinstance(error.__context__, KeyboardInterrupt):
                raise Interrupted(self.signum or signal.SIGINT) from None
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _listen(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                signal.signal(number, self._take)

    def _take(self, signum: int, frame: FrameType | None) -> None:
        wait, self.signum = self._training and self.signum is None, signum
        if not wait:
            raise Interrupted(signum)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Wait for the end of a step from now on."""
        self._training = True
        # Lightning has put a handler of its own before ours, which leaves an epoch's last steps unsaved.
        self._listen()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Wait no longer."""
        self._training = False

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop, unless the epoch is over with this step: then its validation comes first."""
        if trainer.world_size > 1 and (batch_idx + 1) % _QUESTIONS:
            return
        if batch_idx + 1 < trainer.num_training_batches and self._asked(trainer):
            steps = f" after {batch_idx + 1} of {trainer.num_training_batches} steps"
            self._stop(trainer, f"epoch {trainer.current_epoch}{steps}", save=True)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop between two epochs, of which the first is saved."""
        if self._asked(trainer):
            self._stop(trainer, f"epoch {trainer.current_epoch}", save=False)

    def _asked(self, trainer: L.Trainer) -> bool:
        # All stop after the same step, or the others would wait for those that have stopped.
        return trainer.strategy.reduce_boolean_decision(self.signum is not None, all=False)

    def _stop(self, trainer: L.Trainer, where: str, save: bool) -> None:
        keepers = (one for one in trainer.checkpoint_callbacks if isinstance(one, ModelCheckpoint))
        folder = next((one.dirpath for one in keepers if one.dirpath is not None), None)
        saved = Path(folder) / LAST if folder is not None else None
        if save and saved is not None:
            trainer.save_checkpoint(saved, weights_only=False)
        there = saved if saved is not None and saved.is_file() else None
        self._training = False
        self.result = Interrupted(self.signum or signal.SIGINT, where, there)
        raise _Stop
