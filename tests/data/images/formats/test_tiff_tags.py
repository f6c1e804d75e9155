from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from n2n.data.images import create_image, open_image
from n2n.data.images.formats.tags import Tag, pack_tags
from tests.data.images.formats.test_metadata import exif
from tests.data.images.formats.test_pictures import copy

PIXELS = np.random.default_rng(0).integers(60, 180, (3, 20, 30), dtype=np.uint8)
RAMP = np.arange(256)
FIRE = np.stack([np.clip(RAMP * 3 - low, 0, 255) for low in (0, 255, 510)]).astype(np.uint16) * 257
FEI = "[Scan]\r\nPixelWidth=1.34e-09\r\nPixelHeight=1.34e-09\r\n[Beam]\r\nHV=5000\r\n"
# A tag of each type: a code of no meaning, the type, and its value.
TYPES: list[tuple[int, str, int, Any]] = [
    (65000, "B", 3, (1, 2, 3)),
    (65001, "s", 0, "text"),
    (65002, "H", 2, (1, 65535)),
    (65003, "I", 1, 2**31),
    (65004, "2I", 1, (3, 7)),
    (65005, "b", 1, -5),
    (65006, "h", 3, (-1, 2, -3)),
    (65007, "i", 1, -(2**30)),
    (65008, "2i", 1, (-3, 7)),
    (65009, "f", 1, 0.5),
    (65010, "d", 2, (1e-9, 2e9)),
    (65011, "B", 5000, bytes(range(250)) * 20),
    (65012, "d", 2000, tuple(range(2000))),
]
MAKERS: list[tuple[int, str, int, Any]] = [
    (34682, "s", 0, FEI),
    (34680, "s", 0, FEI),
    (34118, "s", 0, "\r\nAP_PIXEL_SIZE\r\nPixel Size = 2.5 nm\r\n"),
    (271, "s", 0, "Maker"),
    (272, "s", 0, "Model 1"),
    (305, "s", 0, "Software"),
    (306, "s", 0, "2024:05:06 07:08:09"),
    (315, "s", 0, "Artist"),
    (316, "s", 0, "PC"),
    (33432, "s", 0, "Rights"),
    (274, "H", 1, 6),
    (285, "s", 0, "a page"),
    (297, "H", 2, (0, 1)),
    (700, "B", 5, b"<xmp>"),
    (33723, "B", 12, b"\x1c\x02x\0\7caption"),
    (33471, "s", 0, "[Dimension]\r\nX=1.0\r\n"),
    (340, "H", 1, 7),
    (341, "H", 1, 900),
    (318, "2I", 2, (31, 100, 33, 100)),
    (33550, "d", 3, (10.0, 10.0, 0.0)),
    (33922, "d", 6, (0.0, 0.0, 0.0, 5e5, 4e6, 0.0)),
    (34735, "H", 4, (1, 1, 0, 0)),
    (34737, "s", 0, "WGS 84|"),
    (42112, "s", 0, "<GDALMetadata></GDALMetadata>"),
    (42113, "s", 0, "-9999"),
    (51123, "s", 0, '{"PixelSizeUm": 0.1}'),
]


def values(name: str, codes: list[int], page: int = 0) -> list[Any]:
    with tifffile.TiffFile(name) as tiff:
        found = [tiff.pages[page].aspage().tags.valueof(code) for code in codes]
    return [value.tolist() if isinstance(value, np.ndarray) else value for value in found]


