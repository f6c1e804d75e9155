"""Checks for directories of TIFF files that are loops, or claim more memory than the file is large."""

from __future__ import annotations

from pathlib import Path

import tifffile

from n2n.data.images.formats.tags import ITEM, structs
from n2n.errors import InputError

# tifffile's own limit of tags in a directory; bytes of a value, by the type of its tag, also of offsets.
_MOST_TAGS = 4096
_TYPE_BYTES = ITEM | {13: 4, 18: 8}
# Bytes of tags that tifffile may load: from any file, and for each byte of the file, because pages may share a palette.
_ALWAYS_ALLOWED, _ALLOWED_PER_BYTE = 2**26, 4


def check_directories(path: Path, size: int) -> None:
    """Raise InputError if the directories are a loop, or claim far more bytes than the file has.

    tifffile would read for ever, or use too much memory. It finds other damage itself.
    """
    loaded = 0
    seen: set[int] = set()
    with path.open("rb") as file:
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 16:
            return
        number, tag, after = structs(order, head[2:4] in (b"+\0", b"\0+"))
        (at,) = after.unpack_from(head, after.size)
        while 0 < at < size:
            if at in seen:
                raise InputError(f"{path} is damaged: its directories are a loop; expected a whole TIFF image")
            seen.add(at)
            file.seek(at)
            start = file.read(number.size)
            if len(start) < number.size or (count := number.unpack(start)[0]) > _MOST_TAGS:
                return
            directory = file.read(count * tag.size + after.size)
            if len(directory) < count * tag.size + after.size:
                return
            loaded += sum(
                values * _TYPE_BYTES.get(kind, 1)
                for code, kind, values, _ in tag.iter_unpack(directory[: -after.size])
                if code in tifffile.TIFF.TAG_LOAD and values <= size
            )
            # Directories may overlap, so there may be as many as the file has bytes.
            loaded += len(directory)
            if loaded > max(_ALWAYS_ALLOWED, _ALLOWED_PER_BYTE * size):
                raise InputError(
                    f"{path} is damaged: its directories say that they hold {loaded:,} bytes, of {size:,} in the file"
                )
            (at,) = after.unpack_from(directory, count * tag.size)
