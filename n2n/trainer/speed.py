"""What makes training fast without changing what is learnt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn

from n2n.data.datamodule import PairDataModule
from n2n.errors import InputError
from n2n.module import DenoisingModule


class EpochBar(TQDMProgressBar):
    """Lightning's progress bar, drawn a hundred times an epoch at most: each time costs as much as a tenth of a step's work."""

    @property
    def refresh_rate(self) -> int:
        """Steps from one drawing to the next."""
        batches = self.trainer.num_training_batches
        return max(1, int(batches) // 100) if batches != float("inf") else 10

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """End the line, for what is said next."""
        for bar in (self._val_progress_bar, self._train_progress_bar):
            if bar is not None:
                bar.close()

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Leave out the number of the run, which its folder tells, and show hundredths of decibels; tqdm rounds to tenths."""
        shown = {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}
        return {name: f"{value:.2f}" if "psnr" in name else value for name, value in shown.items()}


class NoProfiler(PassThroughProfiler):
    """Lightning's profiler that measures nothing, without a new context manager for each of 60 actions a step."""

    _nothing = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]  # a generator there
        """Measure nothing."""
        return self._nothing


@contextmanager
def _traceless(network: nn.Module) -> Iterator[None]:
    """Let passes in training mode leave no trace, such as in BatchNorm's means."""
    before = [buffer.clone() for buffer in network.buffers()]
    yield
    with torch.no_grad():
        for buffer, value in zip(network.buffers(), before, strict=True):
            buffer.copy_(value)


class GraphedForward:
    """A backbone whose forward and backward passes are replayed on a GPU as CUDA graphs: two launches instead of dozens.

    Weights are read where they lie, so that they may change; all else is frozen, such as the course of Python code.

    Args:
        backbone: in training mode, on a GPU.
        noisy: a batch; others must have its shape.
    """

    def __init__(self, backbone: nn.Module, noisy: Tensor) -> None:
        self.shape = noisy.shape
        # In a module of its own, since the call below replaces the forward of what it gets, also for validation.
        holder = _Holder(backbone)
        sample = noisy.detach().contiguous(memory_format=torch.channels_last)
        with _traceless(backbone):
            self._replay: Any = torch.cuda.make_graphed_callables(holder, (sample,))

    def __call__(self, noisy: Tensor) -> Tensor:
        """Denoise N×C×H×W of the one shape; the result is overwritten by the next call."""
        out: Tensor = self._replay(noisy)
        return out


class _Holder(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, noisy: Tensor) -> Tensor:
        out: Tensor = self.backbone(noisy)
        return out


class Speed(Callback):
    """Prepares the network for fast training, when all is on its device.

    Args:
        compile: whether to compile the network (``torch.compile``), which takes up to a minute at the start and needs a C++
            compiler on a CPU.
        graphs: whether to replay the network's passes as CUDA graphs on one GPU, for networks whose Python code does the same
            each time. None for the networks of ``n2n.backbones``.
    """

    def __init__(self, compile: bool = False, graphs: bool | None = None) -> None:  # noqa: A002  # the name of the option
        self.compile, self.graphs = compile, graphs

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compile, then record."""
        data = getattr(trainer, "datamodule", None)
        if not isinstance(pl_module, DenoisingModule) or not isinstance(data, PairDataModule):
            return
        backbone, device = pl_module.backbone, pl_module.device
        noisy = torch.rand(data.batch_shape, device=device)
        if self.compile:
            # For each shape anew: those of the last batch and of validation are few.
            backbone.compile(dynamic=False)
            try:
                with trainer.precision_plugin.forward_context(), _traceless(backbone):
                    pl_module(noisy)
            except RuntimeError as error:
                first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
                raise InputError(f"the network cannot be compiled ({first}): leave speed.compile out") from error
        wanted = type(backbone).__module__.startswith("n2n.backbones.") if self.graphs is None else self.graphs
        if not wanted or device.type != "cuda" or trainer.world_size > 1:
            return
        try:
            with trainer.precision_plugin.forward_context():
                pl_module.graphed = GraphedForward(backbone, noisy)
        except RuntimeError as error:
            rank_zero_warn(
                f"the network cannot be recorded as a CUDA graph ({str(error).splitlines()[0]}): trained without"
            )
        else:
            rank_zero_info("The network's passes are replayed as CUDA graphs.")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let the graphs and their memory go."""
        if isinstance(pl_module, DenoisingModule):
            pl_module.graphed = None
