from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import write_course


def n2n(*args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "n2n", *args], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def scores(*options: str) -> dict[str, float]:
    shown = n2n("validate", "--trainer.accelerator", "cpu", "--trainer.precision", "32-true", *options)
    return {name: float(value) for name, value in re.findall(r"(val/\w+)\s+([\d.]+)", shown)}


def test_two_devices_measure_what_one_does(checkpoint: Path) -> None:
    # 20 images: unequal shares, and batches that do not fill up.
    one = scores("--ckpt_path", str(checkpoint))
    options = ("--ckpt_path", str(checkpoint), "--data.val_batch_size", "3")
    two = scores(*options, "--trainer.devices", "2", "--trainer.strategy", "ddp")
    assert len(one) == 6
    assert two == pytest.approx(one, rel=1e-4)


def test_two_devices_train_as_one_on_the_same_global_batch(tmp_path: Path) -> None:
    root = write_course(tmp_path / "data")
    common = [
        "fit",
        "--config",
        "table1/model_final.yaml",
        "--config",
        "data/ee559.yaml",
        "--data.source.root",
        str(root),
    ]
    common += ["--trainer.accelerator", "cpu", "--trainer.precision", "32-true", "--trainer.max_epochs", "2"]
    # Adam's own, 1e-8, makes large steps of gradients that are nothing but rounding.
    common += ["--model.optimizer.eps", "1e-4"]
    n2n(*common, "--name", "one", "--data.batch_size", "20")
    n2n(*common, "--name", "two", "--data.batch_size", "10", "--trainer.devices", "2", "--trainer.strategy", "ddp")
    one, two = (
        torch.load(f"lightning_logs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("one", "two")
    )
    for key, value in one.items():
        assert torch.allclose(value, two[key], atol=1e-5), key
