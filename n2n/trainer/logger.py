"""What a run writes into its folder beside checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from n2n.checkpoints.on_disk import claim_version
from n2n.module import DenoisingModule


def describe_figures(kept: Mapping[str, Any]) -> str:
    """Say how good a checkpoint is on its validation set, from what ``checkpoint["n2n"]`` keeps of that."""
    figures = kept["figures"]
    lines = []
    if "val/psnr_per_image" in figures:
        score, noisy = figures["val/psnr_per_image"], figures["val/psnr_noisy_per_image"]
        lines.append(
            f"Best PSNR: {score:.2f} dB per image on the validation set; its noisy input has {noisy:.2f} dB, "
            f"so the gain is {score - noisy:.2f} dB."
        )
    if kept.get("psnr_blind"):
        line = f"PSNR over all pixels, estimated without clean images: {kept['psnr_blind']}"
        if "val/psnr_noisy_blind" in figures:
            line += f"; of the noisy input {figures['val/psnr_noisy_blind']:.2f} dB"
        lines.append(line + (f"; measured against the clean images {figures['val/psnr']:.2f} dB." if lines else "."))
    return "\n".join(lines or ["There are neither clean images nor pairs to validate on, so no PSNR can be given."])


class SaveConfig(SaveConfigCallback):
    """Saves the configuration with the channels that the images turned out to have."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Look at the images, which are open by now, and save."""
        if self.overwrite:
            # A run that goes on where it was: whoever repeats it from this file starts anew.
            self.config.ckpt_path = None
        assert isinstance(pl_module, DenoisingModule)
        pl_module.configure_model()
        init_args = pl_module.hparams["backbone"].get("init_args", {})
        if "channels" in init_args:
            self.config.model.backbone.init_args.channels = init_args["channels"]
        super().setup(trainer, pl_module, stage)


class RunLogger(TensorBoardLogger):
    """TensorBoard's, in a ``version_N`` that no other process gets, though both start at the same instant."""

    _claimed = _told = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log figures."""
        self._told = self._told or bool(metrics)
        super().log_metrics(metrics, step)

    def _get_next_version(self) -> int:
        # Other processes of this training write nothing.
        rank = getattr(rank_zero_only, "rank", 0)
        if rank:
            return super()._get_next_version()
        number = claim_version(Path(self.root_dir))
        self._claimed = True
        return number

    def finalize(self, status: str) -> None:
        """Close the files; of a run that failed before it had anything to tell nothing is left."""
        super().finalize(status)
        folder, root = Path(self.log_dir), Path(self.save_dir)
        with contextlib.suppress(OSError):
            if status == "failed" and self._claimed and not self._told and not (folder / "checkpoints").exists():
                for file in (*folder.glob("events.out.tfevents.*"), folder / "config.yaml", folder / "hparams.yaml"):
                    file.unlink(missing_ok=True)
            # Names may have folders in them.
            for empty in (folder, *folder.parents):
                if empty == root.parent:
                    break
                empty.rmdir()
