"""No training step waits for the device: while it works, the host prepares what comes next."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from n2n import data as sources
from n2n import losses, optimizers
from n2n.data import augmentation, corruption
from n2n.data.augmentation import Augmentation
from n2n.data.corruption import Corruption
from n2n.data.noise import PairNoise
from n2n.data.sources.single_images import CleanImages
from tests.devices import pretend
from tests.devices.sweep.conftest import noisy_images
from tests.devices.sweep.test_parts import LOSSES, PLACES, SOURCES, source_arguments
from tests.devices.sweep.training import Small, by_name, classes, data, pairs, train
from tests.devices.target import Target


@pytest.fixture(autouse=True)
def _cuda_only(target: Target) -> None:
    if target.name not in ("pretend-cuda", "cuda"):
        pytest.skip("only CUDA has streams")


@contextlib.contextmanager
def waits(target: Target) -> Iterator[Callable[[], list[str]]]:
    """Give what tells of the operations so far for which the host waited."""
    if target.pretended:
        with pretend.waits() as found:
            yield lambda: list(found)
        return
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield lambda: [f"{one.filename}:{one.lineno}" for one in warned if "synchroniz" in str(one.message)]
    finally:
        torch.cuda.set_sync_debug_mode("default")


class Steps(Callback):
    """Notes which waits there were after each step."""

    def __init__(self, so_far: Callable[[], list[str]]) -> None:
        self._so_far = so_far
        self.after: list[list[str]] = []

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.after.append(self._so_far())


def check(
    target: Target, datamodule: Any, monkeypatch: pytest.MonkeyPatch, backbone: Callable[[], Any] = Small, **module: Any
) -> None:
    """Train, and look at the second step and at the third: in the first, constants are made."""
    # It is measured in the first pairs of a training only.
    monkeypatch.setattr(PairNoise, "complete", True)
    monkeypatch.setattr(PairNoise, "describe", lambda _: None)
    with waits(target) as so_far:
        steps = Steps(so_far)
        train(target, datamodule, backbone, module=module, callbacks=[steps], num_sanity_val_steps=0)
    first, *_, last = steps.after
    assert last[len(first) :] == []


@pytest.mark.parametrize(("kind", "on_device"), pairs(by_name(SOURCES), PLACES))
def test_source(kind: type[Any], on_device: bool, target: Target, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datamodule = data(files, source=kind(**source_arguments(kind, files, "uint16")), on_device=on_device)
    channels = datamodule.source.train_pairs().shape[0]
    check(target, datamodule, monkeypatch, lambda: Small(channels))


def test_fresh_photographs(target: Target, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = source_arguments(sources.Photographs, files, "uint8")
    source = sources.Photographs(**arguments, fresh=True, zoom=1.2, turn=20)
    check(target, data(files, source=source, on_device=True), monkeypatch)


@pytest.mark.parametrize("kind", by_name(classes(augmentation, Augmentation)))
def test_augmentation(kind: type[Augmentation], target: Target, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(target, data(files, augmentations=[kind()]), monkeypatch)


@pytest.mark.parametrize("kind", by_name(classes(corruption, Corruption)))
def test_corruption(kind: type[Corruption], target: Target, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patches: dict[str, Any] = {"patch": 8, "patches": 24, "val_fraction": 0.3, "channels": 3}
    noise = kind(cell=2) if kind.__name__ == "SampleCells" else kind()  # type: ignore[call-arg]
    check(target, data(files, source=CleanImages(str(files / "photos"), noise, **patches)), monkeypatch)


def test_gaps(target: Target, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels without data: their places are known on the device alone."""
    for scene in range(3):
        images = noisy_images("float32", 4, 32, scene)
        images[:, 10:12] = np.nan
        np.save(tmp_path / f"{scene}.npy", images)
    source = sources.Stack(**{**source_arguments(sources.Stack, files, "float32"), "root": str(tmp_path)})
    assert source.train_pairs().gaps
    check(target, data(files, source=source, on_device=True), monkeypatch, lambda: Small(1))


@pytest.mark.parametrize("kind", by_name(one for one in LOSSES if not issubclass(one, losses.NetworkLoss)))
def test_loss(kind: type[torch.nn.Module], target: Target, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(target, data(files), monkeypatch, loss=kind())


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, optimizers.Muon])
def test_optimizer(kind: Any, target: Target, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(target, data(files), monkeypatch, optimizer=lambda parameters: kind(parameters, lr=1e-3))
