"""What files say of their values: bits that are used, and samples without data."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray

from n2n.data.images import open_image
from n2n.data.images.gaps import fill_gaps, find_gaps, nodata_value
from tests.data.images.formats.test_pictures import copy
from tests.images import read_image

RNG = np.random.default_rng(0)
NAN = float("nan")


def write_words(path: str, pixels: NDArray[np.uint16], bits: int) -> None:
    """Write a TIFF file whose samples have fewer bits than the two bytes that each takes."""
    height, width = pixels.shape
    rows = pixels.astype("<u2").tobytes()
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    entries = b"".join(struct.pack("<HHII", code, 3, 1, value) for code, value in tags)
    directory = struct.pack("<H", 9) + entries + struct.pack("<HHII", 279, 4, 1, len(rows)) + bytes(4)
    Path(path).write_bytes(struct.pack("<2sHI", b"II", 42, 8 + len(rows)) + rows + directory)


@pytest.mark.parametrize("bits", [2, 4, 6, 10, 12, 14])
@pytest.mark.parametrize("storage", [{}, {"tile": (16, 32)}, {"rowsperstrip": 3}], ids=str)
@pytest.mark.parametrize("shape", [(19, 37), (3, 19, 37), (19, 37, 3)], ids=str)
def test_packed_bits_come_back_as_they_were(bits: int, storage: dict[str, Any], shape: tuple[int, ...]) -> None:
    pixels = RNG.integers(0, 2**bits, shape).astype(np.uint8 if bits < 8 else np.uint16)
    colour = {"photometric": "rgb" if shape[-1] == 3 else "minisblack"}
    tifffile.imwrite("in.tif", pixels, bitspersample=bits, **storage, **colour)  # type: ignore[arg-type]
    with open_image(Path("in.tif")) as image:
        assert image.white == 2**bits - 1
    copy("in.tif", "out.tif")
    with tifffile.TiffFile("out.tif") as after:
        assert np.array_equal(after.asarray().reshape(shape), pixels)
        assert after.pages.first.bitspersample == bits


def test_bits_in_words_of_two_bytes_are_read_and_come_back_packed() -> None:
    pixels = RNG.integers(0, 4096, (19, 36)).astype(np.uint16)
    write_words("in.tif", pixels, 12)
    with open_image(Path("in.tif")) as image:
        assert image.white == 4095
    copy("in.tif", "out.tif")
    for name in ("in.tif", "out.tif"):
        assert np.array_equal(read_image(Path(name))[0, ..., 0], pixels)
    assert np.array_equal(tifffile.imread("out.tif"), pixels)


def test_compressed_packed_bits_are_read() -> None:
    pixels = RNG.integers(0, 4096, (8, 40)).astype(np.uint16)
    packed = imagecodecs.packints_encode(pixels, 12, runlen=40)
    tifffile.imwrite("in.tif", pixels, bitspersample=12, rowsperstrip=8)
    data = Path("in.tif").read_bytes()
    with tifffile.TiffFile("in.tif", mode="r+") as tiff:
        page = tiff.pages.first
        assert data.count(packed) == 1
        deflated = imagecodecs.zlib_encode(packed)
        offset = page.dataoffsets[0]
        for code, value in ((259, 8), (279, len(deflated))):
            page.tags[code].overwrite(value)
    with Path("in.tif").open("r+b") as file:
        file.seek(offset)
        file.write(deflated)
    copy("in.tif", "out.tif")
    assert np.array_equal(tifffile.imread("out.tif"), pixels)


def test_whole_bytes_state_no_white() -> None:
    for dtype in (np.uint8, np.uint16, np.float32):
        tifffile.imwrite("x.tif", np.ones((4, 4), dtype))
        with open_image(Path("x.tif")) as image:
            assert (image.white, image.nodata) == (None, None)


@pytest.mark.parametrize(
    ("text", "dtype", "expected"),
    [
        ("-9999", "int16", -9999),
        ("0", "uint16", 0),
        (" 255\0", "uint8", 255),
        ("-9999.0", "int16", -9999),
        ("-3.40282346638529e+38", "float32", float(np.finfo(np.float32).min)),
        ("0.1", "float32", float(np.float32(0.1))),
        ("-9999", "uint8", None),
        ("0.5", "uint8", None),
        ("1e300", "float32", None),
        ("nan", "int16", None),
        ("nan", "float32", None),
        ("", "uint8", None),
        ("none", "uint8", None),
        (None, "uint8", None),
    ],
)
def test_the_value_without_data_is_read(text: str | None, dtype: str, expected: float | None) -> None:
    assert nodata_value(text, np.dtype(dtype)) == expected


def test_gdal_names_the_value_without_data() -> None:
    pixels = RNG.integers(0, 99, (9, 8)).astype(np.int16)
    tifffile.imwrite("x.tif", pixels, extratags=[(42113, "s", 0, "-9999", True)], metadata=None)
    with open_image(Path("x.tif")) as image:
        assert image.nodata == -9999


def test_gaps_are_found() -> None:
    floats = np.array([1, NAN, np.inf, -np.inf, 7], np.float32)
    assert find_gaps(floats, None).tolist() == [False, True, True, True, False]  # type: ignore[union-attr]
    assert find_gaps(floats, 7).tolist() == [False, True, True, True, True]  # type: ignore[union-attr]
    assert find_gaps(floats[:1], 3) is None
    assert find_gaps(np.array([1, 0], np.uint16), 0).tolist() == [False, True]  # type: ignore[union-attr]
    assert find_gaps(np.array([1, 0], np.uint16), None) is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (5, 8), (33, 64)])
def test_gaps_take_the_values_of_their_neighbours(shape: tuple[int, int]) -> None:
    ramp = torch.linspace(0, 1, shape[1]).expand(2, 3, *shape).clone()
    known = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(0)) > 0.3
    filled = fill_gaps(torch.where(known, ramp, NAN))
    assert torch.equal(filled[known], ramp[known])
    assert ((filled >= 0) & (filled <= 1)).all()
    if min(shape) > 4:
        assert (filled - ramp).abs().mean() < 0.05


def test_large_gaps_are_filled() -> None:
    image = torch.full((1, 2, 40, 50), 0.25)
    image[:, 0, :, 3:] = NAN
    image[:, 1] = NAN
    filled = fill_gaps(image)
    torch.testing.assert_close(filled[:, 0], torch.full((1, 40, 50), 0.25))
    torch.testing.assert_close(filled[:, 1], torch.full((1, 40, 50), 0.5))
    assert math.isfinite(fill_gaps(torch.full((1, 1, 3, 3), NAN)).sum())
