"""What happens around training."""

from __future__ import annotations

from typing import Any, Literal

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from n2n.data.batch import Batch
from n2n.data.datamodule import PairDataModule
from n2n.errors import InputError
from n2n.metrics import better, psnr_from_mse, squared_error_per_image


def panel(*columns: Tensor, least_width: int = 128, most: int = 256) -> Tensor:
    """Lay images out side by side, one column for each kind (noisy, denoised, clean), one row for each image.

    Args:
        columns: N×C×H×W in [0, 1], all of one shape; clipped to [0, 1] here.
        least_width: smaller images are enlarged to it by whole factors, pixel by pixel, so that the noise can be seen.
        most: of larger images this many pixels are cut out of the centre.

    Returns:
        C×(rows)×(columns) in [0, 1], with a white line between images.
    """
    H, W = columns[0].shape[-2:]
    top, left = max(0, H - most) // 2, max(0, W - most) // 2
    cut = [x[..., top : top + most, left : left + most].float().clamp(0.0, 1.0) for x in columns]
    row = torch.cat([F.pad(x, (1, 1, 1, 1), value=1.0) for x in cut], dim=3)
    picture = torch.cat(list(row), dim=1)
    factor = max(1, -(-least_width // W))
    return picture.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)


# Above a line for each of a panel's images, top to bottom: height and width of the row in the panel, which find it there again,
# and the PSNR of each column, where there is a clean image.
PANEL_TABLE = "| height | width | noisy, dB | denoised, dB |\n|---|---|---|---|"


class BestCheckpoint(ModelCheckpoint):
    """Keeps the best checkpoint: by PSNR per image where there are clean images, else by what comes nearest to it.

    Args:
        monitor: the figure to choose by. None for ``val/psnr_per_image``; without clean images ``val/mse_blind``, the
            estimate of the squared error from pairs; without pairs ``val/loss``.
        mode: whether the largest ("max") or the smallest ("min") is the best; None for the smallest of losses and errors, and
            the largest of all else.
        filename: of the checkpoint, without suffix.
        save_top_k: how many to keep.
        **kwargs: as for Lightning's ``ModelCheckpoint``.
    """

    def __init__(
        self,
        monitor: str | None = None,
        mode: Literal["min", "max"] | None = None,
        filename: str = "best",
        save_top_k: int = 1,
        **kwargs: Any,
    ) -> None:
        kwargs = {"enable_version_counter": False} | kwargs
        self._mode_chosen = mode is not None
        mode = mode or better(monitor or "")
        super().__init__(monitor=monitor, mode=mode, filename=filename, save_top_k=save_top_k, **kwargs)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Choose the figure, now that the data is known, and before a resumed run brings the best one so far."""
        if self.monitor is None:
            data = getattr(trainer, "datamodule", None)
            self.monitor = "val/psnr_per_image"
            if isinstance(data, PairDataModule) and not data.has_clean:
                self.monitor = "val/mse_blind" if data.has_pairs else "val/loss"
                if not self._mode_chosen:
                    self.mode, self.kth_value = "min", torch.tensor(torch.inf)
        super().setup(trainer, pl_module, stage)


class ImagePanel(Callback):
    """Puts validation images, noisy | denoised | clean (where there is one), into TensorBoard every few epochs.

    Args:
        every_n_epochs: epochs between panels; the first and the last epoch have one too.
        images: number of images, from the first validation batches; 0 for no panels.
    """

    def __init__(self, every_n_epochs: int = 5, images: int = 8) -> None:
        if every_n_epochs < 1 or images < 0:
            raise InputError(
                f"the panel's every_n_epochs is {every_n_epochs} and images {images}: expected at least 1, and at least 0"
            )
        self.every_n_epochs, self.images = every_n_epochs, images
        self._rows: list[Tensor] = []
        self._table: list[str] = []
        self._clean = False

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start an empty panel."""
        self._rows, self._table = [], []

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
        epoch, last = trainer.current_epoch, (trainer.max_epochs or 0) - 1
        due = epoch == last or epoch % self.every_n_epochs == 0
        room = self.images - len(self._rows)
        if not due or room <= 0 or trainer.sanity_checking or not isinstance(trainer.logger, TensorBoardLogger):
            return
        self._clean = batch.clean is not None
        columns = [batch.noisy, outputs] + ([batch.clean] if batch.clean is not None else [])
        # From all over the batch: neighbours are often cut from one photograph.
        step = max(1, len(outputs) // room)
        for i in range(0, len(outputs), step)[:room]:
            row = panel(*(x[i : i + 1] for x in columns)).cpu()
            # TensorBoard shows grey and colour; of other numbers of channels the first stands for all.
            self._rows.append((row if len(row) == 3 else row[:1]).expand(3, -1, -1))
            scores = ["", ""]
            if batch.clean is not None:
                clean = batch.clean[i : i + 1]
                scores = [
                    f"{float(psnr_from_mse(squared_error_per_image(x[i : i + 1], clean))):.2f}" for x in columns[:2]
                ]
            self._table.append("| {} | {} | {} | {} |".format(*row.shape[1:], *scores))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the panel."""
        if not self._rows or not isinstance(trainer.logger, TensorBoardLogger):
            return
        width = max(row.shape[2] for row in self._rows)
        picture = torch.cat([F.pad(row, (0, width - row.shape[2]), value=1.0) for row in self._rows], dim=1)
        # Rounded here: TensorBoard would cut the fraction off, and darken the picture.
        picture = (picture * 255).round().to(torch.uint8)
        self._rows = []
        name = "val/noisy_denoised" + ("_clean" if self._clean else "")
        trainer.logger.experiment.add_image(name, picture, trainer.global_step)
        table = "\n".join([PANEL_TABLE, *self._table])
        trainer.logger.experiment.add_text("val/psnr_of_panel", table, trainer.global_step)
