"""``--trainer.deterministic true``: PyTorch refuses what has no deterministic kernel on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from n2n import backbones, optimizers
from n2n import data as sources
from n2n.data import corruption
from n2n.data.corruption import Corruption
from n2n.data.sources.single_images import CleanImages
from n2n.trainer.baselines.filters import Noise, gaussian_blur, median
from tests.devices.sweep.training import by_name, classes, data, train
from tests.devices.target import Target, all_is_swept

# On the pretended device, those that do more than the others.
BACKBONES = backbones.__all__ if all_is_swept() else ["NAFNet", "UNet"]
FEW = (corruption.Camera, corruption.TextOverlay)
CORRUPTIONS: list[type[Any]] = classes(corruption, Corruption)
CORRUPTIONS = [one for one in CORRUPTIONS if all_is_swept() or one in FEW]


@pytest.fixture(autouse=True)
def _mode() -> Iterator[None]:
    mode = torch.get_deterministic_debug_mode()
    yield
    torch.set_deterministic_debug_mode(mode)


def twice_the_same(target: Target, make: Callable[[], Any], **options: Any) -> None:
    one, other = (train(target, make(), deterministic=True, **options) for _ in range(2))
    for name, weights in one.weights.items():
        assert torch.equal(weights, other.weights[name]), name


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone(name: str, target: Target, files: Path) -> None:
    def made() -> Any:
        # Larger than NAFNet's window, and of a size that it pads.
        source = sources.Stack(str(files / "stack_uint8"), patch=32 if name == "Model1" else 30, patches=4)
        return data(files, source=source, batch_size=2)

    def network() -> nn.Module:
        kind: Any = getattr(backbones, name)
        return kind() if name == "Model1" else kind(channels=1, **({"window": 32} if name == "NAFNet" else {}))  # type: ignore[no-any-return]

    twice_the_same(target, made, backbone=network, limit_train_batches=2, limit_val_batches=1)


@pytest.mark.parametrize("kind", by_name(CORRUPTIONS))
def test_corruption(kind: type[Corruption], target: Target, files: Path) -> None:
    patches: dict[str, Any] = {"patch": 8, "patches": 24, "val_fraction": 0.3, "channels": 3}
    noise = kind(cell=2) if kind.__name__ == "SampleCells" else kind()  # type: ignore[call-arg]
    twice_the_same(target, lambda: data(files, source=CleanImages(str(files / "photos"), noise, **patches)))


def test_muon(target: Target, files: Path) -> None:
    module = {"optimizer": lambda parameters: optimizers.Muon(parameters, lr=1e-3)}
    # Wide enough to have matrices.
    twice_the_same(target, lambda: data(files), backbone=lambda: backbones.Model2(hidden=32), module=module)


def test_classical_filters(target: Target) -> None:
    """They run at the end of a training."""
    torch.use_deterministic_algorithms(True)
    images = torch.rand(1, 1, 16, 16, device=target.device)
    for apply in (median, gaussian_blur):
        assert apply(images, 3, Noise(0.0, 0.01)).shape == images.shape
    assert torch.are_deterministic_algorithms_enabled()
