"""The progress bar of a comparison."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, Timer
from tqdm import tqdm

from n2n.commands.runs import PAIRS
from n2n.schedules import progress
from n2n.trainer.logger import RunLogger, write_facts


def count_as_done(bar: tqdm[Any], part: float) -> None:
    """Advance the bar by what an earlier process trained. The time that is left is not estimated from it."""
    if not bar.disable:  # a bar that is not shown has no such attribute
        bar.initial += part
    bar.update(part)


class Progress(Callback):
    """Advances the bar of a comparison, in which a network is one unit, while a network trains after ``before`` others.

    The processes that Lightning starts for further devices are added to ``started``.
    """

    def __init__(self, bar: tqdm[Any], before: int, started: list[list[subprocess.Popen[bytes]]]) -> None:
        self.bar, self.before, self.started = bar, before, started
        self._shown = 0.0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Note the processes. The first Trainer starts them, for all that follow."""
        self.started.append(getattr(trainer.strategy.launcher, "procs", []))

    def _done(self, trainer: L.Trainer) -> float:
        """Return the used part of the budget, of epochs or of time, whichever is larger."""
        done = progress(trainer) if trainer.max_epochs and trainer.max_epochs > 0 else 0.0
        timer = next((c for c in getattr(trainer, "callbacks", []) if isinstance(c, Timer)), None)
        if timer is not None and (left := timer.time_remaining()) is not None:
            spent = timer.time_elapsed()
            done = max(done, spent / max(1e-9, spent + left))
        return done

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count what an interrupted run has trained before, and note the pairs of an epoch."""
        if isinstance(trainer.logger, RunLogger) and trainer.is_global_zero and trainer.train_dataloader is not None:
            sampler = trainer.train_dataloader.sampler
            pairs = min(sampler.pairs // sampler.world_size, trainer.num_training_batches * sampler.batch_size)
            write_facts(Path(trainer.logger.log_dir), **{PAIRS: pairs})
        self._shown = self._done(trainer)
        count_as_done(self.bar, self._shown)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any) -> None:
        """Advance the bar."""
        done = self._done(trainer)
        if done - self._shown >= 0.01:
            self._shown = done
            self.bar.update(self.before + done - self.bar.n)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the PSNR."""
        if trainer.sanity_checking:
            return
        figures = trainer.callback_metrics
        tags = [tag for tag in ("val/psnr_per_image", "val/psnr_blind") if tag in figures]
        score = f"{float(figures[tags[0]]):.2f} dB" if tags else ""
        self.bar.set_postfix_str(f"epoch {trainer.current_epoch + 1}, {score}".rstrip(", "), refresh=False)
