"""What the terminal shows while a network trains: its size, a line for each epoch, and a bar of the epoch that runs."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ProgressBar, Timer
from lightning.pytorch.utilities import rank_zero_info
from tqdm.auto import tqdm

from n2n.module import DenoisingModule
from n2n.system.terminal import shows_bars
from n2n.system.text import counted
from n2n.trainer.hyperparameters import network_cost

# Steps that are not timed, because the first ones take longer, and steps after which the whole time is known well enough.
_WARM_UP, _ENOUGH = 5, 20
_BAR = "{desc} |{bar}| {n_fmt}/{total_fmt}{postfix}"
# Drawings of the bar in an epoch: each takes a tenth of a small network's step, and a GPU must finish its work for the loss.
_DRAWINGS = 100


class NetworkSize(Callback):
    """Says how large the network is, in place of Lightning's table of all layers."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count parameters and multiplications. The network is not compiled yet."""
        if isinstance(pl_module, DenoisingModule) and pl_module.images is not None and trainer.is_global_zero:
            cost = network_cost(pl_module, pl_module.images.shape)
            rank_zero_info(
                f"{type(pl_module.backbone).__name__}: {counted(cost['parameters'], 'parameter', ',')}, "
                f"{cost['macs_per_pixel']:,.0f} multiplications per pixel."
            )


