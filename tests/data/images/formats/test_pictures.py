from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageOps

from n2n.data.images import create_image, open_image, read_photograph
from tests.images import read_image

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (11, 7, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (11, 7, 4), dtype=np.uint16)


def copy(source: str, target: str) -> None:
    """Write an image as it was read, in strips of 4 rows."""
    with open_image(Path(source)) as image:
        tops = range(0, image.height, 4)
        strips = (image.samples(page, top, min(top + 4, image.height)) for page in range(image.pages) for top in tops)
        create_image(Path(target), image).write(strips)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(COLOUR),
        Image.fromarray(COLOUR[..., 0]),
        Image.fromarray(np.dstack([COLOUR, COLOUR[..., :1]])),
        Image.fromarray(COLOUR[..., :2]),
    ],
    ids=["RGB", "L", "RGBA", "LA"],
)
def test_png_comes_back_as_it_was(image: Image.Image) -> None:
    image.save("in.png", dpi=(300, 300), icc_profile=b"a profile")
    copy("in.png", "out.png")
    with Image.open("out.png") as written:
        assert written.mode == image.mode
        assert np.array_equal(np.asarray(written), np.asarray(image))
        assert written.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert written.info["icc_profile"] == b"a profile"


@pytest.mark.parametrize("samples", [DEEP[..., 0], DEEP[..., :2], DEEP[..., :3], DEEP], ids=["L", "LA", "RGB", "RGBA"])
def test_all_16_bits_come_back(samples: np.ndarray) -> None:
    Path("in.png").write_bytes(imagecodecs.png_encode(np.ascontiguousarray(samples)))
    with open_image(Path("in.png")) as image:
        assert (str(image.dtype), image.extra) == ("uint16", int(samples.shape[-1] in (2, 4) and samples.ndim == 3))
        assert image.channels + image.extra == (samples.shape[2] if samples.ndim == 3 else 1)
    copy("in.png", "out.png")
    assert np.array_equal(imagecodecs.png_decode(Path("out.png").read_bytes()), samples)


def test_metadata_of_16_bits_is_kept() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(DEEP[..., 0]).save("in.png", dpi=(300, 300), icc_profile=b"a profile", exif=exif)
    copy("in.png", "out.png")
    with Image.open("out.png") as written:
        written.load()
        assert written.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert written.info["icc_profile"] == b"a profile"
        assert written.getexif()[0x0112] == 6


@pytest.mark.parametrize(("mode", "written"), [("P", "RGB"), ("1", "L"), ("CMYK", "RGB")])
def test_other_kinds_become_what_they_show(mode: str, written: str) -> None:
    name = "in.jpg" if mode == "CMYK" else "in.png"
    Image.fromarray(COLOUR).convert(mode).save(name)
    copy(name, "out.png")
    with Image.open("out.png") as image, Image.open(name) as before:
        assert image.mode == written
        assert np.array_equal(np.asarray(image), np.asarray(before.convert(written)))


def test_transparent_palette_keeps_its_opacity() -> None:
    image = Image.fromarray(COLOUR).convert("P")
    image.save("in.png", transparency=int(np.asarray(image)[0, 0]))
    with Image.open("in.png") as before:
        expected = np.asarray(before.convert("RGBA"))
    copy("in.png", "out.png")
    assert np.array_equal(np.asarray(Image.open("out.png")), expected)


def test_orientation_is_kept_in_the_file_and_applied_to_photographs() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOUR).save("in.jpg", exif=exif)
    copy("in.jpg", "out.jpg")
    with Image.open("out.jpg") as written, Image.open("in.jpg") as before:
        assert (written.size, written.getexif()[0x0112]) == ((7, 11), 6)
        upright = np.asarray(ImageOps.exif_transpose(before))
    assert upright.shape == (7, 11, 3)
    assert np.array_equal(read_photograph(Path("in.jpg"), 3), upright)
    assert read_photograph(Path("in.jpg"), 1).shape == (7, 11, 1)
    # From format to format.
    copy("in.jpg", "out.tif")
    copy("out.tif", "out.png")
    for name in ("out.tif", "out.png"):
        assert np.array_equal(read_photograph(Path(name), 3), upright)
        with Image.open(name) as image:
            assert image.getexif()[0x0112] == 6


def test_photographs_of_16_bits_and_of_floats_are_scaled() -> None:
    Path("in.png").write_bytes(imagecodecs.png_encode(np.ascontiguousarray(DEEP[..., :3])))
    np.save("in.npy", np.array([[0, 0.5], [1.2, 1]], np.float32))
    assert np.abs(read_photograph(Path("in.png"), 3) - DEEP[..., :3] / 257).max() <= 0.51
    assert read_photograph(Path("in.npy"), 1)[..., 0].tolist() == [[0, 128], [255, 255]]


def test_jpeg_puts_no_noise_back() -> None:
    smooth = np.linspace(0, 255, 40 * 50 * 3).reshape(40, 50, 3).astype(np.uint8)
    np.save("in.npy", smooth)
    copy("in.npy", "out.jpg")
    assert np.abs(read_image(Path("out.jpg"))[0].astype(int) - smooth).max() <= 3
