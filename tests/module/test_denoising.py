from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.image import StructuralSimilarityIndexMeasure

from n2n import DenoisingModule, PairDataModule, backbones
from n2n.cli import main
from n2n.data import CourseFiles
from n2n.errors import InputError
from n2n.metrics import BlindEstimate
from n2n.trainer.callbacks import panel
from tests.conftest import fit, write_course


def test_python_is_as_good_as_the_command(tmp_path: Path) -> None:
    data = PairDataModule(CourseFiles(str(write_course(tmp_path / "data"))), batch_size=20)
    module = DenoisingModule(backbones.ModelFinal(widths=(8,)))
    trainer = L.Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False)
    trainer.fit(module, data)
    trainer.save_checkpoint("own.ckpt")
    again = DenoisingModule.load_from_checkpoint("own.ckpt", weights_only=True)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in module.state_dict().items())
    assert again.image_channels == 3


@pytest.mark.parametrize(("interval", "last"), [("epoch", 0.25), ("step", 0.5**8)])
def test_scheduler_steps_by_epoch_or_by_step(tmp_path: Path, interval: str, last: float) -> None:
    options = ["--model.scheduler", "ExponentialLR", "--model.scheduler.gamma", "0.5", "--trainer.max_epochs", "3"]
    options += ["--model.scheduler_interval", interval, "--model.optimizer.lr", "1", "--trainer.log_every_n_steps", "1"]
    # Three epochs of three steps: the last step comes after two epochs, or after eight steps.
    assert fit(*options, root=write_course(tmp_path / "data")) == 0
    events = EventAccumulator("lightning_logs/run/version_0")
    events.Reload()
    rates = [event.value for event in events.Scalars("lr-Adam")]
    assert rates[0] == 1
    assert rates[-1] == pytest.approx(last)


def test_training_loss_is_the_mean_squared_error_to_the_other_view(tmp_path: Path) -> None:
    root = write_course(tmp_path / "data")
    # A rate of zero leaves the network as it was, so that the epoch's loss can be computed afterwards.
    assert fit("--model.optimizer.lr", "0", "--trainer.precision", "32-true", root=root) == 0
    events = EventAccumulator("lightning_logs/run/version_0")
    events.Reload()
    module = DenoisingModule.load_from_checkpoint(
        "lightning_logs/run/version_0/checkpoints/last.ckpt", map_location="cpu", weights_only=True
    )
    first, second = (x.float() / 255 for x in torch.load(root / "train_data.pkl", weights_only=True))
    with torch.no_grad():
        loss = (module(first) - second).square().mean().item()
    assert events.Scalars("train/loss")[0].value == pytest.approx(loss, rel=1e-4)


def test_ssim_is_exact_in_mixed_precision(tmp_path: Path) -> None:
    root = write_course(tmp_path / "data")
    assert fit("--model.optimizer.lr", "0", "--trainer.precision", "bf16-mixed", root=root) == 0
    kept = torch.load("lightning_logs/run/version_0/checkpoints/best.ckpt", weights_only=True)["n2n"]["figures"]
    module = DenoisingModule.load_from_checkpoint(
        "lightning_logs/run/version_0/checkpoints/best.ckpt", map_location="cpu", weights_only=True
    )
    noisy, clean = (x.float() / 255 for x in torch.load(root / "val_data.pkl", weights_only=True))
    ssim = StructuralSimilarityIndexMeasure(data_range=1.0)
    with torch.no_grad():
        exact = float(ssim(module(noisy).clamp(0, 1), clean))
    assert kept["val/ssim"] == pytest.approx(exact, abs=3e-3)


def test_backbone_that_changes_the_shape_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model.backbone", "torch.nn.Upsample", "--model.backbone.scale_factor", "2"]
    assert fit(*options, root=write_course(tmp_path / "data")) == 2
    assert "a backbone must keep the shape" in capsys.readouterr().err


def test_channels_that_differ_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, grey = write_course(tmp_path / "data"), write_course(tmp_path / "grey", size=(1, 32, 32))
    options = ["--data.val_source", "n2n.data.CourseFiles", "--data.val_source.root", str(grey)]
    assert fit(*options, root=root) == 2
    assert "training images have 3 channels and validation images 1" in capsys.readouterr().err


