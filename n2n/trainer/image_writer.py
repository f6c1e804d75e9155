"""The callback that writes what ``Trainer.predict`` makes of image files."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from n2n.denoiser.pipeline import FileWriter, Prediction


class WriteImages(Callback):
    """Writes predictions of :class:`n2n.data.ImageFiles` while the next ones are computed.

    Args:
        progress: whether to show a progress bar.
        warn: takes a line on what in an image differs from the training images.
    """

    def __init__(self, progress: bool = True, warn: Callable[[str], object] = warnings.warn) -> None:
        self.progress, self.warn = progress, warn
        self._stack = ExitStack()

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the writing thread and the bar of the first process."""
        total = sum(int(count) for count in trainer.num_predict_batches)
        shown = self.progress and trainer.is_global_zero
        bar = "{l_bar}{bar}| {n:.1f}/{total} [{elapsed}<{remaining}]"
        self._bar = self._stack.enter_context(tqdm(total=total, desc="Denoising", bar_format=bar, disable=not shown))
        self._writer = self._stack.enter_context(FileWriter())

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Compute and write one file; anything that is no file is left to others."""
        if not isinstance(outputs, Prediction):
            return
        # Files that failed are finished too.
        self._bar.update(max(0.0, batch_idx - self._bar.n))
        self._writer.write(outputs, self._bar.update, self.warn)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Wait until all files are written."""
        self._bar.update(max(0.0, (self._bar.total or 0) - self._bar.n))
        self._stack.close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Stop, and leave no half file."""
        self._stack.__exit__(type(exception), exception, exception.__traceback__)