def clock(seconds: float) -> str:
    """Return a duration as M:SS or H:MM:SS."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def rough_duration(seconds: float) -> str:
    """Return a rounded duration in words, such as "about 12 minutes"."""
    if seconds < 60:
        return "less than a minute"
    if seconds < 100 * 60:
        return f"about {counted(round(seconds / 60), 'minute')}"
    return f"about {counted(round(seconds / 3600), 'hour')}"


class Pace:
    """How long the rest of a training takes, from the steps and the validations so far."""

    def __init__(self) -> None:
        self.steps = 0
        self._timed, self._seconds = 0, 0.0
        self._validations: list[float] = []
        self._last = self._validation_start = time.monotonic()

    def start(self) -> None:
        """Start to time the next step."""
        self._last = time.monotonic()

    def step(self) -> None:
        """Count a step."""
        now = time.monotonic()
        self.steps += 1
        if self.steps > _WARM_UP:
            self._timed, self._seconds = self._timed + 1, self._seconds + now - self._last
        self._last = now

    def start_validation(self) -> None:
        """Start to time a validation."""
        self._validation_start = time.monotonic()

    def end_validation(self, part: float) -> None:
        """Count a validation, or a part of one."""
        if part > 0:
            self._validations.append((time.monotonic() - self._validation_start) / part)

    def left(self, trainer: L.Trainer) -> float | None:
        """Return the seconds that are left; None if they are not known."""
        steps = trainer.estimated_stepping_batches
        left = math.inf
        if self._timed and 0 < steps < math.inf:
            batches = (steps - trainer.global_step) * trainer.accumulate_grad_batches
            left = batches * self._seconds / self._timed
            if self._validations and trainer.num_training_batches < math.inf:
                epochs = math.ceil(batches / trainer.num_training_batches)
                left += math.ceil(epochs / (trainer.check_val_every_n_epoch or 1)) * self._validations[-1]
        timers = (one.time_remaining() for one in trainer.callbacks if isinstance(one, Timer))  # type: ignore[attr-defined]
        left = min([left, *(remaining for remaining in timers if remaining is not None)])
        return max(0.0, left) if left < math.inf else None


class EpochBar(ProgressBar):
    """A line for each epoch, which stays; on a terminal and in a notebook also a bar of the epoch that runs.

    The bar has the epoch, the step, the time that is left of the training, the loss of the step, and the last PSNR.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: tqdm[Any] | None = None
        self._pace = Pace()
        self._ended: str | None = None
        self._epoch_start = 0.0
        # The last PSNR that is known, and what the line of this epoch says of its validation.
        self._psnr: float | None = None
        self._validated = ""

    def disable(self) -> None:
        """Show nothing, as in all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show progress."""
        self._enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar; Lightning's modules print by this."""
        self._say(kwargs.get("sep", " ").join(map(str, args)))

    @property
    def refresh_rate(self) -> int:
        """Steps between two drawings."""
        batches = self.trainer.num_training_batches
        return max(1, int(batches) // _DRAWINGS) if batches != math.inf else 10

    def _say(self, line: str) -> None:
        if self._enabled:
            tqdm.write(line, file=sys.stderr)

    def _open(self, description: str, total: float) -> None:
        shown = self._enabled and shows_bars()
        size = int(total) if total != math.inf else None
        self._bar = tqdm(
            total=size, desc=description, bar_format=_BAR, leave=False, dynamic_ncols=True, disable=not shown
        )

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _number(self, trainer: L.Trainer) -> str:
        last = f"/{trainer.max_epochs}" if trainer.max_epochs not in (None, -1) else ""
        return f"Epoch {trainer.current_epoch + 1}{last}"

    def _start_epoch(self, trainer: L.Trainer) -> None:
        self._close()
        self._epoch_start = time.monotonic()
        self._pace.start()
        self._open(self._number(trainer), trainer.num_training_batches)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the bar. An epoch that goes on in its middle has no start."""
        self._start_epoch(trainer)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the line of the epoch before, whose loss is known now, and open the bar of this one."""
        self._write_epoch(trainer)
        self._start_epoch(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw the bar, if it is time to, and once say how long the training will take."""
        self._pace.step()
        if self._pace.steps == _ENOUGH and (left := self._pace.left(trainer)) is not None:
            self._say(f"The training will take {rough_duration(left)}.")
        done = batch_idx + 1
        if self._bar is None or (done % self.refresh_rate and done != trainer.num_training_batches):
            return
        if not self._bar.disable:
            left, loss = self._pace.left(trainer), outputs["loss"] if isinstance(outputs, dict) else outputs
            parts = [] if left is None else [f"{clock(left)} left"]
            if isinstance(loss, torch.Tensor | float):
                parts.append(f"loss {float(loss):.4f}")
            if self._psnr is not None:
                parts.append(f"PSNR {self._psnr:.2f} dB")
            self._bar.set_postfix_str(", ".join(parts), refresh=False)
        self._bar.update(done - self._bar.n)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Close the bar. The loss of the epoch is logged after this."""
        self._close()
        self._ended = f"{self._number(trainer)}, {clock(time.monotonic() - self._epoch_start)}"

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the line of the last epoch."""
        self._write_epoch(trainer)

    def _write_epoch(self, trainer: L.Trainer) -> None:
        if self._ended is not None:
            loss = trainer.callback_metrics.get("train/loss")
            text = f", loss {float(loss):.4f}" if loss is not None else ""
            self._say(f"{self._ended}{text}{self._validated}")
            self._ended, self._validated = None, ""

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Close the bar, so that messages start on a line of their own."""
        self._close()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Time the validation, or open its bar if nothing trains."""
        self._pace.start_validation()
        if trainer.state.fn != "fit":
            self._open("Validating", sum(trainer.num_val_batches))
        elif self._bar is not None:
            self._bar.set_postfix_str("validating")

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the bar of a validation without a training."""
        if self._bar is not None and trainer.state.fn != "fit":
            self._bar.update(1)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count the validation. The check before the training runs a part of one."""
        sizes = (trainer.num_sanity_val_batches, trainer.num_val_batches)
        checked, whole = (sum(size) if isinstance(size, list) else size for size in sizes)
        self._pace.end_validation(checked / whole if trainer.sanity_checking and whole else 1.0)
        self._pace.start()
        if trainer.state.fn != "fit":
            self._close()
        elif not trainer.sanity_checking:
            self._take_psnr(trainer, pl_module)

    def _take_psnr(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the PSNR of a validation: measured, or else estimated without clean images, if that was possible."""
        found, name = trainer.callback_metrics.get("val/psnr_per_image"), "PSNR"
        if found is None and (estimate := getattr(pl_module, "blind_estimate", None)) is not None:
            # Not from the Trainer, which keeps that of an earlier validation.
            found, name = estimate.figures().get("psnr_blind"), "estimated PSNR"
        if found is not None:
            self._psnr = float(found)
            self._validated = f", {name} {self._psnr:.2f} dB"
