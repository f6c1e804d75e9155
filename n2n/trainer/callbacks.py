"""Callbacks of a training: the best checkpoint and the panels of images."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from n2n.data.batch import Batch
from n2n.data.datamodule import PairDataModule
from n2n.errors import InputError
from n2n.metrics import better, psnr_from_mse, squared_error_per_image
from n2n.trainer.panels import COLUMNS, MOST_SIDE, PanelRow, Picture, write_panel

# Part of the pixels that may become white when a dark image is shown brighter, and the largest factor.
_MAY_CLIP, _MOST_BRIGHTNESS = 0.005, 1000


def _shown(image: Tensor) -> Tensor:
    """Return what a panel shows of an image, C×H×W: its centre, and of channels that are neither grey nor colour the first."""
    top, left = (max(0, side - MOST_SIDE) // 2 for side in image.shape[1:])
    channels = image if len(image) == 3 else image[:1]
    return channels[:, top : top + MOST_SIDE, left : left + MOST_SIDE].float().cpu()


def _brightness(noisy: Tensor) -> int:
    """Return the largest whole factor by which a dark image can be multiplied so that nearly all pixels stay below 1."""
    known = noisy[noisy.isfinite()]
    high = float(known.quantile(1 - _MAY_CLIP)) if len(known) else 1.0
    return max(1, min(_MOST_BRIGHTNESS, int(1 / high))) if high > 0 else 1


def _picture(image: Tensor, brightness: int) -> Picture:
    """Return an image, C×H×W in [0, 1], as a file shows it: grey or colour, clipped. Pixels without data are black."""
    return (
        ((image * brightness).nan_to_num(0.0).clamp(0.0, 1.0) * 255)
        .round()
        .to(torch.uint8)
        .expand(3, -1, -1)
        .permute(1, 2, 0)
        .numpy()
    )


def panel_row(images: Sequence[Tensor], psnr: tuple[float, float] | None) -> PanelRow:
    """Return a row of a panel.

    Args:
        images: noisy, denoised, and clean if there is one, each C×H×W in [0, 1] of any size.
        psnr: of the noisy and the denoised image, in dB.
    """
    C, H, W = images[0].shape
    shown = [_shown(image) for image in images]
    brightness = _brightness(shown[0])
    h, w = shown[0].shape[1:]
    notes = [f"brightness x{brightness}"] if brightness > 1 else []
    notes += [f"channel 1 of {C}"] if C not in (1, 3) else []
    notes += [f"centre {h}x{w} of {H}x{W}"] if (h, w) != (H, W) else []
    return PanelRow(tuple(_picture(image, brightness) for image in shown), psnr, ", ".join(notes))


def default_monitor(data: PairDataModule) -> str:
    """Return the figure by which the best epoch is chosen, which the validation images decide.

    It is ``val/psnr_per_image``; without clean images ``val/mse_blind``, the estimate of the squared error from pairs, because
    the PSNR cannot be estimated where that is 0 or less; without pairs ``val/loss``.
    """
    if data.has_clean:
        return "val/psnr_per_image"
    return "val/mse_blind" if data.has_pairs else "val/loss"


class RunCheckpoint(ModelCheckpoint):
    """Keeps checkpoints in the folder of a run, which may be moved, or named in another way, before the run goes on."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore which checkpoints are the best, if they are in this folder; otherwise the choice starts anew.

        The state may be hostile: Lightning removes the files that it names. So only their names count, not their folders.
        """

        def here(path: object) -> str:
            name = re.split(r"[/\\]", str(path))[-1]
            return os.path.join(self.dirpath or "", name) if name.endswith(".ckpt") and "::" not in name else ""  # noqa: PTH118

        if not Path(here(state_dict["best_model_path"])).is_file():
            return
        paths = {key: here(state_dict[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
        best = {here(path): score for path, score in state_dict["best_k_models"].items() if here(path)}
        super().load_state_dict(state_dict | paths | {"best_k_models": best, "dirpath": self.dirpath})


class LastCheckpoint(RunCheckpoint):
    """Keeps the checkpoint of each epoch's end as ``last.ckpt``."""

    def __init__(self) -> None:
        super().__init__(filename="last", save_on_train_epoch_end=True, enable_version_counter=False)


