"""The hardware of this machine: accelerator, precision and memory."""

from __future__ import annotations

import ctypes
import gc
import platform
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from n2n.errors import InputError
from n2n.system.text import counted

# Types of devices that get pinned memory and fused optimisers. Tests add one that computes on the CPU.
CUDA = {"cuda"}


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


# GPUs without tensor cores (TU116 and TU117), on which convolutions in float16 may give NaN (pytorch#58123).
_NAN_IN_HALF = re.compile(r"GTX 16\d\d|\bMX[45]50|\bT(400|500|550|600|1000|1200|2000)\b")


def gpu_obstacle() -> str | None:
    """Return why PyTorch cannot compute on the CUDA GPU that it sees; None if it can, or if it sees none."""
    built = torch.cuda.get_arch_list() if torch.cuda.is_available() and not torch.version.hip else []
    if not built:
        return None
    major, minor = torch.cuda.get_device_capability()
    for name in built:
        found = re.match(r"(sm|compute)_(\d+)(\d)", name)
        if found is None:
            return None
        kind, its_major, its_minor = found[1], int(found[2]), int(found[3])
        # Machine code runs on later GPUs of its generation, intermediate code on all later ones.
        if (its_major, its_minor) <= (major, minor) and (kind == "compute" or its_major == major):
            return None
    return (
        f"PyTorch {torch.__version__} has no code for the {torch.cuda.get_device_name()} (compute capability "
        f"{major}.{minor}); a build for it may be at https://download.pytorch.org/whl/cu126"
    )


def default_accelerator(accelerator: str) -> str:
    """Return the accelerator to train on.

    For "auto", that is the CPU on Macs, because n2n has not been run on Apple's GPUs, and the CPU with a warning beside a GPU
    that PyTorch cannot compute on.

    Raises:
        InputError: if PyTorch cannot compute on the GPU that was asked for.
    """
    if accelerator == "auto":
        useless = torch.cuda.is_available() and default_device() == "cpu"
        return "cpu" if useless or torch.backends.mps.is_available() else "auto"
    if accelerator in ("gpu", "cuda") and (obstacle := gpu_obstacle()):
        raise InputError(f"the GPU cannot be used: {obstacle}")
    return accelerator


def default_device() -> str:
    """Return "cuda" if there is such a GPU that PyTorch can compute on, else "cpu", with a warning if it is the GPU's fault."""
    if obstacle := gpu_obstacle():
        warnings.warn(f"{obstacle}: continuing on the CPU", stacklevel=2)
    return "cuda" if torch.cuda.is_available() and not obstacle else "cpu"


def default_precision(accelerator: str) -> str:
    """Return the Trainer's precision that is fastest at full quality on an accelerator ("auto", "cpu", "gpu", ...).

    That is "bf16-mixed" if the hardware multiplies bfloat16, "16-mixed" on NVIDIA GPUs of compute capability 7.x with tensor
    cores (T4, V100, RTX 20), and otherwise "32-true".
    """
    if has_fast_bf16(accelerator):
        return "bf16-mixed"
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        cores = torch.cuda.get_device_capability()[0] == 7 and not _NAN_IN_HALF.search(torch.cuda.get_device_name())
        return "16-mixed" if cores else "32-true"
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


# From messages of CUDA, HIP, MPS and XPU; of cuDNN and cuBLAS; of cuDNN without room for a workspace; of the CPU.
_OUT_OF_MEMORY = (
    *("out of memory", "ALLOC_FAILED", "ALLOCATION_FAILED", "STATUS_NOT_INITIALIZED", "unable to find an engine"),
    *("DefaultCPUAllocator", "could not allocate memory"),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or its libraries means that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


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
