"""The names of the axes of a TIFF file's pages, from what its program wrote into its description."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

import numpy as np
import tifffile

# Kinds of files whose axes tifffile reads from the file itself. Those of other kinds may lie in other files.
_KINDS = ("shaped", "imagej", "stk", "lsm", "fluoview")
# Flags of tifffile for kinds of files that name other files, which would be opened.
OTHER_FILES: dict[str, Any] = {"is_ome": False, "is_mmstack": False, "is_ndtiff": False}


def find_axes(tiff: tifffile.TiffFile, pages: int, page: Sequence[int]) -> tuple[str, tuple[int, ...]] | None:
    """Return the letters and sizes of the axes of a file, which are pages first and then those of a page.

    Args:
        tiff: the file.
        pages: number of its directories, or of images behind its only one.
        page: planes, H, W and samples side by side of each; planes are the last page axis.

    Returns:
        None if the file does not say them, or says what does not fit its pages.
    """
    try:
        found = _from_ome(tiff, page) or _from_series(tiff)
    except Exception:  # damaged descriptions fail in many ways; the pages can be read without them
        return None
    if found is None:
        return None
    axes, shape = found
    planes, height, width, samples = page
    last: tuple[str, tuple[int, ...]] = ("YXS", (height, width, samples)) if samples > 1 else ("YX", (height, width))
    fits = axes.endswith(last[0]) and shape[len(axes) - len(last[0]) :] == last[1]
    lead = shape[: len(axes) - len(last[0])]
    if not fits or len(axes) != len(shape) or math.prod(lead) != pages * planes or (planes > 1 and lead[-1] != planes):
        return None
    return axes, shape


def _from_series(tiff: tifffile.TiffFile) -> tuple[str, tuple[int, ...]] | None:
    if not any(getattr(tiff, f"is_{kind}") for kind in _KINDS):
        return None
    series = tiff.series[0]
    axes, shape, count = series.axes, tuple(series.shape), len(tiff.series)
    if series.kind not in _KINDS or any((one.axes, tuple(one.shape)) != (axes, shape) for one in tiff.series):
        return None
    return _of_several(axes, shape, count)


def _of_several(axes: str, shape: tuple[int, ...], count: int) -> tuple[str, tuple[int, ...]] | None:
    """Return the axes of several images alike. Programs also write a stack as images of one plane each, which have no name."""
    if count == 1:
        return axes, shape
    return (f"R{axes}", (count, *shape)) if set(axes) & set("TZC") else None


def _from_ome(tiff: tifffile.TiffFile, page: Sequence[int]) -> tuple[str, tuple[int, ...]] | None:
    """Read the axes of an OME-TIFF file whose planes lie in the order that it states. Several images alike are axis R."""
    first = tiff.pages[0]
    text = first.description if isinstance(first, tifffile.TiffPage) else ""
    # Entities could unfold to any size.
    if "<OME" not in text[:4096] or "<!" in text.replace("<!--", ""):
        return None
    root = ET.fromstring(text)
    space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
    images = root.findall(f"{space}Image/{space}Pixels")
    found = {_axes_of(pixels, space, number, page) for number, pixels in enumerate(images)}
    if len(found) != 1 or (axes := found.pop()) is None:
        return None
    return _of_several(*axes, len(images))


def _axes_of(pixels: ET.Element, space: str, number: int, page: Sequence[int]) -> tuple[str, tuple[int, ...]] | None:
    """Return the axes of an image of an OME-TIFF file, which has ``number`` others of as many planes before it."""
    planes, height, width, samples = page
    count = {letter: int(pixels.get(f"Size{letter}", "1")) for letter in "TZC"}
    channels = pixels.findall(f"{space}Channel")
    each = int(channels[0].get("SamplesPerPixel", "1")) if channels else 1
    if each > 1:
        count["C"] //= each
    # The fastest axis comes first there.
    order = pixels.get("DimensionOrder", "XYCZT")[:1:-1]
    if sorted(order) != ["C", "T", "Z"] or min(count.values()) < 1:
        return None
    sizes = [count[letter] for letter in order]
    for data in pixels.findall(f"{space}TiffData"):
        place = [int(data.get(f"First{letter}", "0")) for letter in order]
        expected = number * math.prod(sizes) + int(np.ravel_multi_index(place, sizes))
        if data.get("IFD") is not None and int(data.get("IFD", "0")) != expected:
            return None
    lead = [(letter, count[letter]) for letter in order if count[letter] > 1]
    if planes > 1 and each > 1:
        lead.append(("S", planes))
    axes = "".join(letter for letter, _ in lead) + "YX" + ("S" if samples > 1 else "")
    return axes, (*(size for _, size in lead), height, width, *((samples,) if samples > 1 else ()))
