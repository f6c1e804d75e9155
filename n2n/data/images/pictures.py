"""PNG and JPEG files, which are decoded and encoded as a whole."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from n2n.data.images.base import MAX_PIXELS, Array, ImageReader, Metadata, refusing_damage
from n2n.data.images.writer import ImageWriter
from n2n.errors import InputError
from n2n.system.files import file_size

_WANTED = "a whole PNG or JPEG image"
# Quality 95 without colour subsampling, so that JPEG adds no visible noise to the denoised image.
JPEG_OPTIONS: dict[str, Any] = {"quality": 95, "subsampling": 0}
# Compression level of zlib: at 4, photographs take half the time of the default, 6, and 2 % more bytes.
_PNG_LEVEL = 4
_ORIENTATION = 0x0112
_PNG = b"\x89PNG\r\n\x1a\n"
# A PNG file starts with its signature and its header chunk: length, name, width, height, bit depth, colour type, ...
_PNG_HEADER = struct.Struct(">8x4x4sIIBB")


def _scan_png(path: Path, size: int) -> tuple[int, int, int] | None:
    """Return width, height and colour type of a 16-bit PNG file; None for other files.

    Refuse a PNG file with a chunk that is longer than the file, because Pillow would allocate memory for it.
    """
    with path.open("rb") as file:
        start = file.read(_PNG_HEADER.size)
        if not start.startswith(_PNG):
            return None
        file.seek(len(_PNG))
        while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
            length = int.from_bytes(head[:4], "big")
            if file.tell() + length > size:
                raise InputError(f"{path} is damaged (it is cut off): expected {_WANTED}")
            file.seek(length + 4, 1)  # and its checksum
    if len(start) < _PNG_HEADER.size:
        return None
    name, width, height, depth, colour = _PNG_HEADER.unpack(start)
    return (width, height, colour) if name == b"IHDR" and depth == 16 else None


def orientation(exif: bytes | None) -> int:
    """Return the orientation in an EXIF block, 1 to 8 as in EXIF and TIFF; 1 (upright) if it has none."""
    block = Image.Exif()
    try:
        block.load(exif or b"")
        turned = block.get(_ORIENTATION, 1)
    except Exception:  # damaged blocks fail in many ways
        return 1
    return turned if isinstance(turned, int) and 1 <= turned <= 8 else 1


def exif_block(turned: int) -> bytes | None:
    """Return an EXIF block with an orientation; None if the image is upright."""
    if not 2 <= turned <= 8:
        return None
    block = Image.Exif()
    block[_ORIENTATION] = turned
    return block.tobytes()


class PictureReader(ImageReader):
    """A PNG or JPEG file.

    Palette and CMYK images become RGB, 1-bit images grey. Opacity is an extra sample. Pixels are as stored: the orientation
    stays in the EXIF block.
    """

    def _open(self) -> None:
        path = self.path
        if (size := file_size(path)) == 0:
            raise InputError(f"{path} is empty (0 bytes): expected a PNG or JPEG image")
        # Pillow keeps only 8 of 16 bits in colour images.
        deep = _scan_png(path, size)
        with refusing_damage(path, _WANTED):
            try:
                self._image = self._files.enter_context(closing(Image.open(path, formats=("PNG", "JPEG"))))
            except UnidentifiedImageError:
                raise InputError(f"{path} is not an image that n2n reads: expected PNG or JPEG") from None
            except Image.DecompressionBombError:
                raise InputError(
                    f"{path} claims over {MAX_PIXELS:,} pixels, more than n2n takes from one PNG or JPEG image: cut it up, or "
                    "save it as TIFF"
                ) from None
            self._describe(self._image, deep)

    def _describe(self, image: Image.Image, deep: tuple[int, int, int] | None) -> None:
        self._deep = deep is not None
        self._mode = "L" if image.mode in ("1", "L", "LA", "I", "I;16", "I;16B") else "RGB"
        if image.has_transparency_data:
            self._mode = {"L": "LA", "RGB": "RGBA"}[self._mode]
        if deep is not None:
            *size, colour = deep
            # If there are two headers, libpng uses the first and Pillow the last.
            if tuple(size) != image.size:
                raise InputError(f"{self.path} is damaged (it says two sizes): expected {_WANTED}")
            # The file's own colour type: Pillow opens 16-bit LA as RGBA.
            self._mode = {0: "L", 2: "RGB", 4: "LA", 6: "RGBA"}.get(colour, "RGB")
        self.pages, (self.width, self.height) = 1, image.size
        self.channels, self.extra = (1 if self._mode[0] == "L" else 3), int(self._mode[-1] == "A")
        self.dtype = np.dtype(np.uint16 if self._deep else np.uint8)
        samples = self.channels + self.extra
        self._name_axes((self.height, self.width, *((samples,) if samples > 1 else ())), "YXS" if samples > 1 else "YX")
        self._block = self.height
        info = image.info
        # The colour profile of a CMYK image does not fit the RGB that it becomes.
        icc = info.get("icc_profile") if image.mode != "CMYK" else None
        self.metadata = Metadata(icc or None, info.get("exif") or None, info.get("dpi"))

    def _decode(self, page: int, start: int, stop: int) -> Array:
        if self._deep:
            import imagecodecs

            samples = imagecodecs.png_decode(self.path.read_bytes())
            # A file that marks one colour as transparent is decoded with an opacity, which its colour type does not have.
            return np.asarray(samples).reshape(self.height, self.width, -1)[..., : self.channels + self.extra]
        image: Image.Image = self._image
        if self.extra and image.mode == "1":
            image = image.convert("L")
        if image.mode != self._mode:
            image = image.convert(self._mode)
        return np.asarray(image).reshape(self.height, self.width, -1)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _encode_deep(samples: Array, metadata: Metadata) -> bytes:
    """Encode a 16-bit PNG file, because Pillow cannot encode 16-bit colour."""
    import imagecodecs

    encoded = bytes(imagecodecs.png_encode(np.ascontiguousarray(samples), level=_PNG_LEVEL))
    chunks = b""
    if metadata.icc:
        chunks += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc))
    if metadata.dpi:
        per_metre = [round(dots / 0.0254) for dots in metadata.dpi]
        chunks += _chunk(b"pHYs", struct.pack(">IIB", *per_metre, 1))
    if metadata.exif:
        chunks += _chunk(b"eXIf", metadata.exif.removeprefix(b"Exif\0\0"))
    header = 8 + 12 + 13  # the signature and the header chunk, which must come first
    return encoded[:header] + chunks + encoded[header:]


class PictureWriter(ImageWriter):
    """Writes a PNG or JPEG file, chosen by the path's suffix."""

    def __init__(self, path: Path, like: ImageReader) -> None:
        super().__init__(path, like)
        self._png = path.suffix.lower() == ".png"
        wrong = None
        if str(like.dtype) not in (("uint8", "uint16") if self._png else ("uint8",)):
            wrong = f"cannot hold {like.dtype} values"
        elif like.pages > 1:
            wrong = f"cannot hold {like.pages} pages"
        elif like.channels not in (1, 3) or like.extra > self._png:
            wrong = f"cannot hold {like.channels} channels{f' and {like.extra} of opacity' if like.extra else ''}"
        elif like.height * like.width > MAX_PIXELS or (not self._png and max(like.height, like.width) > 65500):
            wrong = f"is no format for {like.width}×{like.height} pixels"
        if wrong:
            raise self._refuse(f"{'PNG' if self._png else 'JPEG'} {wrong}", "a .tif file")

    def _write(self, path: Path, strips: Iterator[Array]) -> None:
        like, metadata = self.like, self.like.metadata
        samples = np.empty((like.height, like.width, like.channels + like.extra), like.dtype)
        row = 0
        for strip in strips:
            samples[row : row + len(strip)] = strip
            row += len(strip)
        samples = samples[..., 0] if samples.shape[2] == 1 else samples
        if like.dtype == np.uint16:
            path.write_bytes(_encode_deep(samples, metadata))
            return
        named: dict[str, Any] = {"icc_profile": metadata.icc, "exif": metadata.exif, "dpi": metadata.dpi}
        options = {"compress_level": _PNG_LEVEL} if self._png else JPEG_OPTIONS
        Image.fromarray(samples).save(path, **options, **{key: value for key, value in named.items() if value})
