"""The Denoiser on the device gives the CPU's pixels, and halves its batches where the memory is short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from n2n import Denoiser, backbones
from n2n.data.images.base import DTYPES
from n2n.data.images.values import to_unit
from tests.devices import pretend
from tests.devices.sweep.conftest import noisy_images
from tests.devices.sweep.training import Small
from tests.devices.target import Target

# What CUDA, cuDNN and cuBLAS say when memory is short, and PyTorch's own error.
SHORTAGES = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
]


def both(target: Target, backbone: nn.Module | None = None, **options: Any) -> tuple[Denoiser, Denoiser]:
    """Return denoisers of the same weights on the device and on the CPU."""
    torch.manual_seed(0)
    network = backbone or Small(1)
    copy = type(network)() if backbone is not None else Small(1)
    copy.load_state_dict(network.state_dict())
    return Denoiser(network, 1, target.device, **options), Denoiser(copy, 1, "cpu", **options)


@pytest.mark.parametrize("dtype", DTYPES)
def test_array(dtype: str, target: Target) -> None:
    image = noisy_images(dtype, 1, 40)[0]
    got, wanted = (denoiser(image) for denoiser in both(target))
    assert got.dtype == wanted.dtype == image.dtype
    assert np.abs(got.astype(float) - wanted.astype(float)).max() <= (1 if image.dtype.kind != "f" else 2e-3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensor_on_the_device(dtype: str, target: Target) -> None:
    if dtype == "float64" and target.name.endswith("mps"):
        pytest.skip("this device has no float64")
    image = torch.from_numpy(noisy_images(dtype, 1, 40)[0])
    device, cpu = both(target)
    got, wanted = device(image.to(target.device)), cpu(image)
    assert got.device == target.device
    assert got.dtype == wanted.dtype == image.dtype
    assert float((got.cpu().double() - wanted.double()).abs().max()) <= (1 if not image.is_floating_point() else 2e-3)


@pytest.mark.parametrize("options", [{"tile": 16, "overlap": 16}, {"ensemble": True}, {"tile": 16, "batch": 3}])
def test_options(options: dict[str, Any], target: Target) -> None:
    images = torch.rand(2, 1, 50, 61)
    got, wanted = (denoiser.denoise(images) for denoiser in both(target, **options))
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4 if target.exact else 5e-3)


@pytest.mark.parametrize("precision", ["bf16", "16"])
def test_half_precision(precision: str, target: Target) -> None:
    images = torch.rand(1, 1, 40, 40)
    device, _ = both(target, precision=precision)
    _, cpu = both(target)
    torch.testing.assert_close(device.denoise(images), cpu.denoise(images), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", backbones.__all__)
def test_backbone(name: str, target: Target) -> None:
    torch.manual_seed(0)
    images = torch.rand(1, 3, 32, 32)
    network = getattr(backbones, name)().eval()
    wanted = network(images).detach()
    got = Denoiser(network, 3, target.device).denoise(images)
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4 if target.exact else 5e-3)


@pytest.mark.parametrize("error", SHORTAGES, ids=[str(error)[:30] for error in SHORTAGES])
def test_memory_is_short(error: Exception, target: Target, tmp_path: Path) -> None:
    """Batches that do not fit are halved; the result is the same."""
    if not target.pretended:
        pytest.skip("only the pretended device fails on demand")
    images = torch.rand(8, 1, 32, 32)
    device, cpu = both(target, batch=8, tile=32)
    # Eight channels of three of the images: four do not fit, two do.
    with pretend.out_of_memory(3 * 8 * 32 * 32 * 4, error):
        got = device.denoise(images)
    torch.testing.assert_close(got, cpu.denoise(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_values(dtype: str, target: Target) -> None:
    """A file's values become [0, 1] on the device as on the CPU, and come back."""
    if dtype == "float64" and target.name.endswith("mps"):
        pytest.skip("this device has no float64")
    values = torch.from_numpy(noisy_images(dtype, 1, 16)[0])
    low, high = (-0.1, 1.2) if values.is_floating_point() else (3.5, float(torch.iinfo(values.dtype).max))
    wanted = to_unit(values, low, high)
    got = to_unit(values.to(target.device), low, high)
    assert got.device == target.device
    torch.testing.assert_close(got.cpu(), wanted, rtol=1e-6, atol=1e-6)
