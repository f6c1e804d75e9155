"""OME-Zarr groups, versions 0.4 and 0.5 (ngff.openmicroscopy.org): an image in several sizes, of which the largest is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import zarr

from n2n.data.images.base import refusing_damage
from n2n.data.images.formats.ome_axes import letters
from n2n.errors import InputError


class OmeImage(NamedTuple):
    """The image of a group.

    Attributes:
        array: its largest size.
        axes: the letters of its axes.
        place: the path of the array in the group.
        attributes: of a group that holds this size alone.
        others: the names of what else is in the group.
    """

    array: zarr.Array[Any]
    axes: str
    place: str
    attributes: dict[str, Any]
    others: list[str]


def find_image(group: zarr.Group, path: Path) -> OmeImage:
    """Return the image of an OME-Zarr group.

    Raises:
        InputError: if the group is no image, or its metadata are damaged.
    """
    with refusing_damage(path, "an OME-Zarr image of version 0.4 or 0.5"):
        attributes: dict[str, Any] = dict(group.attrs)
        inside = attributes.get("ome", attributes)
        images = inside.get("multiscales")
        if not images:
            names = ", ".join(_members(path)[:5]) or "none"
            raise InputError(f"{path} is a zarr group without an OME-Zarr image: name an image in it, {path.name}/NAME "
                             f"(in it are {names})")  # fmt: skip
        if len(images) > 1:
            raise InputError(f"{path} holds {len(images)} images: expected one; name the array, {path.name}/ARRAY")
        (image,) = images
        largest = image["datasets"][0]
        place = str(largest["path"])
        if any(part in ("", ".", "..") for part in place.replace("\\", "/").split("/")):
            raise InputError(
                f"{path} keeps its image in {place!r:.80}, which is outside of the group: expected a path in it"
            )
        array = group[place]
        if not isinstance(array, zarr.Array):
            raise InputError(f"{path} has no array in {place:.80}: expected its image there")
        axes = letters([axis["name"] for axis in image["axes"]])
        if axes is None:
            raise InputError(f"{path} has axes other than x and y: expected an image")
        alone = inside | {"multiscales": [image | {"datasets": [largest]}]}
        kept = {key: alone[key] for key in ("version", "multiscales", "omero") if key in alone}
        others = [name for name in _members(path) if name != place.partition("/")[0]]
        return OmeImage(array, axes, place, {"ome": kept} if "ome" in attributes else kept, others)


def _members(path: Path) -> list[str]:
    """Return the names of the arrays and groups in a group. They are not opened: one that is damaged concerns nobody."""
    marks = ("zarr.json", ".zarray", ".zgroup")
    return sorted(entry.name for entry in path.iterdir() if any((entry / mark).is_file() for mark in marks))
