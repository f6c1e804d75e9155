"""The comparison at the end of a training."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info

from n2n.checkpoints.rebuild import backbone_weights, load_checkpoint
from n2n.data.datamodule import PairDataModule
from n2n.data.loader import PairLoader
from n2n.module import DenoisingModule
from n2n.trainer.baselines.comparison import compare_with_filters, describe
from n2n.trainer.logger import write_facts


def compare_best(
    trainer: L.Trainer, module: DenoisingModule, data: PairDataModule, loader: PairLoader, checkpoint: Path
) -> None:
    """Say what classical filters give on the held-out images, beside the best network, and write it to ``run.yaml``.

    Args:
        trainer: has trained. Of its processes, the first calls this.
        module: gets the weights of the checkpoint.
        data: of the training.
        loader: of the first process's share of the held-out images.
        checkpoint: the best one.
    """
    device = trainer.strategy.root_device
    module.backbone.load_state_dict(backbone_weights(load_checkpoint(checkpoint)))
    module.to(device).eval()
    with torch.inference_mode():
        raw = (data.transfer_batch_to_device(batch, device, 0) for batch in loader)
        batches = (data.on_after_batch_transfer(batch, 0) for batch in raw)
        found = compare_with_filters(batches, lambda noisy: module(noisy).float(), data.val_count)
    if found is None:
        return
    for line in describe(found, data.scene_names):
        rank_zero_info(line)
    if isinstance(trainer.logger, TensorBoardLogger):
        write_facts(
            Path(trainer.logger.log_dir), baselines={name: round(value, 3) for name, value in found.psnr.items()}
        )
