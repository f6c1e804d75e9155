"""The chunks of PNG files that say how values are shown, how large a pixel is, and who made the picture."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from n2n.data.images.base import Metadata
from n2n.errors import InputError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">IIBBBBB")
# The signature and the header chunk, which come first, and the chunk at the end.
_START, _END = 8 + 12 + 13, 12
# A fourth letter in lower case means that programs may copy a chunk though they change the pixels. These are copied too: they
# say how values are shown, how large a pixel is, or when the picture was made.
_COPIED = (
    b"gAMA",
    b"cHRM",
    b"sRGB",
    b"iCCP",
    b"cICP",
    b"mDCV",
    b"mDCv",
    b"cLLI",
    b"cLLi",
    b"sBIT",
    b"bKGD",
    b"pCAL",
    b"sCAL",
    b"tIME",
)
# These count in the samples that the file stores, and fit only if those stay as they are.
_OF_SAMPLES = {
    b"sBIT": {0: 1, 2: 3, 3: 3, 4: 2, 6: 4},
    b"bKGD": {0: 2, 2: 6, 4: 2, 6: 6},
}
# Chunks that other formats cannot hold, and their values that equal the default without them.
_SHOWN = (b"gAMA", b"cHRM", b"cICP", b"mDCV", b"cLLI")
_USUAL = (
    struct.pack(">I", 45455),
    struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
    bytes((1, 13, 0, 1)),
)
# Bytes of chunks that are kept, and what each needs besides its data.
_MOST, _EACH = 2**26, 256
_XMP = b"XML:com.adobe.xmp\0\0\0\0\0"


class Chunk(NamedTuple):
    """An ancillary chunk, and whether it follows the pixels."""

    name: bytes
    data: bytes
    after: bool = False


class Png(NamedTuple):
    """What a PNG file says of itself: size in pixels, bits of a sample, colour type, and the chunks that may be copied."""

    width: int
    height: int
    depth: int
    colour: int
    chunks: list[Chunk]


def scan_png(path: Path, size: int) -> Png | None:
    """Read the header and chunks of a PNG file; None for other files.

    Raises:
        InputError: for a chunk that is longer than the file, because Pillow would allocate memory for it.
    """
    chunks: list[Chunk] = []
    after, left = False, _MOST
    with path.open("rb") as file:
        start = file.read(_START)
        if not start.startswith(_SIGNATURE):
            return None
        file.seek(len(_SIGNATURE))
        while len(head := file.read(8)) == 8 and (name := head[4:]) != b"IEND":
            length = int.from_bytes(head[:4], "big")
            if (begins := file.tell()) + length > size:
                raise InputError(f"{path} is damaged (it is cut off): expected a whole PNG or JPEG image")
            after |= name == b"IDAT"
            left -= length + _EACH if (kept := _is_kept(name)) else 0
            if kept and left >= 0:
                data = file.read(length)
                if zlib.crc32(head[4:] + data) == int.from_bytes(file.read(4), "big"):
                    chunks.append(Chunk(name, data, after))
            file.seek(begins + length + 4)  # and its checksum
    if start[12:16] != b"IHDR" or len(start) < 16 + _HEADER.size:
        return None
    width, height, depth, colour = _HEADER.unpack_from(start, 16)[:4]
    return Png(width, height, depth, colour, chunks)


def _is_kept(name: bytes) -> bool:
    ancillary, safe = name[:1].islower(), name[3:].islower()
    return ancillary and (safe or name in _COPIED)


def fitting(png: Png, colour: int, depth: int) -> list[Chunk]:
    """Return the chunks of a file that fit one of another colour type and bits of a sample."""

    def fits(chunk: Chunk) -> bool:
        if chunk.name == b"pCAL":
            return png.depth == depth
        if (lengths := _OF_SAMPLES.get(chunk.name)) is None:
            return True
        return png.depth == depth and png.colour in lengths and len(chunk.data) == lengths[colour]

    return [chunk for chunk in png.chunks if fits(chunk)]


def chunks_of(metadata: Metadata) -> list[Chunk]:
    """Return chunks that say what another file's metadata say."""
    chunks = []
    if metadata.icc:
        chunks.append(Chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.dpi:
        per_metre = [round(dots / 0.0254) for dots in metadata.dpi]
        chunks += [Chunk(b"pHYs", struct.pack(">IIB", *per_metre, 1))] if max(per_metre) < 2**31 else []
    if metadata.exif:
        chunks.append(Chunk(b"eXIf", metadata.exif.removeprefix(b"Exif\0\0")))
    if metadata.xmp:
        chunks.append(Chunk(b"iTXt", _XMP + metadata.xmp))
    return chunks


def _pack(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


# A file of one grey pixel.
_PIXEL = b"".join(
    (
        _SIGNATURE,
        _pack(b"IHDR", _HEADER.pack(1, 1, 8, 0, 0, 0, 0)),
        _pack(b"IDAT", zlib.compress(b"\0\0")),
        _pack(b"IEND", b""),
    )
)


def describe(chunks: Sequence[Chunk]) -> Image.Image:
    """Return an image of one pixel whose chunks, read by Pillow, are these; so those after the pixels need no decoding."""
    image = Image.open(io.BytesIO(splice(_PIXEL, chunks)), formats=("PNG",))
    image.load()
    return image


def lost(chunks: Sequence[Chunk]) -> list[str]:
    """Return the names of chunks that say how values are shown, where no colour profile does."""
    if any(chunk.name in (b"iCCP", b"sRGB") for chunk in chunks):
        return []
    return [chunk.name.decode() for chunk in chunks if chunk.name in _SHOWN and chunk.data not in _USUAL]


def splice(encoded: bytes, chunks: Iterable[Chunk]) -> bytes:
    """Put chunks into an encoded file, which holds only its header, pixels and end."""
    before, behind = bytearray(), bytearray()
    for name, data, after in chunks:
        (behind if after else before).extend(_pack(name, data))
    return b"".join([encoded[:_START], before, encoded[_START:-_END], behind, encoded[-_END:]])
