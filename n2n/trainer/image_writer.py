"""The callback that writes what ``Trainer.predict`` makes of image files."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from tqdm.auto import tqdm

from n2n.denoiser.pipeline import Prediction, file_writer, write
from n2n.system.terminal import shows_bars

# A number in a line, but not that of a dtype.
_NUMBER = re.compile(r"(?<![\w.,])-?\d[\d.,]*")


class WriteImages(Callback):
    """Writes predictions of :class:`n2n.data.image_files.ImageFiles` while the next ones are computed.

    Args:
        progress: whether to show a progress bar.
        warn: takes a line on what in an image differs from the training images, or is not written. It is called at the end,
            once for all images with the same line.
    """

    def __init__(self, progress: bool = True, warn: Callable[[str], object] = warnings.warn) -> None:
        self.progress, self.warn = progress, warn
        self._stack = ExitStack()
        # By a line without its numbers: the line of the first image, and all images.
        self._remarks: dict[str, tuple[str, list[Path]]] = {}

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the writing thread and the bar of the first process."""
        total = sum(int(count) for count in trainer.num_predict_batches)
        shown = self.progress and trainer.is_global_zero and shows_bars()
        self.start_bar(total, shown)
        self._writer = self._stack.enter_context(file_writer())

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
        self.advance(max(0.0, batch_idx - self.bar.n))

        def remark(source: Path, line: str) -> None:
            self._remarks.setdefault(_NUMBER.sub("", line), (line, []))[1].append(source)

        write(outputs, self._writer, self.advance, remark)

    def start_bar(self, total: int, shown: bool, **options: Any) -> None:
        """Start a bar that parts of images advance. Its unit says how many images are done."""
        options |= {"unit": f"0/{total} images", "bar_format": "{l_bar}{bar}| {unit} [{elapsed}<{remaining}]"}
        self.bar = self._stack.enter_context(tqdm(total=total, desc="Denoising", disable=not shown, **options))

    def advance(self, part: float) -> None:
        """Advance the bar by a part of an image."""
        # The parts of an image may add up to a little less than 1, or more.
        part = min(part, (self.bar.total or 0) - self.bar.n)
        self.bar.unit = f"{math.floor(self.bar.n + part + 1e-6)}/{self.bar.total} images"
        self.bar.update(part)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Wait until all files are written."""
        self.advance(max(0.0, (self.bar.total or 0) - self.bar.n))
        self._stack.close()
        self._warn()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Stop, and leave no half file."""
        self._stack.__exit__(type(exception), exception, exception.__traceback__)
        self._warn()

    def _warn(self) -> None:
        """Say each line once."""
        for line, files in self._remarks.values():
            alone = len(files) == 1
            self.warn(f"{files[0]}: {line}" if alone else f"{len(files)} images: {line}, such as {files[0]}")
        self._remarks = {}
