"""Callbacks that do to a training what happens to trainings."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback


class Gate(Callback):
    """Waits at the start of an epoch, counted from 0, until a file is there. A file with the process's number says so."""

    def __init__(self, epoch: int, file: str) -> None:
        self.epoch, self.file = epoch, Path(file)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch == self.epoch:
            self.file.with_suffix(f".{os.getpid()}").touch()
            while not self.file.exists():
                time.sleep(0.02)


class Kill(Callback):
    """Kills one of the processes after some step.

    Args:
        step: counted from 1 over all epochs.
        rank: of the process.
        stuck: whether the others then wait for what never comes.
    """

    def __init__(self, step: int, rank: int = 0, stuck: bool = False) -> None:
        self.step, self.rank, self.stuck = step, rank, stuck

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:
            if trainer.global_rank == self.rank:
                os.kill(os.getpid(), signal.SIGKILL)
            while self.stuck:
                time.sleep(1)
