"""What a training says at its end."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jsonargparse import Namespace
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info

from n2n.checkpoints.config import read_checkpoint
from n2n.checkpoints.rebuild import backbone_weights, load_checkpoint
from n2n.data.datamodule import PairDataModule
from n2n.data.loader import PairLoader
from n2n.data.sources.scene_source import noisy_images
from n2n.module import DenoisingModule
from n2n.module.probe import is_constant
from n2n.system.hardware import device_name
from n2n.system.text import command_line, counted
from n2n.trainer.baselines.comparison import compare_with_filters, describe
from n2n.trainer.hyperparameters import hyperparameters, log_hyperparameters, network_cost
from n2n.trainer.logger import RunLogger, write_facts

# In dB, of the PSNR of the noisy images that is estimated from pairs over the one that is measured against the clean images.
_LARGEST_DIFFERENCE = 1.0


def report(
    trainer: L.Trainer, module: DenoisingModule, data: PairDataModule, config: Namespace, seconds: float
) -> None:
    """Say where the checkpoint is, how good it is, and how to use it.

    Args:
        trainer: has trained. All its processes must call this.
        module: gets the weights of the best checkpoint.
        data: of the training.
        config: of the command.
        seconds: that the training took in this process.
    """
    if trainer.interrupted or config.trainer.fast_dev_run:
        return
    checkpoint = trainer.checkpoint_callback
    path = checkpoint.best_model_path if isinstance(checkpoint, ModelCheckpoint) else ""
    # The processes agree on a seed for this. The checkpoint may be on the disk of the first one alone.
    held_out = data.val_dataloader() if path else None
    # It may have been deleted since.
    kept = read_checkpoint(path)["n2n"] if trainer.is_global_zero and Path(path).is_file() else None
    _log_final(trainer, module, data, config, trainer.callback_metrics if kept is None else kept["figures"])
    logger = trainer.logger
    if isinstance(logger, RunLogger):  # it knows the parts before an interruption
        seconds = max([seconds, *(60 * row["minutes"] for row in logger.rows[-1:])])
    epochs = counted(trainer.current_epoch, "epoch")
    rank_zero_info(f"\n{epochs} in {seconds // 60:.0f} min {seconds % 60:.0f} s.")
    if kept is None or held_out is None:
        return
    best = Path(path)
    with contextlib.suppress(ValueError):
        best = best.relative_to(Path.cwd())
    # Before the comparison, which takes a while.
    rank_zero_info(f"Checkpoint: {best}\n{describe_figures(kept)}")
    if {"val/psnr", "val/mse_blind"} & kept["figures"].keys():
        rank_zero_info("Comparing it with classical filters on the held-out images. Ctrl-C stops only this.")
    _compare(trainer, module, data, held_out, best)
    if is_worse_than_noisy(kept):
        constant = " Its output is the same for any input." * is_constant(module, data.image_info.shape)
        rank_zero_info(
            f"Warning: the result is worse than the noisy input.{constant} Train longer or with a lower learning rate, and "
            "check the pairs and their value_range (above)."
        )
        return
    noisy = noisy_images(data.source) or "noisy/"
    command = ["n2n", "predict", "--ckpt_path", str(best), "--input", noisy, "--output", "denoised/"]
    command += [word for package in config.trust or () for word in ("--trust", package)]
    rank_zero_info(f"Denoise with it: {command_line(command)}")


def _log_final(
    trainer: L.Trainer, module: DenoisingModule, data: PairDataModule, config: Namespace, figures: Mapping[str, Any]
) -> None:
    """Log the hyper-parameters with the figures of the best epoch, so that TensorBoard can sort runs by them."""
    logger = trainer.logger
    if not isinstance(logger, TensorBoardLogger) or not trainer.is_global_zero:
        return
    best = {name.replace("val/", "best/"): float(value) for name, value in figures.items() if name.startswith("val/")}
    cost = network_cost(module, data.image_info.shape)
    count = f"{trainer.world_size} × " if trainer.world_size > 1 else ""
    device = {"device": count + device_name(trainer.strategy.root_device)}
    log_hyperparameters(logger, hyperparameters(config) | cost | device | best, trainer.global_step)
    write_facts(Path(logger.log_dir), finished=True, **cost, **device)


def describe_figures(kept: Mapping[str, Any]) -> str:
    """Say how good a checkpoint is on its validation set, from what ``checkpoint["n2n"]`` keeps of that."""
    figures = kept["figures"]
    lines = []
    if "val/psnr_per_image" in figures:
        score, noisy = figures["val/psnr_per_image"], figures["val/psnr_noisy_per_image"]
        lines.append(
            f"PSNR of the checkpoint: {score:.2f} dB per image on the validation set; its noisy input has {noisy:.2f} dB, "
            f"so the gain is {score - noisy:.2f} dB."
        )
    if kept.get("psnr_blind"):
        line = f"PSNR over all pixels, estimated without clean images: {kept['psnr_blind']}"
        if "val/psnr_noisy_blind" in figures:
            line += f"; of the noisy input {figures['val/psnr_noisy_blind']:.2f} dB"
        lines.append(line + (f"; measured against the clean images {figures['val/psnr']:.2f} dB." if lines else "."))
    measured, estimated = figures.get("val/psnr_noisy"), figures.get("val/psnr_noisy_blind")
    # Only this way round: what is measured may be better, because values outside the range count as its ends there.
    if measured is not None and estimated is not None and estimated - measured > _LARGEST_DIFFERENCE:
        lines.append(
            f"Warning: the noisy images have {measured:.2f} dB measured against the clean images, and {estimated:.2f} dB "
            "estimated from pairs: the clean images may be of other scenes or another brightness, or the noise of the captures "
            "is not independent."
        )
    nothing = (
        "There are neither clean images nor pairs to validate on, so no PSNR can be given: look at the run's panels/."
    )
    return "\n".join(lines or [nothing])


def is_worse_than_noisy(kept: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's PSNR, measured or else estimated without clean images, is below that of the noisy input."""
    figures = kept["figures"]
    pairs = (("val/psnr_per_image", "val/psnr_noisy_per_image"), ("val/psnr_blind", "val/psnr_noisy_blind"))
    known = [figures[score] < figures[noisy] for score, noisy in pairs if score in figures and noisy in figures]
    return bool(known) and known[0]


def _compare(
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
        baselines = {name: round(value, 3) for name, value in found.psnr.items()}
        write_facts(Path(trainer.logger.log_dir), baselines=baselines)