def test_generated_pairs_need_no_file(tmp_path: Path) -> None:
    sizes = {"pairs": 20, "val_pairs": 10, "crops_per_image": 10, "size": 64, "crop": 64}
    options = [part for name, value in sizes.items() for part in (f"--data.source.{name}", str(value))]
    common = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    assert main(["fit", "--config", "quick.yaml", *options, *common]) == 0
    assert (tmp_path / "lightning_logs" / "quick" / "version_0" / "checkpoints" / "best.ckpt").is_file()


def test_panel_shows_every_pixel() -> None:
    noisy, denoised, clean = torch.rand(3, 2, 3, 8, 8)
    picture = panel(noisy, denoised * 3 - 1, clean, least_width=16)
    assert picture.shape == (3, 2 * 10 * 2, 3 * 10 * 2)
    assert torch.equal(picture[:, 2:18:2, 2:18:2], noisy[0])
    assert torch.equal(picture[:, 22:38:2, 42:58:2], clean[1])
    assert picture.min() >= 0
    assert picture.max() <= 1


def test_checkpoint_keeps_no_estimate_of_an_earlier_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    module = DenoisingModule(backbones.ModelFinal(widths=(8,)))
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    module.trainer = trainer
    earlier = {"val/psnr_blind": torch.tensor(30.0), "val/psnr": torch.tensor(25.0)}
    monkeypatch.setattr(L.Trainer, "callback_metrics", earlier)
    # Now the error is estimated below zero: there is no PSNR to say.
    nan = torch.tensor(float("nan"))
    module.blind_estimate = BlindEstimate(torch.tensor(-1.0), nan, nan, nan, torch.tensor(20.0))
    checkpoint: dict[str, Any] = {}
    module.on_save_checkpoint(checkpoint)
    figures = checkpoint["n2n"]["figures"]
    assert figures == {"val/psnr": 25.0, "val/mse_blind": -1.0, "val/psnr_noisy_blind": 20.0}


def grey_backbone(path: str) -> tuple[int, int]:
    """Return the channels that a checkpoint says, and those of its weights."""
    content = torch.load(path, weights_only=True)
    weight: torch.Tensor = content["state_dict"]["backbone.layers.0.weight"]
    return content["hyper_parameters"]["backbone"]["init_args"]["channels"], weight.shape[1]


@pytest.mark.parametrize("devices", ["1", "2"])
def test_averaged_weights_have_the_images_channels(tmp_path: Path, devices: str) -> None:
    root = write_course(tmp_path / "grey", size=(1, 32, 32))
    command = "fit --config table1/model2.yaml --config data/ee559 --name ema --trainer.callbacks+ EMAWeightAveraging"
    command += (
        f" --data.source.root {root} --trainer.max_epochs 1 --trainer.accelerator cpu --trainer.devices {devices}"
    )
    command += " --trainer.enable_progress_bar false" + " --trainer.strategy ddp" * (devices == "2")
    # In a process of its own: ddp starts the command once more.
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-m", "n2n", *command.split()], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "WeightAveraging doesn't support sharding" not in done.stderr
    best = "lightning_logs/ema/version_0/checkpoints/best.ckpt"
    assert grey_backbone(best) == (1, 1)
    assert "channels: 1" in Path("lightning_logs/ema/version_0/config.yaml").read_text()
    # Also if the class's defaults come back.
    again = ["--model.backbone", "n2n.backbones.Model2", "--ckpt_path", best, "--trainer.accelerator", "cpu"]
    assert main(["validate", *again]) == 0
    resumed = ["--config", "table1/model2.yaml", "--name", "more", "--trainer.max_epochs", "2"]
    assert main(["fit", *resumed, "--trainer.accelerator", "cpu", "--ckpt_path", best.replace("best", "last")]) == 0
    assert grey_backbone("lightning_logs/more/version_0/checkpoints/last.ckpt") == (1, 1)


def test_checkpoint_of_other_channels_is_refused(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grey = write_course(tmp_path / "grey", size=(1, 32, 32))
    options = ["--data.source", "n2n.data.CourseFiles", "--data.source.root", str(grey), "--trainer.accelerator", "cpu"]
    assert main(["validate", "--ckpt_path", str(checkpoint), *options]) == 2
    assert (
        "the checkpoint was trained on images of 3 channels, and those of this source have 1" in capsys.readouterr().err
    )


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


def tensors(*images: Tensor) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*images), batch_size=4)


