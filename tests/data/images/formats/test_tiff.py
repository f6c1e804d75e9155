from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from n2n.data.images import create_image, open_image
from n2n.data.images.files import read_photograph
from n2n.errors import InputError
from tests.data.images.formats.test_pictures import copy
from tests.images import read_image

RNG = np.random.default_rng(0)


def samples(*shape: int, dtype: str = "uint8") -> np.ndarray:
    values = RNG.normal(0, 50, shape) if dtype.startswith(("f", "i")) else RNG.integers(0, 2**16, shape)
    return values.astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "zstd"])
@pytest.mark.parametrize("storage", [{}, {"tile": (16, 32)}, {"rowsperstrip": 3}, {"predictor": True}])
def test_comes_back_as_it_was(dtype: str, compression: str | None, storage: dict[str, Any]) -> None:
    if compression is None and "predictor" in storage:
        pytest.skip("nothing to predict for")
    for shape, photometric in [((19, 37), "minisblack"), ((2, 19, 37, 3), "rgb"), ((19, 37, 4), "rgb")]:
        pixels = samples(*shape, dtype=dtype)
        tifffile.imwrite("in.tif", pixels, compression=compression, photometric=photometric, **storage)
        copy("in.tif", "out.tif")
        with tifffile.TiffFile("in.tif") as before, tifffile.TiffFile("out.tif") as after:
            assert np.array_equal(after.asarray(), pixels)
            for what in ("compression", "predictor", "is_tiled", "photometric", "extrasamples", "rowsperstrip"):
                assert getattr(after.pages[0], what) == getattr(before.pages[0], what), what


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_imagej_sees_the_same_hyperstack(byteorder: Any) -> None:
    metadata = {
        "axes": "TZCYX",
        "spacing": 2.5,
        "unit": "um",
        "finterval": 0.4,
        "Labels": [f"no. {i}" for i in range(12)],
    }
    pixels = samples(2, 3, 2, 20, 30, dtype="uint16")
    tifffile.imwrite("in.tif", pixels, imagej=True, resolution=(5.2, 5.2), metadata=metadata, byteorder=byteorder)
    with open_image(Path("in.tif")) as image:
        assert (image.pages, image.height, image.width, image.channels) == (12, 20, 30, 1)
    copy("in.tif", "out.tif")
    with tifffile.TiffFile("in.tif") as before, tifffile.TiffFile("out.tif") as after:
        assert after.is_imagej
        assert after.imagej_metadata == before.imagej_metadata
        assert after.series[0].axes == "TZCYX"
        assert np.array_equal(after.asarray(), pixels)
        assert after.pages.first.resolution == before.pages.first.resolution


def test_stack_with_one_directory() -> None:
    pixels = samples(7, 20, 30, dtype="uint16")
    tifffile.imwrite("in.tif", pixels, truncate=True, metadata={"axes": "ZYX"})
    with tifffile.TiffFile("in.tif") as before:
        assert len(before.pages) == 1
    copy("in.tif", "out.tif")
    assert np.array_equal(tifffile.imread("out.tif"), pixels)


def test_bigtiff_profile_and_resolution_are_kept() -> None:
    tifffile.imwrite(
        "in.tif", samples(9, 8, 3), photometric="rgb", bigtiff=True, iccprofile=b"p" * 99, resolution=(118.5, 118.5),
        resolutionunit="centimeter", extratags=[(274, "H", 1, 6, True), (315, "s", 0, "an artist", True)],
    )  # fmt: skip
    copy("in.tif", "out.tif")
    with tifffile.TiffFile("out.tif") as after:
        page = after.pages.first
        assert after.is_bigtiff
        assert page.iccprofile == b"p" * 99
        assert (page.resolution, page.resolutionunit) == ((118.5, 118.5), 3)
        assert (page.tags.valueof(274), page.tags.valueof(315)) == (6, "an artist")
    copy("out.tif", "out.png")
    with Image.open("out.png") as image:
        assert image.info["dpi"] == pytest.approx((301, 301), abs=0.1)
        assert image.info["icc_profile"] == b"p" * 99


