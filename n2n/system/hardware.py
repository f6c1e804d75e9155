"""What the machine is, and what it can do well."""

from __future__ import annotations

import ctypes
import platform
import re
from pathlib import Path

import torch


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def has_fast_bf16(accelerator: str) -> bool:
    """Return whether the hardware multiplies bfloat16 itself; elsewhere it would be emulated, and slow.

    Args:
        accelerator: the Trainer's ("auto", "cpu", "gpu", ...).
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if accelerator not in ("auto", "cpu"):
        return False
    return re.search(r"\b(avx512_bf16|amx_bf16)\b", _cpuinfo()) is not None


# Of glibc's mallopt. Pieces of more bytes than the limit are whole images, whose memory goes back to the system.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT = 2**28


def keep_freed_memory() -> bool:
    """Let this process reuse the memory that it frees, for pieces of up to 256 MiB; return whether the C library can.

    A network on a CPU frees and asks for each layer's output, tens of megabytes, again and again. glibc gives so much back to
    the system each time and gets it anew, page by page and zeroed, which may take as long as the layer does. The setting is
    the whole process's, so it is for commands to make.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _KEPT)) and bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1))


def device_name(device: torch.device) -> str:
    """Name a device, for a table of figures: of a GPU its model, of a CPU its model and the threads that compute."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    found = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    model = found[1].strip() if found else platform.processor() or platform.machine()
    threads = torch.get_num_threads()
    return f"{model}, {threads} thread{'s' * (threads != 1)}"


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on a GPU; 0 on other devices, where images had better stay in the host's memory."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 0
