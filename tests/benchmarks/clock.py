"""Clocks for training loops, ours and others'."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import lightning as L
import torch


class Clock:
    """Pairs a second of a training loop, without start-up and without what lies between its epochs.

    Args:
        device: on which the loop runs; waited for before the clock is read.
        warm_up: steps that are not counted.
    """

    def __init__(self, device: torch.device, warm_up: int) -> None:
        self._device, self._warm_up = device, warm_up
        self._steps, self._started, self._begun, self._stopped = 0, 0.0, 0.0, 0.0
        self.pairs, self.seconds = 0, 0.0

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def resume(self) -> None:
        """Go on, if the warm-up is over."""
        if self._steps >= self._warm_up and not self._started:
            self._started = self._now()
            self._begun = self._begun or self._started

    def step(self, pairs: int) -> None:
        """Note that a step on so many pairs is over."""
        self._steps += 1
        if self._started:
            self.pairs += pairs
        self.resume()

    def pause(self) -> None:
        """Stop for the time being."""
        if self._started:
            self._stopped = self._now()
            self.seconds += self._stopped - self._started
        self._started = 0.0

    @property
    def rate(self) -> float:
        """Pairs a second."""
        return self.pairs / self.seconds

    @property
    def whole(self) -> float:
        """Seconds from the first counted step to the last, with what lies between the epochs."""
        return self._stopped - self._begun


class Stopwatch(L.Callback):
    """Times the steps of a Trainer with ``clock``, which the command line cannot hand over."""

    clock: ClassVar[Clock]

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.clock.resume()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # A tensor's data is the tensor; CAREamics' batches hold theirs as data, too.
        self.clock.step(len(batch[0].data))
        if trainer.is_last_batch:
            self.clock.pause()


class FirstStep(L.Callback):
    """Prints the time of day when the first training step is over."""

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == 1:
            print(f"\nfirst step: {time.time()}", flush=True)