def test_plain_loaders_of_tensors_are_enough() -> None:
    torch.manual_seed(0)
    clean = torch.rand(10, 3, 1, 1).expand(10, 3, 16, 16)
    noisy, other = clean + 0.1 * torch.randn(2, 10, 3, 16, 16)
    module = DenoisingModule(backbones.Model2(hidden=8), optimizer=lambda p: torch.optim.Adam(p, 1e-2))
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(accelerator="cpu", max_epochs=30, **options)  # type: ignore[arg-type]
    trainer.fit(module, tensors(noisy, other), tensors(noisy, other, clean))
    assert module.image_channels == 3
    validated = trainer.validate(module, tensors(noisy, other, clean), verbose=False)[0]
    tested = trainer.test(module, tensors(noisy, other, clean), verbose=False)[0]
    assert {name.partition("/")[2]: value for name, value in tested.items()} == {
        name.partition("/")[2]: value for name, value in validated.items()
    }
    assert {"test/psnr", "test/psnr_per_image", "test/ssim", "test/loss", "test/mse_blind"} <= tested.keys()
    assert tested["test/psnr"] > tested["test/psnr_noisy"]
    # By name, against clean images alone.
    rows: Any = [{"noisy": a, "clean": b} for a, b in zip(noisy, clean, strict=True)]
    named: DataLoader[Any] = DataLoader(rows, batch_size=4)
    assert trainer.test(module, named, verbose=False)[0].keys() == {
        f"test/{name}" for name in ("loss", "psnr", "psnr_per_image", "psnr_noisy", "psnr_noisy_per_image", "ssim")
    }
    for loader in (tensors(noisy), DataLoader(noisy, batch_size=4)):
        predicted = trainer.predict(module, loader)
        assert predicted is not None
        with torch.no_grad():
            torch.testing.assert_close(torch.cat(predicted), module(noisy))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="nothing to compare with"):
        trainer.validate(module, tensors(noisy), verbose=False)
    with pytest.raises(InputError, match="have no targets"):
        L.Trainer(accelerator="cpu", max_epochs=1, **options).fit(module, tensors(noisy))  # type: ignore[arg-type]


def test_the_data_module_tests_on_its_validation_pairs(tmp_path: Path, checkpoint: Path) -> None:
    module = DenoisingModule.load_from_checkpoint(checkpoint, weights_only=True, map_location="cpu")
    data = PairDataModule(CourseFiles(str(write_course(tmp_path / "data"))))
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    (tested,) = trainer.test(module, data, verbose=False)
    (validated,) = trainer.validate(module, data, verbose=False)
    assert tested["test/psnr"] == validated["val/psnr"]


def test_two_processes_with_images_of_other_sizes_log_the_same(tmp_path: Path, checkpoint: Path) -> None:
    # Images too small for SSIM fall to one process, and large ones to the other.
    rng = np.random.default_rng(0)
    for i in range(6):
        side = 8 if i % 2 else 32
        clean = rng.integers(60, 190, (side // 4, side // 4, 3)).repeat(4, 0).repeat(4, 1)
        for kind in ("a", "b", "clean"):
            (tmp_path / kind).mkdir(exist_ok=True)
            noise = 0 if kind == "clean" else rng.normal(0, 15, clean.shape)
            Image.fromarray(np.clip(clean + noise, 0, 255).astype(np.uint8)).save(tmp_path / kind / f"{i}.png")
    source = {"roots": ["a", "b"], "clean": "clean", "val_fraction": 1, "patch": 8}
    options = ["--data.source", json.dumps({"class_path": "n2n.data.Folders", "init_args": source})]
    options += ["--trainer.accelerator", "cpu", "--ckpt_path", str(checkpoint), "--trainer.precision", "32-true"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    shown = []
    for devices in ([], ["--trainer.devices", "2", "--trainer.strategy", "ddp"]):
        command = [sys.executable, "-m", "n2n", "validate", *options, *devices]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)
        assert done.returncode == 0, done.stderr
        shown.append({name: float(value) for name, value in re.findall(r"(val/\w+)\s+([\d.]+)", done.stdout)})
    one, two = shown
    assert "val/ssim" in one
    assert two == pytest.approx(one, rel=1e-4)
