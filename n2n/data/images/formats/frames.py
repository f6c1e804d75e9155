"""Pictures that Pillow decodes: WebP, AVIF and BMP; and the frames of animations, also of GIF and PNG, as pages along T."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from n2n.data.images.base import MAX_PIXELS, Array, ImageReader, refusing_damage
from n2n.data.images.formats.fixed import FixedReader
from n2n.data.images.formats.pictures import PictureReader, PictureWriter, picture_metadata
from n2n.data.images.writer import ImageWriter, join_strips
from n2n.errors import InputError
from n2n.system.files import file_size

_PLUGINS = {".webp": "WEBP", ".avif": "AVIF", ".bmp": "BMP", ".gif": "GIF", ".png": "PNG"}
_ANIMATED = ("WEBP", "AVIF", "PNG")
# Side in pixels of the largest picture, by format.
_LARGEST = {"WEBP": 16383}
# Quality of lossy pictures, so that they add no visible noise.
_QUALITY = 95
# Pixels of all frames of an animation that any file may have, and that it may have for each of its bytes. Frames may be written
# as small changes of a large canvas, so that a file of 1 kB asks for gigabytes of work. Noisy images have less than 100 a byte.
_PIXELS, _PIXELS_PER_BYTE = 2**26, 2**14
# Bytes at the start of a file in which its headers are.
_HEAD = 2**12


def png_reader(path: Path, axes: str | None = None) -> ImageReader:
    """Open a PNG file, which may be an animation."""
    return FramesReader(path, axes) if _is_animated_png(path) else PictureReader(path, axes)


def png_writer(path: Path, like: ImageReader) -> ImageWriter:
    """Return a writer of a PNG file: of an animation if the other file is one."""
    return FramesWriter(path, like) if isinstance(like, FramesReader) and like.pages > 1 else PictureWriter(path, like)


def _is_animated_png(path: Path) -> bool:
    """Whether a PNG file has a control chunk of an animation before its pixels."""
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
            if head[4:] == b"acTL":
                return True
            file.seek(int.from_bytes(head[:4], "big") + 4, 1)
    return False


class FramesReader(FixedReader):
    """A picture, or the whole frames of an animation, in 8 bits. Palettes become RGB. Opacity is an extra sample."""

    def _open(self) -> None:
        path = self.path
        if (size := file_size(path)) == 0:
            raise self._error("is empty (0 bytes): expected a picture")
        self.kind = _PLUGINS[path.suffix.lower()]
        with path.open("rb") as file:
            self._head = file.read(_HEAD)
        if self.kind == "AVIF" and not features.check("avif"):
            raise self._error("is AVIF, which needs a Pillow that reads it: pip install --upgrade pillow")
        if self._is_deep():
            raise self._error("holds more than 8 bits, which Pillow would cut down: save it as 16-bit TIFF or PNG")
        with refusing_damage(path, f"a whole {self.kind} picture"):
            try:
                self._image = self._files.enter_context(closing(Image.open(path, formats=(self.kind,))))
            except UnidentifiedImageError:
                raise InputError(f"{path} is not {self.kind}: expected a picture of its suffix") from None
            except Image.DecompressionBombError:
                raise InputError(f"{path} claims over {MAX_PIXELS:,} pixels, more than n2n takes: cut it up") from None
            self._describe(self._image, size)

    def _is_deep(self) -> bool:
        """Whether samples have more than 8 bits: in AVIF by the third byte of av1C, in PNG by the bit depth."""
        if self.kind == "AVIF":
            at = self._head.find(b"av1C")
            return at >= 0 and len(self._head) > at + 6 and bool(self._head[at + 6] & 0x40)
        return self.kind == "PNG" and self._head[24:25] == b"\x10"

    def _describe(self, image: Image.Image, size: int) -> None:
        frames = int(getattr(image, "n_frames", 1))
        pixels = frames * image.width * image.height
        if frames > size or (frames > 1 and pixels > max(_PIXELS, size * _PIXELS_PER_BYTE)):
            raise self._error(
                f"says that it has {frames:,} frames of {image.width}×{image.height} px in {size:,} bytes: expected a whole "
                f"{self.kind} picture"
            )
        grey = image.mode in ("1", "L", "LA")
        self._mode = {(True, False): "L", (True, True): "LA", (False, False): "RGB", (False, True): "RGBA"}[
            (grey, image.has_transparency_data)
        ]
        self.extra, samples = int(self._mode[-1] == "A"), len(self._mode)
        shape = (image.height, image.width, *((samples,) if samples > 1 else ()))
        axes = "YXS" if samples > 1 else "YX"
        self._fix_axes((frames, *shape) if frames > 1 else shape, f"T{axes}" if frames > 1 else axes)
        self.channels -= self.extra
        self.dtype, self._block = np.dtype(np.uint8), self.height
        self.metadata = picture_metadata(image)

    @property
    def lossless(self) -> bool:
        """Whether the file keeps all pixel values; WebP says so by the kind of its first picture."""
        return self.kind != "AVIF" and not (self.kind == "WEBP" and b"VP8 " in self._head)

    @property
    def texts(self) -> bool:
        """Whether there is text beside the pixels."""
        return bool(getattr(self._image, "text", None))

    def timing(self) -> dict[str, Any]:
        """Return milliseconds of each frame, and how often they are shown (0: for ever)."""
        durations = []
        with refusing_damage(self.path, f"a whole {self.kind} animation"):
            for page in range(self.pages):
                self._image.seek(page)
                self._image.load()
                durations.append(self._image.info.get("duration", 0))
        return {"duration": durations, "loop": self._image.info.get("loop", 0)}

    def _decode(self, page: int, start: int, stop: int) -> Array:
        if self.pages > 1:
            self._image.seek(page)
        image: Image.Image = self._image
        if image.size != (self.width, self.height):
            raise ValueError("its frames have several sizes")
        if image.mode != self._mode:
            image = image.convert(self._mode)
        return np.array(image).reshape(self.height, self.width, -1)


class FramesWriter(ImageWriter):
    """Writes WebP, AVIF, BMP, or an animated PNG, with the timing of the other file if that is an animation.

    WebP is written without loss, and like AVIF with a quality of 95 if the other file has lost some already.
    """

    def __init__(self, path: Path, like: ImageReader) -> None:
        super().__init__(path, like)
        self._kind = kind = _PLUGINS[path.suffix.lower()]
        animated = isinstance(like, FramesReader) and kind in _ANIMATED
        side = _LARGEST.get(kind, 65535)
        self._accept(kind, ("uint8",), extra=int(kind != "BMP"), paged=animated, pixels=MAX_PIXELS, side=side)
        if kind == "PNG" and isinstance(like, FramesReader) and like.texts:
            self.remarks.append("the text in an animation is not written")

    def _kept(self) -> Collection[str]:
        return {"PNG": ("icc", "exif", "dpi"), "BMP": ("dpi",)}.get(
            _PLUGINS[self.path.suffix.lower()], ("icc", "exif", "xmp")
        )

    def _write(self, path: Path, strips: Iterator[Array]) -> None:
        like, metadata = self.like, self.like.metadata
        pixels = join_strips(like, strips)
        images = [Image.fromarray(page[..., 0] if page.shape[2] == 1 else page) for page in pixels]
        options: dict[str, Any] = {"icc_profile": metadata.icc, "exif": metadata.exif, "dpi": metadata.dpi}
        if self._kind in ("WEBP", "AVIF"):
            options["xmp"] = metadata.xmp
        options = {key: value for key, value in options.items() if value}
        if self._kind == "WEBP":
            lossy = isinstance(like, FramesReader) and not like.lossless
            options |= {"quality": _QUALITY, "method": 4} if lossy else {"lossless": True, "exact": True}
        elif self._kind == "AVIF":
            options |= {"quality": _QUALITY, "subsampling": "4:4:4"}
        if len(images) > 1:
            assert isinstance(like, FramesReader)
            options |= {"save_all": True, "append_images": images[1:]} | like.timing()
        images[0].save(path, self._kind, **options)
