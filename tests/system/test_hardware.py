from __future__ import annotations

import pytest
import torch

from n2n.system import hardware
from n2n.system.hardware import default_accelerator, default_precision, free_memory


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
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
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