@pytest.mark.parametrize("storage", [{}, {"tile": (16, 16)}, {"compression": "lzw"}])
def test_planes_are_put_side_by_side(storage: dict[str, Any]) -> None:
    for photometric, planes in [("rgb", 3), ("minisblack", 5)]:
        pixels = samples(planes, 20, 30, dtype="uint16")
        tifffile.imwrite("in.tif", pixels, photometric=photometric, planarconfig="separate", **storage)
        copy("in.tif", "out.tif")
        for name in ("in.tif", "out.tif"):
            assert np.array_equal(read_image(Path(name))[0], np.moveaxis(pixels, 0, 2))


@pytest.mark.parametrize(("mode", "seen"), [("P", "RGB"), ("1", "L"), ("CMYK", "RGB")])
def test_other_kinds_become_what_they_show(mode: str, seen: str) -> None:
    Image.fromarray(samples(20, 30, 3)).convert(mode).save("in.tif")
    copy("in.tif", "out.tif")
    with Image.open("in.tif") as before, Image.open("out.tif") as after:
        assert after.mode == seen
        assert np.array_equal(np.asarray(after), np.asarray(before.convert(seen)))


def test_what_of_a_tiff_is_not_written_is_said() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(samples(20, 30, 3)).convert("CMYK").save("inks.tif", icc_profile=profile)
    with tifffile.TiffWriter("sizes.tif") as file:
        file.write(samples(64, 64), subifds=1)
        file.write(samples(32, 32), subfiletype=1)
    with tifffile.TiffWriter("pages.tif") as file:
        for side in (64, 32, 16):
            file.write(samples(side, side), subfiletype=int(side < 64))
        file.write(samples(64, 64) > 99, subfiletype=4)
    for name, *remarks in (
        ("inks.tif", "its colour profile is of CMYK, does not fit RGB and is not written"),
        ("sizes.tif", "its smaller sizes (SubIFDs) are not written"),
        (
            "pages.tif",
            "its smaller sizes (2) are not written",
            "its masks (1) are not written",
        ),
    ):
        with open_image(Path(name)) as image:
            assert create_image(Path("out", name), image).remarks == remarks


def test_bits_whose_0_is_white() -> None:
    bits = samples(20, 30) > 128
    tifffile.imwrite("in.tif", bits, photometric="miniswhite")
    assert np.array_equal(read_image(Path("in.tif"))[0, ..., 0] == 0, bits)
    copy("in.tif", "out.png")
    assert np.array_equal(np.asarray(Image.open("out.png")) == 0, bits)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_images_whose_0_is_white(dtype: str) -> None:
    pixels = samples(20, 30, dtype=dtype)
    tifffile.imwrite("in.tif", pixels, photometric="miniswhite")
    copy("in.tif", "out.tif")
    with tifffile.TiffFile("out.tif") as tiff:
        assert tiff.pages.first.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        assert np.array_equal(tiff.asarray(), pixels)
    with pytest.raises(InputError, match=r"out.png: the format cannot say that 0 is white, .* name a .tif file"):
        copy("in.tif", "out.png")
    shown = 255 - (pixels if dtype == "uint8" else np.rint(pixels / 257))
    assert np.abs(read_photograph(Path("in.tif"), 1)[..., 0] - shown).max() <= 1


@pytest.mark.parametrize("compression", [None, "lzw"])
def test_ycbcr_that_is_not_jpeg_is_refused(compression: str | None) -> None:
    tifffile.imwrite("in.tif", samples(20, 30, 3), photometric="ycbcr", compression=compression)
    with pytest.raises(InputError, match="holds YCbCr values, which n2n reads in JPEG compression only: convert it to"):
        open_image(Path("in.tif"))


