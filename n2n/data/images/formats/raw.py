"""Camera RAW files: the four planes of the Bayer mosaic, as the sensor measured them. This needs ``rawpy`` (LibRaw)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import rawpy

from n2n.data.images.base import Array, check_piece, refusing_damage
from n2n.data.images.formats.fixed import FixedReader
from n2n.system.files import file_size

_PLANES = {"R": ("R",), "G": ("G1", "G2"), "B": ("B",)}


class RawReader(FixedReader):
    """The planes R, G1, G2 and B of a mosaic, of half its height and width: axes CYX, uint16.

    Nothing is developed: values are those of the sensor, black level included, and so is their noise. Sensors with another
    mosaic, or with none, are refused.

    Attributes:
        ome: names of the planes, black and white level, with OME's names.
    """

    ome: Mapping[str, Any]

    def _open(self) -> None:
        file_size(self.path)
        with refusing_damage(self.path, "a whole camera RAW file", " or not a camera RAW file"):
            raw = self._raw = self._files.enter_context(rawpy.RawPy())
            raw.open_file(str(self.path))
            sizes = raw.sizes
            check_piece(self.path, sizes.raw_height * sizes.raw_width * 2)
            pattern = raw.raw_pattern
            colours = raw.color_desc.decode("ascii")
            flat = raw.raw_type == rawpy.RawType.Flat
            if not flat or pattern is None or pattern.shape != (2, 2):
                raise self._error(self._advice("has no Bayer mosaic"))
            # Rows and columns of the planes in a square of the mosaic.
            places: dict[str, list[tuple[int, int]]] = {"R": [], "G": [], "B": []}
            for row, column in np.ndindex(2, 2):
                places.setdefault(colours[int(pattern[row, column])], []).append((row, column))
            if [len(found) for found in places.values()] != [1, 2, 1]:
                raise self._error(self._advice(f"has a mosaic of {', '.join(places)}"))
            self._places = [place for found in places.values() for place in found]
            black, white = ", ".join(map(str, raw.black_level_per_channel)), raw.white_level
        names = [name for colour in places for name in _PLANES[colour]]
        self.ome = {"Channel": {"Name": names}, "Description": f"Black level: {black}. White level: {white}."}
        self.dtype = np.dtype(np.uint16)
        # The largest value of the bits in use; a pixel may exceed the white level.
        bits = int(white).bit_length()
        self.white = float(2**bits - 1) if 0 < bits < 16 else None
        self._fix_axes((len(names), sizes.height // 2, sizes.width // 2), "CYX")
        self._block = self.height
        self._mosaic: Array | None = None

    def _advice(self, what: str) -> str:
        return f"{what}: expected red, green, green and blue; convert it to a 16-bit TIFF first (dcraw_emu -4 -T)"

    def _decode(self, page: int, start: int, stop: int) -> Array:
        if self._mosaic is None:
            self._mosaic = self._raw.raw_image_visible
        row, column = self._places[page]
        plane = self._mosaic[row::2, column::2][: self.height, : self.width]
        return np.array(plane, self.dtype)[..., None]

    def close(self) -> None:
        """Free the mosaic."""
        self._mosaic = None
        super().close()
