"""Reading what ``torch.save`` wrote, without running code that may be in it."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from n2n.errors import InputError


def load_torch_file(path: Path, wanted: str, advice: str = "fetch or save it again") -> Any:
    """Map a file written by ``torch.save``; only tensors and plain values come out of it.

    Tensors are mapped from the file, so no memory is taken by what it claims.

    Args:
        path: the file, which may be hostile.
        wanted: what is expected in it, for the messages.
        advice: what to do if it is damaged, for the message.

    Raises:
        InputError: if it is missing, damaged, not such a file, or holds more than tensors and plain values.
    """
    try:
        # torch maps only entries that are stored as they are; a compressed one could also unpack to any size.
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            plain = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            # torch does not look at the checksums. Entries that lie over each other would keep us busy with it.
            plain = plain and sum(entry.file_size for entry in entries) <= path.stat().st_size and not archive.testzip()
    except FileNotFoundError:
        raise InputError(f"{path} is not there: expected {wanted}") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder: expected {wanted}") from None
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        plain = False
    if not plain:
        raise InputError(f"{path} is damaged or not a PyTorch file: expected {wanted}; {advice}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{path} holds more than tensors and plain values, and none of it was run: expected {wanted}"
        ) from None
    # Damaged files fail in many ways inside torch.load; all mean the same to the user.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} cannot be read ({reason}): expected {wanted}") from None