def test_photographs_of_fewer_bits_than_their_dtype() -> None:
    pixels = samples(20, 30, dtype="uint16") // 16
    tifffile.imwrite("in.tif", pixels, bitspersample=12)
    Path("in.pgm").write_bytes(b"P5 30 20 4095\n" + pixels.astype(">u2").tobytes())
    for name in ("in.tif", "in.pgm"):
        assert np.abs(read_photograph(Path(name), 1)[..., 0] - pixels / 4095 * 255).max() <= 0.51
    Path("dark.pgm").write_bytes(b"P5 30 20 15\n" + (pixels // 256).astype(np.uint8).tobytes())
    assert read_photograph(Path("dark.pgm"), 1).max() == 255


def test_jpeg_in_tiff() -> None:
    smooth = np.linspace(0, 255, 32 * 50 * 3).reshape(32, 50, 3).astype(np.uint8)
    for pixels in (smooth, smooth[..., 0]):
        Image.fromarray(pixels).save("in.tif", compression="jpeg")
        copy("in.tif", "out.tif")
        with Image.open("in.tif") as before, Image.open("out.tif") as after:
            assert after.info["compression"] == "jpeg"
            assert np.abs(np.asarray(after).astype(int) - np.asarray(before)).max() <= 4


def test_rows_in_any_order() -> None:
    pixels = samples(2, 50, 20, dtype="uint16")
    tifffile.imwrite("in.tif", pixels, compression="zlib", rowsperstrip=8)
    with open_image(Path("in.tif")) as image:
        for page, start, stop in [(0, 0, 50), (1, 3, 20), (1, 12, 30), (0, 7, 9), (0, 49, 50), (1, 0, 1)]:
            assert np.array_equal(image.rows(page, start, stop)[..., 0], pixels[page, start:stop])


def test_reduced_copies_are_left_out_and_other_images_refused() -> None:
    with tifffile.TiffWriter("in.tif") as tiff:
        tiff.write(samples(40, 40))
        tiff.write(samples(20, 20), subfiletype=1)
    assert read_image(Path("in.tif")).shape == (1, 40, 40, 1)
    with tifffile.TiffWriter("two.tif") as tiff:
        tiff.write(samples(40, 40))
        tiff.write(samples(20, 20))
    with pytest.raises(InputError, match=r"several kinds \(one of uint8 40×40, one of uint8 20×20\)"):
        open_image(Path("two.tif"))


def change(name: str, code: int, value: int) -> None:
    with tifffile.TiffFile(name, mode="r+") as tiff:
        tiff.pages.first.tags[code].overwrite(value)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ((257,), "lacks some of its strips|cut off|damaged"),
        ((256,), "damaged|cut off|px wide"),
        ((257, 278), "pieces of"),
        ((279,), "beyond the file's end"),
        ((273,), "beyond the file's end"),
    ],
    ids=["height", "width", "height and strips", "byte count", "offset"],
)
def test_lying_headers_take_no_memory(codes: tuple[int, ...], message: str) -> None:
    tifffile.imwrite("in.tif", samples(64, 64), compression="zlib", rowsperstrip=64)
    for code in codes:
        change("in.tif", code, 2**31 - 1 if code != 256 else 2**17)
    with pytest.raises(InputError, match=message):
        read_image(Path("in.tif"))


@pytest.mark.parametrize(
    ("compression", "message"), [("zstd", "too small"), ("jpeg", "a piece of 1024×16 px says that it has 1024×1024")]
)
def test_strip_that_unpacks_to_more_than_it_should_is_refused(compression: str, message: str) -> None:
    tifffile.imwrite("in.tif", np.zeros((1024, 1024), np.uint8), compression=compression, rowsperstrip=1024)
    for code in (257, 278):
        change("in.tif", code, 16)
    with pytest.raises(InputError, match=message):
        read_image(Path("in.tif"))
