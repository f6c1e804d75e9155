"""ND2, CZI and camera RAW, which are read and become OME-TIFF."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from n2n.data.images import open_image
from tests.data.images.formats.helpers import damage, look, predict, refusal, values


def ome(path: str) -> tuple[str, dict[str, Any]]:
    """Return the axes that tifffile reads from an OME-TIFF file, and the attributes of its pixels."""
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        found = tifffile.xml2dict(tiff.ome_metadata or "")["OME"]["Image"]
        first = found[0] if isinstance(found, list) else found
        return tiff.series[0].axes, first["Pixels"]


def write_czi(path: str, pixels: NDArray[Any], axes: str) -> None:
    """Write planes as Zeiss's library does."""
    czi = pytest.importorskip("pylibCZIrw.czi")
    Path(path).unlink(missing_ok=True)
    lead = axes.partition("YX")[0]
    with czi.create_czi(path) as file:
        for at in np.ndindex(pixels.shape[: len(lead)]):
            plane = pixels[at]
            place = {"T": 0, "Z": 0, "C": 0} | dict(zip(lead, at, strict=True))
            file.write(plane[..., None] if "S" not in axes else plane[..., ::-1].copy(), plane=place)
        file.write_metadata("test", {0: "DAPI", 1: "GFP"}, scale_x=1e-7, scale_y=1e-7, scale_z=3e-7)


@pytest.mark.parametrize(
    ("axes", "shape", "dtype"),
    [("TZCYX", (2, 3, 2, 20, 30), "uint16"), ("CYX", (2, 20, 30), "uint8"), ("YX", (20, 30), "float32"),
     ("YXS", (20, 30, 3), "uint8"), ("TYXS", (2, 20, 30, 3), "uint16")],
)  # fmt: skip
def test_czi_becomes_ome_tiff(axes: str, shape: tuple[int, ...], dtype: str) -> None:
    pixels = values(shape, dtype)
    Path("in").mkdir()
    write_czi("in/x.czi", pixels, axes)
    found, names, size = look("in/x.czi")
    assert (names, size, found.dtype) == (axes, shape, np.dtype(dtype))
    assert np.array_equal(found.reshape(shape), pixels)
    predict("in", "out", 3 if "S" in axes else 1)
    written, metadata = ome("out/x.ome.tif")
    assert written == axes
    assert np.array_equal(tifffile.imread("out/x.ome.tif"), pixels)
    assert (metadata["PhysicalSizeX"], metadata["PhysicalSizeXUnit"]) == (0.1, "µm")
    if "C" in axes:
        assert [channel["Name"] for channel in metadata["Channel"]] == ["DAPI", "GFP"]


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


def test_czi_damaged() -> None:
    write_czi("x.czi", values((2, 20, 30), "uint16"), "CYX")
    assert damage("x.czi")


