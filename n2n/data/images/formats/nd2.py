"""ND2 files of Nikon's microscopes, which are read frame by frame. This needs ``nd2``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import nd2
import numpy as np

from n2n.data.images.base import Array, check_piece, refusing_damage
from n2n.data.images.formats.fixed import FixedReader
from n2n.data.images.formats.ome_axes import UNREAD
from n2n.system.files import file_size

# n2n's letters for axes of ND2: positions of the stage are OME's tiles.
_LETTERS = {"P": "R"}


class Nd2Reader(FixedReader):
    """All frames of an ND2 file. Positions come first (axis R), then T and Z in the file's order, then C.

    Attributes:
        ome: pixel size in micrometres, names of channels and time between frames, with OME's names.
    """

    ome: Mapping[str, Any]

    def _open(self) -> None:
        size = file_size(self.path)
        with refusing_damage(self.path, "a whole ND2 file", " or not an ND2 file"):
            self._file = self._files.enter_context(nd2.ND2File(self.path))
            sizes: dict[str, int] = {name: int(count) for name, count in self._file.sizes.items()}
            self.dtype = np.dtype(self._file.dtype)
            # Frames that are missing would be read as black.
            claimed = math.prod(sizes.values()) * self.dtype.itemsize
            if self._file.attributes.compressionType is None and claimed > size:
                raise self._error(f"is cut off: it says {claimed:,} bytes of pixels, and the file has {size:,}")
            self.ome = self._describe()
        inside = [name for name in sizes if name not in "CYXS"]
        # Axes that the frames run along, in the file's order; the other axes are in a frame.
        self._loops = {name: sizes[name] for name in inside}
        order = sorted(inside, key=lambda name: name != "P")
        order += [name for name in ("C", "Y", "X", "S") if name in sizes]
        self._order, self._counts = order, sizes
        axes = "".join(_LETTERS.get(name, name if name in "TZCYXS" else "Q") for name in order)
        self._fix_axes([sizes[name] for name in order], axes)
        check_piece(self.path, math.prod(sizes.get(name, 1) for name in "CYXS") * self.dtype.itemsize)
        self._block = self.height
        self._frame: tuple[int, Array] | None = None

    def _describe(self) -> dict[str, Any]:
        """Return what OME calls the sizes and names; what the file does not say is left out."""
        found: dict[str, Any] = {}
        self.remarks = (UNREAD,)
        with suppress(Exception):  # older files say less
            channels = self._file.metadata.channels or []
            found["Channel"] = {"Name": [str(channel.channel.name) for channel in channels]}
            volume = channels[0].volume
            for letter, size, known in zip("XYZ", volume.axesCalibration, volume.axesCalibrated, strict=True):
                if known and size > 0 and (letter != "Z" or "Z" in self._file.sizes):
                    found |= {f"PhysicalSize{letter}": float(size), f"PhysicalSize{letter}Unit": "µm"}
            for loop in self._file.experiment:
                if loop.type == "TimeLoop" and loop.parameters.periodMs > 0:
                    found |= {"TimeIncrement": float(loop.parameters.periodMs), "TimeIncrementUnit": "ms"}
            self.remarks = ()
        return found

    def _decode(self, page: int, start: int, stop: int) -> Array:
        names = [name for name in self._order if name not in "YXS"]
        place = (
            dict(zip(names, np.unravel_index(page, [self._counts[name] for name in names]), strict=True))
            if names
            else {}
        )
        number = (
            int(np.ravel_multi_index([place[n] for n in self._loops], [*self._loops.values()])) if self._loops else 0
        )
        if self._frame is None or self._frame[0] != number:
            self._frame = number, np.asarray(self._file.read_frame(number))
        samples = self._counts.get("S", 1)
        frame = self._frame[1].reshape(self._counts.get("C", 1), self.height, self.width, samples)
        return np.array(frame[place.get("C", 0)], self.dtype)

    def close(self) -> None:
        """Close the file."""
        self._frame = None
        super().close()
