"""JPEG 2000 files of up to 16 bits, which are decoded and encoded as a whole."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np

from n2n.data.images.base import MAX_PIXELS, Array, ImageReader, Metadata, check_piece
from n2n.data.images.formats.fixed import FixedReader
from n2n.data.images.writer import ImageWriter, join_strips
from n2n.system.files import file_size

# A code stream starts with the markers SOC and SIZ; the latter has sizes and offsets of image and tiles, and the number of
# components (ISO/IEC 15444-1, A.5.1).
_START = b"\xff\x4f\xff\x51"
_SIZE = struct.Struct(">4xHH8IH")
_WANTED = "a JPEG 2000 image"


class Jpeg2000Reader(FixedReader):
    """A .jp2 or .j2k file of 1 to 4 components of the same size and bits; a second or fourth is opacity."""

    def _open(self) -> None:
        file_size(self.path)
        content = self.path.read_bytes()
        at = content.find(_START)
        try:
            _, _, right, bottom, left, top, _, _, _, _, count = _SIZE.unpack_from(
                content, at if at >= 0 else len(content)
            )
            parts = {content[at + _SIZE.size + 3 * i : at + _SIZE.size + 3 * i + 3] for i in range(count)}
        except struct.error:
            raise self._error(f"is not JPEG 2000, or cut off: expected {_WANTED}") from None
        depth, across, down = next(iter(parts)) if len(parts) == 1 and len(min(parts)) == 3 else (255, 0, 0)
        self.bits, signed = (depth & 127) + 1, bool(depth & 128)
        if not 1 <= count <= 4 or (across, down) != (1, 1) or self.bits > 16 or signed:
            raise self._error(f"holds components of several sizes or kinds, which n2n does not read: expected {_WANTED} of "
                              "1 to 4 components of 1 to 16 bits")  # fmt: skip
        height, width = bottom - top, right - left
        if not (0 < height * width <= MAX_PIXELS and height > 0):
            raise self._error(f"has {width}×{height} pixels: expected 1 to {MAX_PIXELS:,}")
        self.dtype = np.dtype(np.uint8 if self.bits <= 8 else np.uint16)
        if self.bits < 8 * self.dtype.itemsize:
            self.white = 2**self.bits - 1
        self.extra = 1 - count % 2
        self._fix_axes((height, width, count) if count > 1 else (height, width), "YXS" if count > 1 else "YX")
        self.channels -= self.extra
        check_piece(self.path, height * width * count * self.dtype.itemsize)
        self._block = height
        self._content = content
        self.metadata = Metadata(icc=_profile(content[: max(0, at)]))

    def _decode(self, page: int, start: int, stop: int) -> Array:
        whole = np.asarray(imagecodecs.jpeg2k_decode(self._content))
        if whole.shape != self.shape or whole.dtype != self.dtype:
            raise ValueError(f"it holds {whole.shape} {whole.dtype}, and says {self.shape} {self.dtype}")
        return whole.reshape(self.height, self.width, -1)

    def close(self) -> None:
        """Free the file's content."""
        self._content = b""
        super().close()


def _profile(boxes: bytes) -> bytes | None:
    """Return the colour profile in the boxes before the code stream (ISO/IEC 15444-1, I.5.3.3); None without one."""
    found = re.search(rb"(?s)(.{4})colr\x02..", boxes)
    return None if found is None else boxes[found.end() : found.start() + int.from_bytes(found[1], "big")] or None


class Jpeg2000Writer(ImageWriter):
    """Writes JPEG 2000 without loss, with the bits of the other file if that is JPEG 2000."""

    def __init__(self, path: Path, like: ImageReader) -> None:
        super().__init__(path, like)
        self._accept("JPEG 2000", ("uint8", "uint16"), extra=1, pixels=MAX_PIXELS)

    def _write(self, path: Path, strips: Iterator[Array]) -> None:
        like = self.like
        bits = like.bits if isinstance(like, Jpeg2000Reader) else 8 * like.dtype.itemsize
        pixels = np.minimum(join_strips(like, strips)[0], 2**bits - 1)
        pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels
        kind = "j2k" if path.suffix.lower() == ".j2k" else "jp2"
        encoded = imagecodecs.jpeg2k_encode(pixels, codecformat=kind, reversible=True, bitspersample=bits)
        path.write_bytes(encoded)
