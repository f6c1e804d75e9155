from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from n2n import Denoiser
from n2n.errors import InputError
from n2n.system import hardware
from n2n.system.hardware import default_accelerator, default_device, default_precision, free_memory, gpu_obstacle


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], built: str, name: str = "a GPU") -> None:
    """Let PyTorch see a GPU, with machine code for others."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: capability[0] >= 8)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built.split())
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)


# What torch 2.13 is built for, with CUDA 13 and with CUDA 12.6.
CUDA_13 = "sm_75 sm_80 sm_86 sm_90 sm_100 sm_110 sm_120 compute_120"
CUDA_12 = "sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90"


@pytest.mark.parametrize(
    ("capability", "built", "usable"),
    [
        ((6, 1), CUDA_13, False),
        ((7, 0), CUDA_13, False),
        ((6, 1), CUDA_12, True),
        ((7, 5), CUDA_13, True),
        ((8, 9), CUDA_13, True),
        ((9, 0), "sm_80 sm_90a", True),
        ((12, 1), CUDA_13, True),
        ((13, 0), CUDA_13, True),
        ((13, 0), CUDA_12, False),
        ((8, 0), "sm_86", False),
        ((6, 1), "", True),
        ((6, 1), "gfx90a", True),
    ],
)
def test_a_gpu_without_code_is_not_used(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], built: str, usable: bool
) -> None:
    pretend_gpu(monkeypatch, capability, built)
    assert (gpu_obstacle() is None) == usable
    if usable:
        assert (default_accelerator("auto"), default_accelerator("gpu"), default_device()) == ("auto", "gpu", "cuda")
        return
    number = "{}.{}".format(*capability)
    with pytest.warns(
        UserWarning, match=rf"no code for the a GPU \(compute capability {number}\).*: continuing on the CPU"
    ):
        assert default_accelerator("auto") == "cpu"
    with pytest.warns(UserWarning, match="continuing on the CPU"):
        assert default_device() == "cpu"
    with pytest.raises(InputError, match=r"the GPU cannot be used: PyTorch .* has no code for the a GPU"):
        default_accelerator("cuda")


def test_a_denoiser_runs_on_the_cpu_if_the_gpu_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, (6, 1), CUDA_13)
    noisy = np.ones((8, 8), np.float32)
    with pytest.warns(UserWarning, match=r"continuing on the CPU"):
        np.testing.assert_array_equal(Denoiser(nn.Identity())(noisy), noisy)
    with pytest.raises(InputError, match=r"the GPU cannot be used: PyTorch .* has no code"):
        Denoiser(nn.Identity(), device="cuda:0")


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("Tesla T4", "16-mixed"),
        ("NVIDIA GeForce RTX 2080 Ti", "16-mixed"),
        ("NVIDIA GeForce GTX 1660 SUPER", "32-true"),
        ("Quadro T2000", "32-true"),
        ("NVIDIA T1000 8GB", "32-true"),
        ("NVIDIA GeForce MX450", "32-true"),
    ],
)
def test_gpus_that_give_nan_in_float16_train_in_float32(
    monkeypatch: pytest.MonkeyPatch, name: str, precision: str
) -> None:
    pretend_gpu(monkeypatch, (7, 5), CUDA_13, name)
    assert default_precision("auto") == precision


@pytest.mark.parametrize(
    ("mac", "given", "chosen"), [(True, "auto", "cpu"), (True, "mps", "mps"), (False, "auto", "auto")]
)
def test_macs_train_on_the_cpu_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, mac: bool, given: str, chosen: str
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mac)
    assert default_accelerator(given) == chosen


@pytest.mark.parametrize(
    ("bf16", "capability", "precision"),
    [
        (True, (9, 0), "bf16-mixed"),
        (False, (7, 5), "16-mixed"),
        (False, (7, 0), "16-mixed"),
        (False, (6, 1), "32-true"),
    ],
)
def test_precision_is_that_of_the_card(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, capability: tuple[int, int], precision: str
) -> None:
    pretend_gpu(monkeypatch, capability, CUDA_12)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    assert default_precision("auto") == default_precision("gpu") == precision


@pytest.mark.parametrize(("flags", "precision"), [("avx2 avx512_bf16", "bf16-mixed"), ("avx2", "32-true")])
def test_precision_is_that_of_the_cpu(monkeypatch: pytest.MonkeyPatch, flags: str, precision: str) -> None:
    monkeypatch.setattr(hardware, "_cpuinfo", lambda: f"flags : {flags}\n")
    assert default_precision("cpu") == precision
    assert default_precision("mps") == "32-true"


def test_free_memory_counts_what_pytorch_has_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 5000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 300)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 100)
    assert free_memory(torch.device("cuda")) == 1200
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 900)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 400)
    assert free_memory(torch.device("mps")) == 500
    assert free_memory(torch.device("cpu")) == 0
