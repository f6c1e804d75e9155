"""Values without data on their way through the denoiser."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray

from n2n import Denoiser, backbones
from n2n.cli import main
from tests.images import read_image
from tests.write_checkpoints import mean, write_checkpoint

RNG = np.random.default_rng(0)
NODATA = {"int16": "-9999", "uint16": "0", "uint8": "255", "float32": "-3.40282346638529e+38"}


def disc(side: int = 96) -> NDArray[np.bool_]:
    y, x = np.mgrid[:side, :side] - side // 2
    outside: NDArray[np.bool_] = (x**2 + y**2 > (0.42 * side) ** 2) | (abs(x + y - 3) < 2) | (y == 5)
    return outside


def predict(name: str, *options: str) -> int:
    write_checkpoint("mean.ckpt", mean, channels=1)
    command = ["predict", "--ckpt_path", "mean.ckpt", "--input", name, "--output", "out", "--overwrite", *options]
    return main([*command, "--device", "cpu"])


@pytest.mark.parametrize("dtype", NODATA)
@pytest.mark.parametrize("tile", ["16", "512"])
def test_no_data_of_a_geotiff_stays_and_does_not_bleed(
    dtype: str, tile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    gaps, nodata = disc(), NODATA[dtype]
    terrain = np.where(gaps, float(nodata), 100).astype(dtype)
    tifffile.imwrite("x.tif", terrain, extratags=[(42113, "s", 0, nodata, True)], metadata=None, tile=(32, 32))
    assert predict("x.tif", "--tile", tile, "--range", "0", "200") == 0
    with tifffile.TiffFile("out/x.tif") as tiff:
        assert tiff.pages.first.tags.valueof(42113) == nodata
        assert np.array_equal(tiff.asarray(), terrain)
    assert f"{gaps.sum():,} values are " in capsys.readouterr().err


def test_data_never_becomes_no_data() -> None:
    low = np.tile(np.array([[0, 3], [3, 0]], np.uint16), (16, 16))
    low[3, 3:9] = 1
    tifffile.imwrite("x.tif", low, extratags=[(42113, "s", 0, "1", True)], metadata=None)
    assert predict("x.tif", "--range", "0", "3") == 0
    out = tifffile.imread("out/x.tif")
    assert np.array_equal(out == 1, low == 1)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(
    "where",
    [
        (slice(16, 17), slice(None)),
        (slice(15, 33), slice(None)),
        (slice(None), slice(16)),
        (slice(None, None, 2), slice(None, None, 3)),
        (slice(40, None), slice(40, None)),
    ],
    ids=str,
)
def test_gaps_at_the_borders_of_tiles(dtype: Any, where: Any) -> None:
    image = np.full((64, 80), 0.25, dtype)
    image[where] = np.nan
    image[where[0], ::7] = np.where(np.isnan(image[where[0], ::7]), np.inf, image[where[0], ::7])
    gaps = ~np.isfinite(image)
    np.save("x.npy", image)
    assert predict("x.npy", "--tile", "16") == 0
    out = read_image(Path("out/x.npy"))[0, ..., 0]
    assert out.dtype == image.dtype
    assert np.array_equal(out[gaps], image[gaps], equal_nan=True)
    # The mean of 3×3 pixels sees black outside the image alone.
    inside = np.pad(np.ones((62, 78), bool), 1)
    assert np.allclose(out[inside & ~gaps], 0.25, atol=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_without_any_data_come_back(value: float, channels: int, capsys: pytest.CaptureFixture[str]) -> None:
    image = np.full((20, 24, channels), value, np.float32)
    np.save("x.npy", image)
    assert predict("x.npy", "--tile", "16") == 0
    assert np.array_equal(read_image(Path("out/x.npy"))[0], image, equal_nan=True)
    assert f"{image.size:,} values are NaN or infinite, so without data" in capsys.readouterr().err


def test_every_page_and_channel_keeps_its_own_gaps() -> None:
    image = RNG.uniform(0.2, 0.8, (3, 40, 50, 3)).astype(np.float32)
    image[0, :5, :, 0] = image[1, :, 7] = image[2, 20:, 20:, 1:] = np.nan
    tifffile.imwrite("x.tif", image, photometric="rgb")
    assert predict("x.tif", "--tile", "32") == 0
    out = tifffile.imread("out/x.tif")
    assert np.array_equal(np.isnan(out), np.isnan(image))
    assert np.nanmax(out[:, 2:-2, 2:-2]) < 0.8


@pytest.mark.parametrize("kind", ["grey", "colour", "batch", "tensor"])
@pytest.mark.parametrize("tile", [16, None])
def test_arrays_keep_their_gaps(kind: str, tile: int | None) -> None:
    torch.manual_seed(0)
    denoiser = Denoiser(backbones.ModelFinal(1, widths=[4]), 1, "cpu", tile=tile)
    shape = {"grey": (40, 50), "colour": (40, 50, 3), "batch": (2, 1, 40, 50), "tensor": (40, 50)}[kind]
    image = np.full(shape, 0.5, np.float32)
    gaps = RNG.random(shape) < 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        without = denoiser(image)
        image[gaps] = np.nan
        image[~gaps & (RNG.random(shape) < 0.02)] = np.inf
        gaps = ~np.isfinite(image)
        out = np.asarray(denoiser(torch.from_numpy(image))) if kind == "tensor" else denoiser(image)
    assert np.array_equal(out[gaps], image[gaps], equal_nan=True)
    assert np.allclose(out[~gaps], without[~gaps], atol=1e-5)
    with pytest.warns(UserWarning, match="values are NaN or infinite, so without data: they are left as they are"):
        denoiser(image)


def test_neighbours_of_gaps_are_denoised_as_well_as_others() -> None:
    noisy = RNG.normal(0.5, 0.1, (64, 64)).astype(np.float32)
    gaps = RNG.random(noisy.shape) < 0.2
    noisy[gaps] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = Denoiser(mean(1), 1, "cpu")(noisy)
    assert np.nanstd(out[2:-2, 2:-2]) < 0.06
