"""PNG and JPEG files, which are decoded and encoded as a whole."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from n2n.data.images.base import ALL, MAX_PIXELS, Array, ImageReader, Metadata, refusing_damage
from n2n.data.images.formats.jpeg_segments import MOST as MOST_OF_SEGMENT
from n2n.data.images.formats.jpeg_segments import Jpeg, photoshop_segments, scan_jpeg, without_profile
from n2n.data.images.formats.jpeg_segments import splice as splice_jpeg
from n2n.data.images.formats.lookup import is_lookup_table
from n2n.data.images.formats.png_chunks import Png, chunks_of, describe, fitting, lost, scan_png
from n2n.data.images.formats.png_chunks import splice as splice_png
from n2n.data.images.formats.tags import Tag, pack_block, read_block
from n2n.data.images.writer import INKS_PROFILE, ImageWriter, join_strips
from n2n.errors import InputError
from n2n.system.files import file_size

_WANTED = "a whole PNG or JPEG image"
# Quality 95 without colour subsampling, so that JPEG adds no visible noise to the denoised image.
JPEG_OPTIONS: dict[str, Any] = {"quality": 95, "subsampling": 0}
# Compression level of zlib: at 4, photographs take half the time of the default, 6, and 2 % more bytes.
_PNG_LEVEL = 4
_ORIENTATION = 0x0112
# PNG's number for each kind of pixels, by channels and opacity.
_COLOUR_TYPES, _INDEX = {(1, 0): 0, (3, 0): 2, (1, 1): 4, (3, 1): 6}, 3
# Bytes of an EXIF or XMP block in a JPEG file, without their names.
_MOST_BLOCK = MOST_OF_SEGMENT - 64


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


def picture_metadata(image: Image.Image, photoshop: bytes | None = None) -> Metadata:
    """Return the metadata of a file that Pillow has opened.

    The EXIF block has the orientation by which Pillow turns the image, though the file may say it in XMP or in text.

    Args:
        image: that Pillow has opened.
        photoshop: Photoshop's block, which Pillow does not keep.
    """
    info = image.info
    exif = info.get("exif") or None
    try:
        if exif is None and (text := info.get("Raw profile type exif")):
            exif = bytes.fromhex("".join(text.split("\n")[3:]))
        Image.Exif().load(exif or b"")
        turned = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged blocks fail in many ways
        exif = pack_block(read_block(exif))
        turned = orientation(exif)
    if isinstance(turned, int) and 2 <= turned <= 8 and orientation(exif) != turned:
        others = [tag for tag in read_block(exif) if tag.code != _ORIENTATION]
        exif = pack_block([*others, Tag(_ORIENTATION, 3, turned.to_bytes(2, "little"))])
    xmp, dpi = info.get("xmp"), info.get("dpi")
    return Metadata(info.get("icc_profile") or None, exif, dpi, xmp if isinstance(xmp, bytes) else None, photoshop)


class PictureReader(ImageReader):
    """A PNG or JPEG file.

    Palette and CMYK images become RGB, 1-bit images and grey palettes grey. Opacity is an extra sample. Pixels are as stored:
    the orientation stays in the EXIF block.
    """

    # What may be copied to a file of the same format; None for files of the other one.
    png: Png | None = None
    jpeg: Jpeg | None = None

    def _open(self) -> None:
        path = self.path
        if (size := file_size(path)) == 0:
            raise InputError(f"{path} is empty (0 bytes): expected a PNG or JPEG image")
        self.png = scan_png(path, size)
        self.jpeg = scan_jpeg(path) if self.png is None else None
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
            self._describe(self._image)

    def _describe(self, image: Image.Image) -> None:
        png = self.png
        # Pillow keeps only 8 of 16 bits in colour images.
        self._deep = png is not None and png.depth == 16
        colours = _palette(image)
        shown = not image.has_transparency_data and is_lookup_table(colours, 8)
        grey = (
            shown
            or image.mode in ("1", "L", "LA", "I", "I;16", "I;16B")
            or (len(colours) > 0 and bool((colours == colours[:, :1]).all()))
        )
        self._mode = "L" if grey else "RGB"
        if image.has_transparency_data:
            self._mode = {"L": "LA", "RGB": "RGBA"}[self._mode]
        if png is not None and self._deep:
            # If there are two headers, libpng uses the first and Pillow the last.
            if (png.width, png.height) != image.size:
                raise InputError(f"{self.path} is damaged (it says two sizes): expected {_WANTED}")
            # The file's own colour type: Pillow opens 16-bit LA as RGBA.
            self._mode = {0: "L", 2: "RGB", 4: "LA", 6: "RGBA"}.get(png.colour, "RGB")
            if image.has_transparency_data and self._mode[-1] != "A":
                self.remarks = ["it marks one colour as transparent, which is not kept: all pixels become opaque"]
        self.pages, (self.width, self.height) = 1, image.size
        self.channels, self.extra = (1 if self._mode[0] == "L" else 3), int(self._mode[-1] == "A")
        self.dtype = np.dtype(np.uint16 if self._deep else np.uint8)
        samples = self.channels + self.extra
        self._name_axes((self.height, self.width, *((samples,) if samples > 1 else ())), "YXS" if samples > 1 else "YX")
        self._block = self.height
        # Text may follow the pixels of a PNG file.
        with describe(png.chunks) if png is not None else nullcontext(image) as described:
            self.metadata = picture_metadata(described, self.jpeg.photoshop if self.jpeg else None)
        if shown:
            self.metadata = replace(self.metadata, palette=colours.astype(np.uint16) * 257)
        self.inks = image.mode == "CMYK"
        if self.inks:
            # The colour profile does not fit the RGB that the image becomes.
            self.metadata = replace(self.metadata, icc=None)

    def _decode(self, page: int, start: int, stop: int) -> Array:
        if self._deep:
            import imagecodecs

            samples = imagecodecs.png_decode(self.path.read_bytes())
            # A file that marks one colour as transparent is decoded with an opacity, which its colour type does not have.
            return np.asarray(samples).reshape(self.height, self.width, -1)[..., : self.channels + self.extra]
        image: Image.Image = self._image
        if self.extra and image.mode == "1":
            image = image.convert("L")
        if image.mode == "P" and self._mode[0] == "L" and self.metadata.palette is None:
            image = image.convert("RGBA" if self.extra else "RGB")
            return np.asarray(image)[..., 2 : 3 + self.extra]  # red, green and blue are equal
        if image.mode != self._mode and self.metadata.palette is None:
            image = image.convert(self._mode)
        return np.asarray(image).reshape(self.height, self.width, -1)


def _palette(image: Image.Image) -> Array:
    """Return the palette of an image, N×3 uint8; N is 0 if it has none."""
    palette = image.palette if image.mode == "P" else None
    return np.frombuffer(b"" if palette is None else bytes(palette.palette), np.uint8).reshape(-1, 3)


def lost_remark(names: list[str], kind: str) -> str:
    """Return a line on chunks of PNG that another format cannot hold."""
    return f"its {' and '.join(names)} of PNG, by which its values are shown, cannot be written to {kind}: write PNG"


class PictureWriter(ImageWriter):
    """Writes a PNG or JPEG file, chosen by the path's suffix."""

    def __init__(self, path: Path, like: ImageReader) -> None:
        super().__init__(path, like)
        # Metadata that are not written.
        self._without: dict[str, None] = {}
        self._png = path.suffix.lower() == ".png"
        if self._png:
            self._accept("PNG", ("uint8", "uint16"), extra=1, pixels=MAX_PIXELS)
        else:
            self._accept("JPEG", ("uint8",), pixels=MAX_PIXELS, side=65500)
        palette = like.metadata.palette
        fits = self._png and like.dtype == np.uint8 and like.channels + like.extra == 1
        self._palette = palette if palette is not None and fits and len(palette) == 256 else None
        if palette is not None and self._palette is None:
            self.remarks.append("its lookup table of colours is not written; its grey values are")
        self.remarks += self._png_remarks() if self._png else self._jpeg_remarks()
        if isinstance(like, PictureReader):
            if like.inks and "icc_profile" in like._image.info:
                self.remarks.append(INKS_PROFILE)
            if like.jpeg is not None and like.jpeg.rest:
                self.remarks.append("what follows its picture (more pictures, a gain map or a video) is not written")

    def _kept(self) -> Collection[str]:
        return ALL

    def _png_remarks(self) -> list[str]:
        photoshop = self.like.metadata.photoshop
        return ["its IPTC block cannot be written to PNG: write JPEG or TIFF"] if photoshop else []

    def _jpeg_remarks(self) -> list[str]:
        """Return remarks, and find out which blocks are too long."""
        like, metadata = self.like, self.like.metadata
        lines = []
        if isinstance(like, PictureReader) and like.png is not None and (names := lost(like.png.chunks)):
            lines.append(lost_remark(names, "JPEG"))
        for name in ("exif", "xmp") if getattr(like, "jpeg", None) is None else ():
            if len(getattr(metadata, name) or b"") > _MOST_BLOCK:
                lines.append(f"its {name.upper()} block is too long for JPEG and is not written: write PNG or TIFF")
                self._without |= {name: None}
        return lines

    def _write(self, path: Path, strips: Iterator[Array]) -> None:
        samples = join_strips(self.like, strips)[0]
        samples = samples[..., 0] if samples.shape[2] == 1 else samples
        path.write_bytes(self._encode_png(samples) if self._png else self._encode_jpeg(samples))

    def _encode_png(self, samples: Array) -> bytes:
        like = self.like
        png = like.png if isinstance(like, PictureReader) else None
        depth, colour = 8 * like.dtype.itemsize, _COLOUR_TYPES[like.channels, like.extra]
        palette = self._palette
        colour = colour if palette is None else _INDEX
        chunks = chunks_of(like.metadata) if png is None else fitting(png, colour, depth)
        if depth == 8:
            encoded = io.BytesIO()
            image = Image.fromarray(samples)
            if palette is not None:
                image.putpalette((palette >> 8).astype(np.uint8).tobytes())
            image.save(encoded, "PNG", compress_level=_PNG_LEVEL)
            return splice_png(encoded.getvalue(), chunks)
        import imagecodecs  # Pillow cannot encode 16-bit colour

        return splice_png(bytes(imagecodecs.png_encode(np.ascontiguousarray(samples), level=_PNG_LEVEL)), chunks)

    def _encode_jpeg(self, samples: Array) -> bytes:
        like, encoded = self.like, io.BytesIO()
        if isinstance(like, PictureReader) and like.jpeg is not None:
            segments = without_profile(like.jpeg.segments) if like.inks else like.jpeg.segments
            Image.fromarray(samples).save(encoded, "JPEG", **JPEG_OPTIONS)
        else:
            metadata = replace(like.metadata, **self._without)
            segments = photoshop_segments(metadata.photoshop or b"")
            named = {"icc_profile": metadata.icc, "exif": metadata.exif, "dpi": metadata.dpi, "xmp": metadata.xmp}
            given = {key: value for key, value in named.items() if value}
            Image.fromarray(samples).save(encoded, "JPEG", **JPEG_OPTIONS, **given)
        return splice_jpeg(encoded.getvalue(), segments, density=getattr(like, "jpeg", None) is None)
