"""CZI files of Zeiss's microscopes, read by rows with Zeiss's own library. This needs ``pylibCZIrw``."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from pylibCZIrw import czi

from n2n.data.images.base import Array, refusing_damage
from n2n.data.images.formats.fixed import FixedReader
from n2n.data.images.formats.ome_axes import UNREAD
from n2n.data.images.formats.table import split_part
from n2n.system.files import file_size

_DTYPES = {"Gray8": "u1", "Gray16": "u2", "Gray32Float": "f4", "Bgr24": "u1", "Bgr48": "u2"}
# OME's axes in its usual order, after all others.
_OME = "TZC"
# Rows that are read together, because the tiles of a mosaic are searched each time.
_ROWS = 256


class CziReader(FixedReader):
    """All planes of a CZI file in full resolution; the tiles of a mosaic are put together as Zeiss does.

    Scenes of one size come first (axis R). ``FILE:SCENE`` names one of several sizes. Axes of one entry are left out.

    Attributes:
        ome: pixel size in micrometres and names of channels, with OME's names.
    """

    ome: Mapping[str, Any]

    def _open(self) -> None:
        file, part = split_part(self.path)
        file_size(file)
        with refusing_damage(file, "a whole CZI file", " or not a CZI file"):
            self._file = self._files.enter_context(czi.open_czi(str(file)))
            kinds = set(self._file.pixel_types.values())
            box = self._file.total_bounding_box
            scenes = dict(self._file.scenes_bounding_rectangle)
            whole = self._file.total_bounding_rectangle
            self.ome = self._describe()
        if len(kinds) != 1 or (kind := next(iter(kinds))) not in _DTYPES:
            raise self._error(
                f"holds pixels of {', '.join(sorted(map(str, kinds)))}: expected one of {', '.join(_DTYPES)}"
            )
        if part:
            if not part.isdecimal() or int(part) not in scenes:
                raise self._error(f"is not there: the file has the scenes {', '.join(map(str, scenes)) or 'none'}")
            scenes = {int(part): scenes[int(part)]}
        # The rectangle of each scene, and its number; a file without scenes is one.
        self._scenes = [(number, area) for number, area in sorted(scenes.items())] or [(None, whole)]
        areas = {(area.w, area.h) for _, area in self._scenes}
        if len(areas) > 1:
            listed = ", ".join(f"{number} ({area.w}×{area.h})" for number, area in self._scenes[:9])
            raise self._error(f"holds scenes of several sizes, {listed}: name one, {file.name}:NUMBER")
        ((width, height),) = areas
        letters = sorted((name for name in box if name not in "XY"), key=lambda name: f" {_OME}".find(name))
        # The range of each axis that has more than one entry, and the first entry of the others.
        self._ranges = {name: (int(box[name][0]), int(box[name][1] - box[name][0])) for name in letters}
        self._names = [name for name in letters if self._ranges[name][1] > 1]
        lead = [len(self._scenes)] if len(self._scenes) > 1 else []
        colour = kind.startswith("Bgr")
        shape = [
            *lead,
            *(self._ranges[name][1] for name in self._names),
            int(height),
            int(width),
            *([3] if colour else []),
        ]
        others = "".join(name if name != "R" else "Q" for name in self._names)
        self._fix_axes(shape, "R" * len(lead) + others + ("YXS" if colour else "YX"))
        self.dtype = np.dtype(_DTYPES[kind])
        self._block = min(self.height, _ROWS)

    def _describe(self) -> dict[str, Any]:
        """Return what OME calls the sizes and names; what the file does not say is left out."""
        found: dict[str, Any] = {}
        self.remarks = (UNREAD,)
        with suppress(Exception):  # damaged descriptions fail in many ways
            text = self._file.raw_metadata
            root = ET.fromstring("" if "<!ENTITY" in text else text)  # entities could unfold to any size
            for letter in "XYZ":
                metres = root.findtext(f".//Scaling/Items/Distance[@Id='{letter}']/Value")
                if metres and float(metres) > 0:
                    found |= {f"PhysicalSize{letter}": round(float(metres) * 1e6, 9), f"PhysicalSize{letter}Unit": "µm"}
            names = [
                channel.get("Name") for channel in root.findall(".//Information/Image/Dimensions/Channels/Channel")
            ]
            if names and all(names):
                found["Channel"] = {"Name": names}
            self.remarks = ()
        return found

    def _decode(self, page: int, start: int, stop: int) -> Array:
        counts = [len(self._scenes), *(self._ranges[name][1] for name in self._names)]
        which, *place = (int(i) for i in np.unravel_index(page, counts))
        plane = {name: first for name, (first, _) in self._ranges.items()}
        plane |= {name: plane[name] + at for name, at in zip(self._names, place, strict=True)}
        number, area = self._scenes[which]
        roi = (area.x, area.y + start, self.width, stop - start)
        try:
            rows = np.asarray(self._file.read(roi=roi, plane=plane, scene=number))
        except MemoryError:  # these rows are few; a damaged file claims any size for a tile
            raise ValueError("a tile claims more memory than there is") from None
        # Zeiss has blue first. The copy has no negative strides, which torch does not take.
        return (
            rows.astype(self.dtype, copy=False) if rows.shape[2] == 1 else rows[..., ::-1].astype(self.dtype, order="C")
        )
