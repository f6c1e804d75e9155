"""OpenEXR files, as renderers write them: linear colours in float16 or float32, never clipped. This needs ``OpenEXR``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR

from n2n.data.images.base import Array, ImageReader, check_piece, refusing_damage
from n2n.data.images.formats.fixed import FixedReader
from n2n.data.images.writer import ImageWriter, join_strips
from n2n.system.files import file_size

_COLOURS, _GREY, _OPACITY = ("R", "G", "B"), ("Y",), "A"
# Compressions that keep all values; in place of others, ZIP is written.
_LOSSLESS = (OpenEXR.NO_COMPRESSION, OpenEXR.RLE_COMPRESSION, OpenEXR.ZIPS_COMPRESSION, OpenEXR.ZIP_COMPRESSION,
             OpenEXR.PIZ_COMPRESSION)  # fmt: skip
# Bytes of a value, at most.
_WIDEST = 4


class ExrReader(FixedReader):
    """The channels R, G and B, or Y, and A as opacity. Others (depth, normals, ...) stay in the written file as they are."""

    def _open(self) -> None:
        path = self.path
        file_size(path)
        with refusing_damage(path, "a whole OpenEXR image", " or not an OpenEXR file"):
            self._check_header(OpenEXR.File(str(path), separate_channels=True, header_only=True))
            part = OpenEXR.File(str(path), separate_channels=True).parts[0]
            self.header: dict[str, Any] = dict(part.header)
            self.pixels: dict[str, Array] = {name: channel.pixels for name, channel in part.channels.items()}
        names = _COLOURS if set(_COLOURS) <= self.pixels.keys() else _GREY
        self.names = (*names, _OPACITY) if _OPACITY in self.pixels else names
        first = self.pixels[names[0]]
        self.dtype = first.dtype
        if any((self.pixels[name].shape, self.pixels[name].dtype) != (first.shape, first.dtype) for name in self.names):
            raise self._error(f"has channels of several sizes or types in {', '.join(self.names)}: expected one")
        # The library writes no channels of another size, such as the colours of an image in luminance and chroma.
        if smaller := [name for name, pixels in self.pixels.items() if pixels.shape != first.shape]:
            raise self._error(
                f"has other sizes in its channels {', '.join(smaller[:9])}: expected one size; save it as R, G, B"
            )
        count = len(self.names)
        self._fix_axes((*first.shape, count) if count > 1 else first.shape, "YXS" if count > 1 else "YX")
        self.extra = int(_OPACITY in self.names)
        self.channels = count - self.extra
        self._block = self.height

    def _check_header(self, file: Any) -> None:
        if len(file.parts) > 1:
            raise self._error(f"has {len(file.parts)} parts: expected one image; save the part that you want as a file")
        header = file.header()
        if header["type"] not in (OpenEXR.scanlineimage, OpenEXR.tiledimage):
            raise self._error("is a deep image: flatten it first")
        (left, top), (right, bottom) = header["dataWindow"]
        width, height = int(right) - int(left) + 1, int(bottom) - int(top) + 1
        names = [channel.name for channel in header["channels"]]
        if min(width, height) < 1:
            raise self._error(f"has {width}×{height} pixels")
        check_piece(self.path, width * height * len(names) * _WIDEST)
        if not (set(_COLOURS) <= set(names) or set(_GREY) <= set(names)):
            raise self._error(f"has the channels {', '.join(names[:12])}: expected R, G and B, or Y; save the layer that you "
                              "want under these names")  # fmt: skip

    def _decode(self, page: int, start: int, stop: int) -> Array:
        return np.stack([self.pixels[name] for name in self.names], axis=2)

    def close(self) -> None:
        """Free the pixels."""
        self.pixels = {}
        super().close()


class ExrWriter(ImageWriter):
    """Writes OpenEXR without loss: with the attributes and other channels of the other file if that is OpenEXR."""

    def __init__(self, path: Path, like: ImageReader) -> None:
        super().__init__(path, like)
        self._accept("OpenEXR", ("float16", "float32"), extra=1)

    def _write(self, path: Path, strips: Iterator[Array]) -> None:
        like = self.like
        whole = join_strips(like, strips)[0]
        names = (*(_COLOURS if like.channels == 3 else _GREY), _OPACITY)[: whole.shape[2]]
        header: dict[str, Any] = {"type": OpenEXR.scanlineimage, "compression": OpenEXR.ZIP_COMPRESSION}
        channels: dict[str, Any] = {}
        if isinstance(like, ExrReader):
            header = {key: value for key, value in like.header.items() if key != "channels"}
            if header["compression"] not in _LOSSLESS:
                header["compression"] = OpenEXR.ZIP_COMPRESSION
            channels = dict(like.pixels)
        channels |= {name: np.ascontiguousarray(whole[..., at]) for at, name in enumerate(names)}
        OpenEXR.File(header, channels).write(str(path))