class BestCheckpoint(RunCheckpoint):
    """Keeps the best checkpoint.

    Args:
        monitor: the figure to choose by. None for :func:`default_monitor`.
        mode: whether the largest ("max") or the smallest ("min") figure is the best. None for the smallest of losses and
            errors, and for the largest of other figures.
        filename: of the checkpoint, without suffix.
        save_top_k: how many to keep, -1 for all; the names of several get numbers.
        enable_version_counter: whether a file of the same name stays, and the new one gets a number.
        **kwargs: as for Lightning's ``ModelCheckpoint``.

    Raises:
        InputError: if there is a mode without a monitor.
    """

    def __init__(
        self,
        monitor: str | None = None,
        mode: Literal["min", "max"] | None = None,
        filename: str = "best",
        save_top_k: int = 1,
        enable_version_counter: bool = False,
        **kwargs: Any,
    ) -> None:
        if mode is not None and monitor is None:
            raise InputError(f"the checkpoint's mode is {mode} without a monitor: give both, or neither")
        mode = mode or better(monitor or "")
        # Without numbers, one would overwrite the other.
        kwargs["enable_version_counter"] = enable_version_counter or save_top_k not in (0, 1)
        # Lightning refuses several without a monitor, which is chosen later.
        accepted = save_top_k if monitor else min(save_top_k, 1)
        super().__init__(monitor=monitor, mode=mode, filename=filename, save_top_k=accepted, **kwargs)
        self.save_top_k = save_top_k

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Choose the figure. The data is known now, and the state of a resumed run is not restored yet."""
        if self.monitor is None:
            data = getattr(trainer, "datamodule", None)
            self.monitor = default_monitor(data) if isinstance(data, PairDataModule) else "val/psnr_per_image"
            if better(self.monitor) == "min":
                self.mode, self.kth_value = "min", torch.tensor(torch.inf)
        super().setup(trainer, pl_module, stage)


class ImagePanel(Callback):
    """Writes validation images, noisy | denoised | clean (where there is one), to ``panels/`` and TensorBoard every few epochs.

    Args:
        every_n_epochs: epochs between panels, if these have a validation. The first validation has one too, and the last one of
            ``max_epochs`` or ``max_steps``.
        images: number of images, from the first validation batches; 0 for no panels.

    Raises:
        InputError: if one of them is too small.
    """

    def __init__(self, every_n_epochs: int = 5, images: int = 8) -> None:
        if every_n_epochs < 1 or images < 0:
            raise InputError(
                f"the panel's every_n_epochs is {every_n_epochs} and images {images}: expected at least 1, and at least 0"
            )
        self.every_n_epochs, self.images = every_n_epochs, images
        self._rows: list[PanelRow] = []

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start an empty panel."""
        self._rows = []

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add images of this batch to this epoch's panel, if it has one and there is room."""
        is_last = trainer.state.fn == "fit" and trainer.global_step >= trainer.estimated_stepping_batches > 0
        # In the epoch of the validation before, -1 if this is the first.
        before = trainer.current_epoch - (trainer.check_val_every_n_epoch or 1)
        due = is_last or trainer.current_epoch // self.every_n_epochs > before // self.every_n_epochs
        room = self.images - len(self._rows)
        if not due or room <= 0 or trainer.sanity_checking or not trainer.is_global_zero:
            return
        if not isinstance(trainer.logger, TensorBoardLogger):
            return
        columns = [batch.noisy, outputs] + ([batch.clean] if batch.clean is not None else [])
        # From all over the batch: neighbours are often cut from one photograph.
        step = max(1, len(outputs) // room)
        # With pixels without data, a batch has one image.
        _, count = batch.around_network()
        for i in range(0, len(outputs), step)[:room]:
            psnr = None
            if batch.clean is not None:
                noisy, denoised = (
                    squared_error_per_image(count(x[i : i + 1]), count(batch.clean[i : i + 1])) for x in columns[:2]
                )
                psnr = float(psnr_from_mse(noisy)), float(psnr_from_mse(denoised))
            self._rows.append(panel_row([x[i] for x in columns], psnr))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the panel."""
        if not self._rows or not isinstance(trainer.logger, TensorBoardLogger):
            return
        panel = write_panel(Path(trainer.logger.log_dir), trainer.current_epoch + 1, self._rows)
        name = "val/" + "_".join(COLUMNS[: len(self._rows[0].pictures)])
        trainer.logger.experiment.add_image(name, panel, trainer.global_step, dataformats="HWC")
        self._rows = []
