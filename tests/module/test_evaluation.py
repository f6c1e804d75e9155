from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.image import StructuralSimilarityIndexMeasure

from n2n import DenoisingModule, PairDataModule, backbones
from n2n.data import Batch, CourseFiles
from n2n.errors import InputError
from n2n.module.scores import Scores
from tests.conftest import fit, write_course
from tests.processes import on_two_devices, run


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


def test_ssim_is_exact_where_convolutions_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """On NVIDIA GPUs, convolutions of float32 round to ten bits; here they do, too. Those of float64 are exact."""

    def conv2d(images: Tensor, weights: Tensor, *args: Any, **options: Any) -> Tensor:
        if images.dtype == torch.float32:
            images, weights = ((x.view(torch.int32) & -(2**13)).view(torch.float32) for x in (images, weights))
        return convolve(images, weights, *args, **options)

    clean = torch.full((2, 1, 32, 32), 0.8) + 0.01 * torch.rand(
        2, 1, 32, 32, generator=torch.Generator().manual_seed(0)
    )
    noisy = clean + 1e-3
    exact = float(StructuralSimilarityIndexMeasure(data_range=1.0)(noisy.double(), clean.double()))
    convolve = torch.nn.functional.conv2d
    monkeypatch.setattr(torch.nn.functional, "conv2d", conv2d)
    rounded = float(StructuralSimilarityIndexMeasure(data_range=1.0)(noisy, clean))
    assert abs(rounded - exact) > 1e-3
    monkeypatch.setattr("n2n.module.scores.CUDA", {"cpu"})
    scores = Scores()
    scores.add_loss(torch.zeros(()), 2)
    scores.add(noisy, noisy, clean)
    assert scores.compute()[0]["ssim"] == pytest.approx(exact, abs=1e-5)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_figures_are_exact_in_half_precision(precision: str, tmp_path: Path, checkpoint: Path) -> None:
    """Whatever the batches: the sum of many small ones would no longer grow."""
    data = PairDataModule(CourseFiles(str(write_course(tmp_path / "data"))), val_batch_size=1)
    trainer = L.Trainer(accelerator="cpu", precision=precision, logger=False, enable_progress_bar=False)  # type: ignore[arg-type]
    module = DenoisingModule.load_from_checkpoint(checkpoint, weights_only=True, map_location="cpu")
    (half,) = trainer.validate(module, data, verbose=False)
    noisy, clean = (x.float() / 255 for x in torch.load(tmp_path / "data/val_data.pkl", weights_only=True))
    errors = (noisy - clean).square().flatten(1).mean(1)
    assert half["val/psnr_noisy"] == pytest.approx(-10 * math.log10(errors.mean()), abs=1e-3)
    assert half["val/psnr_noisy_per_image"] == pytest.approx(float((-10 * errors.log10()).mean()), abs=1e-3)


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


class Dimmer(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 0.9 * x


def constant(images: int, first: float, second: float, **more: Any) -> Batch:
    """Return views of grey images that are off by a constant each."""
    clean = torch.full((images, 1, 16, 16), 0.5)
    return Batch(clean + first, clean + second, clean, **more)


def test_figures_are_of_all_images_and_both_views() -> None:
    module = DenoisingModule(Dimmer())
    module.validation_step(constant(2, 0.1, -0.3, scene=7), 0)
    module.validation_step(constant(1, 0.2, -0.1, scene=8), 1)
    figures, blind = module.scores.compute()
    # The outputs are off by 0.04 and -0.32, and by 0.13 and -0.14.
    assert figures["loss"] == pytest.approx((2 * 0.04**2 + 0.13**2) / 3)
    error = (2 * (0.04**2 + 0.32**2) + 0.13**2 + 0.14**2) / 6
    assert figures["psnr"] == pytest.approx(-10 * math.log10(error), abs=1e-3)
    noise = (2 * (0.1**2 + 0.3**2) + 0.2**2 + 0.1**2) / 6
    assert figures["psnr_noisy"] == pytest.approx(-10 * math.log10(noise), abs=1e-3)
    # Each output against the other view, less half the squared difference of the views.
    one = ((0.04 + 0.3) ** 2 + (0.32 + 0.1) ** 2 - 0.4**2) / 2
    other = ((0.13 + 0.1) ** 2 + (0.14 + 0.2) ** 2 - 0.3**2) / 2
    assert figures["mse_blind"] == pytest.approx((2 * one + other) / 3, rel=1e-4)
    assert blind is not None
    assert blind.scenes == 2
    # Views that are not independent have no estimate. Nothing is left of the figures before.
    module.validation_step(constant(1, 0.2, -0.1, independent=False), 0)
    figures, blind = module.scores.compute()
    assert figures["psnr"] == pytest.approx(-20 * math.log10(0.13), abs=1e-3)
    assert blind is None
    module.validation_step(constant(1, 0.2, -0.1)._replace(clean=None), 0)
    figures, blind = module.scores.compute()
    assert "psnr" not in figures
    assert figures["mse_blind"] == pytest.approx(other, rel=1e-4)
    # An output of 1.26 is clipped to 1, as in a file.
    module.validation_step(constant(1, 0.9, 0.0, independent=False), 0)
    assert module.scores.compute()[0]["ssim"] == pytest.approx(0.8, abs=1e-3)


def test_a_loss_of_nan_stays_nan() -> None:
    scores = Scores()
    for loss in (1.0, math.nan, 3.0):
        scores.add_loss(torch.tensor(loss), 2)
    assert math.isnan(scores.compute()[0]["loss"])
    for loss, images in ((1.0, 1), (5.0, 3)):
        scores.add_loss(torch.tensor(loss), images)
    assert scores.compute()[0]["loss"] == 4.0


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
    one, two = (
        {name: float(value) for name, value in re.findall(r"(val/\w+)\s+([\d.]+)", done.out)}
        for done in (run("validate", *options), on_two_devices("validate", *options))
    )
    assert "val/ssim" in one
    assert two == pytest.approx(one, rel=1e-4)
