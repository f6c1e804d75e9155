"""Which tags of a TIFF page are copied to another file: all but those that describe how its pixels are stored."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import tifffile

from n2n.data.images.base import Array, Metadata
from n2n.data.images.formats.tags import EXIF, GPS, Tag, pack_block, read_block, read_tags
from n2n.data.images.writer import INKS_PROFILE

# How the pixels of CMYK are marked.
INKS = 5
_SUB_IFDS = 330
_DESCRIPTION, _ORIENTATION, _COLORMAP, _XMP, _IPTC, _PHOTOSHOP, ICC = 270, 274, 320, 700, 33723, 34377, 34675
RESOLUTION = (282, 283, 296)
_IMAGEJ = (50838, 50839)
# Kind and size of the image and its pieces, coding and order of the samples, palettes, free space, statistics of the pixels,
# inks, offsets of other images, layouts of JPEG, YCbCr, and blocks of pixels in obsolete forms.
_STRUCTURE = {
    *range(254, 260), 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289, 292, 293, 317, _COLORMAP,
    *range(322, 328), 330, 332, 338, 339, 346, 347, 351, 400, 401, 403, 433, 434, 435, *range(512, 522), *range(529, 533), 559,
    *range(32994, 32999), 34908, 50674,
}  # fmt: skip
# Curves by sample value, and inks; these fit only samples that stay as they are.
_OF_SAMPLES = {290, 291, 301, 333, 334, 336, 342}
# Blocks of makers that hold offsets in their own file, and layers, which hold the noisy pixels.
_UNMOVABLE = {
    33628: "MetaMorph", 33629: "MetaMorph", 33630: "MetaMorph", 33631: "MetaMorph", 33560: "Olympus", 34412: "Zeiss LSM",
    37724: "Photoshop layer", 50740: "raw converter's",
}  # fmt: skip
# Tags of TIFF that EXIF has too: description, maker, model, orientation, software, date, artist, copyright.
_EXIF_TAGS = (_DESCRIPTION, 271, 272, _ORIENTATION, 305, 306, 315, 33432, EXIF, GPS)
# Bytes of a description that is meant for people.
_CAPTION = 2048
# Bytes of tags that are copied from any file, and for each byte of it, because pages may share tags.
ALWAYS, PER_BYTE = 2**26, 4


def copied_tags(tiff: tifffile.TiffFile, at: int, most: int, plain: bool, converted: bool) -> list[Tag]:
    """Return the tags of an image that are copied, its resolution too.

    Args:
        tiff: the open file.
        at: offset of the image's directory.
        most: bytes to copy at most.
        plain: whether the new file has the same layout of images and samples.
        converted: whether its samples differ from the stored ones, as those of palettes do.
    """
    left_out = _STRUCTURE | _UNMOVABLE.keys() | {ICC} | (_OF_SAMPLES if converted else set())
    if tiff.byteorder == ">":
        left_out |= {*_IMAGEJ}
    tags = _read(tiff, at, lambda code: code not in left_out, most)
    return [moved for tag in tags if (moved := _described(tag, plain)) is not None]


def imagej_tags(tiff: tifffile.TiffFile) -> list[Any]:
    """Return ImageJ's own block, as tifffile's writer takes it, if it must be put into another byte order."""
    labels = tiff.pages.first.tags.valueof(_IMAGEJ[1]) if tiff.byteorder == ">" else None
    return list(tifffile.imagej_metadata_tag(labels, "<")) if isinstance(labels, dict) else []


def _read(tiff: tifffile.TiffFile, at: int, wanted: Callable[[int], bool], most: int) -> list[Tag]:
    return read_tags(tiff.filehandle, at, tiff.byteorder, tiff.is_bigtiff, wanted, most)


def _described(tag: Tag, plain: bool) -> Tag | None:
    """Return a tag, without what a description says of its own file; None if nothing is left."""
    if tag.code != _DESCRIPTION or tag.kind != 2:
        return tag
    text = tag.data.rstrip(b"\0")
    if text.startswith(b'{"shape"') and not plain:
        return None  # written by tifffile about a layout that the new file does not have
    # Without the UUID and file name of the source, so that OME readers use the file that they open.
    return tag._replace(data=re.sub(rb"<UUID\b[^<>]*>[^<]*</UUID>|\bUUID=\"[^\"]*\"", b"", text) + b"\0")


def unmovable(tiff: tifffile.TiffFile) -> list[str]:
    """Return remarks on what the tags of the first page hold and is not copied."""
    page = tiff.pages.first
    remarks = [
        f"its {name} block (tag {code}) holds {'pixels' if code == 37724 else 'offsets'} of its own file and is not written"
        for code, name in _UNMOVABLE.items()
        if code in page.tags
    ]
    if ICC in page.tags and int(page.photometric) == INKS:
        remarks.append(INKS_PROFILE)
    if _SUB_IFDS in page.tags:
        remarks.append("its smaller sizes (SubIFDs) are not written")
    return remarks


def resolution(tags: Sequence[Tag]) -> dict[str, Any]:
    """Return the pixels per unit, horizontal and vertical, and the unit, as tifffile's writer takes them, if they are known."""
    x, y, unit = ([tag.numbers for tag in tags if tag.code == code][:1] for code in RESOLUTION)
    found = [_fraction(values[0]) for values in (x, y) if values]
    named = int(unit[0][0]) if unit else 2
    if len(found) < 2 or None in found or named not in (1, 2, 3):
        return {}
    return {"resolution": tuple(found), "resolutionunit": named}


def _fraction(numbers: Sequence[int | float]) -> tuple[int, int] | None:
    try:
        found = Fraction(*(Fraction(number) for number in numbers[:2]))  # some programs write floats
    except (ValueError, OverflowError, ZeroDivisionError):
        return None
    if not 0 < found < 2**32:
        return None
    if len(numbers) == 2 and min(numbers) > 0:
        return int(numbers[0]), int(numbers[1])
    return found.limit_denominator(2**20).as_integer_ratio()


def file_metadata(
    tiff: tifffile.TiffFile, icc: bytes | None, dpi: tuple[float, float] | None, palette: Array | None
) -> Metadata:
    """Return what other formats can hold of the tags of the first image."""
    wanted = (*_EXIF_TAGS, _XMP, _IPTC, _PHOTOSHOP)
    tags = {tag.code: tag for tag in _read(tiff, tiff.pages.first.offset, wanted.__contains__, ALWAYS)}
    exif = [tag for code, tag in tags.items() if code in _EXIF_TAGS]
    exif = [tag for tag in exif if tag.code != _DESCRIPTION or len(tag.data) <= _CAPTION]
    xmp, iptc, photoshop = (tags[code].data if code in tags else None for code in (_XMP, _IPTC, _PHOTOSHOP))
    if photoshop is None and iptc is not None:
        photoshop = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + iptc + bytes(len(iptc) % 2)
    return Metadata(icc, pack_block(exif), dpi, xmp, photoshop, palette)


def tags_of(metadata: Metadata) -> list[Tag]:
    """Return tags that say what another file's metadata say; not its colour profile and resolution."""
    left_out = _STRUCTURE | _OF_SAMPLES | {*RESOLUTION, ICC, _XMP, _IPTC, _PHOTOSHOP}
    tags = [tag for tag in read_block(metadata.exif) if tag.code not in left_out]
    tags += [Tag(_XMP, 1, metadata.xmp)] if metadata.xmp else []
    return tags + ([Tag(_PHOTOSHOP, 7, metadata.photoshop)] if metadata.photoshop else [])
