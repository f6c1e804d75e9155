"""Reading what ``torch.save`` wrote, without running code that may be in it."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from n2n.errors import InputError, reason


def load_torch_file(path: Path, wanted: str) -> Any:
    """Map a file written by ``torch.save``; only tensors and plain values come out of it.

    Tensors are mapped from the file, so no memory is taken by what it claims.

    Args:
        path: the file, which may be hostile.
        wanted: what is expected in it, for the messages.

    Raises:
        InputError: if it is missing, damaged, not such a file, or holds more than tensors and plain values.
    """
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder: expected {wanted}")
        if not path.exists():
            raise InputError(f"{path} is not there: expected {wanted}")
        if not path.is_file():  # opening a pipe would wait for ever
            raise InputError(f"{path} is a device: expected {wanted}")
        # torch maps only entries that are stored as they are; a compressed one could also unpack to any size.
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            plain = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            pickles = [archive.read(entry) for entry in entries if plain and entry.filename.endswith("data.pkl")]
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}): expected {wanted}") from None
    except Exception:  # damaged archives fail in many ways
        plain = False
    # The one thing of those that torch lets pass which takes memory by a number: bytearray(10**12).
    if plain and any(b"bytearray" in pickled for pickled in pickles):
        raise InputError(f"{path} holds more than tensors and plain values, and none of it was run: expected {wanted}")
    if not plain:
        raise InputError(f"{path} is damaged or not a PyTorch file: expected {wanted}; fetch or save it again")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{path} holds more than tensors and plain values, and none of it was run: expected {wanted}"
        ) from None
    # Damaged files fail in many ways inside torch.load; all mean the same to the user.
    except Exception as error:
        raise InputError(f"{path} cannot be read ({reason(error)}): expected {wanted}") from None
