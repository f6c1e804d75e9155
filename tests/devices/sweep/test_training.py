"""What the Trainer does beside plain steps: averaging, clipping, accumulation, precisions; and the figures of validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging

from n2n import data as sources
from tests.devices.sweep.training import Small, data, pairs, same_as_cpu
from tests.devices.target import Target

TRAINERS: dict[str, Any] = {
    "plain": dict,
    "EMA": lambda: {"callbacks": [EMAWeightAveraging(decay=0.5)]},
    "SWA": lambda: {"callbacks": [StochasticWeightAveraging(0.01, 1)], "max_epochs": 3},
    "clip norm": lambda: {"gradient_clip_val": 0.01},
    "clip value": lambda: {"gradient_clip_val": 0.001, "gradient_clip_algorithm": "value"},
    "accumulate": lambda: {"accumulate_grad_batches": 2, "max_epochs": 2},
    "anomalies": lambda: {"detect_anomaly": True},
    "validate twice": lambda: {"val_check_interval": 2, "limit_train_batches": 1.0},
    "one batch": lambda: {"overfit_batches": 1},
}


@pytest.mark.parametrize(("name", "precision"), pairs(TRAINERS, ["32-true", "bf16-mixed", "16-mixed", "bf16-true"]))
def test_trainer(name: str, precision: str, target: Target, files: Path) -> None:
    same_as_cpu(target, lambda: data(files), precision=precision, trainer=TRAINERS[name])


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_figures_without_clean_images(precision: str, target: Target, files: Path) -> None:
    def made() -> Any:
        source = sources.Captures(str(files / "captures_uint16"), patch=12, patches=24, val_fraction=0.3)
        return data(files, source=source)

    got = same_as_cpu(target, made, backbone=lambda: Small(1), precision=precision)
    assert "val/psnr_blind" in got.figures


def test_figures_with_clean_images(target: Target, files: Path) -> None:
    got = same_as_cpu(target, lambda: data(files))
    assert {"val/psnr", "val/psnr_per_image", "val/ssim", "val/loss", "train/loss"} <= got.figures.keys()
