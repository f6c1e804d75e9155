"""Every backbone, source, augmentation, corruption, loss, optimiser and schedule trains on the device as on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from n2n import backbones, losses, optimizers, schedules
from n2n import data as sources
from n2n.data import augmentation, corruption
from n2n.data.augmentation import Augmentation
from n2n.data.corruption import Corruption, Gaussian
from n2n.data.images.base import DTYPES
from n2n.data.sources.base import PairSource
from n2n.data.sources.single_images import CleanImages
from tests.devices.sweep.conftest import noisy_images
from tests.devices.sweep.training import Small, by_name, check, classes, data, pairs, same_as_cpu, train
from tests.devices.target import Target, all_is_swept

# Where the pairs are.
PLACES = [pytest.param(True, id="resident"), pytest.param(False, id="streamed")]
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true")
# Of torch's optimisers: SparseAdam wants sparse gradients, torch's Muon takes only matrices, and LBFGS fails on weights in
# channels_last order.
UNSUITED = {"SparseAdam", "Muon", "LBFGS"}
OPTIMIZERS = [one for one in classes(torch.optim, torch.optim.Optimizer) if one.__name__ not in UNSUITED]
if not all_is_swept():  # those that n2n fuses, and one with several states
    OPTIMIZERS = [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.Rprop]
# A base class has no forward of its own.
LOSSES = [one for one in classes(losses, nn.Module) if one.forward is not nn.Module.forward]
SOURCES = [
    one
    for one in map(vars(sources).get, sources.__all__)
    if isinstance(one, type) and hasattr(one, "val_pairs") and one is not PairSource
]


@pytest.mark.parametrize(("name", "precision"), pairs(backbones.__all__, PRECISIONS))
def test_backbone(name: str, precision: str, target: Target, files: Path) -> None:
    few: Any = {"batch_size": 2, "val_batch_size": 2}
    if name == "Model1":
        # It takes no other size.
        few["source"] = sources.CourseFiles(str(files / "course_32"))
    same_as_cpu(
        target,
        lambda: data(files, **few),
        backbone=getattr(backbones, name),
        precision=precision,
        # One step, which is the gradient.
        limit_train_batches=1,
        limit_val_batches=1,
        module={"optimizer": lambda parameters: torch.optim.SGD(parameters, 0.01, foreach=False)},
    )


def source_arguments(kind: type[Any], files: Path, dtype: str) -> dict[str, Any]:
    """Return what a source needs to find images of a dtype."""
    if kind.__name__ in ("DeadLeaves", "Photographs"):
        small: dict[str, Any] = {"crop": 64, "cell": 4}
        if kind.__name__ == "DeadLeaves":
            return {"pairs": 24, "val_pairs": 8, "size": 64, **small}
        return {"root": str(files / "photos"), "val_fraction": 0.25, "crops_per_photo": 8, **small}
    if kind.__name__ == "CourseFiles":
        return {"root": str(files / "course")}
    patches: dict[str, Any] = {"patch": 12, "patches": 24, "val_fraction": 0.3}
    if kind.__name__ == "Arrays":
        first, second = (np.stack([noisy_images(dtype, 2, 24, scene)[i] for scene in range(8)]) for i in range(2))
        return {"first": first, "second": second, **patches}
    if kind.__name__ == "Folders":
        return {"roots": [str(files / "a"), str(files / "b")], **patches}
    if kind.__name__ == "CleanImages":
        return {"root": str(files / f"clean_{dtype}"), "corruption": Gaussian(), **patches}
    folder = "captures" if kind.__name__ == "Captures" else "stack"
    return {"root": str(files / f"{folder}_{dtype}"), **patches}


@pytest.mark.parametrize(("kind", "on_device"), pairs(by_name(SOURCES), [*PLACES, pytest.param(None, id="by size")]))
def test_source(kind: type[Any], on_device: bool | None, target: Target, files: Path) -> None:
    def made() -> Any:
        return data(files, source=kind(**source_arguments(kind, files, "uint16")), on_device=on_device)

    channels = made().source.train_pairs().shape[0]
    assert issubclass(kind, PairSource)
    same_as_cpu(target, made, backbone=lambda: Small(channels), random=True)


def test_fresh_photographs(target: Target, files: Path) -> None:
    arguments = source_arguments(sources.Photographs, files, "uint8")
    same_as_cpu(target, lambda: data(files, source=sources.Photographs(**arguments, fresh=True, zoom=1.2, turn=20)))


@pytest.mark.parametrize(("dtype", "on_device"), pairs(DTYPES, PLACES))
def test_dtype(dtype: str, on_device: bool, target: Target, files: Path) -> None:
    arguments = source_arguments(sources.Stack, files, dtype)
    same_as_cpu(
        target,
        lambda: data(files, source=sources.Stack(**arguments), on_device=on_device),
        backbone=lambda: Small(1),
    )


def test_clean_targets(target: Target, files: Path) -> None:
    arguments = source_arguments(sources.DeadLeaves, files, "uint8")
    same_as_cpu(target, lambda: data(files, source=sources.DeadLeaves(**arguments), target="clean"))


@pytest.mark.parametrize(("kind", "on_device"), pairs(by_name(classes(augmentation, Augmentation)), PLACES))
def test_augmentation(kind: type[Augmentation], on_device: bool, target: Target, files: Path) -> None:
    same_as_cpu(target, lambda: data(files, augmentations=[kind()], on_device=on_device), random=True)


@pytest.mark.parametrize("kind", by_name(classes(corruption, Corruption)))
def test_corruption(kind: type[Corruption], target: Target, files: Path) -> None:
    patches: dict[str, Any] = {"patch": 8, "patches": 24, "val_fraction": 0.3, "channels": 3}
    noise = kind(cell=2) if kind.__name__ == "SampleCells" else kind()  # type: ignore[call-arg]
    same_as_cpu(
        target,
        lambda: data(files, source=CleanImages(str(files / "photos"), noise, **patches)),
        random=True,
    )


@pytest.mark.parametrize(
    "noise", [corruption.SensorNoise(0.0, 0.02), corruption.Poisson(1e12)], ids=["sensor", "poisson"]
)
def test_corruption_that_cannot_be_seen(noise: Corruption, target: Target) -> None:
    """So many photons that a device's counter may overflow."""
    clean = torch.linspace(0, 1, 96).view(1, 1, 8, 12).to(target.device)
    noisy = noise(clean, torch.Generator(target.device).manual_seed(0))
    assert float((noisy - clean).abs().max()) < 1e-3


