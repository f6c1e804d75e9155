"""Opening, creating and finding image files, each in the format of its suffix."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from n2n.data.images.base import MAX_PIXELS, ImageReader
from n2n.data.images.formats.pictures import exif_block, orientation
from n2n.data.images.formats.table import EXPECTED, find_format, split_part
from n2n.data.images.planes import PartingWriter, Together
from n2n.data.images.values import from_unit, to_unit
from n2n.data.images.writer import ImageWriter
from n2n.errors import InputError
from n2n.system.files import expanded, file_size

_ZARR = ".zarr"


def open_image(path: Path, axes: str | None = None) -> ImageReader:
    """Open an image in the format of its suffix (:mod:`n2n.data.images.formats.table`); a folder is a zarr array or group.

    The samples of a pixel (axis S) are its channels, also where the file keeps them in planes.

    Args:
        path: of the image; ``FILE:PART`` for one of several in a FITS, HDF5 or CZI file.
        axes: a letter for each axis of the file's array (see :mod:`n2n.data.images.axes`); by default those that the file
            names.

    Raises:
        InputError: if it is missing, no image, damaged, larger than n2n takes, or cannot be read; or if the axes do not fit.
    """
    image = _open(path, axes)
    return Together(image, "S", image.extra_planes) if "S" in image.page_axes else image


def _open(path: Path, axes: str | None) -> ImageReader:
    try:
        if is_zarr(path):
            line = find_format(Path(f"x{_ZARR}"))
        else:
            file, _ = split_part(path)
            file_size(file)
            line = find_format(file)
        if line is not None:
            image: ImageReader = line.load(path)(path, axes)
            return image
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error})") from None
    raise InputError(f"{path} is not an image that n2n reads: expected {EXPECTED}")


def is_zarr(path: Path) -> bool:
    """Whether a path is a zarr array or group."""
    marks = (".zarray", ".zgroup", "zarr.json")
    return path.is_dir() and (path.suffix.lower() == _ZARR or any((path / mark).is_file() for mark in marks))


def is_image(path: Path) -> bool:
    """Whether a path is one image: a file with an image's suffix, one of several in a file, or a zarr array or group."""
    file, _ = split_part(path)
    return is_zarr(path) or (find_format(file) is not None and file.is_file())


def create_image(path: Path, like: ImageReader) -> ImageWriter:
    """Return a writer for an image with the pages, size, channels and dtype of another, in the format of the path's suffix.

    Raises:
        InputError: if the format cannot hold such an image.
    """
    line = find_format(path)
    if line is None and is_zarr(like.path):
        line = find_format(Path(f"x{_ZARR}"))  # an array in a group has any name
    if line is None:
        raise InputError(f"{path} is not a name of an image that n2n writes: expected {EXPECTED}")
    if isinstance(like, Together) and not line.packed:
        return PartingWriter(create_image(path, like.inner), like)
    writer: ImageWriter = line.load(path, writing=True)(path, like)
    return writer


def read_photograph(path: Path, channels: int) -> NDArray[np.uint8]:
    """Read a photograph as H×W×channels uint8, rotated to be upright. If there are several pages, read the first.

    Other integers are mapped from the full range of their bits to 0 to 255, floats from 0 to 1.

    Args:
        path: of the image.
        channels: 3 (grey is repeated) or 1 (colours become luma).

    Raises:
        InputError: as :func:`open_image`, and for images of other than 1 or 3 channels.
    """
    with open_image(path) as image:
        if image.height * image.width > MAX_PIXELS:
            raise InputError(
                f"{path} has {image.width}×{image.height} pixels: expected a photograph of at most {MAX_PIXELS:,}"
            )
        rows = image.rows(0, 0, image.height)
        exif, white, inverted = image.metadata.exif, image.white, image.inverted
    if rows.shape[2] not in (1, 3):
        raise InputError(f"{path} has {rows.shape[2]} channels: expected a photograph of 1 or 3")
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        raise InputError(f"{path} holds pixels that are not finite numbers: replace them first")
    if rows.dtype != np.uint8 or white is not None:
        low, high = (0, 1) if rows.dtype.kind == "f" else (np.iinfo(rows.dtype).min, white or np.iinfo(rows.dtype).max)
        rows = from_unit(to_unit(torch.tensor(rows), low, high), 0, 255, torch.uint8).numpy()
    if inverted:
        rows = 255 - rows
    picture = Image.fromarray(rows[..., 0] if rows.shape[2] == 1 else rows)
    # Only the orientation: the rest of the file's EXIF block may be damaged.
    if upright := exif_block(orientation(exif)):
        picture.info["exif"] = upright
        picture = ImageOps.exif_transpose(picture)
    picture = picture.convert("L" if channels == 1 else "RGB")
    return np.asarray(picture).reshape(picture.height, picture.width, channels)


def find_images(roots: Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    """Yield the images in folders and all their subfolders, without hidden ones, sorted within each folder of ``roots``.

    A .zarr folder is one image.

    Raises:
        InputError: if a folder is not there.
    """
    for root in roots:
        folder = expanded(root)
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder: expected one with images in it ({EXPECTED})")
        if folder.suffix.lower() == _ZARR:
            yield folder
            continue
        found: list[Path] = []
        for at, folders, files in os.walk(folder):
            shown = [Path(at, name) for name in files if not name.startswith(".")]
            found += (path for path in shown if find_format(path) is not None and path.suffix.lower() != _ZARR)
            folders[:] = [name for name in folders if not name.startswith(".")]
            found += (Path(at, name) for name in folders if name.lower().endswith(_ZARR))
            folders[:] = [name for name in folders if not name.lower().endswith(_ZARR)]
        yield from sorted(found)
