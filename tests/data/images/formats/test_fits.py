from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from n2n.data import Captures
from n2n.data.images import open_image
from tests.data.images.formats.helpers import copy, look, predict, refusal, values

fits = pytest.importorskip("astropy.io.fits")
SHAPES = {(20, 30): "YX", (3, 20, 30): "ZYX", (2, 3, 20, 30): "QZYX"}


def write(path: str, pixels: NDArray[np.generic]) -> None:
    primary = fits.PrimaryHDU(pixels)
    primary.header["OBSERVER"] = ("Rubin", "who took it")
    primary.header["COMMENT"] = "dark subtracted"
    table = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=np.arange(5.0))], name="STARS")
    fits.HDUList([primary, table]).writeto(path, overwrite=True)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("suffix", [".fits", ".fit", ".fts", ".fits.gz"])
def test_come_back_byte_for_byte(dtype: str, suffix: str) -> None:
    for shape, axes in SHAPES.items():
        pixels = values(shape, dtype)
        write(f"in{suffix}", pixels)
        found, names, size = look(f"in{suffix}")
        assert (names, size, found.dtype) == (axes, shape, np.dtype(dtype))
        assert np.array_equal(found.reshape(shape), pixels)
        copy(f"in{suffix}", f"out{suffix}")
        opened = gzip.open if suffix.endswith("gz") else open
        with opened(f"out{suffix}", "rb") as out, opened(f"in{suffix}", "rb") as source:
            assert out.read() == source.read()


def test_predict_keeps_header_and_other_hdus() -> None:
    pixels = values((40, 50), "uint16")
    write("in.fits", pixels)
    predict("in.fits", "out")
    with fits.open("out/in.fits", memmap=False) as hdus:
        assert np.array_equal(hdus[0].data, pixels)
        assert hdus[0].data.dtype == np.uint16
        assert hdus[0].header["OBSERVER"] == "Rubin"
        assert hdus["STARS"].data["x"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("scale", "zero"), [(0.01, 0), (2.0, 100), (1, 5)])
def test_scaled_integers_are_floats_and_come_back(scale: float, zero: float) -> None:
    stored = values((20, 30), "int16")
    hdu = fits.PrimaryHDU(stored)
    hdu.header["BSCALE"], hdu.header["BZERO"] = scale, zero
    hdu.writeto("in.fits")
    header = fits.getheader("in.fits")
    assert (header["BSCALE"], header["BZERO"]) == (scale, zero)
    found, _, _ = look("in.fits")
    assert found.dtype == np.float32
    assert np.allclose(found[0, ..., 0], stored * scale + zero)
    copy("in.fits", "out.fits")
    assert Path("out.fits").read_bytes() == Path("in.fits").read_bytes()


@pytest.mark.parametrize("suffix", [".fits", ".fits.fz"])
@pytest.mark.parametrize(("dtype", "scale"), [("int16", None), ("uint16", None), ("uint8", None), ("int16", 0.5)])
def test_blank_pixels_stay_blank(dtype: str, scale: float | None, suffix: str) -> None:
    pixels = values((40, 50), dtype) // 4 + 100
    primary = fits.PrimaryHDU(pixels)
    if suffix == ".fits.fz":
        primary = fits.CompImageHDU(pixels, compression_type="RICE_1")
    blank = -32768 if dtype != "uint8" else 255  # as it is stored: 0 of uint16
    primary.header["BLANK"] = blank
    if scale is not None:
        primary.header["BSCALE"] = scale
    primary.writeto("in" + suffix)
    holes = np.zeros(pixels.shape, bool)
    holes[5:11, 7:13] = True
    # Set as they are stored: astropy would not write them.
    if suffix == ".fits":
        raw = bytearray(Path("in.fits").read_bytes())
        stored = np.frombuffer(raw, ">u1" if dtype == "uint8" else ">i2", pixels.size, 2880).reshape(pixels.shape)
        stored[holes] = blank
        Path("in.fits").write_bytes(raw)
    else:
        pixels[holes] = {"int16": -32768, "uint16": 0, "uint8": 255}[dtype]
        header = fits.Header({"BLANK": blank} | ({} if scale is None else {"BSCALE": scale}))
        fits.CompImageHDU(pixels, header, compression_type="RICE_1").writeto("in.fits.fz", overwrite=True)
    with open_image(Path("in" + suffix)) as image:
        noisy, nodata = image.samples(0, 0, 40)[..., 0], image.nodata
    kept = np.isnan(noisy) if nodata is None else noisy == nodata
    assert np.array_equal(kept, holes)
    predict("in" + suffix, "out")
    with open_image(Path("out/in" + suffix)) as image:
        assert np.array_equal(image.samples(0, 0, 40)[..., 0], noisy, equal_nan=noisy.dtype.kind == "f")
    with fits.open("out/in" + suffix) as hdus:
        found = hdus[-1].data
        # astropy knows BLANK, but not together with the convention for uint16.
        assert np.array_equal(found == 0 if dtype == "uint16" else np.isnan(found), holes)
        assert np.allclose(found[~holes], noisy[~holes])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32"])
