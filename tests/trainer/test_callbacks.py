from __future__ import annotations

from pathlib import Path

import pytest
import torch

from n2n.trainer.callbacks import BestCheckpoint
from tests.conftest import fit, write_course

OWN = ("--config", "own.yaml", "--model.backbone", "n2n.backbones.Model2", "--model.start_from", "null")


def test_own_yaml_keeps_the_last_step(tmp_path: Path) -> None:
    """Also with a validation within the epoch, and a rate so high that the first one is the best."""
    within = ("--trainer.val_check_interval", "0.5", "--trainer.max_epochs", "1", "--model.optimizer.lr", "0.3")
    assert fit(*OWN, *within, "--data.batch_size", "10", root=write_course(tmp_path / "data")) == 0
    kept = [torch.load(path, weights_only=True)["global_step"] for path in Path("lightning_logs").rglob("best.ckpt")]
    assert kept == [6]


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [("step", "max"), ("val/loss", "min"), ("val/mse_blind", "min"), ("val/psnr", "max"), ("val/ssim", "max")],
)
def test_a_monitor_brings_its_mode(monitor: str, mode: str) -> None:
    assert BestCheckpoint(monitor).mode == mode
