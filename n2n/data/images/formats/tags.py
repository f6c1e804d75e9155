"""Tags of TIFF directories as bytes. An EXIF block is made of such directories too."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

# Bytes of an item, and of the numbers in it, by the type of its tag. IFD types, 13 and 18, hold offsets.
ITEM = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8, 17: 8}
_NUMBER = ITEM | {5: 4, 10: 4}
_RATIONAL = (5, 10)
EXIF, GPS = 34665, 34853
# Tags that hold the offset of another directory of tags, which says how and where the picture was taken.
_DIRECTORIES = (EXIF, GPS, 40965)
_OFFSETS = (4, 13, 16, 18)
# Tags that hold the offset of a block, and bytes of it: the header of TVIPS.
_BLOCKS = {37706: 8192}
_MOST_TAGS = 4096
_BLOCK = b"Exif\0\0"


class _File(Protocol):
    def seek(self, offset: int, /) -> int: ...
    def read(self, size: int, /) -> bytes: ...


class Tag(NamedTuple):
    """A tag.

    Attributes:
        code: its number.
        kind: its type as in TIFF.
        data: its items as little-endian bytes; of a pointer, the block that it points to.
        inner: the tags of the directory that it points to.
        points: whether it is a pointer.
    """

    code: int
    kind: int
    data: bytes
    inner: Sequence[Tag] = ()
    points: bool = False

    @property
    def items(self) -> int:
        """Number of items."""
        return len(self.data) // ITEM[self.kind]

    @property
    def numbers(self) -> tuple[int | float, ...]:
        """Its numbers; two for each item of a rational tag."""
        letter = {3: "H", 4: "I", 5: "I", 8: "h", 9: "i", 10: "i", 11: "f", 12: "d", 16: "Q", 17: "q"}.get(
            self.kind, "B"
        )
        return struct.unpack(f"<{len(self.data) // _NUMBER[self.kind]}{letter}", self.data)


def structs(order: str, big: bool) -> tuple[struct.Struct, struct.Struct, struct.Struct]:
    """Return the number of tags, a tag, and an offset."""
    number, tag, offset = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    return struct.Struct(order + number), struct.Struct(order + tag), struct.Struct(order + offset)


def read_tags(
    file: _File, at: int, order: str, big: bool, wanted: Callable[[int], bool], most: int, depth: int = 0
) -> list[Tag]:
    """Read a directory. Damaged tags are left out.

    Args:
        file: that holds it.
        at: its offset in bytes.
        order: of bytes, "<" or ">".
        big: whether the file is BigTIFF.
        wanted: whether a tag of this code is read. Inner directories are read whole.
        most: bytes to read at most; tags that would exceed it are left out.
        depth: of the directory below the file's own.
    """
    number, entry, pointer = structs(order, big)
    file.seek(at)
    head = file.read(number.size)
    if len(head) < number.size:
        return []
    listed = file.read(min(number.unpack(head)[0], _MOST_TAGS) * entry.size)
    tags: list[Tag] = []
    for code, kind, items, field in entry.iter_unpack(listed[: len(listed) - len(listed) % entry.size]):
        if depth == 0 and not wanted(code):
            continue
        offset = pointer.unpack(field)[0]
        if code in _DIRECTORIES:
            # Each once, because directories may be loops.
            if depth < 2 and kind in _OFFSETS and items == 1 and code not in {tag.code for tag in tags}:
                inner = read_tags(file, offset, order, big, wanted, most, depth + 1)
                most -= sum(len(tag.data) for tag in inner)
                tags += [Tag(code, 4, b"", inner, points=True)] if inner else []
            continue
        if code in _BLOCKS and kind == 4 and items == 1:
            file.seek(offset)
            tags.append(Tag(code, 4, file.read(_BLOCKS[code]), points=True))
            continue
        length = items * ITEM.get(kind, 0)
        if not 0 < length <= most:
            continue
        data = field[:length]
        if length > len(field):
            file.seek(offset)
            data = file.read(length)
        if len(data) == length:
            most -= length
            swapped = np.frombuffer(data, f"{order}u{_NUMBER[kind]}")
            tags.append(Tag(code, kind, swapped.astype(swapped.dtype.newbyteorder("<")).tobytes()))
    return tags


def pack_tags(tags: Sequence[Tag], at: int, big: bool = False) -> bytes:
    """Return a little-endian directory that will stand at the offset ``at``, with all values and inner directories."""
    number, entry, pointer = structs("<", big)
    start = at + number.size + len(tags) * entry.size + pointer.size
    # Not bytes, which each addition would copy.
    entries, values = bytearray(number.pack(len(tags))), bytearray()
    for tag in sorted(tags, key=lambda tag: tag.code):
        values += bytes(len(values) % 2)
        after = start + len(values)
        field = pointer.pack(after)
        if tag.points:
            values += pack_tags(tag.inner, after, big) if tag.inner else tag.data
        elif len(tag.data) <= pointer.size:
            field = tag.data.ljust(pointer.size, b"\0")
        else:
            values += tag.data
        kind = (16 if big else 4) if tag.points else tag.kind
        entries += entry.pack(tag.code, kind, 1 if tag.points else tag.items, field)
    return bytes(entries + pointer.pack(0) + values)


def read_block(exif: bytes | None) -> list[Tag]:
    """Return the tags of an EXIF block."""
    block = (exif or b"").removeprefix(_BLOCK)
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8:
        return []
    at = struct.unpack_from(order + "I", block, 4)[0]
    return read_tags(io.BytesIO(block), at, order, False, lambda _: True, len(block))


def pack_block(tags: Sequence[Tag]) -> bytes | None:
    """Return an EXIF block of tags; None if there are none."""
    return _BLOCK + b"II*\0\x08\0\0\0" + pack_tags(tags, 8) if tags else None


def extratag(tag: Tag) -> tuple[int, int, int, bytes | tuple[int | float, ...], bool]:
    """Return a tag as tifffile's writer takes it; of rationals it takes numbers alone."""
    rational = tag.kind in _RATIONAL
    return tag.code, tag.kind, tag.items, tag.numbers if rational else tag.data, False
