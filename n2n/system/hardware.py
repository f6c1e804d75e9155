"""The hardware of this machine: accelerator, precision and memory."""

from __future__ import annotations

import ctypes
import gc
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from n2n.system.text import counted

# Types of devices that get pinned memory and fused optimisers. Tests add one that computes on the CPU.
CUDA = {"cuda"}


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def default_accelerator(accelerator: str) -> str:
    """Return the accelerator to train on: the CPU for "auto" on Macs, because n2n has not been run on Apple's GPUs."""
    return "cpu" if accelerator == "auto" and torch.backends.mps.is_available() else accelerator


def default_precision(accelerator: str) -> str:
    """Return the Trainer's precision that is fastest at full quality on an accelerator ("auto", "cpu", "gpu", ...).

    That is "bf16-mixed" if the hardware multiplies bfloat16, "16-mixed" on NVIDIA GPUs of compute capability 7.x (T4, V100,
    GTX 16, RTX 20), and otherwise "32-true". PyTorch's builds for CUDA 13 no longer support 7.0 (V100).
    """
    if has_fast_bf16(accelerator):
        return "bf16-mixed"
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "16-mixed" if torch.cuda.get_device_capability()[0] == 7 else "32-true"
    return "32-true"


def has_fast_bf16(accelerator: str) -> bool:
    """Return whether the hardware of an accelerator multiplies bfloat16. Otherwise it is emulated, and slow."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if accelerator not in ("auto", "cpu"):
        return False
    return re.search(r"\b(avx512_bf16|amx_bf16)\b", _cpuinfo()) is not None


# Options of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# Larger blocks are whole images, whose memory is returned to the system.
_KEPT = 2**28


def keep_freed_memory() -> bool:
    """Let this process reuse blocks of up to 256 MiB that it frees; return whether the C library supports that.

    On a CPU, a network allocates and frees the output of each layer, tens of megabytes, again and again. By default, glibc
    returns such blocks to the system and gets them back zeroed, page by page, which may take as long as the layer itself.
    Only commands call this, because it affects the whole process.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _KEPT)) and bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1))


def release_memory() -> None:
    """Free what an ended training held: objects that refer to each other, and GPU memory that PyTorch keeps for later."""
    gc.collect()
    torch.cuda.empty_cache()


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the host to a device. The host does not wait until a CUDA device has finished its work."""
    if device.type not in CUDA:
        return values.to(device)
    # From other memory than pinned, the copy would wait.
    return values.pin_memory().to(device, non_blocking=True)


@lru_cache(maxsize=256)
def constant(values: tuple[Any, ...], device: torch.device) -> Tensor:
    """Return a tensor of numbers on a device, float32, made once: to make one there waits for the device. Do not change it."""
    # Not one of the inference mode, since a training may use it, too.
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float32, device=device)


@contextmanager
def known_to_be_deterministic() -> Iterator[None]:
    """Run what PyTorch refuses in its deterministic mode (``--trainer.deterministic true``), although its result is so."""
    mode = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("default")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)


def device_name(device: torch.device) -> str:
    """Return the model of a GPU, or the model of a CPU and its number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    found = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    model = found[1].strip() if found else platform.processor() or platform.machine()
    return f"{model}, {counted(torch.get_num_threads(), 'thread')}"


def free_memory(device: torch.device) -> int:
    """Return the free bytes of a GPU; 0 on other devices, because images are better kept in the host's memory there."""
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    if device.type != "cuda":
        return 0
    # PyTorch reuses what it has reserved and not allocated.
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + unused
