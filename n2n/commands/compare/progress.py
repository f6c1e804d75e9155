"""Progress over a whole comparison."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, Timer
from tqdm import tqdm


class Progress(Callback):
    """Advances the bar of the comparison while one network is trained.

    Args:
        bar: of the comparison; a network is one unit of it.
        before: units that were complete before this network.
    """

    def __init__(self, bar: tqdm[Any], before: int) -> None:
        self.bar, self.before = bar, before
        self._shown = 0.0

    def _show(self, trainer: L.Trainer, batches: int) -> None:
        """Show the part of the budget that is used up, of epochs or of time, whichever is larger."""
        done = 0.0
        if trainer.max_epochs and trainer.max_epochs > 0:
            done = (trainer.current_epoch + batches / max(1.0, trainer.num_training_batches)) / trainer.max_epochs
        timer = next((c for c in getattr(trainer, "callbacks", []) if isinstance(c, Timer)), None)
        if timer is not None and (left := timer.time_remaining()) is not None:
            spent = timer.time_elapsed()
            done = max(done, spent / max(1e-9, spent + left))
        # Drawing a hundred times costs the training nothing.
        if done - self._shown >= 0.01:
            self._shown = done
            self.bar.update(self.before + min(1.0, done) - self.bar.n)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any) -> None:
        """Advance the bar."""
        self._show(trainer, trainer.fit_loop.batch_idx + 1)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the PSNR. All figures are there only when validation has ended."""
        if trainer.sanity_checking:
            return
        figures = trainer.callback_metrics
        score = next(
            (f"{float(figures[t]):.2f} dB" for t in ("val/psnr_per_image", "val/psnr_blind") if t in figures), ""
        )
        self.bar.set_postfix_str(f"epoch {trainer.current_epoch + 1}, {score}".rstrip(", "), refresh=False)