@pytest.mark.parametrize("kind", by_name(LOSSES))
def test_loss(kind: type[nn.Module], target: Target, files: Path) -> None:
    def made() -> Any:
        # Losses that call the network want to know where half-size pairs come from.
        if not issubclass(kind, losses.NetworkLoss):
            return data(files)
        return data(files, source=sources.SingleImages(**source_arguments(sources.SingleImages, files, "uint16")))

    channels = made().source.train_pairs().shape[0]
    same_as_cpu(target, made, backbone=lambda: Small(channels), module={"loss": kind()}, max_epochs=2, random=True)


@pytest.mark.parametrize("kind", by_name([*OPTIMIZERS, *classes(optimizers, torch.optim.Optimizer)]))
def test_optimizer(kind: type[torch.optim.Optimizer], target: Target, files: Path, tmp_path: Path) -> None:
    """Two epochs at once are two epochs with a checkpoint between them, on the device and on the CPU."""
    module = {"optimizer": lambda parameters: kind(parameters, lr=1e-3)}  # type: ignore[call-arg]
    whole = train(target, data(files), module=module, max_epochs=2)
    train(target, data(files), module=module, save=tmp_path / "one.ckpt")
    resumed = train(target, data(files), module=module, max_epochs=2, ckpt_path=tmp_path / "one.ckpt")
    check(resumed, whole, target)
    # The first steps of several optimisers take a gradient's sign, which rounding can turn on another device.
    check(whole, train(None, data(files), module=module, max_epochs=2), target, random=True)


@pytest.mark.parametrize(
    ("kind", "interval"), pairs(by_name(classes(schedules, torch.optim.lr_scheduler.LRScheduler)), ["epoch", "step"])
)
def test_schedule(kind: type[Any], interval: str, target: Target, files: Path) -> None:
    same_as_cpu(target, lambda: data(files), module={"scheduler": kind, "scheduler_interval": interval}, max_epochs=2)
