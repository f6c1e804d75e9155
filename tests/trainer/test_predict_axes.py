from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from n2n.backbones import ModelFinal
from n2n.cli import main
from n2n.data.images import open_image
from tests.write_checkpoints import mean, same, write_checkpoint

_NOISE = np.random.default_rng(0).normal(0, 20, (3, 2, 4, 40, 50))
_STACK = (30000 + 500 * _NOISE).astype(np.uint16)


def predict(source: str, target: str, *options: str, ckpt: str) -> int:
    return main(["predict", "--ckpt_path", ckpt, "--input", source, "--output", target, "--device", "cpu", *options])


def axes_of(path: str) -> tuple[str, tuple[int, ...]]:
    with open_image(Path(path)) as image:
        return image.axes, image.shape


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("axes", ["TCZYX", "CTZYX", "TZCYX"])
def test_a_hyperstack_comes_back_as_it_went(channels: int, axes: str) -> None:
    write_checkpoint("same.ckpt", same, channels, dtype="uint16", range=[0, 65535])
    stack = np.einsum(f"tczyx->{axes.lower()}", _STACK)
    for name in ("ome.tif", "shaped.tif"):
        tifffile.imwrite(name, stack, photometric="minisblack", metadata={"axes": axes}, ome=name == "ome.tif")
        assert predict(name, "out", ckpt="same.ckpt") == 0
        with tifffile.TiffFile(f"out/{name}") as tiff:
            assert tiff.series[0].axes == axes
            assert np.array_equal(tiff.asarray(), stack)


def test_channels_go_through_a_network_that_has_as_many() -> None:

    # Both channels become the first one.
    network = ModelFinal(2, widths=(), bias=False, negative_slope=1.0)
    weight = torch.zeros(2, 2, 3, 3)
    weight[:, 0, 1, 1] = 1.0
    network.load_state_dict({"layers.0.weight": weight})
    write_checkpoint("first.ckpt", network, 2, dtype="uint16", range=[0, 65535])
    tifffile.imwrite("x.tif", _STACK, photometric="minisblack", metadata={"axes": "TCZYX"})
    assert predict("x.tif", "out", ckpt="first.ckpt") == 0
    assert np.array_equal(tifffile.imread("out/x.tif"), np.repeat(_STACK[:, :1], 2, axis=1))
    # As T and Z of other letters there are no channels: each plane is repeated for the network.
    assert predict("x.tif", "apart", "--axes", "TQZYX", ckpt="first.ckpt") == 0
    assert np.array_equal(tifffile.imread("apart/x.tif"), _STACK)


def test_four_slices_that_tifffile_wrote_as_colours_and_opacity_are_denoised_alike() -> None:
    write_checkpoint("mean.ckpt", mean)
    slices = np.clip(128 + _NOISE[0, 0], 0, 255).astype(np.uint8)
    with pytest.warns(DeprecationWarning, match="photometric"):
        tifffile.imwrite("x.tif", slices, metadata={"axes": "ZYX"})
    with pytest.warns(DeprecationWarning, match="photometric"):
        tifffile.imwrite("unnamed.tif", slices)
    for name, options in (("x.tif", ()), ("unnamed.tif", ("--axes", "ZYX"))):
        assert predict(name, "out", *options, ckpt="mean.ckpt") == 0
        denoised = tifffile.imread(f"out/{name}")
        assert denoised.shape == slices.shape
        assert (denoised[:, 1:-1, 1:-1].std((1, 2)) < 0.5 * slices.std((1, 2))).all()


def test_planes_that_may_be_slices_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint("mean.ckpt", mean)
    with pytest.warns(DeprecationWarning, match="photometric"):
        tifffile.imwrite("x.tif", np.zeros((4, 40, 50), np.uint8))
    assert predict("x.tif", "out", ckpt="mean.ckpt") == 0
    error = capsys.readouterr().err
    assert "x.tif: its 4 planes are read as red, green, blue and opacity, as it says" in error
    assert "--axes ZYX" in error


def test_an_array_that_can_be_read_in_two_ways_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint("mean.ckpt", mean)
    np.save("x.npy", np.zeros((5, 3, 40, 50), np.uint8))
    assert predict("x.npy", "out", ckpt="mean.ckpt") == 2
    assert "may be images of 3 channels, or 3 grey ones: give --axes QCYX or --axes QQYX" in capsys.readouterr().err
    assert not list(Path().glob("out/*"))
    for axes in ("QCYX", "QQYX"):
        assert predict("x.npy", "out", "--overwrite", "--axes", axes, ckpt="mean.ckpt") == 0
        assert np.load("out/x.npy").shape == (5, 3, 40, 50)


def test_channels_that_do_not_fit_are_denoised_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint("mean.ckpt", mean)
    noisy = np.clip(128 + np.moveaxis(_NOISE[0, :, 0], 0, 2), 0, 255).astype(np.uint8)
    np.save("x.npy", noisy)
    assert predict("x.npy", "out", ckpt="mean.ckpt") == 0
    assert "it has 2 channels and the network 3: each is denoised by itself" in capsys.readouterr().err
    write_checkpoint("grey.ckpt", mean, 1)
    assert predict("x.npy", "grey", ckpt="grey.ckpt") == 0
    assert np.abs(np.load("out/x.npy").astype(int) - np.load("grey/x.npy")).max() <= 1


def test_axes_that_do_not_fit_get_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint("mean.ckpt", mean)
    Image.new("RGB", (40, 30)).save("x.png")
    assert predict("x.png", "out", "--axes", "TYX", ckpt="mean.ckpt") == 0
    assert predict("x.png", "out", "--axes", "TZYX", "--overwrite", ckpt="mean.ckpt") == 2
    assert "x.png has other axes: axes is TZYX: expected one letter for each of the 3 axes" in capsys.readouterr().err
