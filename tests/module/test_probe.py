from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from n2n import DenoisingModule, PairDataModule, backbones
from n2n.data import CourseFiles
from tests.conftest import fit, write_course


def test_backbone_that_changes_the_shape_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model.backbone", "torch.nn.Upsample", "--model.backbone.scale_factor", "2"]
    assert fit(*options, root=write_course(tmp_path / "data")) == 2
    assert "a backbone must keep the shape" in capsys.readouterr().err


class Frozen(nn.Module):
    """A network whose author froze the statistics of its first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.free = nn.BatchNorm2d(3).eval(), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.free(self.frozen(x))
        return out


def python_fit(tmp_path: Path, module: DenoisingModule, **options: Any) -> L.Trainer:
    given = {"accelerator": "cpu", "max_epochs": 1, "logger": False, "enable_progress_bar": False, **options}
    trainer = L.Trainer(enable_checkpointing=False, **given)
    trainer.fit(module, PairDataModule(CourseFiles(str(write_course(tmp_path / "data"))), batch_size=20))
    return trainer


def test_frozen_layers_stay_frozen(tmp_path: Path) -> None:
    network = Frozen()
    python_fit(tmp_path, DenoisingModule(network))
    assert (network.frozen.training, network.free.training) == (False, True)
    assert network.frozen.num_batches_tracked == 0
    assert network.free.num_batches_tracked == 3


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true"])
def test_other_dtypes_train(tmp_path: Path, precision: str) -> None:
    module = DenoisingModule(backbones.Model2(hidden=4))
    trainer = python_fit(tmp_path, module, precision=precision)
    assert {str(p.dtype) for p in module.parameters()} != {"torch.float32"}
    assert float(trainer.callback_metrics["val/psnr"]) > 5


class Counting(nn.Module):
    """A network with a buffer of a kind that a checkpoint cannot be read with."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)
        self.register_buffer("count", torch.zeros(1, dtype=torch.uint16))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


def test_weights_that_no_checkpoint_holds_are_refused_before_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model.backbone", "tests.module.test_probe.Counting"]
    assert fit(*options, root=write_course(tmp_path / "data")) == 2
    assert "the backbone's count is torch.uint16, which checkpoints of n2n do not hold" in capsys.readouterr().err
