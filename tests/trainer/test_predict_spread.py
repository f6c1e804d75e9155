from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from n2n import Denoiser
from n2n.backbones import ModelFinal
from n2n.cli import main
from tests.write_checkpoints import mean, write_checkpoint


def predict(*options: str, ckpt: str) -> int:
    return main(
        ["predict", "--ckpt_path", ckpt, "--input", "in", "--output", "out", "--device", "cpu", "--spread", *options]
    )


@pytest.fixture
def shifting() -> str:
    """Write a network that shifts the image by one pixel, so that each orientation gives another result."""
    network = ModelFinal(1, widths=(), bias=False, negative_slope=1.0)
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1, 0] = 1.0
    network.load_state_dict({"layers.0.weight": weight})
    return str(write_checkpoint("shift.ckpt", network, 1))


def test_the_spread_is_the_standard_deviation_over_the_orientations(shifting: str) -> None:
    noisy = np.random.default_rng(0).integers(0, 256, (2, 3, 40, 50), dtype=np.uint8)
    Path("in").mkdir()
    tifffile.imwrite("in/x.tif", noisy, photometric="minisblack", metadata={"axes": "TZYX"})
    # The units are those of the image, whatever the range.
    assert predict("--tile", "32", "--range", "50", "200", "--ensemble", ckpt=shifting) == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["x.spread.ome.tif", "x.tif"]
    with tifffile.TiffFile("out/x.spread.ome.tif") as tiff:
        found, axes = tiff.asarray(), tiff.series[0].axes
    assert (found.dtype.name, axes) == ("float32", "TZYX")
    # Turned back, the eight results are the four neighbours, each twice.
    inside = noisy[..., 1:-1, 1:-1].shape
    neighbours = [np.roll(noisy, shift, axis)[..., 1:-1, 1:-1] for axis in (-1, -2) for shift in (1, -1)]
    assert np.allclose(found[..., 1:-1, 1:-1], np.std(neighbours, axis=0).reshape(inside), atol=1e-3)
    denoiser = Denoiser.from_checkpoint(shifting, "cpu", axes="TZYX", range=(50, 200), ensemble=True)
    assert np.allclose(denoiser.spread(noisy), found, atol=1e-3)
    # The denoiser itself still gives the image, the mean over the orientations.
    for denoised in (denoiser(noisy), tifffile.imread("out/x.tif")):
        assert np.abs(denoised[..., 1:-1, 1:-1] - np.mean(neighbours, axis=0).reshape(inside)).max() <= 0.51


def test_a_network_that_answers_alike_has_no_spread(capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint("mean.ckpt", mean)
    Path("in").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save("in/x.png")
    assert predict(ckpt="mean.ckpt") == 0
    assert np.abs(tifffile.imread("out/x.spread.ome.tif")).max() < 1e-3
    assert "Denoised 1 of 1 image to out" in capsys.readouterr().err


def test_an_image_that_fails_is_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint("mean.ckpt", mean)
    Path("in").mkdir()
    Path("in/x.png").write_text("hello")
    assert predict(ckpt="mean.ckpt") == 2
    assert capsys.readouterr().err.count("x.png is not an image that n2n reads") == 1


def test_an_image_that_its_result_replaces_has_no_spread(capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint("mean.ckpt", mean)
    Path("in").mkdir()
    Image.new("RGB", (40, 50)).save("in/x.png")
    options = ["--input", "in", "--output", "in", "--overwrite", "--spread"]
    assert main(["predict", "--ckpt_path", "mean.ckpt", *options]) == 2
    assert "--spread needs in/x.png unchanged: name another --output" in capsys.readouterr().err


def test_images_that_would_share_a_map_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint("mean.ckpt", mean)
    Path("in").mkdir()
    for name in ("X.PNG", "X.tif"):
        Image.new("RGB", (40, 50)).save(f"in/{name}")
    assert predict(ckpt="mean.ckpt") == 2
    line = "in/X.PNG and in/X.tif would both be written as out/X.spread.ome.tif: rename one of them"
    assert line in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_names_that_are_one_file_elsewhere_are_refused(
    system: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint("mean.ckpt", mean)
    Path("in").mkdir()
    for name in ("A.gif", "a.png"):
        Image.new("RGB", (40, 50)).save(f"in/{name}")
    monkeypatch.setattr(sys, "platform", system)
    assert predict(ckpt="mean.ckpt") == 2
    assert "would both be written as" in capsys.readouterr().err
    assert not Path("out").exists()


def test_the_spread_of_one_of_several_images_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    h5py = pytest.importorskip("h5py")
    write_checkpoint("mean.ckpt", mean)
    with h5py.File("x.h5", "w") as file:
        file["a"] = np.zeros((40, 50), np.uint8)
    options = ["--input", "x.h5:/a", "--output", "out.h5", "--overwrite", "--spread"]
    for _ in range(2):
        assert main(["predict", "--ckpt_path", "mean.ckpt", *options]) == 0
    assert sorted(path.name for path in Path().glob("out*")) == ["out.h5", "out.spread.ome.tif"]
