"""What happens around training."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from n2n.errors import InputError


def panel(noisy: Tensor, denoised: Tensor, clean: Tensor, least_width: int = 128) -> Tensor:
    """Lay images out in rows of noisy | denoised | clean.

    Args:
        noisy: N×C×H×W in [0, 1].
        denoised: of the same shape; clipped to [0, 1] here.
        clean: of the same shape.
        least_width: smaller images are enlarged to it by whole factors, pixel by pixel, so that the noise can be seen.

    Returns:
        C×(rows)×(columns) in [0, 1], with a white line between images.
    """
    row = torch.cat(
        [F.pad(x.float().clamp(0.0, 1.0), (1, 1, 1, 1), value=1.0) for x in (noisy, denoised, clean)], dim=3
    )
    picture = torch.cat(list(row), dim=1)
    factor = max(1, -(-least_width // noisy.shape[-1]))
    return picture.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)


class ImagePanel(Callback):
    """Puts validation images, noisy | denoised | clean, into TensorBoard every few epochs.

    Args:
        every_n_epochs: epochs between panels; the first and the last epoch have one too.
        images: number of images, from the first validation batch; 0 for no panels.
    """

    def __init__(self, every_n_epochs: int = 5, images: int = 8) -> None:
        if every_n_epochs < 1 or images < 0:
            raise InputError(
                f"the panel's every_n_epochs is {every_n_epochs} and images {images}: expected at least 1, and at least 0"
            )
        self.every_n_epochs, self.images = every_n_epochs, images

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Log the panel of this epoch, if it has one."""
        epoch, last = trainer.current_epoch, (trainer.max_epochs or 0) - 1
        due = self.images > 0 and (epoch == last or epoch % self.every_n_epochs == 0)
        if not due or batch_idx > 0 or trainer.sanity_checking or not isinstance(trainer.logger, TensorBoardLogger):
            return
        # From all over the batch: neighbours are often cut from one photograph.
        step = max(1, len(outputs) // self.images)
        noisy, denoised, clean = (x[::step][: self.images] for x in (batch[0], outputs, batch[1]))
        picture = panel(noisy, denoised, clean)
        if picture.shape[0] not in (1, 3):
            picture = picture[:1]
        trainer.logger.experiment.add_image("val/noisy_denoised_clean", picture, trainer.global_step)
