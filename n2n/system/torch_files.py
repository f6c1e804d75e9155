"""Reading files of ``torch.save`` without running code that they may contain."""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from n2n.errors import InputError, reason
from n2n.system.files import file_size

# The end record of a zip archive: signature, length and offset of the directory, length of the comment. In a 64-bit archive, a
# longer record and a locator with its offset come first.
_END, _END64, _LOCATOR = struct.Struct("<4s8xIIH"), struct.Struct("<4s36xQQ8xQ4x"), 56

# What torch.save writes, in one folder. torch would take DATA.PKL for data.pkl as well.
_ENTRY = re.compile(
    r"([\1-.0-\x7f]*)/(?:data\.pkl|byteorder|version|\.format_version|\.storage_alignment|data/[0-9]+|\.data/serialization_id)"
)

# Kinds of tensors that may be in a file, with the names that torch.save has for them.
STORED_DTYPES = {
    torch.float32: "Float",
    torch.float64: "Double",
    torch.float16: "Half",
    torch.bfloat16: "BFloat16",
    torch.int64: "Long",
    torch.int32: "Int",
    torch.int16: "Short",
    torch.int8: "Char",
    torch.uint8: "Byte",
    torch.bool: "Bool",
    torch.complex64: "ComplexFloat",
    torch.complex128: "ComplexDouble",
}
# Names that torch.save uses for tensors and plain values. torch allows more, such as bytearray and torch.Tensor, which allocate
# any amount of memory.
_NAMED = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor_v2|parameter)|torch Size"
    rf"|torch ({'|'.join(STORED_DTYPES.values())})Storage"
)


def load_torch_file(path: Path, wanted: str, advice: str = "fetch or save it again") -> Any:
    """Load tensors and plain values from a file of ``torch.save``.

    Tensors are mapped from the file, so that a claimed size takes no memory.

    Args:
        path: the file, which may be hostile.
        wanted: what is expected in it, for messages.
        advice: what to do if it is damaged, for messages.

    Raises:
        InputError: if it is missing, damaged, not such a file, or holds more than tensors and plain values.
    """
    size = file_size(path, wanted)
    more = InputError(f"{path} holds more than tensors and plain values, and none of it was run: expected {wanted}")
    try:
        plain = _is_one_archive(path)
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            # torch does not check the checksums. Entries that overlap would take too long to check.
            plain = plain and _are_of_torch(entries) and sum(entry.file_size for entry in entries) <= size
            plain = plain and not archive.testzip()
            pickles = [archive.read(entry) for entry in entries if plain and entry.orig_filename.endswith("/data.pkl")]
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}): expected {wanted}") from None
    except Exception:  # damaged archives fail in many ways
        plain = False
    if not plain:
        raise InputError(f"{path} is damaged or not a PyTorch file: expected {wanted}; {advice}")
    try:
        if not all(map(_names_tensors_alone, pickles)):
            raise more
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except InputError:
        raise
    except pickle.UnpicklingError:
        raise more from None
    except Exception as error:  # of many kinds, for damaged files
        raise InputError(f"{path} cannot be read ({reason(error)}): expected {wanted}") from None


def _names_tensors_alone(pickled: bytes) -> bool:
    """Whether a pickle names nothing but tensors and plain values."""
    return all(
        operation.name not in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4")
        and (operation.name != "GLOBAL" or _NAMED.fullmatch(str(argument)))
        for operation, argument, _ in pickletools.genops(pickled)
    )


def _are_of_torch(entries: Sequence[zipfile.ZipInfo]) -> bool:
    """Whether entries are such as torch.save writes. In others, torch may find what zipfile does not."""
    # The names as they are in the file, for zipfile may show others.
    names = [_ENTRY.fullmatch(entry.orig_filename) for entry in entries]
    return (
        len({name and name[1] for name in names}) == 1
        and None not in names
        and len({entry.orig_filename for entry in entries}) == len(entries)
        # torch can map uncompressed entries only, and a compressed one could unpack to any size.
        and all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        and all(entry.compress_size == entry.file_size for entry in entries)
        # Nothing beside the size and the place of a large entry.
        and all(not entry.extra or entry.extra[:4] == struct.pack("<HH", 1, len(entry.extra) - 4) for entry in entries)
    )


def _is_one_archive(path: Path) -> bool:
    """Whether a zip archive ends with its directory. In other archives, torch and zipfile may find different entries."""
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - _END.size - _END64.size))
        tail = file.read()
    if len(tail) < _END.size:
        return False
    mark, length, start, comment = _END.unpack(tail[-_END.size :])
    end = size - _END.size
    if tail[_LOCATOR:].startswith(b"PK\x06\x07"):  # a 64-bit archive, as torch writes
        mark64, length, start, at = _END64.unpack(tail[: _END64.size])
        end = size - len(tail)
        if mark64 != b"PK\x06\x06" or at != end:
            return False
    return bool(mark == b"PK\x05\x06" and comment == 0 and start + length == end)
