"""The table of image formats: which suffix is read and written by which class, and which package that needs.

A new format is one file and one line here. A class is named by its import path, so that it is imported when a file of its
format is opened, not before.

An installed package adds a format that n2n does not read, by an entry point of the group ``n2n.readers``::

    [project.entry-points."n2n.readers"]
    ".xyz" = "my_package:XyzReader"

The name is the suffix. The value is a subclass of :class:`n2n.data.images.ImageReader`, which n2n makes with a path and the
axes that the user gave, or None. It is imported when a file with this suffix is opened. The suffixes below cannot be replaced.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from n2n.errors import InputError, reason

_HERE = "n2n.data.images.formats"
_GROUP = "n2n.readers"
OME_TIFF = ".ome.tif"


@dataclass(frozen=True)
class Format:
    """One line of the table.

    Attributes:
        name: for the user.
        suffixes: in lower case; the longest one that a name ends with counts.
        reader: makes an :class:`~n2n.data.images.ImageReader` of a path and axes: ``module:name``, below this package; or the
            entry point of a user's own.
        writer: makes an :class:`~n2n.data.images.ImageWriter` of a path and the image that it is like; None if the format is
            not written.
        written_as: the suffix of what is written instead.
        why: why it is not written.
        streams: whether it is read and written by rows, so that an image may be larger than memory.
        package: what pip installs for it, beside what n2n needs anyway.
        packed: whether a pixel has its channels side by side, so that an image whose channels lie in planes needs no parting.
        parts: whether ``FILE:PART`` names one of several images in a file.
    """

    name: str
    suffixes: tuple[str, ...]
    reader: str | EntryPoint
    writer: str | None = None
    written_as: str = OME_TIFF
    why: str = ""
    streams: bool = False
    package: str | None = None
    packed: bool = False
    parts: bool = False

    def load(self, path: Path, writing: bool = False) -> Callable[..., Any]:
        """Import what reads or writes this format.

        Args:
            path: for the message.
            writing: what is wanted.

        Raises:
            InputError: if it is not written, or its package is missing.
        """
        target = self.writer if writing else self.reader
        if target is None:
            raise InputError(
                f"{path}: n2n does not write {self.name} ({self.why}): name a file that ends with {self.written_as}"
            )
        try:
            if isinstance(target, EntryPoint):
                loaded = target.load()
            else:
                module, _, name = target.partition(":")
                loaded = getattr(importlib.import_module(f"{_HERE}.{module}"), name)
        except ImportError as error:
            what = f"pip install {self.package}" if self.package else reason(error)
            raise InputError(f"{path} is {self.name}, which needs a package that is not installed: {what}") from None
        made: Callable[..., Any] = loaded
        return made


_READ_ONLY = "the format belongs to its instrument"
FORMATS = (
    Format("PNG", (".png",), "frames:png_reader", "frames:png_writer", packed=True),
    Format("JPEG", (".jpg", ".jpeg"), "pictures:PictureReader", "pictures:PictureWriter", packed=True),
    Format("TIFF", (".tif", ".tiff", ".btf", ".tf8"), "tiff.reader:TiffReader", "tiff.writer:TiffWriter", streams=True),
    Format("OME-TIFF", (OME_TIFF, ".ome.tiff", ".ome.btf", ".ome.tf8"), "tiff.reader:TiffReader",
           "ome_tiff:ome_tiff_writer", streams=True),
    Format("npy", (".npy",), "arrays:NpyReader", "arrays:NpyWriter", streams=True),
    Format("npz", (".npz",), "arrays:NpzReader", "arrays:NpzWriter"),
    Format("zarr", (".zarr",), "zarr_files:ZarrReader", "zarr_files:ZarrWriter", streams=True, package="zarr"),
    Format("FITS", (".fits", ".fit", ".fts"), "fits:FitsReader", "fits:FitsWriter", streams=True,
           package="astropy", parts=True),
    Format("compressed FITS", (".fits.gz", ".fit.gz", ".fz"), "fits:FitsReader", "fits:FitsWriter",
           package="astropy", parts=True),
    Format("MRC", (".mrc", ".mrcs", ".map", ".rec"), "mrc:MrcReader", "mrc:MrcWriter", streams=True,
           package="mrcfile"),
    Format("HDF5", (".h5", ".hdf5"), "hdf5:Hdf5Reader", "hdf5:Hdf5Writer", streams=True, package="h5py",
           parts=True),
    Format("OpenEXR", (".exr",), "exr:ExrReader", "exr:ExrWriter", package="OpenEXR", packed=True),
    Format("WebP", (".webp",), "frames:FramesReader", "frames:FramesWriter", packed=True),
    Format("AVIF", (".avif",), "frames:FramesReader", "frames:FramesWriter", packed=True),
    Format("BMP", (".bmp",), "frames:FramesReader", "frames:FramesWriter", packed=True),
    Format("JPEG 2000", (".jp2", ".j2k"), "jpeg2000:Jpeg2000Reader", "jpeg2000:Jpeg2000Writer", packed=True),
    Format("PNM", (".pgm", ".ppm", ".pnm"), "pnm:PnmReader", "pnm:PnmWriter", streams=True, packed=True),
    Format("GIF", (".gif",), "frames:FramesReader", written_as=".png", why="it holds 256 colours only"),
    Format("ND2", (".nd2",), "nd2:Nd2Reader", why=_READ_ONLY, package="nd2"),
    Format("CZI", (".czi",), "czi:CziReader", why=_READ_ONLY, streams=True, package="pylibCZIrw", parts=True),
    Format("camera RAW", (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".rw2", ".orf"), "raw:RawReader",
           why="cameras alone do", package="rawpy"),
)  # fmt: skip
_OF_SUFFIX = {suffix: line for line in FORMATS for suffix in line.suffixes}
EXPECTED = ", ".join(line.name for line in FORMATS if line.name not in ("OME-TIFF", "compressed FITS"))


@cache
def plugins() -> dict[str, Format]:
    """Return the formats of users' own readers by suffix; none of them is imported."""
    found = {}
    for point in entry_points(group=_GROUP):
        suffix = f".{point.name.removeprefix('.').lower()}"
        if suffix not in _OF_SUFFIX:
            found[suffix] = Format(suffix[1:], (suffix,), point, why="its reader came without a writer")
    return found


