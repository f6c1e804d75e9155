"""Data for the tests: tiny files in the course's format, small photographs, and a trained checkpoint."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Several tests run at once, so each gets one core. Set before torch is imported, and for the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from PIL import Image

from n2n.cli import main


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test in an empty folder with an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("N2N_CACHE", str(tmp_path / "cache"))


def shorten_endings(patch: pytest.MonkeyPatch) -> None:
    """Compare trainings with one filter, and draw panels of one image: all of these take half the time of a tiny training.

    The tests of the filters ask for all of these, and the run of ``checkpoint`` has panels of eight.
    """
    from n2n.trainer.baselines.filters import filters

    patch.setattr("n2n.trainer.baselines.comparison.filters", lambda: filters()[:1])
    patch.setattr("n2n.trainer.callbacks.ImagePanel.__init__.__defaults__", (5, 1))


@pytest.fixture(autouse=True, scope="session")
def _short_endings() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        shorten_endings(patch)
        yield


@pytest.fixture
def half_a_second_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let half a second pass in each step of a training, and no time elsewhere, however fast the machine is."""
    from n2n.module import DenoisingModule

    now, step = [0.0], DenoisingModule.training_step

    def slow_step(module: DenoisingModule, *batch: Any) -> Any:
        now[0] += 0.5
        return step(module, *batch)

    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr(DenoisingModule, "training_step", slow_step)


def write_course(folder: Path, pairs: int = 60, size: tuple[int, int, int] = (3, 32, 32)) -> Path:
    """Write both files: smooth clean images, and views with Gaussian noise."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(40, 215, (pairs, size[0], 4, 4))).float()
    clean = torch.nn.functional.interpolate(coarse, size[1:], mode="bilinear")

    def view(sigma: float) -> torch.Tensor:
        noise = torch.from_numpy(rng.normal(0, sigma, clean.shape)).float()
        return (clean + noise).round().clamp(0, 255).to(torch.uint8)

    folder.mkdir(parents=True, exist_ok=True)
    torch.save((view(20), view(20)), folder / "train_data.pkl")
    torch.save((view(20)[:20], view(0)[:20]), folder / "val_data.pkl")
    return folder


def write_photos(folder: Path, count: int = 4, size: tuple[int, int] = (80, 90)) -> Path:
    """Write PNG photographs of random blocks."""
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        small = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        small.resize(size[::-1]).save(folder / f"{i}.png")
    return folder


def fit(*options: str, root: Path) -> int:
    """Train the smallest network for one epoch on the course's files in ``root``."""
    options = (
        *("--config", "table1/model2.yaml", "--config", "data/ee559", "--data.source.root", str(root)),
        *("--data.batch_size", "20", "--name", "run", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"),
        *("--trainer.enable_progress_bar", "false", *options),
    )
    return main(["fit", *options])


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train once for all tests that need a checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    root = write_course(folder / "data")
    options = ("--trainer.max_epochs", "30", "--data.batch_size", "4", "--model.optimizer.lr", "1e-2")
    network = ("--model.backbone", "n2n.backbones.ModelFinal", "--model.backbone.widths", "[8,8]")
    whole = ("--panel.images", "8", "--trainer.default_root_dir", str(folder))
    assert fit(*whole, *options, *network, root=root) == 0
    return folder / "lightning_logs" / "run" / "version_0" / "checkpoints" / "best.ckpt"
