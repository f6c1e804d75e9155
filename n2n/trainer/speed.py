"""Faster training with the same result: no profiler, and torch.compile."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from copy import copy
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.utilities import rank_zero_warn

from n2n.errors import InputError, reason
from n2n.module import DenoisingModule
from n2n.module.probe import evaluating


class NoProfiler(PassThroughProfiler):
    """Lightning's profiler that measures nothing, without a new context manager for each of 60 actions per step."""

    _nothing = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]  # a generator there
        """Measure nothing."""
        return self._nothing


# torch.compile's modes that replay CUDA graphs.
_GRAPHS = ("reduce-overhead", "max-autotune")


class Speed(Callback):
    """Compiles the network with ``torch.compile``, if asked for, for the training steps alone.

    The images to validate on may be of many sizes, each of which would be compiled for itself.

    Args:
        compile: mode of ``torch.compile``; null or false for none, true for "default". "reduce-overhead" and "max-autotune"
            replay CUDA graphs on NVIDIA GPUs. Compiling takes up to a minute at the start, and needs a C++ compiler on a
            CPU. The training runs without it on several devices and with anomaly detection; without graphs if gradients
            are accumulated.
    """

    def __init__(
        self,
        compile: bool | Literal["default", "reduce-overhead", "max-autotune"] | None = None,  # noqa: A002  # torch's name
    ) -> None:
        self.compile: str | None = "default" if compile is True else compile or None
        self._compiled = self._graphs = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compile the network, and run it once.

        Raises:
            InputError: if it cannot be compiled.
        """
        if self.compile is None or not isinstance(pl_module, DenoisingModule):
            return
        mode, obstacle = self._mode(trainer)
        if obstacle:
            rank_zero_warn(
                f"speed.compile is {self.compile}, and the training {obstacle}: continuing with {mode or 'none'}"
            )
        if mode is None:
            return
        self._graphs = mode in _GRAPHS and pl_module.device.type == "cuda"
        # Each shape is compiled for itself: there are few, of whole and last batches.
        pl_module.backbone.compile(mode=mode, dynamic=False)
        self._compiled = True
        shape = pl_module.images.shape if pl_module.images else (pl_module.image_channels or 3, 64, 64)
        try:
            with trainer.precision_plugin.forward_context(), torch.no_grad(), evaluating(pl_module):
                pl_module(torch.zeros(1, *shape, device=pl_module.device))
        except RuntimeError as error:
            raise InputError(f"the network cannot be compiled ({reason(error)}): leave speed.compile out") from error

    def _mode(self, trainer: L.Trainer) -> tuple[str | None, str]:
        """Return the mode that the Trainer's options allow, and what does not allow the chosen one."""
        if trainer.world_size > 1:
            return None, "uses several devices"
        if torch.is_anomaly_enabled():
            return None, "detects anomalies"
        if self.compile in _GRAPHS and trainer.accumulate_grad_batches > 1:
            # CUDA graphs would overwrite gradients that are still to be added up (pytorch#181723).
            return "default", "accumulates gradients"
        return self.compile, ""

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Let CUDA graphs overwrite the outputs of the last batch, and none of this batch."""
        if self._graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on without compiling."""
        if self._compiled:
            torch.compiler.set_stance("force_eager")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on with what is compiled."""
        if self._compiled:
            torch.compiler.set_stance("default")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave a network that is not compiled, with the same weights: a copy of a compiled module is none."""
        if self._compiled:
            pl_module.backbone = copy(pl_module.backbone)
            self._forget()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the compiler as it was."""
        if self._compiled:
            torch.compiler.set_stance("default")
            self._forget()

    def _forget(self) -> None:
        """Free what was compiled. Otherwise the memory of CUDA graphs stays, and of networks of one class few are compiled."""
        self._compiled = self._graphs = False
        torch.compiler.reset()