def find_suffix(name: str) -> str | None:
    """Return the longest suffix of a file name that a format has, in lower case; None if there is none."""
    parts = name.lower().split(".")
    # A name that is only a suffix, such as ".png", is a hidden file.
    tails = ["." + ".".join(parts[at:]) for at in range(1, len(parts)) if at > 1 or parts[0]]
    return next((tail for tail in tails if tail in _OF_SUFFIX or tail in plugins()), None)


def without_suffix(name: str) -> str:
    """Return a file name without the suffix of its format, or without its last suffix if no format has that."""
    suffix = find_suffix(name)
    return name[: -len(suffix)] if suffix else Path(name).stem


def find_format(path: Path) -> Format | None:
    """Return the format of a path's suffix; None if n2n knows none."""
    suffix = find_suffix(path.name)
    return None if suffix is None else _OF_SUFFIX.get(suffix) or plugins()[suffix]


_PARTED = re.compile("(.+?(?:" + "|".join(
    re.escape(suffix) for line in FORMATS if line.parts for suffix in line.suffixes
) + ")):(.*)", re.IGNORECASE | re.DOTALL)  # fmt: skip


def split_part(path: Path) -> tuple[Path, str | None]:
    """Return the file of ``FILE:PART``, and the part; None if the path names no part, or is itself a file."""
    found = _PARTED.fullmatch(str(path))
    if found is None or path.exists():
        return path, None
    # On Windows, Path has turned the slashes.
    return Path(found[1]), found[2].replace(os.sep, "/")


def written_name(path: Path) -> str:
    """Return the name of the output for an input, which has another suffix if its own format is not written."""
    name = split_part(path)[0].name
    line = find_format(Path(name))
    if line is None or line.writer is not None:
        return name
    return without_suffix(name) + line.written_as
