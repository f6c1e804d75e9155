"""The segments of JPEG files that say how values are shown, how large a pixel is, and who took the picture."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import NamedTuple

_START, _SCAN, _END, _COMMENT = b"\xff\xd8", 0xDA, b"\xff\xd9", 0xFE
_APP0, _APP1, _APP2, _APP12, _APP13 = 0xE0, 0xE1, 0xE2, 0xEC, 0xED
_JFIF, _ICC, _PHOTOSHOP = b"JFIF\0", b"ICC_PROFILE\0", b"Photoshop 3.0\0"
# Bytes of the data of a segment.
MOST = 2**16 - 3
# Bytes after the picture that are no more than padding.
_PADDING = 1024


class Segment(NamedTuple):
    """A segment: its marker's second byte, and its data."""

    marker: int
    data: bytes


class Jpeg(NamedTuple):
    """The segments of a JPEG file that may be copied, and whether more than padding follows its picture."""

    segments: list[Segment]
    rest: bool

    @property
    def photoshop(self) -> bytes | None:
        """Photoshop's block, which holds IPTC: captions, names, rights."""
        parts = [part.data for part in self.segments if part.marker == _APP13 and part.data.startswith(_PHOTOSHOP)]
        return b"".join(part.removeprefix(_PHOTOSHOP) for part in parts) or None


def scan_jpeg(path: Path) -> Jpeg | None:
    """Read the segments before the pixels of a JPEG file; None for other files.

    EXIF, XMP, makers' blocks, the colour profile, IPTC, comments and the density are copied. The others describe the coding, or
    pictures and signatures of pixels that the new file does not have.
    """
    segments: list[Segment] = []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:2] != _START:
            return None
        at = 2
        while at + 4 <= len(data) and data[at] == 0xFF:
            marker = data[at + 1]
            if marker == 0xFF:  # padding
                at += 1
                continue
            if marker == _SCAN:
                break
            length = int.from_bytes(data[at + 2 : at + 4], "big")
            part = Segment(marker, data[at + 4 : at + 2 + max(2, length)])
            if _is_kept(part):
                segments.append(part)
            at += 2 + max(2, length)
        end = data.find(_END, at)
        rest = len(data) - end - 2 if end >= 0 else 0
    return Jpeg(list(dict.fromkeys(segments)), rest > _PADDING)


def _is_kept(part: Segment) -> bool:
    if part.marker == _APP0:
        return part.data.startswith(_JFIF) and len(part.data) >= 14
    if part.marker == _APP2:
        return part.data.startswith(_ICC)
    return part.marker in (_APP1, _APP12, _APP13, _COMMENT)


def photoshop_segments(block: bytes) -> list[Segment]:
    """Return the segments that hold Photoshop's block."""
    step = MOST - len(_PHOTOSHOP)
    return [Segment(_APP13, _PHOTOSHOP + block[at : at + step]) for at in range(0, len(block), step)]


def without_profile(segments: list[Segment]) -> list[Segment]:
    """Return the segments without the colour profile."""
    return [part for part in segments if part.marker != _APP2]


def splice(encoded: bytes, segments: list[Segment], density: bool) -> bytes:
    """Put segments into an encoded file, which starts with a segment of its density, as Pillow writes it.

    Args:
        encoded: the file.
        segments: to put in. A segment of the density replaces that of the file.
        density: whether the file's own is kept otherwise.
    """
    first = encoded[2:20] if density else b""
    others = []
    for part in segments:
        if part.marker == _APP0:
            # Without its thumbnail.
            first = _packed(Segment(_APP0, part.data[:12] + b"\0\0"))
        else:
            others.append(_packed(part))
    return b"".join([_START, first, *others, encoded[20:]])


def _packed(part: Segment) -> bytes:
    return struct.pack(">BBH", 0xFF, part.marker, len(part.data) + 2) + part.data
