"""ND2, CZI and camera RAW, which are read and become OME-TIFF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from n2n.data.images import open_image
from tests.data.images.formats.helpers import look, predict, refusal, values
from tests.instrument_files import write_czi, write_dng, write_nd2


def ome(path: str) -> tuple[str, dict[str, Any]]:
    """Return the axes that tifffile reads from an OME-TIFF file, and the attributes of its pixels."""
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        found = tifffile.xml2dict(tiff.ome_metadata or "")["OME"]["Image"]
        first = found[0] if isinstance(found, list) else found
        return tiff.series[0].axes, first["Pixels"]


@pytest.mark.parametrize(
    ("axes", "shape", "dtype"),
    [("TZCYX", (2, 3, 2, 20, 30), "uint16"), ("CYX", (2, 20, 30), "uint8"), ("CYX", (3, 20, 30), "uint16"),
     ("YX", (20, 30), "float32"), ("YXS", (20, 30, 3), "uint8"), ("TYXS", (2, 20, 30, 3), "uint16")],
)  # fmt: skip
def test_czi_becomes_ome_tiff(axes: str, shape: tuple[int, ...], dtype: str) -> None:
    pixels = values(shape, dtype)
    Path("in").mkdir()
    write_czi("in/x.czi", pixels, axes)
    found, names, size = look("in/x.czi")
    assert (names, size, found.dtype) == (axes, shape, np.dtype(dtype))
    assert np.array_equal(found.reshape(shape), pixels)
    predict("in", "out", 3 if "S" in axes or shape[0] == 3 else 1)  # channels together
    written, metadata = ome("out/x.ome.tif")
    assert written == axes
    assert np.array_equal(tifffile.imread("out/x.ome.tif"), pixels)
    assert (metadata["PhysicalSizeX"], metadata["PhysicalSizeXUnit"]) == (0.1, "µm")
    if "C" in axes:
        assert [channel["Name"] for channel in metadata["Channel"]][:2] == ["DAPI", "GFP"]


def test_czi_scenes() -> None:
    czi = pytest.importorskip("pylibCZIrw.czi")
    scenes = values((3, 20, 30), "uint8")
    with czi.create_czi("x.czi") as file:
        for number, scene in enumerate(scenes):
            place = {"T": 0, "Z": 0, "C": 0}
            file.write(scene[..., None], plane=place, scene=number, location=(1000 * number, 50))
    found, axes, _ = look("x.czi")
    assert axes == "RYX"
    assert np.array_equal(found[..., 0], scenes)
    predict("x.czi", "out")
    with tifffile.TiffFile("out/x.ome.tif") as tiff:
        assert len(tiff.series) == 3
        assert np.array_equal([series.asarray() for series in tiff.series], scenes)
    assert np.array_equal(look("x.czi:1")[0][0, ..., 0], scenes[1])
    with czi.create_czi("y.czi") as file:
        file.write(scenes[0][..., None], plane={"T": 0, "Z": 0, "C": 0}, scene=0)
        file.write(scenes[1][:9, :9, None].copy(), plane={"T": 0, "Z": 0, "C": 0}, scene=1, location=(500, 0))
    assert "0 (30×20), 1 (9×9)" in refusal(lambda: look("y.czi"))
    assert look("y.czi:1")[2] == (9, 9)
    assert "has the scenes 0, 1" in refusal(lambda: look("y.czi:2"))


@pytest.mark.parametrize(
    ("loops", "channels", "axes"),
    [({}, 1, "YX"), ({}, 2, "CYX"), ({4: 3}, 1, "ZYX"), ({1: 2, 4: 3}, 2, "TZCYX"), ({1: 2, 2: 3, 4: 2}, 2, "RTZCYX")],
)
def test_nd2_becomes_ome_tiff(loops: dict[int, int], channels: int, axes: str) -> None:
    pytest.importorskip("nd2")
    count = int(np.prod([*loops.values(), 1]))
    frames = values((count, channels, 20, 30), "uint16")
    Path("in").mkdir()
    write_nd2("in/x.nd2", frames, loops)
    found, names, size = look("in/x.nd2")
    assert names == axes
    pixels = frames.reshape(*loops.values(), *([channels] if channels > 1 else []), 20, 30)
    if "R" in axes:
        pixels = np.moveaxis(pixels, 1, 0)
    assert size == pixels.shape
    assert np.array_equal(found.reshape(pixels.shape), pixels)
    predict("in", "out")
    written, metadata = ome("out/x.ome.tif")
    assert written == axes.removeprefix("R")
    with tifffile.TiffFile("out/x.ome.tif") as tiff:
        back = np.stack([series.asarray() for series in tiff.series])
    assert np.array_equal(back.reshape(pixels.shape), pixels)
    assert (metadata["PhysicalSizeX"], metadata["PhysicalSizeXUnit"]) == (0.25, "µm")
    if "Z" in axes:
        assert metadata["PhysicalSizeZ"] == 0.3
    if "T" in axes:
        assert (metadata["TimeIncrement"], metadata["TimeIncrementUnit"]) == (500, "ms")
    named = metadata["Channel"] if channels > 1 else [metadata["Channel"]]
    assert [channel["Name"] for channel in named] == [f"channel {i}" for i in range(channels)]


def test_raw_becomes_four_planes() -> None:
    pytest.importorskip("rawpy")
    mosaic = values((66, 90), "uint16") % 4096
    for pattern, places in ((b"\0\1\1\2", "00 01 10 11"), (b"\1\2\0\1", "10 00 11 01")):
        write_dng("x.dng", mosaic, pattern)
        planes = np.stack([mosaic[int(place[0]) :: 2, int(place[1]) :: 2] for place in places.split()])
        found, axes, shape = look("x.dng")
        assert (axes, shape) == ("CYX", (4, 33, 45))
        assert np.array_equal(found[..., 0], planes)
        with open_image(Path("x.dng")) as image:
            assert image.white == 4095
        predict("x.dng", "out", 1, "--overwrite")
        written, metadata = ome("out/x.ome.tif")
        assert written == "CYX"
        assert [channel["Name"] for channel in metadata["Channel"]] == ["R", "G1", "G2", "B"]
        assert np.array_equal(tifffile.imread("out/x.ome.tif"), planes)
    with tifffile.TiffFile("out/x.ome.tif") as tiff:
        assert "Black level: 512, 512, 512, 512. White level: 4095." in (tiff.ome_metadata or "")
    tifffile.imwrite("rgb.dng", values((20, 30, 3), "uint16"), photometric="rgb")
    refusal(lambda: look("rgb.dng"))


def test_one_output_for_two_inputs_is_refused() -> None:
    from n2n.data.image_files import match_files

    Path("in").mkdir()
    for name in ("a.nd2", "a.czi"):
        Path("in", name).touch()
    line = refusal(lambda: match_files(Path("in"), Path("out"), False))
    assert "would both be written as out/a.ome.tif" in line
    Path("in/a.czi").rename("in/b.czi")
    assert [file.target.name for file in match_files(Path("in"), Path("out"), False)] == ["a.ome.tif", "b.ome.tif"]


def test_axes_of_ome_tiff_come_back() -> None:
    pytest.importorskip("pylibCZIrw.czi")
    write_czi("x.czi", values((2, 3, 20, 30), "uint16"), "TZYX")
    predict("x.czi", "x.ome.tif")
    with open_image(Path("x.ome.tif")) as image:
        assert (image.axes, image.named) == ("TZYX", True)