@pytest.mark.parametrize("kind", ["RICE_1", "GZIP_1", "HCOMPRESS_1"])
def test_compressed_stay_compressed(dtype: str, kind: str) -> None:
    pixels = values((60, 70), dtype)
    header = fits.Header({"FILTER": "R"})
    image = fits.CompImageHDU(pixels, header, compression_type=kind, name="SCI", tile_shape=(20, 70))
    fits.HDUList([fits.PrimaryHDU(), image]).writeto("in.fits.fz", checksum=True)
    noisy, _, _ = look("in.fits.fz")
    copy("in.fits.fz", "out.fits.fz")
    with fits.open("out.fits.fz", checksum=True) as hdus:
        assert isinstance(hdus["SCI"], fits.CompImageHDU)
        assert hdus["SCI"].header["FILTER"] == "R"
        assert hdus["SCI"].compression_type == (kind if dtype != "float32" else "GZIP_2")
        assert hdus["SCI"].data.dtype.newbyteorder("=") == np.dtype(dtype)
        assert np.array_equal(hdus["SCI"].data, noisy[0, ..., 0])


def test_checksums_fit_the_new_pixels(recwarn: pytest.WarningsRecorder) -> None:
    fits.PrimaryHDU(values((20, 30), "int16")).writeto("in.fits", checksum=True)
    changed = look("in.fits")[0] // 2
    from n2n.data.images import create_image, open_image

    with open_image(Path("in.fits")) as image:
        create_image(Path("out.fits"), image).write(iter(changed))
    with fits.open("out.fits", checksum=True) as hdus:
        assert np.array_equal(hdus[0].data, changed[0, ..., 0])
    assert not [warning for warning in recwarn if "hecksum" in str(warning.message)]
    copy("in.fits", "again.fits.gz")
    with fits.open("again.fits.gz", checksum=True) as hdus:
        assert "CHECKSUM" in hdus[0].header


def test_several_images() -> None:
    chips = [values((20, 30), "int16") for _ in range(3)]
    hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(chip, name=f"CCD{i}") for i, chip in enumerate(chips))]
    fits.HDUList(hdus).writeto("chips.fits")
    found, axes, shape = look("chips.fits")
    assert (axes, shape) == ("QYX", (3, 20, 30))
    assert np.array_equal(found[..., 0], chips)
    copy("chips.fits", "out.fits")
    assert Path("out.fits").read_bytes() == Path("chips.fits").read_bytes()
    # Science, error and quality are no pages of one image.
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(chips[0], name="SCI"), fits.ImageHDU(chips[1], name="ERR")]
    fits.HDUList(hdus).writeto("hubble.fits")
    assert "1 SCI (20×30), 2 ERR (20×30)" in refusal(lambda: look("hubble.fits"))
    for part in ("SCI", "sci", "1"):
        assert np.array_equal(look(f"hubble.fits:{part}")[0][0, ..., 0], chips[0])
    assert "name one by its number" in refusal(lambda: look("hubble.fits:9"))
    predict("hubble.fits:ERR", "out")
    assert Path("out/hubble.fits").read_bytes() == Path("hubble.fits").read_bytes()


def test_from_and_to_other_formats() -> None:
    for dtype in ("uint8", "int8", "uint16", "int16", "float32", "float64"):
        pixels = values((3, 20, 30), dtype)
        np.save("in.npy", pixels)
        copy("in.npy", "out.fits")
        assert np.array_equal(fits.getdata("out.fits"), pixels)
        copy("out.fits", "back.tif")
        assert np.array_equal(look("back.tif")[0][..., 0], pixels)
    np.save("rgb.npy", values((20, 30, 3), "uint8"))
    assert "FITS cannot hold 3 values in a pixel" in refusal(lambda: copy("rgb.npy", "out.fits"))
    np.save("half.npy", values((20, 30), "float16"))
    assert "FITS cannot hold float16 values" in refusal(lambda: copy("half.npy", "out.fits"))
    assert "name a file that ends with .fits" in refusal(lambda: copy("out.fits", "out.fz"))


def test_files_that_are_no_image_or_claim_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    fits.HDUList([fits.PrimaryHDU()]).writeto("empty.fits")
    assert "holds no image" in refusal(lambda: look("empty.fits"))
    fits.PrimaryHDU(values((20, 30), "int32")).writeto("long.fits")
    assert "holds int32 values" in refusal(lambda: look("long.fits"))
    fits.PrimaryHDU(values((20, 30), "int16")).writeto("in.fits")
    header = Path("in.fits").read_bytes()
    Path("huge.fits").write_bytes(header.replace(b"NAXIS2  =                   20", b"NAXIS2  =           2000000000"))
    assert "is cut off" in refusal(lambda: look("huge.fits"))
    monkeypatch.setattr("n2n.data.images.formats.fits.MAX_BLOCK", 2**16)
    Path("bomb.fits.gz").write_bytes(gzip.compress(bytes(2**16 + 1)))
    assert "more than 1 GiB" in refusal(lambda: look("bomb.fits.gz"))


def test_a_mosaic_is_said_to_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    for number in range(2):
        hdu = fits.PrimaryHDU(values((64, 64), "uint16"))
        hdu.header["BAYERPAT"] = "RGGB"
        hdu.writeto(f"in/x_{number}.fits")
    predict("in/x_0.fits", "out")
    line = "its header says that it is a colour mosaic (BAYERPAT RGGB), and it is read as one grey image"
    assert f"n2n predict: warning: in/x_0.fits: {line}" in capsys.readouterr().err
    source = Captures("in", patch=8, patches=8, val_fraction=0)
    assert any(remark.startswith(f"warning: x_0.fits, x_1.fits: {line}") for remark in source.train_pairs().remarks)