@pytest.mark.parametrize("tags", [TYPES, MAKERS], ids=["types", "makers"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_tags_of_all_kinds_are_kept(tags: list[tuple[int, str, int, Any]], byteorder: Any, big: bool) -> None:
    with tifffile.TiffWriter("in.tif", byteorder=byteorder, bigtiff=big) as tiff:
        for page in PIXELS:
            tiff.write(
                page, extratags=[(*tag, False) for tag in tags], metadata=None, software=False, compression="lzw"
            )
    copy("in.tif", "out.tif")
    codes = [tag[0] for tag in tags]
    for page in (0, 2):
        assert None not in values("out.tif", codes, page)
        assert values("out.tif", codes, page) == values("in.tif", codes, page)
    with tifffile.TiffFile("in.tif") as before, tifffile.TiffFile("out.tif") as after:
        assert (after.flags, np.array_equal(after.asarray(), PIXELS)) == (before.flags, True)
        assert after.fei_metadata == before.fei_metadata
        assert after.sem_metadata == before.sem_metadata


@pytest.mark.parametrize("resolution", [(300, 200), ((1, 3), (2, 7)), (5e6, 5e6)])
def test_resolution_is_kept(resolution: Any) -> None:
    for unit in (1, 2, 3):
        tifffile.imwrite("in.tif", PIXELS[0], resolution=resolution, resolutionunit=unit)
        copy("in.tif", "out.tif")
        assert values("out.tif", [282, 283, 296]) == values("in.tif", [282, 283, 296])


@pytest.mark.parametrize("big", [False, True])
def test_exif_and_position_are_kept(big: bool) -> None:
    Image.fromarray(PIXELS[0]).save("first.png", exif=exif())
    copy("first.png", "in.tif")
    copy("in.tif", "out.tif")
    with Image.open("in.tif") as image:
        assert image.getexif().get_ifd(0x8769)[0x829A] == (1, 250)
    before, after = (values(name, [34665, 34853, 271, 274]) for name in ("in.tif", "out.tif"))
    assert before == after
    assert before[0]["ExposureTime"] == (1, 250)
    assert before[1] == {"GPSLatitudeRef": "N"}


def test_a_block_elsewhere_in_the_file_is_kept() -> None:
    # TVIPS's tag is the offset of its header.
    header = np.zeros((), np.dtype(tifffile.TIFF.TVIPS_HEADER_V1))
    header["Version"], header["HighTension"] = 1, 200_000
    with tifffile.TiffWriter("in.tif") as tiff:
        at = tiff.filehandle.tell()
        tiff.filehandle.write(header.tobytes())
        tiff.write(PIXELS[0], extratags=[(37706, "I", 1, at, False)], metadata=None)
    copy("in.tif", "out.tif")
    with tifffile.TiffFile("in.tif") as before, tifffile.TiffFile("out.tif") as after:
        assert after.tvips_metadata == before.tvips_metadata
        assert after.tvips_metadata is not None
        assert after.tvips_metadata["HighTension"] == 200_000


def test_blocks_that_cannot_move_are_named() -> None:
    tags = [(50740, "B", 8, bytes(8), True), (37724, "B", 8, b"layers  ", True), (65000, "H", 1, 1, True)]
    tifffile.imwrite("in.tif", PIXELS[0], extratags=tags, metadata=None)
    with open_image(Path("in.tif")) as image:
        lines = create_image(Path("out.tif"), image).remarks
    assert lines == [
        "its Photoshop layer block (tag 37724) holds pixels of its own file and is not written",
        "its raw converter's block (tag 50740) holds offsets of its own file and is not written",
    ]
    copy("in.tif", "out.tif")
    assert values("out.tif", [37724, 50740, 65000]) == [None, None, 1]


def test_tags_of_the_storage_are_not_copied() -> None:
    tags = [
        (280, "H", 1, 60, True),
        (281, "H", 1, 180, True),
        (292, "I", 1, 4, True),
        (532, "H", 6, (0, 255) * 3, True),
    ]
    tifffile.imwrite("in.tif", PIXELS[0], extratags=tags)
    copy("in.tif", "out.tif")
    assert values("out.tif", [280, 281, 292, 532]) == [None] * 4


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("description", ["ImageJ=1.54f\nunit=micron\n", ""])
def test_indices_of_a_lookup_table_are_intensities(dtype: str, description: str) -> None:
    pixels = PIXELS[0].astype(dtype) * (257 if dtype == "uint16" else 1)
    table = FIRE if dtype == "uint8" else np.repeat(FIRE, 256, axis=1)
    tifffile.imwrite(
        "in.tif", pixels, photometric="palette", colormap=table, description=description, metadata=None, resolution=(5, 5),
        resolutionunit=1,
    )  # fmt: skip
    with open_image(Path("in.tif")) as image:
        assert (image.channels, str(image.dtype), image.axes) == (1, dtype, "YX")
    copy("in.tif", "out.tif")
    with tifffile.TiffFile("in.tif") as before, tifffile.TiffFile("out.tif") as after:
        first, again = before.pages.first, after.pages.first
        assert (again.photometric, again.resolution, again.description) == (
            first.photometric,
            (5, 5),
            first.description,
        )
        assert np.array_equal(np.asarray(again.colormap), np.asarray(first.colormap))
        assert np.array_equal(after.asarray(), pixels)


@pytest.mark.parametrize("method", [0, 1, 2])
@pytest.mark.parametrize("by_brightness", [False, True])
def test_palettes_of_pictures_are_colours(method: int, by_brightness: bool) -> None:
    y, x = np.mgrid[:96, :96]
    picture = np.stack([x * 2.6, y * 2.6, 128 + 100 * np.sin(x / 9) * np.cos(y / 7)], 2)
    noisy = np.clip(picture + np.random.default_rng(0).normal(0, 9, picture.shape), 0, 255).astype(np.uint8)
    image = Image.fromarray(noisy).quantize(256, method=method)
    if by_brightness:
        colours = np.array(image.getpalette()).reshape(-1, 3)
        image = image.remap_palette(np.argsort(colours @ [0.299, 0.587, 0.114]).tolist())
    image.save("in.tif")
    copy("in.tif", "out.tif")
    with Image.open("out.tif") as written:
        assert written.mode == "RGB"
        assert np.array_equal(np.asarray(written), np.asarray(image.convert("RGB")))


def test_hyperstack_with_lookup_tables_is_kept() -> None:
    stack = np.zeros((2, 20, 30), np.uint16)
    tables = [np.stack([RAMP, 0 * RAMP, 0 * RAMP]).astype(np.uint8), np.stack([0 * RAMP, RAMP, RAMP]).astype(np.uint8)]
    metadata = {"axes": "CYX", "LUTs": tables, "mode": "composite", "Ranges": (0.0, 99.0, 0.0, 88.0), "Info": "µ"}
    for byteorder in ("<", ">"):
        tifffile.imwrite("in.tif", stack, imagej=True, metadata=metadata, byteorder=byteorder)
        copy("in.tif", "out.tif")
        with tifffile.TiffFile("in.tif") as before, tifffile.TiffFile("out.tif") as after:
            said = after.imagej_metadata or {}
            for key, value in (before.imagej_metadata or {}).items():
                assert np.array_equal(said[key], value), key


def test_directories_that_are_loops_end() -> None:
    directory = struct.pack("<H", 3) + b"".join(struct.pack("<HHII", code, 4, 1, 8) for code in (34665, 34853, 34665))
    block = b"Exif\0\0II*\0\x08\0\0\0" + directory + bytes(4)
    Image.fromarray(PIXELS[0]).save("in.png", exif=block)
    copy("in.png", "out.tif")
    assert np.array_equal(tifffile.imread("out.tif"), PIXELS[0])


def test_hostile_tags_take_no_time() -> None:
    # Thousands of values were joined one by one, and an expression looked for an end again and again: both took minutes.
    tags = [Tag(code, 7, b"x" * 4096) for code in range(4_000)]
    assert len(pack_tags(tags, 8)) == 2 + 12 * 4_000 + 4 + 4096 * 4_000
    for text in ("<UUID>", "<UUID", "<UUID>a</", 'UUID="'):
        tifffile.imwrite("in.tif", np.zeros((8, 8), np.uint8), description=300_000 // len(text) * text, metadata=None)
        copy("in.tif", "out.tif")
    text = '<OME UUID="urn:1"><UUID FileName="in.tif">urn:1</UUID></OME>'
    tifffile.imwrite("in.tif", np.zeros((8, 8), np.uint8), description=text, metadata=None)
    copy("in.tif", "out.tif")
    with tifffile.TiffFile("out.tif") as tiff:
        assert tiff.pages.first.description == "<OME ></OME>"
