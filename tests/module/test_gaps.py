"""Pixels without data do not count: neither in the loss nor in the scores."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from n2n import DenoisingModule, PairDataModule, backbones
from n2n.cli import main
from n2n.data import CleanImages, Folders, SingleImages
from n2n.data.augmentation import Contrast, PixelExchange
from n2n.data.batch import Batch
from n2n.data.corruption import Corruption, Gaussian, Impulse, Poisson, SampleCells, SensorNoise, TextOverlay
from n2n.data.sources.single_images import NeighbourPairs
from n2n.losses import AnnealedL0, Neighbor2Neighbor
from tests.processes import on_two_devices, run

RNG = np.random.default_rng(0)
NAN = float("nan")


def module(loss: nn.Module) -> DenoisingModule:
    torch.manual_seed(0)
    built = DenoisingModule(backbones.ModelFinal(1, widths=[4]), loss)
    built.trainer = L.Trainer(accelerator="cpu", max_steps=10, logger=False, enable_checkpointing=False)
    return built


def gradient(loss: nn.Module, batch: Batch) -> tuple[Tensor, list[Tensor]]:
    """Return the loss of a training step and its gradient."""
    trained = module(loss)
    value = trained.training_step(batch, 0)
    value.backward()  # type: ignore[no-untyped-call]
    return value.detach(), [weight.grad for weight in trained.parameters() if weight.grad is not None]


@pytest.mark.parametrize(
    "loss", [nn.MSELoss(), nn.L1Loss(), nn.SmoothL1Loss(), AnnealedL0()], ids=lambda x: type(x).__name__
)
def test_pixels_without_data_have_no_gradient(loss: nn.Module) -> None:
    noisy, target = torch.rand(2, 4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    whole, plain = gradient(loss, Batch(noisy, target, gaps=True)), gradient(loss, Batch(noisy, target))
    torch.testing.assert_close(whole, plain, rtol=0, atol=0)
    # Two of four images have no targets: half the loss and half the gradient of the others.
    target[2:] = NAN
    value, gradients = gradient(loss, Batch(noisy, target, gaps=True))
    expected, half = gradient(loss, Batch(noisy[:2], target[:2]))
    if not isinstance(loss, AnnealedL0):  # 0 has a loss there, a constant
        torch.testing.assert_close(value, expected / 2)
    torch.testing.assert_close(gradients, [weight / 2 for weight in half], rtol=1e-4, atol=1e-7)
    # Input without data is no example of what to do with it.
    noisy[2:], target[2:] = NAN, 0.3
    torch.testing.assert_close(gradient(loss, Batch(noisy, target, gaps=True))[1], gradients)


def test_neighbours_without_data_have_no_gradient() -> None:
    images = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    draw = NeighbourPairs()
    loss = Neighbor2Neighbor()

    def step(images: Tensor, gaps: bool) -> list[Tensor]:
        views = draw(images, torch.Generator().manual_seed(1))._replace(gaps=gaps)
        return gradient(loss, views)[1]

    whole = step(images, False)
    torch.testing.assert_close(step(images, True), whole, rtol=0, atol=0)
    lost = images.clone()
    lost[2:] = NAN
    # Two of four images have no data: half the gradient of the others.
    expected = [weight / 2 for weight in step(images[:2], False)]
    torch.testing.assert_close(step(lost, True), expected, rtol=1e-4, atol=1e-7)


class Dimmer(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 0.9 * x


@pytest.mark.parametrize("clean", [False, True])
def test_scores_are_those_of_the_pixels_with_data(clean: bool) -> None:
    first, second, third = torch.rand(3, 1, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    shown = third if clean else None

    def scores(batch: Batch) -> dict[str, float]:
        scored = DenoisingModule(Dimmer())
        scored.validation_step(batch, 0)
        return scored.scores.compute()[0]

    part = scores(Batch(first[..., :10], second[..., :10], shown if shown is None else shown[..., :10]))
    for image in (first, second, third) if clean else (first, second):
        before = image.clone()
        image[..., 10:] = NAN
        found = scores(Batch(first, second, shown, gaps=True))
        assert found.keys() >= part.keys() - {"ssim"}
        for name, value in found.items():
            assert value == pytest.approx(part[name], rel=1e-5), name
        image.copy_(before)


CORRUPTIONS: list[Corruption] = [
    Gaussian(25.0),
    Poisson(30.0),
    SensorNoise(),
    Impulse(0.5),
    TextOverlay(),
    SampleCells(4),
]


def write(name: str, image: NDArray[Any], nodata: str | None) -> None:
    Path(name).parent.mkdir(exist_ok=True, parents=True)
    tags = [(42113, "s", 0, nodata, True)] if nodata is not None else []
    tifffile.imwrite(name, image, extratags=tags, metadata=None)


def batches(data: PairDataModule) -> list[Batch]:
    data.setup("fit")
    raw = [*data.train_dataloader(), *data.val_dataloader()]
    return [data.on_after_batch_transfer(batch, 0) for batch in raw]


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda x: type(x).__name__)
def test_clean_images_keep_their_gaps(corruption: Corruption) -> None:
    for i in range(3):
        image = RNG.integers(100, 200, (96, 80, 3), dtype=np.uint8)
        image[:, :40] = 0
        write(f"in/{i}.tif", image, "0")
    source = CleanImages("in", corruption, patch=8, patches=40, val_fraction=0.3)
    for batch in batches(PairDataModule(source, batch_size=20)):
        assert batch.gaps
        lost = [image.isnan().all(1) for image in (batch.noisy, batch.target) if image is not None]
        assert len(lost) == 2
        assert torch.equal(*lost)
        assert 0.2 < lost[0].float().mean() < 0.8
        assert not (batch.noisy.isnan().any(1) ^ lost[0]).any()
        if batch.clean is not None:
            assert torch.equal(batch.clean.isnan().all(1), lost[0])


def test_augmentations_keep_gaps() -> None:
    for folder in "ab":
        image = RNG.normal(0.5, 0.1, (64, 64)).astype(np.float32)
        image[:20] = NAN
        write(f"{folder}/x.tif", image, None)
    data = PairDataModule(
        Folders(["a", "b"], patches=40, patch=16), batch_size=20, augmentations=[Contrast(), PixelExchange()]
    )
    for batch in batches(data):
        assert torch.equal(batch.noisy.isnan(), batch.target.isnan())  # type: ignore[union-attr]


def terrain(seed: int) -> NDArray[np.int16]:
    y, x = np.mgrid[:96, :96]
    height = 1200 + 400 * np.sin(x / 9) * np.cos(y / 11) + np.random.default_rng(seed).normal(0, 40, x.shape)
    return np.where((x - 48) ** 2 + (y - 48) ** 2 > 44**2, -9999, np.rint(height)).astype(np.int16)


@pytest.mark.parametrize("kind", ["pairs", "single"])
def test_terrain_without_data_outside_a_disc_trains_a_network(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    for i in range(8):
        write(f"in/{i // 2}_{i % 2}.tif", terrain(i), "-9999")
    source = "Captures" if kind == "pairs" else "SingleImages"
    options = (
        *("--name", "run", "--config", "table1/model2.yaml", "--data.source", f"n2n.data.{source}"),
        *("--data.source.root", "in", "--data.source.patches", "200", "--data.source.patch", "24"),
        *("--data.batch_size", "20", "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu"),
        *("--trainer.enable_progress_bar", "false", "--trainer.precision", "32-true"),
        *(("--model.loss", "n2n.losses.Neighbor2Neighbor") if kind == "single" else ()),
    )
    with caplog.at_level("INFO"):
        assert main(["fit", *options]) == 0
    assert "values are NaN, infinite or no data: the network is not trained on them" in caplog.text
    (best,) = Path("lightning_logs").rglob("best.ckpt")
    kept = torch.load(best, weights_only=True)["n2n"]
    assert kept["dtype"] == "int16"
    assert 0 <= kept["range"][0] < kept["range"][1] < 1900
    assert all(np.isfinite(value) for value in kept["figures"].values())
    command = ["predict", "--ckpt_path", str(best), "--input", "in/0_0.tif", "--output", "out", "--device", "cpu"]
    assert main(command) == 0
    noisy, out = terrain(0), tifffile.imread("out/0_0.tif")
    assert np.array_equal(out == -9999, noisy == -9999)
    if kind == "pairs":
        data = out > -9999
        assert np.abs(out[data].mean() - noisy[data].mean()) < 100


def test_single_images_skip_what_has_no_data() -> None:
    image = RNG.normal(0.5, 0.1, (64, 64)).astype(np.float32)
    image[10:30, 10:30] = np.inf
    write("in/a.tif", image, None)
    write("in/b.tif", image[::-1], None)
    for batch in batches(PairDataModule(SingleImages("in", patch=16, patches=40, val_fraction=0.5), batch_size=20)):
        assert batch.gaps
        assert batch.noisy.isnan().any()
        assert not batch.noisy.isinf().any()


def test_two_processes_of_which_one_has_no_known_pixel_log_the_same(tmp_path: Path) -> None:
    """In every second scene, no pixel is known in both captures; these scenes fall to the second process."""
    for i in range(6):
        clean = RNG.uniform(0.2, 0.8, (8, 8, 3)).repeat(4, 0).repeat(4, 1)
        for kind in ("a", "b", "clean"):
            image = clean + (0 if kind == "clean" else RNG.normal(0, 0.06, clean.shape))
            if i % 2 and kind != "clean":
                (image[:16] if kind == "a" else image[16:])[:] = NAN
            (tmp_path / kind).mkdir(exist_ok=True)
            np.save(tmp_path / kind / f"{i}.npy", image.astype(np.float32))
    source = {"roots": ["a", "b"], "clean": "clean", "val_fraction": 1, "patch": 16, "value_range": [0, 1]}
    options = ["--data.source", json.dumps({"class_path": "n2n.data.Folders", "init_args": source})]
    options += ["--trainer.accelerator", "cpu", "--ckpt_path", "quick", "--trainer.precision", "32-true"]
    one, two = (
        {name: float(value) for name, value in re.findall(r"(val/\w+)\s+([\d.]+)", done.out)}
        for done in (run("validate", *options), on_two_devices("validate", *options))
    )
    assert {"val/loss", "val/psnr", "val/mse_blind"} <= one.keys()
    assert two == pytest.approx(one, rel=1e-4)


def test_nothing_known_at_all_gives_no_figures() -> None:
    trained = module(nn.MSELoss())
    lost = torch.full((1, 1, 16, 16), NAN)
    trained.validation_step(Batch(lost, lost, gaps=True), 0)
    figures, blind = trained.scores.compute()
    assert list(figures) == ["loss"]
    assert "cannot be estimated" in str(blind)