def write_nd2(path: str, frames: NDArray[np.uint16], loops: dict[int, int], missing: bool = False) -> None:
    """Write frames, number×C×Y×X, as NIS-Elements does: chunks with a name, and a map of them at the end.

    Args:
        path: of the file.
        frames: in the order of the loops.
        loops: number of steps by kind, from the outermost: 1 time, 2 position, 4 depth.
        missing: leave the last frame's pixels out.
    """
    count, channels, height, width = frames.shape
    kinds = {"ui": "lx_uint32", "e": "lx_uint32", "d": "double", "w": "CLxStringW", "b": "bool"}

    def tree(name: str, value: object) -> str:
        if isinstance(value, dict):
            return f"<{name}>{''.join(tree(key, item) for key, item in value.items())}</{name}>"
        prefix = next(kind for kind in ("ui", "e", "d", "w", "b") if name.startswith(kind))
        text = str(value).lower() if isinstance(value, bool) else value
        return f'<{name} runtype="{kinds[prefix]}" value="{text}"/>'

    attributes = {
        **{"uiWidth": width, "uiWidthBytes": 2 * width * channels, "uiHeight": height, "uiComp": channels},
        **{"uiBpcInMemory": 16, "uiBpcSignificant": 16, "uiSequenceCount": count, "eCompression": 2},
    }
    experiment: dict[str, Any] = {}
    for kind, steps in reversed(loops.items()):
        pars: dict[str, Any] = {"uiCount": steps, "dPeriod": 500.0, "dStep": 0.3, "dZStep": 0.3, "bRelativeXY": False}
        pars |= {"dStart": 0.0, "dDuration": 0.0, "dMinPeriodDiff": 0.0, "dMaxPeriodDiff": 0.0, "dAvgPeriodDiff": 500.0}
        if kind == 2:
            place = {f"i{i:010}": {"dPosX": float(i), "dPosY": 0.0, "dPosZ": 0.0} for i in range(steps)}
            pars |= {"Points": place}
        experiment = {"eType": kind, "uLoopPars": pars} | (
            {"ppNextLevelEx": {"i0000000000": experiment}} if experiment else {}
        )
    planes = {
        f"a{i}": {"wsDescription": f"channel {i}", "uiCompCount": 1, "uiColor": 255} for i in range(channels)
    }  # fmt: skip
    metadata = {
        "dCalibration": 0.25, "dAspect": 1.0, "bCalibrated": True,
        "sPicturePlanes": {"uiCount": channels, "uiCompCount": channels, "sPlaneNew": planes},
    }  # fmt: skip
    content = {
        b"ImageAttributes!": tree("variant", attributes).encode(),
        b"ImageMetadataSeq|0!": tree("variant", metadata).encode(),
    }
    if experiment:
        content[b"ImageMetadata!"] = tree("variant", experiment).encode()
    data = bytearray()

    def chunk(name: bytes, body: bytes, reserve: int) -> None:
        data.extend(struct.pack("<IIQ", 0x0ABECEDA, reserve, len(body)) + name.ljust(reserve, b"\0") + body)

    chunk(b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver2.1".ljust(64, b"\0"), 32)
    places = {}
    for name, body in content.items():
        data.extend(bytes(-len(data) % 4096))
        places[name] = len(data), len(body)
        chunk(name, body, 40)
    for number, frame in enumerate(frames):
        data.extend(bytes(-len(data) % 4096))
        body = struct.pack("<d", 100.0 * number) + frame.transpose(1, 2, 0).tobytes()
        places[f"ImageDataSeq|{number}!".encode()] = len(data), len(body)
        if not (missing and number == count - 1):
            # Pixels start 4096 bytes after the chunk, behind a time stamp.
            chunk(f"ImageDataSeq|{number}!".encode(), body, 4096 - 16 - 8)
    data.extend(bytes(-len(data) % 4096))
    at = len(data)
    entries = b"".join(name + struct.pack("<QQ", *place) for name, place in places.items())
    chunk(
        b"ND2 FILEMAP SIGNATURE NAME 0001!", entries + b"ND2 CHUNK MAP SIGNATURE 0000001!" + struct.pack("<Q", at), 32
    )
    Path(path).write_bytes(data)


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


def test_nd2_damaged() -> None:
    pytest.importorskip("nd2")
    frames = values((2, 1, 20, 30), "uint16")
    write_nd2("x.nd2", frames, {1: 2})
    assert damage("x.nd2")


def write_dng(path: str, mosaic: NDArray[np.uint16], pattern: bytes = b"\0\1\1\2") -> None:
    """Write a DNG file of an uncompressed mosaic: version 1.4, red, green, green and blue."""
    unit = tuple(number for value in (1, 0, 0, 0, 1, 0, 0, 0, 1) for number in (value, 1))
    tags: Any = [
        (50706, "B", 4, (1, 4, 0, 0), False), (50707, "B", 4, (1, 1, 0, 0), False), (50708, "s", 0, "Camera", False),
        (33421, "H", 2, (2, 2), False), (33422, "B", 4, pattern, False), (50721, "2i", 9, unit, False),
        (50778, "H", 1, 21, False), (50714, "H", 1, 512, False), (50717, "H", 1, 4095, False),
    ]  # fmt: skip
    tifffile.imwrite(path, mosaic, photometric=32803, metadata=None, extratags=tags)


def test_raw_becomes_four_planes() -> None:
    pytest.importorskip("rawpy")
    mosaic = values((66, 90), "uint16") % 4096
    for pattern, places in ((b"\0\1\1\2", "00 01 10 11"), (b"\1\2\0\1", "10 00 11 01")):
        write_dng("x.dng", mosaic, pattern)
        planes = np.stack([mosaic[int(row) :: 2, int(column) :: 2] for row, column in places.split()])
        found, axes, shape = look("x.dng")
        assert (axes, shape) == ("CYX", (4, 33, 45))
        assert np.array_equal(found[..., 0], planes)
        predict("x.dng", "out", 1, "--overwrite")
        written, metadata = ome("out/x.ome.tif")
        assert written == "CYX"
        assert [channel["Name"] for channel in metadata["Channel"]] == ["R", "G1", "G2", "B"]
        assert np.array_equal(tifffile.imread("out/x.ome.tif"), planes)
    with tifffile.TiffFile("out/x.ome.tif") as tiff:
        assert "Black level: 512, 512, 512, 512. White level: 4095." in (tiff.ome_metadata or "")
    tifffile.imwrite("rgb.dng", values((20, 30, 3), "uint16"), photometric="rgb")
    refusal(lambda: look("rgb.dng"))
    write_dng("x.dng", mosaic)
    assert damage("x.dng")


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
